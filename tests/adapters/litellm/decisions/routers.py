"""Routers with auto-routers in them, in front of the scripted provider; and the part at work."""

import contextlib
import importlib
import json
from collections.abc import AsyncIterator
from typing import Any

from litellm import Router

from routecache_middleware.adapters.litellm.decisions import create
from routecache_middleware.adapters.litellm.decisions.part import Decisions
from routecache_middleware.adapters.litellm.hub import Hub
from routecache_middleware.adapters.litellm.options import configure
from routecache_middleware.core.stats import LayerStats
from routecache_middleware.wiring.cache import RouteCache
from tests.adapters.litellm.provider import Provider

__all__ = [
    "COOKING",
    "TIERS",
    "Installed",
    "chat",
    "complexity",
    "cool_down",
    "delete",
    "group",
    "installed",
    "quality_group",
    "router_of",
    "semantic",
    "strategies_of",
    "strategy_of",
    "user",
]

TIERS = {"SIMPLE": "small", "MEDIUM": "medium", "COMPLEX": "large", "REASONING": "large"}
COOKING = "how long do I boil an egg in a pot of water"

_ROUTES = [
    {
        "name": "large",
        "utterances": ["prove the theorem by induction", "solve the integral of the function"],
        "score_threshold": 0.3,
    },
    {
        "name": "small",
        "utterances": ["how long do I boil an egg", "how do I cook rice in a pot"],
        "score_threshold": 0.3,
    },
]


class Installed:
    """The part in a process of its own, as far as LiteLLM can tell."""

    def __init__(self, hub: Hub, part: Decisions) -> None:
        self.hub = hub
        self.part = part

    @property
    def stats(self) -> LayerStats:
        """Counters of the layer."""
        return self.hub.cache.stats().routing


@contextlib.asynccontextmanager
async def installed(
    *, is_proxy: bool = False, cache: RouteCache | None = None, url: str = "memory://", **more: Any
) -> AsyncIterator[Installed]:
    """Put the part alone into LiteLLM."""
    hub = Hub(configure(url=url, environ={}, **more), cache=cache, is_proxy=is_proxy)
    part = create(hub)
    assert part is not None
    hub.parts = (part,)
    part.install()
    try:
        yield Installed(hub, part)
    finally:
        part.uninstall()
        await part.aclose()
        await hub.cache.aclose()


def group(provider: Provider, name: str, **info: Any) -> dict[str, Any]:
    """A model group with one deployment."""
    return {
        "model_name": name,
        "litellm_params": {
            "model": f"openai/m-{name}",
            "api_base": provider.url,
            "api_key": "k",
            "max_retries": 0,
        },
        "model_info": {"id": f"id-{name}", **info},
    }


def quality_group(provider: Provider, name: str, tier: int, *keywords: str) -> dict[str, Any]:
    """One that a quality router may choose."""
    preferences = {"quality_tier": tier, "keywords": list(keywords)}
    return group(provider, name, litellm_routing_preferences=preferences)


def semantic(name: str = "smart", **params: Any) -> dict[str, Any]:
    """A semantic auto-router."""
    return {
        "model_name": name,
        "litellm_params": {
            "model": "auto_router/auto_router",
            "auto_router_config": json.dumps({"routes": _ROUTES}),
            "auto_router_default_model": "medium",
            "auto_router_embedding_model": "embed",
            **params,
        },
    }


def complexity(config: dict[str, Any] | None = None, *, name: str = "smart", **params: Any) -> Any:
    """A complexity router."""
    return {
        "model_name": name,
        "litellm_params": {
            "model": "auto_router/complexity_router",
            "complexity_router_config": {"tiers": TIERS, **(config or {})},
            "complexity_router_default_model": "medium",
            **params,
        },
    }


def router_of(provider: Provider, *routers: Any, **more: Any) -> Router:
    """A Router with the groups small, medium, large, embed and judge, and these auto-routers."""
    groups = [group(provider, name) for name in ("small", "medium", "large", "embed", "judge")]
    names = {one["model_name"] for one in routers}
    models = [*(one for one in groups if one["model_name"] not in names), *routers]
    return Router(model_list=models, num_retries=0, **more)


def user(text: str) -> list[dict[str, Any]]:
    """One user message."""
    return [{"role": "user", "content": text}]


async def chat(router: Router, text: str, **more: Any) -> Any:
    """Ask the auto-router named smart."""
    arguments = {"model": "smart", "messages": user(text), **more}
    return await router.acompletion(**arguments)


def cool_down(router: Any, deployment: str) -> None:
    """Let a deployment be left alone for a while, as after a failure."""
    is_new = hasattr(router, "health")
    cooldowns = router.health().cooldowns if is_new else router.cooldown_cache
    cooldowns.add_deployment_to_cooldown(
        model_id=deployment,
        original_exception=RuntimeError("scripted"),
        exception_status=500,
        cooldown_time=30.0,
    )


def delete(router: Any, deployment: str) -> None:
    """Take a deployment out of a Router."""
    if not hasattr(router, "registry"):
        router.delete_deployment(id=deployment)
        return
    changes = importlib.import_module("litellm.router_api").ChangeSet
    router.apply(changes(delete=[deployment]))


def strategies_of(router: Any, kind: str) -> Any:
    """LiteLLM's own objects, by the name of the router."""
    is_new = hasattr(router, "registry")
    return router.registry().plugins(kind) if is_new else getattr(router, f"{kind}_routers")


def strategy_of(router: Any, kind: str) -> Any:
    """The one named smart."""
    return strategies_of(router, kind)["smart"][0].strategy
