"""In and out of LiteLLM's classes."""

import sys
from typing import Any

import pytest
from litellm.router_strategy.adaptive_router.adaptive_router import AdaptiveRouter
from litellm.router_strategy.auto_router.auto_router import AutoRouter
from litellm.router_strategy.complexity_router.complexity_router import ComplexityRouter
from litellm.router_strategy.quality_router.quality_router import QualityRouter

from routecache_middleware.adapters.litellm.decisions import create
from routecache_middleware.adapters.litellm.decisions.patches import Patches
from routecache_middleware.adapters.litellm.hub import Hub
from routecache_middleware.adapters.litellm.options import configure
from tests.adapters.litellm.decisions.routers import (
    chat,
    complexity,
    installed,
    router_of,
    semantic,
)
from tests.adapters.litellm.provider import Provider

_CLASSES: tuple[Any, ...] = (AutoRouter, ComplexityRouter, QualityRouter, AdaptiveRouter)
_HOOK = "async_pre_routing_hook"


def _hooks() -> list[Any]:
    return [vars(owner)[_HOOK] for owner in _CLASSES]


async def test_uninstalled_everything_is_as_before() -> None:
    """Also when it is done twice."""
    before, override = _hooks(), vars(ComplexityRouter)["_semantic_tier_override"]
    async with installed(adaptive_decisions=True) as at:
        assert all(new is not old for new, old in zip(_hooks(), before, strict=True))
        at.part.uninstall()
        at.part.uninstall()
        assert _hooks() == before
    assert vars(ComplexityRouter)["_semantic_tier_override"] is override


async def test_the_bandit_is_left_alone_by_default(provider: Provider) -> None:
    """It learns from each pick."""
    before = _hooks()
    async with installed():
        assert _hooks()[3] is before[3]


async def test_what_somebody_else_wrapped_stays_and_goes_past_us(
    provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ours is still called by theirs; it does nothing any more."""
    monkeypatch.setattr(ComplexityRouter, _HOOK, ComplexityRouter.async_pre_routing_hook)
    async with installed() as at:
        ours = vars(ComplexityRouter)[_HOOK]

        async def theirs(*args: Any, **kwargs: Any) -> Any:
            return await ours(*args, **kwargs)

        ComplexityRouter.async_pre_routing_hook = theirs
        router = router_of(provider, complexity())
        await chat(router, "hi")
        at.part.uninstall()
        assert vars(ComplexityRouter)[_HOOK] is theirs
        await chat(router, "hi")
    assert (at.stats.misses, at.stats.hits) == (1, 0)


async def test_routers_made_before_and_after_are_all_served(provider: Provider) -> None:
    """The proxy makes its Router anew when its configuration changes."""
    before = router_of(provider, semantic())
    async with installed() as at:
        await chat(before, "hi")
        await chat(router_of(provider, semantic()), "hi")
    assert (at.stats.misses, at.stats.hits) == (1, 1)


async def test_semantic_router_is_not_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is an extra of LiteLLM, and its import turns on INFO for the root logger."""
    before = _hooks()
    monkeypatch.setitem(sys.modules, "semantic_router", None)
    async with installed():
        after = _hooks()
    changed = [now is not then for now, then in zip(after, before, strict=True)]
    assert changed[:3] == [True, True, True]


def test_turned_off_there_is_no_part() -> None:
    """``decisions: false``."""
    hub = Hub(configure(url="memory://", environ={}, decisions=False))
    assert create(hub) is None


def test_a_method_that_is_gone_cannot_be_wrapped() -> None:
    """Nor one that a class merely inherits: putting it back would leave a copy."""

    class Base:
        def method(self) -> None:
            """Nothing."""

    class Derived(Base):
        pass

    patches = Patches()
    with pytest.raises(AttributeError, match="Derived has no method"):
        patches.wrap(Derived, "method", lambda original: original)
