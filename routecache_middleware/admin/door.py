"""The door of the administration app: what happens to a request before it reaches an endpoint.

Nothing is looked for before it is known who asks, so that who may not ask learns nothing: not even
which paths there are. The page itself, which holds no data, is for everybody, and so is whether
whoever asks for it would be let in as it is.

A browser sends no credential by itself: the page adds the token to each request. Where no token is
needed, on the machine itself, any page in a browser there could ask; so whatever a browser says
comes from another site is refused, and bodies have to be JSON, which no plain form can send.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from routecache_middleware.admin.access import ANYBODY, Authorize, Principal
from routecache_middleware.admin.assets import Assets, local_path
from routecache_middleware.admin.limits import Limiter
from routecache_middleware.admin.replies import reply
from routecache_middleware.admin.settings import AdminSettings
from routecache_middleware.admin.values import Answer, refused

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

__all__ = ["PRINCIPAL", "Door"]

PRINCIPAL: Final = "routecache.admin.principal"
"""Where the scope says who asks."""

_SIGN: Final = "/assets/door.json"  # the page asks whether to ask for a token
_FAILURES_PER_S: Final = 0.5
_FAILURES: Final = 30.0
_BURST_S: Final = 4.0
_ELSEWHERE: Final = "this comes from a page of another site"

_HEADERS: Final = (
    (
        b"content-security-policy",
        (
            b"default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
            b"connect-src 'self'; font-src 'self'; base-uri 'none'; form-action 'self'; "
            b"frame-ancestors 'none'"
        ),
    ),
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"permissions-policy", b"camera=(), geolocation=(), microphone=()"),
)


class Door:
    """Around the app; immutable, but for what it remembers of how often callers came.

    Attributes:
        start: Begins to keep the history, in the running event loop; the server's start and the
            first request do that as well.
        stop: Ends live streams at once: call it when the server stops, so that it need not wait.
    """

    def __init__(
        self,
        app: "ASGIApp",
        *,
        authorize: Authorize,
        settings: AdminSettings,
        assets: Assets,
        monotonic_s: Callable[[], float],
        start: Callable[[], None],
        stop: Callable[[], None],
    ) -> None:
        self._app = app
        self._authorize = authorize
        self._settings = settings
        self._assets = assets
        self._monotonic_s = monotonic_s
        self.start, self.stop = start, stop
        rate_per_s = settings.requests_per_s
        self._requests = Limiter(rate_per_s, max(1.0, rate_per_s * _BURST_S))
        self._failures = Limiter(_FAILURES_PER_S, _FAILURES)

    async def __call__(self, scope: "Scope", receive: "Receive", send: "Send") -> None:
        """Serve one connection."""
        from starlette.requests import Request  # noqa: PLC0415 - not before the app is made

        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        send, kept = _Guarded(send), _Kept(receive)
        request = Request(scope, kept)
        path = local_path(scope)
        asset = self._assets.find(scope["method"], path)
        if asset is not None:
            await asset(scope, receive, send)
            return
        if path == _SIGN:
            await reply(await self._sign(request))(scope, receive, send)
            return
        answer = await self._admitted(request)
        if answer is None:
            await self._app(scope, kept.again, send)
            return
        await reply(answer)(scope, receive, send)

    async def _sign(self, request: "Request") -> Answer:
        """Say whether somebody would be let in; whoever tries tokens here is limited as well."""
        found = await self._authorize(request)
        wait_s = 0
        if isinstance(found, Answer) and "authorization" in request.headers:
            wait_s = self._failures.wait_s(_address(request), self._monotonic_s())
        return _too_many(wait_s) if wait_s else Answer({"open": not isinstance(found, Answer)})

    async def _admitted(self, request: "Request") -> Answer | None:
        """Return how a request is refused; None: it is let in, and its scope says who asks."""
        client = _address(request)
        if not self._is_from_here(request):
            return refused(403, _ELSEWHERE)
        found = await self._authorize(request)
        now_s = self._monotonic_s()
        if isinstance(found, Answer):
            # Only wrong ones are limited: nobody can lock out whoever has the right one.
            wait_s = self._failures.wait_s(client, now_s)
            return _too_many(wait_s) if wait_s else found
        principal = ANYBODY if found is None else found
        wait_s = self._requests.wait_s(f"{client} {principal.name}", now_s)
        request.scope[PRINCIPAL] = principal
        return _too_many(wait_s) if wait_s else None

    def _is_from_here(self, request: "Request") -> bool:
        headers = request.headers
        origin = headers.get("origin")
        if origin is None:
            return headers.get("sec-fetch-site", "none") in {"none", "same-origin"}
        if origin.lower() in self._settings.origins:
            return True
        # A proxy that ends TLS changes the scheme, so only the names are compared.
        return urlsplit_host(origin) == headers.get("host", "").lower() != ""


def _address(request: "Request") -> str:
    return request.client.host if request.client is not None else ""


def urlsplit_host(origin: str) -> str:
    """Return host and port of an origin; empty when it is none, such as ``null``."""
    try:
        return urlsplit(origin).netloc.lower()
    except ValueError:
        return ""


def _too_many(wait_s: int) -> Answer:
    return refused(429, f"too many requests; wait {wait_s} s", retry_after_s=wait_s)


class _Kept:
    """``receive`` that can be played again: whoever lets requests in may have read the body."""

    __slots__ = ("_kept", "_receive")

    def __init__(self, receive: "Receive") -> None:
        self._receive = receive
        self._kept: list[Message] = []

    async def __call__(self) -> "Message":
        message = await self._receive()
        self._kept.append(message)
        return message

    async def again(self) -> "Message":
        """Return the next message, from the beginning."""
        return self._kept.pop(0) if self._kept else await self._receive()


class _Guarded:
    """``send`` that adds the security headers to whatever is answered."""

    __slots__ = ("_send",)

    def __init__(self, send: "Send") -> None:
        self._send = send

    async def __call__(self, message: "Message") -> None:
        if message["type"] == "http.response.start":
            headers: list[Any] = list(message.get("headers", ()))
            has_caching = any(name.lower() == b"cache-control" for name, _ in headers)
            caching = () if has_caching else ((b"cache-control", b"no-store"),)
            message = {**message, "headers": [*headers, *caching, *_HEADERS]}
        await self._send(message)


def principal_of(scope: "Scope") -> Principal:
    """Return who asks, of a request that was let in."""
    found: Principal = scope[PRINCIPAL]
    return found
