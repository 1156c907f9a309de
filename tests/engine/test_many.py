"""Several entries at once: one read, one span, and the same rules as for one."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from routecache_middleware import RouteCache, Settings
from routecache_middleware.core.budget import current_budget, open_budget
from routecache_middleware.core.events import LookupFinished, PutFinished
from routecache_middleware.core.invalidation import InvalidationRow, key_scope, model_scope
from routecache_middleware.core.keys import CacheKey, Layer, result_key
from routecache_middleware.core.models import Entry, MissReason, Outcome
from routecache_middleware.core.plan import Forward, Serve
from routecache_middleware.core.records import scopes_of
from routecache_middleware.engine.engine import Engine
from routecache_middleware.engine.many import lookup_many, put_many
from routecache_middleware.testing.clock import FakeClock
from tests.engine.test_engine import Watcher
from tests.support.faulty import FaultyCoordinator


@pytest.fixture
def watcher() -> Watcher:
    return Watcher()


@pytest.fixture
def coordinator() -> FaultyCoordinator:
    return FaultyCoordinator(FakeClock())


@pytest.fixture
async def engine(coordinator: FaultyCoordinator, watcher: Watcher) -> AsyncIterator[Engine]:
    cache = RouteCache(
        coordinator=coordinator,
        settings=Settings(max_result_bytes=100),
        observers=[watcher],
        clock=FakeClock(),
    )
    await cache.open()
    yield cache.engine
    await cache.aclose()
    assert watcher.all_are_finished()


def key(name: str, tenant: str = "") -> CacheKey:
    return result_key(name * 32, "m", tenant)


def entry(body: bytes = b"x", *, tenant: str = "t", ttl_s: float = 60.0) -> Entry:
    return Entry(Layer.RESULT, body, FakeClock().now_s(), ttl_s, scopes=scopes_of(tenant, ("m",)))


KEYS = [key(name) for name in "abc"]


async def test_all_found_is_a_hit_in_one_read(
    engine: Engine, coordinator: FaultyCoordinator, watcher: Watcher
) -> None:
    await put_many(engine, [(one, entry(b"body")) for one in KEYS])
    coordinator.read.clear()
    found = await lookup_many(engine, KEYS)
    assert [type(plan) for plan in found.plans] == [Serve] * 3
    assert (found.lookup.outcome, found.lookup.entry) == (Outcome.HIT, None)
    assert coordinator.read == [tuple(KEYS)]
    (put, wrote), (get, read) = watcher.finished
    assert (put, get) == ("cache.put result", "cache.get result")
    assert wrote == PutFinished(is_stored=True, item_size=12, ttl_s=60.0)
    assert read == LookupFinished(Outcome.HIT, "faulty", item_size=12)


async def test_some_found_is_a_partial_miss(engine: Engine, watcher: Watcher) -> None:
    await put_many(engine, [(KEYS[1], entry())])
    found = await lookup_many(engine, KEYS)
    assert [isinstance(plan, Serve) for plan in found.plans] == [False, True, False]
    assert found.lookup.outcome is Outcome.MISS
    assert watcher.finished[-1][1] == LookupFinished(
        Outcome.MISS, miss_reason=MissReason.PARTIAL, item_size=1
    )


async def test_none_found_says_why(engine: Engine, watcher: Watcher) -> None:
    await put_many(engine, [(one, entry()) for one in KEYS])
    await engine.invalidate([InvalidationRow(model_scope("m"))])
    found = await lookup_many(engine, KEYS)
    assert found.plans == [Forward(MissReason.INVALIDATED)] * 3
    assert watcher.finished[-1][1] == LookupFinished(
        Outcome.MISS, miss_reason=MissReason.INVALIDATED
    )


async def test_what_is_owed_is_paid(engine: Engine, coordinator: FaultyCoordinator) -> None:
    """An invalidation that could not be recorded holds here, and is recorded when that works."""
    await put_many(engine, [(one, entry()) for one in KEYS])
    coordinator.fail("append")
    with pytest.raises(Exception, match="refused"):
        await engine.invalidate([InvalidationRow(model_scope("m"))])
    coordinator.heal()
    found = await lookup_many(engine, KEYS)
    assert found.lookup.outcome is Outcome.MISS


async def test_former_keys_are_tried_in_the_same_read(
    engine: Engine, coordinator: FaultyCoordinator
) -> None:
    old, older = [[key(name, tenant) for name in "abc"] for tenant in ("u", "v")]
    await put_many(engine, [(old[0], entry(b"0")), (older[1], entry(b"1")), (KEYS[1], entry())])
    coordinator.read.clear()
    found = await lookup_many(engine, KEYS, former=[old, older], tenant="now")
    bodies = [plan.entry.body if isinstance(plan, Serve) else None for plan in found.plans]
    assert bodies == [b"0", b"x", None]
    assert len(coordinator.read) == 1


async def test_what_was_invalidated_under_its_former_key_is_gone(engine: Engine) -> None:
    old = [key("a", "u")]
    await put_many(engine, [(old[0], entry())])
    await engine.invalidate([InvalidationRow(key_scope(old[0]))])
    found = await lookup_many(engine, KEYS[:1], former=[old], tenant="now")
    assert found.lookup.outcome is Outcome.MISS


async def test_a_failure_is_an_error_and_no_miss(
    engine: Engine, coordinator: FaultyCoordinator, watcher: Watcher
) -> None:
    coordinator.fail("fetch")
    found = await lookup_many(engine, KEYS)
    assert (found.lookup.outcome, found.plans) == (
        Outcome.ERROR,
        [Forward(MissReason.ABSENT)] * 3,
    )
    assert watcher.finished[-1][1] == LookupFinished(Outcome.ERROR, "faulty")


async def test_a_cancelled_lookup_is_cancelled(
    engine: Engine, coordinator: FaultyCoordinator
) -> None:
    coordinator.hang("fetch")
    task = asyncio.ensure_future(lookup_many(engine, KEYS))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    coordinator.heal()


async def test_what_is_too_large_or_outdated_is_not_stored(engine: Engine) -> None:
    await engine.invalidate([InvalidationRow(key_scope(KEYS[1]))])
    await put_many(engine, [(KEYS[0], entry(b"x" * 101)), (KEYS[1], entry()), (KEYS[2], entry())])
    found = await lookup_many(engine, KEYS)
    assert [isinstance(plan, Serve) for plan in found.plans] == [False, False, True]
    counters = engine.recorder.result
    assert (counters.writes, counters.discards) == (1, 2)


async def test_nothing_that_fits_is_no_write(engine: Engine, watcher: Watcher) -> None:
    await put_many(engine, [(KEYS[0], entry(b"x" * 101))])
    assert watcher.finished == []


async def test_the_first_failure_is_the_last_attempt(
    engine: Engine, coordinator: FaultyCoordinator, watcher: Watcher
) -> None:
    coordinator.fail("store")
    await put_many(engine, [(key(f"{number:032x}"), entry()) for number in range(200)])
    assert coordinator.asked["store"] == 16
    assert watcher.finished == [
        (
            "cache.put result",
            PutFinished(is_stored=False, ttl_s=60.0, error_type="CoordinatorError"),
        )
    ]


async def test_many_give_others_their_turn(engine: Engine) -> None:
    """Neither reading nor storing 2,048 entries keeps the loop busy in one go."""
    many = [result_key(f"{number:032x}", "m") for number in range(2048)]
    turns = 0

    async def other() -> None:
        nonlocal turns
        while True:
            await asyncio.sleep(0)
            turns += 1

    task = asyncio.ensure_future(other())
    await put_many(engine, [(one, entry()) for one in many])
    stored, turns = turns, 0
    found = await lookup_many(engine, many)
    task.cancel()
    assert found.lookup.outcome is Outcome.HIT
    assert stored >= 31
    assert turns >= 8


async def test_a_networked_coordinator_is_asked_for_a_handful_at_a_time(
    engine: Engine, coordinator: FaultyCoordinator
) -> None:
    """One that has answered gets the whole time of a request again; one that has failed, none."""
    many = [result_key(f"{number:032x}", "m") for number in range(300)]
    await put_many(engine, [(one, entry()) for one in many])
    coordinator.read.clear()
    left_s: list[float] = []

    async def journey() -> None:
        budget = current_budget()
        assert budget is not None
        left_s.append(budget.remaining_s)
        budget.spend(0.03)

    coordinator.journey = journey  # type: ignore[method-assign]
    with open_budget(0.05):
        found = await lookup_many(engine, many)
    assert found.lookup.outcome is Outcome.HIT
    assert [len(keys) for keys in coordinator.read] == [128, 128, 44]
    assert left_s == [0.05] * 3
    with open_budget(0.0):
        await lookup_many(engine, many)
    assert left_s[3:] == [0.0] * 3
    coordinator.journey = FaultyCoordinator.journey.__get__(coordinator)  # type: ignore[method-assign]
