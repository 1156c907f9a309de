"""Stale decisions: served while they are made anew, or when the router fails (RFC 5861)."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from routecache_middleware import RouteCache, RoutingDecision, Settings
from routecache_middleware.core.events import Operation, RefreshFinished
from routecache_middleware.core.models import Outcome
from routecache_middleware.testing.clock import FakeClock
from tests.engine.test_engine import Watcher
from tests.support.asgi import settle

SETTINGS = Settings(
    routing_ttl_s=10.0,
    routing_stale_while_revalidate_s=20.0,
    routing_stale_if_error_s=40.0,
    result_ttl_s=10.0,
    result_stale_if_error_s=40.0,
)


class Router:
    """Decides for one model after the other; fails, and waits, when told so."""

    def __init__(self) -> None:
        self.calls = 0
        self.fails = False
        self.gate = asyncio.Event()
        self.gate.set()

    async def __call__(self) -> RoutingDecision:
        self.calls += 1
        name = f"model-{self.calls}"
        await self.gate.wait()
        if self.fails:
            raise RuntimeError("the router failed")
        return RoutingDecision(name)


def new_cache(clock: FakeClock, url: str = "memory://", **settings: float) -> RouteCache:
    return RouteCache(
        url=url,
        settings=replace(SETTINGS, **settings),  # type: ignore[arg-type]
        observers=[],
        clock=clock,
    )


@pytest.fixture
async def cache() -> AsyncIterator[RouteCache]:
    async with new_cache(FakeClock()) as cache:
        yield cache


def clock_of(cache: RouteCache) -> FakeClock:
    clock = cache.engine.clock
    assert isinstance(clock, FakeClock)
    return clock


async def test_a_stale_decision_is_returned_and_made_anew(cache: RouteCache) -> None:
    router = Router()
    await cache.route("q", router)
    clock_of(cache).advance(12)
    router.gate.clear()
    stale = await cache.route("q", router)
    assert (stale.selected_model, stale.outcome, stale.age_s) == ("model-1", Outcome.STALE, 12.0)
    await settle()
    again = await cache.route("q", router)
    assert (again.selected_model, router.calls) == ("model-1", 2), "one refresh at a time"
    router.gate.set()
    await settle()
    fresh = await cache.route("q", router)
    assert (fresh.selected_model, fresh.outcome) == ("model-2", Outcome.HIT)
    counted = cache.stats().routing
    assert (counted.misses, counted.stale, counted.refreshes, counted.hits) == (1, 2, 1, 1)


async def test_a_router_that_fails_is_answered_for(cache: RouteCache) -> None:
    router = Router()
    await cache.route("q", router)
    clock_of(cache).advance(35)  # beyond the first window, inside the second
    router.fails = True
    decision = await cache.route("q", router)
    assert (decision.selected_model, decision.outcome) == ("model-1", Outcome.STALE)
    counted = cache.stats().routing
    assert (counted.misses, counted.stale, counted.stale_if_error) == (1, 1, 1)
    router.fails = False
    assert (await cache.route("q", router)).selected_model == "model-3"
    assert cache.stats().routing.misses == 2


async def test_after_both_windows_a_failure_is_the_callers(cache: RouteCache) -> None:
    router = Router()
    await cache.route("q", router)
    clock_of(cache).advance(50)
    router.fails = True
    with pytest.raises(RuntimeError, match="the router failed"):
        await cache.route("q", router)
    assert cache.stats().routing.misses == 2


async def test_what_was_invalidated_meanwhile_does_not_help(cache: RouteCache) -> None:
    router = Router()
    await cache.route("q", router)
    clock_of(cache).advance(35)
    router.fails = True
    router.gate.clear()
    asking = asyncio.create_task(cache.route("q", router))
    await settle()
    await cache.invalidate_model("model-1")
    router.gate.set()
    with pytest.raises(RuntimeError):
        await asking
    assert cache.stats().routing.misses == 2


async def test_a_model_that_may_not_be_used_does_not_help(cache: RouteCache) -> None:
    router = Router()
    await cache.route("q", router)
    clock_of(cache).advance(35)
    router.fails = True
    with pytest.raises(RuntimeError):
        await cache.route("q", router, eligible=lambda _: False)


async def test_being_cancelled_is_no_failure_of_the_router(cache: RouteCache) -> None:
    router = Router()
    await cache.route("q", router)
    clock_of(cache).advance(35)
    router.gate.clear()
    asking = asyncio.create_task(cache.route("q", router))
    await settle()
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    assert cache.stats().routing.stale == 0


async def test_who_stores_nothing_refreshes_nothing(cache: RouteCache) -> None:
    router = Router()
    await cache.route("q", router)
    clock_of(cache).advance(12)
    assert (await cache.route("q", router, store=False)).outcome is Outcome.STALE
    await settle()
    assert router.calls == 1


async def test_a_plain_read_finds_nothing_stale(cache: RouteCache) -> None:
    """There is nobody who could make it anew."""
    await cache.cache_routing_decision("q", "m")
    clock_of(cache).advance(12)
    assert await cache.get_routing_decision("q") is None


async def test_answers_have_windows_of_their_own(cache: RouteCache) -> None:
    async def answer() -> bytes:
        if clock_of(cache).now_s() > began_s:
            raise TimeoutError
        return b"{}"

    began_s = clock_of(cache).now_s()
    await cache.result("q", "m", answer)
    clock_of(cache).advance(12)
    result = await cache.result("q", "m", answer)
    assert (result.result_data, result.outcome) == (b"{}", Outcome.STALE)


async def test_shadow_mode_serves_nothing_stale(cache: RouteCache) -> None:
    router = Router()
    await cache.route("q", router)
    cache.mode = "shadow"
    clock_of(cache).advance(12)
    assert (await cache.route("q", router)).selected_model == "model-2"
    clock_of(cache).advance(23)
    router.fails = True
    with pytest.raises(RuntimeError):
        await cache.route("q", router)


async def test_a_refresh_has_a_span_that_tells_how_it_ended() -> None:
    clock, watcher = FakeClock(), Watcher()
    cache = RouteCache(url="memory://", settings=SETTINGS, observers=[watcher], clock=clock)
    router = Router()
    async with cache:
        await cache.route("q", router)
        clock.advance(12)
        router.fails = True
        await cache.route("q", router)
        await settle()
    name = f"{Operation.REFRESH} route"
    assert watcher.begun.count(name) == 1
    assert (name, RefreshFinished("RuntimeError")) in watcher.finished


async def stored(cache: RouteCache) -> None:
    """Wait until a fresh decision is there."""
    for _ in range(1000):
        if await cache.get_routing_decision("q") is not None:
            return
        await asyncio.sleep(0.01)
    raise AssertionError("nothing was stored")


async def test_two_processes_make_it_anew_once(tmp_path: Path) -> None:
    """The lease of a shared coordinator is asked for, as by a miss."""
    clock = FakeClock()
    url = f"lmdb://{tmp_path}/cache"
    router = Router()
    async with new_cache(clock, url) as one, new_cache(clock, url) as other:
        await one.route("q", router)
        await stored(other)
        clock.advance(12)
        router.gate.clear()
        for cache in (one, other):
            assert (await cache.route("q", router)).outcome is Outcome.STALE
        await asyncio.sleep(0.2)
        assert router.calls == 2
        router.gate.set()
        await stored(other)
        assert router.calls == 2
