"""RouteCacheMiddleware: the cache in front of an ASGI gateway.

A hit does not run what lies below us. So put this middleware inside (below) CORS, authentication,
rate limits, access log, request ids and GZip, and above the code that calls the models.
"""

import logging

from routecache_middleware.adapters.asgi.exchange import Exchange
from routecache_middleware.adapters.asgi.head import HeadReader, TenantOf
from routecache_middleware.adapters.asgi.lifespan import Lifespan
from routecache_middleware.adapters.asgi.parts import Parts, Router, Routing, WarnOnce
from routecache_middleware.adapters.asgi.quick import QuickLane
from routecache_middleware.adapters.asgi.scopes import state_above
from routecache_middleware.adapters.asgi.types import ASGIApp, Receive, Scope, Send
from routecache_middleware.core.choices import Mode
from routecache_middleware.core.dialect import Dialect
from routecache_middleware.core.policy import CachePolicy
from routecache_middleware.core.settings import Settings
from routecache_middleware.dialects.table import match
from routecache_middleware.engine.identify import Identifier
from routecache_middleware.errors import ConfigurationError
from routecache_middleware.wiring.cache import RouteCache
from routecache_middleware.wiring.eligibility import Eligible

__all__ = ["RouteCacheMiddleware"]

_logger = logging.getLogger("routecache")

_OFF = Mode.OFF


class RouteCacheMiddleware:
    """ASGI middleware that answers LLM requests from a cache.

    Requests that are not of a known API, and everything that is not HTTP, pass through untouched.
    Immutable after construction; what one request needs lives in an object of its own.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        cache: RouteCache | None = None,
        url: str | None = None,
        router: Router | None = None,
        eligible: Eligible | None = None,
        settings: Settings | None = None,
        policy: CachePolicy | None = None,
        tenant: TenantOf | None = None,
    ) -> None:
        """Wrap ``app``; opens nothing.

        Args:
            app: The gateway.
            cache: A cache to use, shared with whoever else has it. It is never closed from here.
            url: Coordinator of a cache of our own, such as ``memory://``; not beside ``cache``.
            router: Chooses the model: ``async (LLMRequest) -> RoutingDecision | str``. A plain
                function runs in a thread.
            eligible: ``(model) -> bool``: whether a model may be used right now. Decisions fall
                back to their best eligible alternative.
            settings: How a cache of our own behaves; not together with ``cache``.
            policy: What may be cached; not together with ``cache``.
            tenant: ``(scope) -> str | None``: whose a request is, instead of its credentials.

        Raises:
            ConfigurationError: A setting or the URL is wrong, or two of them contradict each other.
        """
        self._is_owner = cache is None
        try:
            _check(router=router, eligible=eligible, tenant=tenant)
            self.cache = _cache(cache, url, settings, policy)
        except ConfigurationError as error:
            # Frameworks build middleware with the first event or request, and servers may hide
            # what comes of that: this line is then all that an operator sees at start.
            _logger.error("this gateway cannot start: %s", error)  # noqa: TRY400 - one line
            raise
        engine = self.cache.engine
        routed = engine.settings.routed_models
        self._app = app
        self._engine = engine
        self._parts = Parts(
            app=app,
            cache=self.cache,
            engine=engine,
            heads=HeadReader(engine.settings, engine.policy, tenant),
            identifier=Identifier(engine.settings, engine.policy),
            routing=None if router is None else Routing(router, routed, eligible),
            warn=WarnOnce(),
            stored_headers=frozenset(name.encode() for name in engine.policy.stored_headers),
        )
        self._quick = QuickLane(
            engine, self._parts.heads, self._parts.identifier, has_router=router is not None
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        if scope["type"] == "http":
            dialect = match(scope["method"], scope["path"])
            if dialect is not None and self._takes_part(scope):
                await self._serve(dialect, scope, receive, send)
                return
        elif scope["type"] == "lifespan" and self._is_owner:
            await Lifespan(self.cache, send).run(self._app, scope, receive)
            return
        await self._app(scope, receive, send)

    async def _serve(self, dialect: Dialect, scope: Scope, receive: Receive, send: Send) -> None:
        """Try the short way; whatever it comes to, or fails with, the long way takes over there."""
        head = first = tried = None
        quick = self._quick
        try:
            head = quick.head(dialect, scope)
        except Exception as error:  # noqa: BLE001 - a fault of ours must not fail the request
            self._parts.warn("the cache", error)
        if head is not None:
            first = await receive()
            try:
                answer = quick.answer(dialect, head, first)
            except Exception as error:  # noqa: BLE001 - as above
                self._parts.warn("the cache", error)
            else:
                if isinstance(answer, tuple):
                    await send(answer[0])
                    await send(answer[1])
                    return
                tried = answer
        exchange = Exchange(
            self._parts, dialect, scope, receive, send, head=head, first=first, tried=tried
        )
        await exchange.run()

    def _takes_part(self, scope: Scope) -> bool:
        if self._engine.mode is _OFF and self._parts.routing is None:
            return False
        state = scope.get("state")
        if not state:
            return True
        # Another middleware above us has the same cache: it leads the flight that this request is
        # part of, and joining that would be waiting for ourselves.
        outer = state_above(scope)
        while outer is not None and outer.cache is not self._engine:
            outer = outer.outer
        return outer is None


def _cache(
    cache: RouteCache | None, url: str | None, settings: Settings | None, policy: CachePolicy | None
) -> RouteCache:
    if cache is not None and (url, settings, policy) != (None, None, None):
        raise ConfigurationError(
            "cache= was given together with url=, settings= or policy=; give those to the cache"
        )
    return cache or RouteCache(url=url, settings=settings, policy=policy)


def _check(**callables: object) -> None:
    for name, value in callables.items():
        if value is not None and not callable(value):
            kind = type(value).__name__
            raise ConfigurationError(f"{name} is a {kind}; it has to be a callable, or None")
    if callables["eligible"] is not None and callables["router"] is None:
        raise ConfigurationError("eligible= was given without router=; it judges its decisions")
