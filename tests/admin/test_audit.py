"""The log of changes: in this process, and among all that share a coordinator."""

import asyncio
import logging

import pytest

from routecache_middleware import RouteCache
from routecache_middleware.admin import audit
from routecache_middleware.admin.audit import MOST_ROWS, Audit
from routecache_middleware.core.keys import Layer
from routecache_middleware.core.models import Entry
from routecache_middleware.testing.clock import FakeClock
from tests.admin.kit import HASH, Admin, quiet_cache
from tests.support.asgi import settle
from tests.support.faulty import FaultyCoordinator


async def note(log: Audit, what: str) -> None:
    await log.add(who="token", client="127.0.0.1", action="invalidate", what=what, outcome="done")


async def told(log: Audit) -> list[str]:
    return [row.what for row in await log.rows()]


@pytest.fixture
def coordinator(monkeypatch: pytest.MonkeyPatch) -> FaultyCoordinator:
    monkeypatch.setattr(audit, "_PATIENCE_S", 0.05)
    monkeypatch.setattr(audit, "_PAUSE_S", 0.001)
    return FaultyCoordinator(FakeClock())


def cache_on(coordinator: FaultyCoordinator) -> RouteCache:
    return RouteCache(coordinator=coordinator, observers=[], clock=FakeClock())


async def test_who_changed_what_and_what_came_of_it_is_kept() -> None:
    async with quiet_cache() as cache:
        admin = Admin(cache)
        await admin.told("/invalidate", {"model": "gpt"})
        assert (await admin.told("/audit"))["rows"] == []
        await admin.told("/invalidate", {"model": "gpt", "dry_run": False})
        (row,) = (await admin.told("/audit"))["rows"]
        assert (row["who"], row["client"]) == ("token", "127.0.0.1")
        assert (row["what"], row["outcome"]) == ("everything of model gpt", "done")


async def test_a_change_that_is_not_recorded_is_noted_as_such(
    coordinator: FaultyCoordinator,
) -> None:
    async with cache_on(coordinator) as cache:
        admin = Admin(cache)
        coordinator.fail("append")
        assert (await admin.refusal("/invalidate", {"all": True, "dry_run": False}))[0] == 503
        (row,) = (await admin.told("/audit"))["rows"]
        assert row["outcome"] == "not recorded yet; in force here"
        coordinator.heal()


async def test_a_change_that_is_called_off_is_noted_too(coordinator: FaultyCoordinator) -> None:
    """It holds in this process, and will be recorded: so somebody has to have made it."""
    async with cache_on(coordinator) as cache:
        admin = Admin(cache)
        coordinator.hang("append")
        asking = asyncio.ensure_future(
            admin.post("/invalidate", {"model": "gpt", "dry_run": False})
        )
        await settle()
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        coordinator.heal()
        (row,) = (await admin.told("/audit"))["rows"]
        assert row["what"] == "everything of model gpt"
        assert row["outcome"] == "ended by CancelledError; it may hold"


async def test_the_logger_is_told_who_did_it_and_not_to_whom(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, "routecache.audit")
    async with quiet_cache() as cache:
        await note(Audit(cache.engine), "everything of tenant canary")
    assert caplog.messages == ["invalidate by token from 127.0.0.1: done"]


async def test_only_the_latest_changes_are_kept() -> None:
    async with quiet_cache() as cache:
        log = Audit(cache.engine)
        for number in range(MOST_ROWS + 5):
            await note(log, str(number))
        assert (await told(log))[0] == str(MOST_ROWS + 4)
        assert len(await told(log)) == MOST_ROWS


async def test_what_was_covered_is_cut_to_a_line_or_two() -> None:
    async with quiet_cache() as cache:
        log = Audit(cache.engine)
        await note(log, "x" * 50_000)
        (what,) = await told(log)
        assert (len(what), what[-1]) == (300, "…")


async def test_processes_that_share_a_coordinator_share_the_log(
    coordinator: FaultyCoordinator,
) -> None:
    async with cache_on(coordinator) as one, cache_on(coordinator) as other:
        await note(Audit(one.engine), "a")
        await note(Audit(other.engine), "b")
        assert set(await told(Audit(one.engine))) == {"a", "b"}


@pytest.mark.parametrize("how", ["fail", "hang"])
async def test_what_cannot_be_written_is_shown_here_and_written_with_the_next_change(
    coordinator: FaultyCoordinator, how: str
) -> None:
    async with cache_on(coordinator) as one, cache_on(coordinator) as other:
        log = Audit(one.engine)
        getattr(coordinator, how)("acquire", "fetch")
        await note(log, "a")
        assert await told(log) == ["a"]
        coordinator.heal()
        assert await told(Audit(other.engine)) == []
        await note(log, "b")
        assert set(await told(Audit(other.engine))) == {"a", "b"}


async def test_a_lock_that_nobody_gives_back_costs_a_second_at_most(
    coordinator: FaultyCoordinator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(audit, "_PATIENCE_S", 5.0)
    async with cache_on(coordinator) as cache:
        await coordinator.acquire(audit._LOCK_KEY, token="somebody", ttl_s=60.0)
        log = Audit(cache.engine)
        await note(log, "a")
        assert await told(log) == ["a"]
        assert await told(Audit(cache.engine)) == []


async def test_a_store_that_takes_nothing_leaves_it_owed(coordinator: FaultyCoordinator) -> None:
    async with cache_on(coordinator) as cache:
        log = Audit(cache.engine)

        async def full(*_: object, **__: object) -> bool:
            return False

        coordinator.store = full  # type: ignore[method-assign]
        await note(log, "a")
        assert [row.what for row in log._owed] == ["a"]
        assert await told(log) == ["a"]


@pytest.mark.parametrize("body", [b"{", b"[1]", b"[" * 5000, b""])
async def test_a_log_that_cannot_be_read_is_begun_anew(
    coordinator: FaultyCoordinator, body: bytes
) -> None:
    async with cache_on(coordinator) as cache:
        await coordinator.store(audit._LOG_KEY, Entry(Layer.LOAD, body, 0.0, 1e12))
        log = Audit(cache.engine)
        assert await told(log) == []
        await note(log, "a")
        assert await told(Audit(cache.engine)) == ["a"]


async def test_invalidating_everything_does_not_take_the_log_with_it(
    coordinator: FaultyCoordinator,
) -> None:
    async with cache_on(coordinator) as cache:
        admin = Admin(cache)
        await cache.cache_query_result(HASH, "gpt", b"{}", 1.0)
        for _ in range(2):
            await admin.told("/invalidate", {"all": True, "dry_run": False})
        assert len((await admin.told("/audit"))["rows"]) == 2
