"""What a request meets first, above the cache: who may come in, and how failures end.

A hit does not run what lies below the cache, so this has to be above it.
"""

import ipaddress
import logging
from urllib.parse import urlsplit

from routecache_middleware.adapters.asgi.types import ASGIApp, Receive, Scope, Send
from routecache_middleware.core.ports import Coordinator
from routecache_middleware.gateway.answers import Refusal, refusal_messages
from routecache_middleware.gateway.call import UpstreamBrokenError
from routecache_middleware.gateway.clients import ClientKeys
from routecache_middleware.gateway.headers import without_named
from routecache_middleware.gateway.health import asks_health, health, store_state

__all__ = ["Door", "is_loopback"]

_logger = logging.getLogger("routecache")

_NO_KEY = Refusal(
    401,
    "authentication_error",
    "invalid_api_key",
    "this gateway does not know the API key of the request, or there is none",
    ((b"www-authenticate", b"Bearer"),),
)
_FOREIGN = Refusal(
    403,
    "permission_error",
    "foreign_host",
    "this gateway asks with a key of its own and has no client keys, so that it answers only "
    "programs of this machine; give it client keys",
)
_LOOP = Refusal(
    508,
    "api_error",
    "loop",
    "this request has passed this gateway before: one of its upstreams is the gateway itself",
)
_ASTRAY = Refusal(
    400,
    "invalid_request_error",
    "invalid_path",
    "a path begins with a slash and has no segments . and .., which would lead out of the base URL",
)
_DOTS = frozenset({".", ".."})


class Door:
    """Lets requests in, or not."""

    def __init__(
        self,
        app: ASGIApp,
        *,
        via: bytes,
        keys: ClientKeys | None,
        is_guarded: bool,
        coordinator: Coordinator,
    ) -> None:
        """Put it before ``app``.

        Args:
            app: The cache, and the proxy below it.
            via: What the proxy writes into ``Via``.
            keys: The keys that clients may use; None: they are not asked.
            is_guarded: Without keys: no web page may ask, whatever a name server tells a browser.
            coordinator: Where the cache keeps what it has; its state is a part of the health.
        """
        self._app = app
        self._via = via
        self._keys = keys
        self._is_guarded = is_guarded and keys is None
        self._coordinator = coordinator

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        if asks_health(scope):
            for message in health(scope, store_state(self._coordinator)):
                await send(message)
            return
        refusal = self._refusal(scope)
        if refusal is not None:
            for message in refusal_messages(scope, refusal):
                await send(message)
            return
        kept = without_named(scope["headers"])
        if kept is not None:
            scope = {**scope, "headers": kept}
        try:
            await self._app(scope, receive, send)
        except UpstreamBrokenError as error:
            # Without another word: the server then closes the connection, and the client knows.
            _logger.warning("%s", error)

    def _refusal(self, scope: Scope) -> Refusal | None:
        headers = scope["headers"]
        if any(name == b"via" and self._via in value for name, value in headers):
            return _LOOP
        if self._keys is not None and not self._keys.accept(headers):
            return _NO_KEY
        if _leads_astray(scope["path"]):
            return _ASTRAY
        return _FOREIGN if self._is_guarded and not _is_of_this_machine(scope) else None


def _leads_astray(path: str) -> bool:
    """Whether an upstream may take a path for another one than the gateway does."""
    return not path.startswith("/") or ("/." in path and not _DOTS.isdisjoint(path.split("/")))


def is_loopback(host: str) -> bool:
    """Whether only programs of this machine can reach an address."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def _is_of_this_machine(scope: Scope) -> bool:
    """Whether a request was made for a loopback address, by no web page of somebody else's."""
    for name, value in scope["headers"]:
        if name == b"host" and not _names_loopback(b"//" + value):
            return False
        if name == b"origin" and not _names_loopback(value):
            return False
    return True


def _names_loopback(url: bytes) -> bool:
    try:
        return is_loopback(urlsplit(url.decode("latin-1")).hostname or "")
    except ValueError:
        return False
