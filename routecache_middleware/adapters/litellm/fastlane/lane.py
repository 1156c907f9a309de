"""The fast lane itself: the ASGI cache around the proxy's app."""

from routecache_middleware.adapters.asgi.layer import CacheLayer
from routecache_middleware.adapters.asgi.parts import Parts, WarnOnce
from routecache_middleware.adapters.asgi.types import ASGIApp, Receive, Scope, Send
from routecache_middleware.adapters.litellm.fastlane.heads import LaneHeads
from routecache_middleware.adapters.litellm.fastlane.leases import Leases
from routecache_middleware.adapters.litellm.fastlane.paths import LanePaths
from routecache_middleware.engine.identify import Identifier
from routecache_middleware.wiring.cache import RouteCache

__all__ = ["FastLane"]

# What LiteLLM says of the answer itself, as it does on hits of its own, and what it tells browsers.
_STORED_HEADERS = frozenset(
    {
        b"content-security-policy",
        b"strict-transport-security",
        b"x-content-type-options",
        b"x-frame-options",
        b"x-litellm-model-group",
        b"x-litellm-model-id",
        b"x-litellm-model-name",
        b"x-litellm-version",
    }
)
# Whoever changes something here may have changed what a key may do.
_MANAGEMENT = (
    "/access_group",
    "/budget",
    "/config",
    "/credentials",
    "/customer",
    "/end_user",
    "/guardrails",
    "/jwt",
    "/key",
    "/model",
    "/organization",
    "/policies",
    "/policy",
    "/project",
    "/sso",
    "/tag",
    "/team",
    "/user",
    "/v2/guardrails",
)
_READING = frozenset({"GET", "HEAD", "OPTIONS"})


class FastLane(CacheLayer):
    """Answers hits; everything else goes to LiteLLM."""

    def __init__(
        self,
        app: ASGIApp,
        cache: RouteCache,
        leases: Leases,
        paths: LanePaths,
        warn: WarnOnce | None = None,
    ) -> None:
        """Put the fast lane around ``app``, which writes the leases; opens nothing."""
        engine = cache.engine
        self._leases = leases
        self._paths = paths
        stored = frozenset(name.encode() for name in engine.policy.stored_headers)
        super().__init__(
            Parts(
                app=app,
                cache=cache,
                engine=engine,
                heads=LaneHeads(engine.settings, engine.policy),
                identifier=Identifier(engine.settings, engine.policy, heeds_bodies=False),
                routing=None,
                warn=warn or WarnOnce(),
                stored_headers=stored | _STORED_HEADERS,
                gate=leases,
            ),
            paths.match,
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        if not self._may_change_keys(scope):
            await super().__call__(scope, receive, send)
            return
        try:
            await self._app(scope, receive, send)
        finally:
            self._leases.clear()

    def _may_change_keys(self, scope: Scope) -> bool:
        return (
            scope["type"] == "http"
            and self._paths.lane_of(scope["path"]) is None
            and scope["method"] not in _READING
            and scope["path"].startswith(_MANAGEMENT)
        )
