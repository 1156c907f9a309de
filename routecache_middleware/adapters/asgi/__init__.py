"""The ASGI way in: :class:`RouteCacheMiddleware`."""

from routecache_middleware.adapters.asgi.middleware import RouteCacheMiddleware
from routecache_middleware.adapters.asgi.state import RouteCacheState
from routecache_middleware.core.explanation import RequestExplanation

__all__ = ["RequestExplanation", "RouteCacheMiddleware", "RouteCacheState"]
