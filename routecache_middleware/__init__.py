"""A cache in front of LLM gateways: routing decisions and answers, as ASGI middleware, traced.

The public names are loaded on first use; importing the package does no work.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from routecache_middleware.adapters.asgi import RouteCacheMiddleware
    from routecache_middleware.core.fingerprint import hash_query
    from routecache_middleware.core.models import (
        LoadMetrics,
        ModelMetadata,
        QueryResult,
        RoutingDecision,
    )
    from routecache_middleware.core.policy import CachePolicy
    from routecache_middleware.core.request import LLMRequest
    from routecache_middleware.core.settings import Settings
    from routecache_middleware.core.stats import CacheStats
    from routecache_middleware.errors import RouteCacheError
    from routecache_middleware.wiring.cache import RouteCache

__version__ = "0.1.0"

__all__ = [
    "CachePolicy",
    "CacheStats",
    "LLMRequest",
    "LoadMetrics",
    "ModelMetadata",
    "QueryResult",
    "RouteCache",
    "RouteCacheError",
    "RouteCacheMiddleware",
    "RoutingDecision",
    "Settings",
    "hash_query",
]

_HOMES = {
    "CachePolicy": "core.policy",
    "CacheStats": "core.stats",
    "LLMRequest": "core.request",
    "LoadMetrics": "core.models",
    "ModelMetadata": "core.models",
    "QueryResult": "core.models",
    "RouteCache": "wiring.cache",
    "RouteCacheError": "errors",
    "RouteCacheMiddleware": "adapters.asgi",
    "RoutingDecision": "core.models",
    "Settings": "core.settings",
    "hash_query": "core.fingerprint",
}


def __getattr__(name: str) -> object:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value: object = getattr(import_module(f"{__name__}.{home}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
