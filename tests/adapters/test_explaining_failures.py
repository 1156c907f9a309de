"""A coordinator that hangs, fails, lags or lies is reported; nobody waits for it for long."""

import asyncio
import time
from collections.abc import Sequence

import pytest

from routecache_middleware import RouteCache, RouteCacheMiddleware, Settings
from routecache_middleware.adapters.asgi import RequestExplanation
from routecache_middleware.core.keys import CacheKey
from routecache_middleware.core.models import Outcome, Position
from routecache_middleware.core.ports import Fetched
from routecache_middleware.errors import ConfigurationError, CoordinatorError
from routecache_middleware.testing.clock import FakeClock
from tests.support.apps import ScriptedApp
from tests.support.asgi import KEY, PATH, fetch, settle
from tests.support.chat import ask
from tests.support.faulty import FaultyCoordinator


@pytest.fixture
def coordinator() -> FaultyCoordinator:
    return FaultyCoordinator(FakeClock())


@pytest.fixture
def mw(coordinator: FaultyCoordinator) -> RouteCacheMiddleware:
    cache = RouteCache(
        coordinator=coordinator,
        settings=Settings(coordinator_timeout_s=0.05, share_metrics=False),
        observers=[],
        clock=coordinator._clock,
    )
    return RouteCacheMiddleware(ScriptedApp(), cache=cache)


async def why(mw: RouteCacheMiddleware, body: bytes, **more: bytes) -> RequestExplanation:
    return await mw.explain(path=PATH, body=body, headers=[KEY], **more)  # type: ignore[arg-type]


async def test_one_that_hangs_is_waited_for_as_long_as_by_a_request(
    mw: RouteCacheMiddleware, coordinator: FaultyCoordinator
) -> None:
    await fetch(mw)
    await settle()
    coordinator.hang()
    started_s = time.perf_counter()
    said = await why(mw, ask())
    assert 0.04 < time.perf_counter() - started_s < 1.0
    assert (said.outcome, said.reason) == ("error", "coordinator-error")
    assert said.trouble == "the coordinator (faulty) did not answer within 0.05 s"
    assert (said.answer, said.neighbour, said.looks_up) == (None, None, True)
    assert said.counted == ("model", "messages")  # what needs no coordinator is there
    await settle()
    assert coordinator.cancelled == 1
    coordinator.heal()
    assert (await why(mw, ask())).outcome is Outcome.HIT


async def test_one_that_does_not_open_is_reported(
    mw: RouteCacheMiddleware, coordinator: FaultyCoordinator
) -> None:
    coordinator.hang("open")
    said = await why(mw, ask())
    assert said.trouble == "the coordinator (faulty) did not answer within 1 s"
    assert said.outcome is Outcome.ERROR
    coordinator.heal()
    assert (await why(mw, ask())).reason == "absent"


async def test_one_that_is_configured_wrongly_is_reported_with_the_remedy(
    mw: RouteCacheMiddleware, coordinator: FaultyCoordinator
) -> None:
    coordinator.fail("open", error=ConfigurationError("install the extra"))
    said = await why(mw, ask())
    assert (said.outcome, said.reason) == ("bypass", "internal-error")
    assert said.trouble == "ConfigurationError: install the extra"


@pytest.mark.parametrize(
    ("error", "kind"),
    [(CoordinatorError("secret address"), "CoordinatorError"), (KeyError("hello"), "KeyError")],
)
async def test_one_that_fails_is_reported_by_the_kind_of_its_error(
    mw: RouteCacheMiddleware, coordinator: FaultyCoordinator, error: Exception, kind: str
) -> None:
    await fetch(mw)
    await settle()
    coordinator.fail("fetch", error=error)
    before = coordinator.asked["fetch"]
    said = await why(mw, ask(), neighbour=ask(seed=1))
    assert said.trouble == f"the coordinator (faulty) failed with {kind}"
    assert said.outcome is Outcome.ERROR
    assert said.neighbour is not None
    assert said.neighbour.differs == ("seed",)  # that needs no coordinator either
    assert coordinator.asked["fetch"] == before + 1  # then no more


async def test_a_failure_while_looking_for_neighbours_leaves_the_rest(
    mw: RouteCacheMiddleware, coordinator: FaultyCoordinator, monkeypatch: pytest.MonkeyPatch
) -> None:
    await fetch(mw)
    await settle()
    usual, first = coordinator.journey, len(coordinator.read)

    async def journey() -> None:
        await usual()
        if len(coordinator.read) == first + 2:
            raise CoordinatorError("gone")

    monkeypatch.setattr(coordinator, "journey", journey)
    said = await why(mw, ask(seed=1))
    assert (said.outcome, said.reason, said.neighbour) == ("miss", "absent", None)
    assert said.trouble == "the coordinator (faulty) failed with CoordinatorError"


async def test_what_asks_for_no_stored_answer_is_no_error_without_the_coordinator(
    mw: RouteCacheMiddleware, coordinator: FaultyCoordinator
) -> None:
    await fetch(mw)
    await settle()
    coordinator.fail("fetch")
    headers = [KEY, (b"cache-control", b"no-cache")]
    said = await mw.explain(path=PATH, body=ask(), headers=headers)
    assert (said.outcome, said.reason) == ("miss", "request")
    assert said.trouble


async def test_one_that_answers_too_little_has_nothing(
    mw: RouteCacheMiddleware, coordinator: FaultyCoordinator, monkeypatch: pytest.MonkeyPatch
) -> None:
    await fetch(mw)
    await settle()

    async def fetched(_: Sequence[CacheKey], after: Position) -> Fetched:
        return Fetched((), after)

    monkeypatch.setattr(coordinator, "fetch", fetched)
    said = await why(mw, ask())
    assert (said.outcome, said.trouble) == ("miss", "")


async def test_a_router_is_unknown_without_the_coordinator(
    coordinator: FaultyCoordinator,
) -> None:
    cache = RouteCache(coordinator=coordinator, observers=[], clock=coordinator._clock)
    mw = RouteCacheMiddleware(ScriptedApp(), cache=cache, router=lambda _: "small")
    coordinator.fail("fetch")
    said = await why(mw, ask())
    assert (said.outcome, said.reason, said.decision) == ("error", "coordinator-error", None)


async def test_who_stops_waiting_leaves_nothing_behind(
    mw: RouteCacheMiddleware, coordinator: FaultyCoordinator
) -> None:
    await fetch(mw)
    await settle()
    coordinator.hang("fetch")
    before = asyncio.all_tasks()
    asking = asyncio.ensure_future(why(mw, ask()))
    await settle()
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    await settle()
    assert asyncio.all_tasks() == before


async def test_a_call_that_takes_no_notice_of_being_cancelled_holds_up_nobody(
    mw: RouteCacheMiddleware, coordinator: FaultyCoordinator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor does what it fails with afterwards show up anywhere."""
    await fetch(mw)
    await settle()
    released = asyncio.Event()

    async def journey() -> None:
        try:
            await released.wait()
        except asyncio.CancelledError:
            await released.wait()
        raise ValueError

    monkeypatch.setattr(coordinator, "journey", journey)
    before = asyncio.all_tasks()
    said = await asyncio.wait_for(why(mw, ask()), 5)
    assert said.outcome is Outcome.ERROR
    assert len(asyncio.all_tasks() - before) == 1
    released.set()
    await settle()
    assert asyncio.all_tasks() == before
