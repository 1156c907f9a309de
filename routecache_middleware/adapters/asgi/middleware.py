"""RouteCacheMiddleware: the cache in front of an ASGI gateway.

A hit does not run what lies below us. So put this middleware inside (below) CORS, authentication,
rate limits, access log, request ids and GZip, and above the code that calls the models.
"""

import logging

from routecache_middleware.adapters.asgi.explaining import Explainer
from routecache_middleware.adapters.asgi.head import HeadReader, TenantOf
from routecache_middleware.adapters.asgi.layer import CacheLayer
from routecache_middleware.adapters.asgi.lifespan import Lifespan
from routecache_middleware.adapters.asgi.parts import Parts, Router, Routing, WarnOnce
from routecache_middleware.adapters.asgi.types import ASGIApp, Receive, Scope, Send
from routecache_middleware.core.explanation import RequestExplanation
from routecache_middleware.core.policy import CachePolicy
from routecache_middleware.core.settings import Settings
from routecache_middleware.dialects.table import match
from routecache_middleware.engine.identify import Identifier
from routecache_middleware.errors import ConfigurationError
from routecache_middleware.wiring.cache import RouteCache
from routecache_middleware.wiring.eligibility import Eligible
from routecache_middleware.wiring.explanations import Explanations

__all__ = ["RouteCacheMiddleware"]

_logger = logging.getLogger("routecache")


class RouteCacheMiddleware(CacheLayer, Explanations):
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
        parts = Parts(
            app=app,
            cache=self.cache,
            engine=engine,
            heads=HeadReader(engine.settings, engine.policy, tenant),
            identifier=Identifier(engine.settings, engine.policy),
            routing=None if router is None else Routing(router, routed, eligible),
            warn=WarnOnce(),
            stored_headers=frozenset(name.encode() for name in engine.policy.stored_headers),
        )
        super().__init__(parts, match)
        self._explainer = Explainer(parts, match, tenant)
        self.explainer = self.cache.explainer = self._explainer.explain

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        if scope["type"] == "lifespan" and self._is_owner:
            await Lifespan(self.cache, send).run(self._app, scope, receive)
        else:
            await super().__call__(scope, receive, send)

    async def explain_scope(
        self,
        scope: Scope,
        body: bytes,
        *,
        tenant: str | None = None,
        neighbour: bytes | None = None,
        full: bool = False,
    ) -> RequestExplanation:
        """Say what would become of a request if it came now, and why: hit, miss or bypass.

        Nothing is counted, traced, stored or made; neither router nor app is asked. On a miss it
        names the nearest stored answer and what tells the two requests apart. What it says is safe
        to log: no prompt, no credential; only names of fields. It raises for nothing that a request
        holds, and does not wait longer for a coordinator than a request does (the first time it may
        have to be opened, for at most a second); what could not be found out it says.

        Args:
            scope: The request's ASGI scope; it is not changed.
            body: Its whole body.
            tenant: Whose answers to look among, instead of what the request's credentials, or the
                ``tenant`` callable, say: for operators, who do not have those.
            neighbour: The body of another request to the same path with the same headers, to be
                compared with this one. None: on a miss the nearest that is stored is looked for,
                among the requests that this process has read lately.
            full: Show whole hashes, and the tenant as it is: what ``invalidate_query_result``
                takes. Not for logs: names of tenants may be names of customers.

        Raises:
            TypeError: An argument has the wrong type.
        """
        return await self._explainer.explain_scope(
            scope, body, tenant=tenant, neighbour=neighbour, full=full
        )


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
