"""What is asked of the Router behind a strategy.

Up to LiteLLM 1.106 a strategy holds the Router itself. Since 1.109 it holds a context, which has
``registry()`` and ``select()``, and the Router's own methods of old are deprecated.
"""

from collections.abc import Iterator
from typing import Any

from routecache_middleware.adapters.litellm.decisions.request import Request

__all__ = ["can_serve", "has_plugins", "registered", "router_behind"]

_KINDS = ("auto", "complexity", "adaptive", "quality")


def router_behind(strategy: Any) -> Any:
    """Return the Router of a strategy, or its context; None when it has neither."""
    context = getattr(strategy, "ctx", None)
    return getattr(strategy, "litellm_router_instance", None) if context is None else context


def registered(router: Any, strategy: Any) -> Iterator[list[Any]]:
    """Yield under which kind, fingerprint (``router_config_fingerprint``) and tags it stands."""
    if router is None:
        return
    for kind in _KINDS:
        for entries in _strategies(router, kind).values():
            for entry in entries:
                if entry.strategy is strategy:
                    yield [kind, entry.definition_fingerprint, list(entry.tags)]


def has_plugins(router: Any) -> bool:
    """Whether the Router's own plugins hand signals to strategies."""
    if hasattr(router, "registry"):
        return bool(router.registry().plugins("routing"))
    return bool(router.routing_plugins)


async def can_serve(router: Any, model: str, request: Request) -> bool:
    """Ask the Router as it will ask itself: cooldowns, pauses, teams, tags, budgets, limits.

    The same question that the complexity router puts to its own choices. It takes a copy, because
    the Router strips its own notes off what it is given.
    """
    asked = {"messages": request.messages, "input": request.input, "health_check_probe": True}
    kwargs = dict(request.kwargs)
    try:
        if hasattr(router, "select"):
            found = await router.select(model, kwargs, kind="healthy", **asked)
        else:
            found = await router.async_get_healthy_deployments(
                model=model, request_kwargs=kwargs, **asked
            )
    except Exception:  # noqa: BLE001 - that is how it says no
        return False
    return bool(found)


def _strategies(router: Any, kind: str) -> Any:
    if hasattr(router, "registry"):
        return router.registry().plugins(kind)
    return getattr(router, f"{kind}_routers")
