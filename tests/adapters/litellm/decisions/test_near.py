"""Routers that are cheaper than a round trip: their decisions stay in this process."""

import asyncio
from typing import Any

import pytest

from routecache_middleware.adapters.litellm.decisions.near import NearEngine, is_networked
from routecache_middleware.coordinators.lmdb.factory import create as lmdb
from routecache_middleware.coordinators.memory import MemoryCoordinator
from routecache_middleware.coordinators.tiered import TieredCoordinator
from routecache_middleware.coordinators.url import CoordinatorUrl
from routecache_middleware.core.settings import Settings
from routecache_middleware.engine.clock import SystemClock
from routecache_middleware.wiring.cache import RouteCache
from tests.adapters.litellm.decisions.modes import LLM, PROMPT
from tests.adapters.litellm.decisions.routers import (
    Installed,
    chat,
    complexity,
    installed,
    router_of,
)
from tests.adapters.litellm.provider import Answer, Provider
from tests.support.faulty import ProvingCoordinator


def _shared() -> tuple[ProvingCoordinator, RouteCache]:
    """A coordinator as it stands in a network, with a near cache in front of it."""
    clock = SystemClock()
    coordinator = ProvingCoordinator(clock)  # type: ignore[arg-type]
    tiered = TieredCoordinator(coordinator, max_bytes=1 << 20, clock=clock, max_disconnected_s=5)
    return coordinator, RouteCache(coordinator=tiered, settings=Settings(), observers=())


async def _warm_up(router: Any) -> None:
    """So many decisions that their cost is known."""
    for number in range(3):
        await chat(router, f"warm up {number}")


async def test_cheap_decisions_are_not_fetched_from_afar(provider: Provider) -> None:
    """Neither lookups nor writes travel."""
    coordinator, cache = _shared()
    async with installed(cache=cache, cheap_router_ms=10_000) as at:
        router = router_of(provider, complexity())
        await _warm_up(router)
        await asyncio.sleep(0.05)
        before = dict(coordinator.asked)
        for _ in range(3):
            await chat(router, "hi")
        assert dict(coordinator.asked) == before
        assert (at.stats.misses, at.stats.hits) == (4, 2)


async def test_dear_decisions_are(provider: Provider) -> None:
    """So that other workers have them."""
    coordinator, cache = _shared()
    provider.always(Answer(text='{"tier": "COMPLEX"}', delay_s=0.02), model="m-judge")
    async with installed(cache=cache, cheap_router_ms=5) as at:
        router = router_of(provider, complexity(LLM))
        await _warm_up(router)
        before = coordinator.asked["store"]
        await chat(router, PROMPT)
        await chat(router, PROMPT)
        await asyncio.sleep(0.05)
        assert coordinator.asked["store"] == before + 1
        assert at.stats.hits == 1


async def _one_near(provider: Provider, at: Installed) -> Any:
    router = router_of(provider, complexity())
    await _warm_up(router)
    await chat(router, "hi")
    await chat(router, "hi")
    assert at.stats.hits == 1
    return router


async def test_what_this_process_invalidates_is_gone_at_once(provider: Provider) -> None:
    """The same judging as for everything else."""
    _, cache = _shared()
    async with installed(cache=cache, cheap_router_ms=10_000) as at:
        router = await _one_near(provider, at)
        await cache.invalidate_model("small")
        await chat(router, "hi")
        assert at.stats.hits == 1


async def test_what_could_not_be_recorded_holds_here_all_the_same(provider: Provider) -> None:
    """The coordinator refuses the invalidation: it is owed, and in force."""
    coordinator, cache = _shared()
    async with installed(cache=cache, cheap_router_ms=10_000) as at:
        router = await _one_near(provider, at)
        coordinator.fail("append")
        with pytest.raises(Exception, match="refused"):
            await cache.invalidate_model("small")
        await chat(router, "hi")
        assert at.stats.hits == 1
        coordinator.heal()


async def test_what_others_invalidate_is_gone_as_soon_as_it_is_read(provider: Provider) -> None:
    """The log is read ahead; here another process writes to it."""
    coordinator, cache = _shared()
    other = RouteCache(coordinator=coordinator, settings=Settings(), observers=())
    async with installed(cache=cache, cheap_router_ms=10_000) as at, other:
        router = await _one_near(provider, at)
        await other.invalidate_model("small")
        await chat(router, "hi")
        assert at.stats.hits == 1


async def test_a_coordinator_that_died_leaves_what_is_near_for_a_while(provider: Provider) -> None:
    """``max_disconnected_s``; after that each decision is made, and routed."""
    coordinator, cache = _shared()
    async with installed(cache=cache, cheap_router_ms=10_000) as at:
        router = await _one_near(provider, at)
        coordinator.cut_off(proof_age_s=2.0)
        await chat(router, "hi")
        assert at.stats.hits == 2
        coordinator.cut_off(proof_age_s=60.0)
        assert (await chat(router, "hi")).model == "m-small"
        assert at.stats.hits == 2
        coordinator.heal()


async def test_the_mode_holds_for_what_is_near(provider: Provider) -> None:
    """It can be switched at any time."""
    _, cache = _shared()
    async with installed(cache=cache, cheap_router_ms=10_000) as at:
        router = await _one_near(provider, at)
        cache.mode = "read_only"
        writes = at.stats.writes
        await chat(router, "another")
        assert at.stats.writes == writes


async def test_only_networked_coordinators_are_far(tmp_path: Any) -> None:
    """LMDB is shared, and read in place."""
    clock, settings = SystemClock(), Settings()
    url = CoordinatorUrl.parse(f"lmdb://{tmp_path}/cache")
    assert not is_networked(MemoryCoordinator(max_bytes=1_000_000, clock=clock))
    assert not is_networked(lmdb(url, settings, clock))
    _, cache = _shared()
    assert is_networked(cache.engine.coordinator)
    near = NearEngine(cache.engine)
    assert near.recorder is cache.engine.recorder
    assert not is_networked(near.coordinator)
    await cache.aclose()
