"""Opening and closing a cache of our own with the server's lifespan."""

from routecache_middleware.adapters.asgi.types import ASGIApp, Message, Receive, Scope, Send
from routecache_middleware.wiring.cache import RouteCache

__all__ = ["Lifespan"]


class Lifespan:
    """One run of the lifespan protocol. Everything is passed down first."""

    __slots__ = ("_cache", "_send")

    def __init__(self, cache: RouteCache, send: Send) -> None:
        self._cache = cache
        self._send = send

    async def run(self, app: ASGIApp, scope: Scope, receive: Receive) -> None:
        """Run the app's lifespan; the cache closes after the app has shut down.

        The cache opens on first use, in the event loop of the requests, so start-up neither waits
        for it nor fails with it.
        """
        try:
            await app(scope, receive, self.send)
        finally:
            await self._cache.aclose()  # also for an app that ends without a word

    async def send(self, message: Message) -> None:
        """Close the cache before the server hears that shutdown is over."""
        if message["type"] in ("lifespan.shutdown.complete", "lifespan.shutdown.failed"):
            await self._cache.aclose()
        await self._send(message)
