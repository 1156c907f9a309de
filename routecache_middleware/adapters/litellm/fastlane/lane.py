"""The fast lane itself: the ASGI cache around the proxy's app."""

from functools import partial

from routecache_middleware.adapters.asgi.layer import CacheLayer
from routecache_middleware.adapters.asgi.parts import Parts, WarnOnce
from routecache_middleware.adapters.asgi.types import ASGIApp, Receive, Scope, Send
from routecache_middleware.adapters.litellm.fastlane.dialect import LaneChat
from routecache_middleware.adapters.litellm.fastlane.heads import LaneHeads
from routecache_middleware.adapters.litellm.fastlane.leases import Leases
from routecache_middleware.core.dialect import Dialect
from routecache_middleware.engine.identify import Identifier
from routecache_middleware.errors import ConfigurationError
from routecache_middleware.wiring.cache import RouteCache

__all__ = ["FastLane", "check_paths"]

_CHAT = LaneChat()
_DIALECTS: dict[str, Dialect] = dict.fromkeys(_CHAT.path_suffixes, _CHAT)
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


def check_paths(paths: frozenset[str]) -> None:
    """Raise unless the fast lane can answer all of these paths.

    Raises:
        ConfigurationError: It does not know the API of one of them.
    """
    for path in sorted(paths):
        if not path.startswith("/") or not path.endswith(tuple(_DIALECTS)):
            known = ", ".join(f"/v1{suffix}" for suffix in _DIALECTS)
            raise ConfigurationError(
                f"fast_lane_paths names {path!r}; the fast lane can answer {known} and paths that "
                "end so"
            )


class FastLane(CacheLayer):
    """Answers hits; everything else goes to LiteLLM."""

    def __init__(
        self, app: ASGIApp, cache: RouteCache, leases: Leases, paths: frozenset[str]
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
                warn=WarnOnce(),
                stored_headers=stored | _STORED_HEADERS,
                gate=leases,
            ),
            partial(_match, paths),
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
            and scope["path"] not in self._paths
            and scope["method"] not in _READING
            and scope["path"].startswith(_MANAGEMENT)
        )


def _match(paths: frozenset[str], method: str, path: str) -> Dialect | None:
    return _CHAT if path in paths and method == "POST" else None
