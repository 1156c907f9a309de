"""A gateway with a cache in it whose every word is heard, and who asks it with all credentials."""

from collections.abc import Iterable
from typing import Any, Self

from routecache_middleware import CachePolicy, RouteCache, RouteCacheMiddleware, Settings
from routecache_middleware.adapters.asgi.types import ASGIApp
from routecache_middleware.core.ports import Coordinator
from routecache_middleware.testing.clock import FakeClock
from tests.canary.bodies import CREDENTIALS, QUERY
from tests.canary.ears import Ears
from tests.canary.planted import planted
from tests.support.asgi import Client, Pair, Response, settle

__all__ = ["House", "settings"]

_OURS = ("x-routecache", "cache-status", "server-timing", "age", "routecache")
_EVERYTHING = CachePolicy(cache_tool_calls=True, max_temperature=None)


def settings(**changed: Any) -> Settings:
    """Return settings with secrets in them, and with all that is said switched on."""
    given: dict[str, Any] = {
        "secret": planted("secret").encode(),
        "previous_secrets": (planted("former secret").encode(),),
        "server_timing": True,
        "result_ttl_s": 10.0,
        "result_stale_while_revalidate_s": 20.0,
        "result_stale_if_error_s": 30.0,
    }
    return Settings(**{**given, **changed})


class House:
    """A middleware on a cache of its own; use as a context manager.

    Attributes:
        cache: The cache.
        clock: Its time.
        middleware: The middleware.
        outcomes: What became of each request so far.
    """

    def __init__(
        self,
        ears: Ears,
        app: ASGIApp,
        *,
        coordinator: Coordinator | None = None,
        url: str = "memory://",
        policy: CachePolicy = _EVERYTHING,
        clock: FakeClock | None = None,
        parts: dict[str, Any] | None = None,
        **changed: Any,
    ) -> None:
        self._ears = ears
        self.clock = clock or FakeClock()
        is_here = coordinator is not None or url == "memory://"
        self.cache = RouteCache(
            url=None if coordinator is not None else url,
            coordinator=coordinator,
            settings=settings(**changed),
            policy=policy,
            observers=ears.observers(),
            clock=self.clock if is_here else None,  # servers have a clock of their own
        )
        self.middleware = RouteCacheMiddleware(app, cache=self.cache, **(parts or {}))
        self.outcomes: list[str] = []

    async def __aenter__(self) -> Self:
        await self.cache.open()
        return self

    async def __aexit__(self, *_: object) -> None:
        await settle()
        await self._ears.hear_of(self.cache)
        await self.cache.aclose()

    def client(self, body: bytes, *, headers: Iterable[Pair] = (), **how: Any) -> Client:
        """Return a client that asks with every credential; not started."""
        scoped = {"headers": [*CREDENTIALS, *headers], "query_string": QUERY, **how}
        return Client(self.middleware, body, **scoped)

    async def ask(self, body: bytes, **how: Any) -> Response:
        """Ask, and hear what of the answer is ours."""
        tracer = self._ears.tracing.get_tracer("server")
        with tracer.start_as_current_span("POST"):
            client = self.client(body, **how).start()
            return self.hear(await client.end())

    def hear(self, got: Response) -> Response:
        """Hear what of a response's header is ours."""
        if got.starts:
            ours = [pair for pair in got.headers if pair[0].decode().startswith(_OURS)]
            self._ears.hear("our response header", ours)
            self.outcomes.append(got.outcome or "")
        return got
