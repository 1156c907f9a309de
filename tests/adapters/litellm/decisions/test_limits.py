"""When the cache, the provider or the client lets a decision down: LiteLLM routes as without us."""

import asyncio
import logging
from typing import Any

import pytest
from pydantic import create_model

from routecache_middleware.coordinators.guarded import GuardedCoordinator
from routecache_middleware.core.settings import Settings
from routecache_middleware.engine.clock import SystemClock
from routecache_middleware.wiring.cache import RouteCache
from tests.adapters.litellm.decisions.modes import LLM, PROMPT
from tests.adapters.litellm.decisions.routers import (
    COOKING,
    chat,
    complexity,
    cool_down,
    installed,
    router_of,
    semantic,
)
from tests.adapters.litellm.provider import Answer, Provider
from tests.support.faulty import FaultyCoordinator


def _faulty() -> tuple[FaultyCoordinator, RouteCache]:
    """A coordinator as it stands in a network, with deadlines in front of it."""
    clock = SystemClock()
    coordinator = FaultyCoordinator(clock)  # type: ignore[arg-type]
    guarded = GuardedCoordinator(coordinator, clock=clock, timeout_s=0.1)
    return coordinator, RouteCache(coordinator=guarded, settings=Settings(), observers=())


async def test_a_shared_coordinator_keeps_decisions(provider: Provider) -> None:
    """Leases and all; the measure of what follows."""
    _, cache = _faulty()
    provider.always('{"tier": "COMPLEX"}', model="m-judge")
    async with installed(cache=cache) as at:
        router = router_of(provider, complexity(LLM))
        await asyncio.gather(*(chat(router, PROMPT) for _ in range(5)))
        await chat(router, PROMPT)
        assert at.stats.hits >= 1
    assert provider.count(model="m-judge") == 1


@pytest.mark.parametrize("fault", ["hang", "fail", "raise"])
async def test_a_coordinator_that_is_down_changes_nothing(provider: Provider, fault: str) -> None:
    """It hangs, it refuses, or it raises what no coordinator should."""
    coordinator, cache = _faulty()
    provider.always('{"tier": "COMPLEX"}', model="m-judge")
    async with installed(cache=cache) as at:
        router = router_of(provider, complexity(LLM))
        await chat(router, PROMPT)
        if fault == "hang":
            coordinator.hang()
        else:
            coordinator.fail(error=RuntimeError("?") if fault == "raise" else None)
        answers = await asyncio.wait_for(
            asyncio.gather(*(chat(router, f"{PROMPT} {number}") for number in range(3))), 20
        )
        coordinator.heal()
    assert [answer.model for answer in answers] == ["m-large"] * 3
    assert at.part is not None


async def test_a_fault_of_ours_is_told_once_and_routed_around(
    provider: Provider, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever goes wrong before or after the lookup."""
    module = "routecache_middleware.adapters.litellm.decisions.part"

    def broken(*_: object, **__: object) -> object:
        raise KeyError(COOKING)

    with caplog.at_level(logging.WARNING, logger="routecache"):
        async with installed():
            router = router_of(provider, semantic())
            await chat(router, COOKING)
            with monkeypatch.context() as patched:
                patched.setattr(f"{module}.request_payload", broken)
                await chat(router, COOKING)
            with monkeypatch.context() as patched:
                patched.setattr(f"{module}.can_serve", broken)
                await chat(router, COOKING)
    assert provider.count(model="m-small") == 3
    told = [one.getMessage() for one in caplog.records if one.name == "routecache"]
    assert len(told) == 1
    assert "KeyError" in told[0]
    assert COOKING not in told[0]


async def test_a_leader_that_leaves_lets_another_lead(provider: Provider) -> None:
    """The client of the first call goes away while the classifier thinks."""
    provider.always(Answer(text='{"tier": "COMPLEX"}', delay_s=0.4), model="m-judge")
    async with installed():
        router = router_of(provider, complexity(LLM))
        leader = asyncio.create_task(chat(router, PROMPT))
        await provider.called(1)
        others = [asyncio.create_task(chat(router, PROMPT)) for _ in range(5)]
        await asyncio.sleep(0.05)
        leader.cancel()
        answers = await asyncio.wait_for(asyncio.gather(*others), 20)
        with pytest.raises(asyncio.CancelledError):
            await leader
    assert {answer.model for answer in answers} == {"m-large"}
    assert provider.count(model="m-judge") == 2


async def test_an_error_of_the_strategy_is_its_own(provider: Provider) -> None:
    """LiteLLM would have raised it; nobody else gets it from us, and nothing is kept."""
    async with installed() as at:
        router = router_of(provider, semantic())
        provider.always(Answer(status=500), model="m-embed")  # the routes cannot be embedded
        results = await asyncio.gather(
            *(chat(router, COOKING) for _ in range(3)), return_exceptions=True
        )
        assert all(isinstance(result, Exception) for result in results)
        provider.always(Answer(), model="m-embed")
        assert (await chat(router, COOKING)).model == "m-small"
    assert at.stats.writes == 1


async def test_the_only_group_in_cooldown_is_decided_anew(provider: Provider) -> None:
    """Then LiteLLM does what it does without us: fallbacks, here."""
    async with installed() as at:
        router = router_of(provider, semantic(), fallbacks=[{"smart": ["large"]}])
        await chat(router, COOKING)
        cool_down(router, "id-small")
        before = provider.count("/embeddings")
        assert (await chat(router, COOKING)).model == "m-large"
        assert provider.count("/embeddings") == before + 1
    assert at.stats.hits == 0


async def test_invalidated_while_it_was_made_is_not_kept(provider: Provider) -> None:
    """The log of invalidations is the judge."""
    provider.always(Answer(text='{"tier": "COMPLEX"}', delay_s=0.3), model="m-judge")
    async with installed() as at:
        router = router_of(provider, complexity(LLM))
        asking = asyncio.create_task(chat(router, PROMPT))
        await provider.called(1)
        await at.hub.cache.invalidate_model("large")
        await asking
        await chat(router, PROMPT)
    assert provider.count(model="m-judge") == 2


@pytest.mark.parametrize(
    ("mode", "hits", "calls"),
    [("off", 0, 3), ("read_only", 0, 3), ("write_only", 0, 3), ("shadow", 0, 3), ("on", 2, 1)],
)
async def test_the_mode_is_respected(provider: Provider, mode: Any, hits: int, calls: int) -> None:
    """As everywhere else."""
    provider.always('{"tier": "COMPLEX"}', model="m-judge")
    async with installed(mode=mode) as at:
        router = router_of(provider, complexity(LLM))
        for _ in range(3):
            await chat(router, PROMPT)
        stats = at.hub.cache.stats()
    assert provider.count(model="m-judge") == calls
    assert at.stats.hits == hits
    assert stats.shadow_hits == (2 if mode == "shadow" else 0)


async def test_large_and_odd_requests_are_routed_without_us(provider: Provider) -> None:
    """Larger than ``max_request_bytes``, a deployment by name, or something that is not JSON."""
    async with installed(max_request_bytes=1000) as at:
        router = router_of(provider, semantic())
        for _ in range(2):
            await chat(router, "x" * 2000)
            await chat(router, COOKING, novel_field=2**70)
    assert (at.stats.bypasses, at.stats.hits, at.stats.misses) == (4, 0, 0)


async def test_large_requests_are_hashed_in_a_thread(provider: Provider) -> None:
    """With the same outcome."""
    async with installed(hash_in_thread_bytes=100) as at:
        router = router_of(provider, complexity())
        for _ in range(2):
            await chat(router, PROMPT * 10)
    assert at.stats.hits == 1


async def test_a_format_may_be_a_class(provider: Provider) -> None:
    """The SDK takes pydantic's; two classes with one name and other fields are two formats."""
    formats = [create_model("Reply", text=(str, ...)), create_model("Reply", number=(int, ...))]
    async with installed() as at:
        router = router_of(provider, complexity())
        for reply in (*formats, *formats):
            await chat(router, "hi", response_format=reply)
    assert (at.stats.misses, at.stats.hits) == (2, 2)


async def test_an_expired_decision_is_made_anew(provider: Provider) -> None:
    """``routing_ttl_s``."""
    async with installed(routing_ttl_s=0.05) as at:
        router = router_of(provider, complexity())
        await chat(router, "hi")
        await asyncio.sleep(0.1)
        await chat(router, "hi")
    assert (at.stats.misses, at.stats.hits) == (2, 0)
