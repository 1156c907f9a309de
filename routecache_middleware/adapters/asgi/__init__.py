"""The ASGI way in: :class:`RouteCacheMiddleware`."""

from routecache_middleware.adapters.asgi.middleware import RouteCacheMiddleware
from routecache_middleware.adapters.asgi.state import RouteCacheState

__all__ = ["RouteCacheMiddleware", "RouteCacheState"]
