"""A gateway as people run it: uvicorn, the cache, and below it a plain reverse proxy.

Everything goes over real connections. What leaves the cache is written down between it and the
server, so that whatever library asked, the bytes of a live answer and of a hit can be compared.
"""

import socket
import ssl
import threading
from collections.abc import AsyncIterator
from typing import Self

import httpx
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from routecache_middleware import RouteCacheMiddleware, Settings
from routecache_middleware.adapters.asgi.types import ASGIApp, Message, Receive, Scope, Send

__all__ = ["Exchange", "Gateway", "Tap", "reverse_proxy", "serve"]

_TLS = ssl.create_default_context()  # made once: it costs more than a request
_OF_ONE_CONNECTION = {
    "connection",
    "content-length",
    "date",
    "host",
    "keep-alive",
    "server",
    "transfer-encoding",
}


class serve:  # noqa: N801 - read as `with serve(app) as server`
    """Serves an app on a free port, from a thread of its own.

    Attributes:
        url: Where, without a slash at the end.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._listener = socket.socket()
        self._listener.bind(("127.0.0.1", 0))
        self._listener.listen(128)  # who connects before the server is up waits instead of failing
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        config = uvicorn.Config(app, log_level="critical", timeout_graceful_shutdown=5)
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(
            target=self._server.run, kwargs={"sockets": [self._listener]}, daemon=True
        )

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.should_exit = True
        self._thread.join(timeout=15)
        self._listener.close()
        assert not self._thread.is_alive()


def reverse_proxy(target: str) -> Starlette:
    """Return an app that passes every request on to ``target``, and its answer back as it comes."""

    async def forward(request: Request) -> Response:
        # A client each: one server in the tests closes connections that it has not announced to.
        client = httpx.AsyncClient(base_url=target, timeout=60, trust_env=False, verify=_TLS)
        call = client.build_request(
            request.method,
            request.url.path,
            params=request.query_params,
            headers=_passed_on(request.headers.items()) | {"accept-encoding": "identity"},
            content=await request.body(),
        )
        try:
            upstream = await client.send(call, stream=True)
        except httpx.HTTPError as error:
            await client.aclose()
            return JSONResponse({"error": {"message": repr(error), "type": "gateway"}}, 502)
        headers = _passed_on(upstream.headers.items())
        return StreamingResponse(_relay(client, upstream), upstream.status_code, headers)

    return Starlette(routes=[Route("/{path:path}", forward, methods=["GET", "POST"])])


def _passed_on(fields: object) -> dict[str, str]:
    return {name: value for name, value in fields if name.lower() not in _OF_ONE_CONNECTION}  # type: ignore[attr-defined]


async def _relay(client: httpx.AsyncClient, upstream: httpx.Response) -> AsyncIterator[bytes]:
    try:
        async for piece in upstream.aiter_raw():
            yield piece
    finally:  # also when the client has gone
        await upstream.aclose()
        await client.aclose()


class Exchange:
    """One request and its answer, as they passed between the server and the cache.

    Attributes:
        is_whole: The answer was sent to its end.
        is_over: The app has returned, so what could be stored is stored.
    """

    def __init__(self, scope: Scope) -> None:
        self.path: str = scope["path"]
        self.asked = _named(scope["headers"])
        self.request = b""
        self.status = 0
        self.headers: dict[str, str] = {}
        self.body = b""
        self.is_whole = self.is_over = False

    @property
    def outcome(self) -> str:
        """What ``X-RouteCache`` says."""
        return self.headers.get("x-routecache", "")

    @property
    def key(self) -> str:
        """The API key of who asked."""
        return api_key(self.asked)

    def sent(self, message: Message) -> None:
        """Note a message of the answer."""
        if message["type"] == "http.response.start":
            self.status, self.headers = message["status"], _named(message["headers"])
        elif message["type"] == "http.response.body":
            self.body += message.get("body", b"")
            self.is_whole = not message.get("more_body", False)


def api_key(headers: dict[str, str]) -> str:
    """Return the API key that a request carries, whichever way."""
    bearer = headers.get("authorization", "").removeprefix("Bearer ")
    return headers.get("x-api-key") or bearer


def _named(fields: list[tuple[bytes, bytes]]) -> dict[str, str]:
    return {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in fields}


class Tap:
    """Notes every exchange with the app below it."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self.exchanges: list[Exchange] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass everything on as it is."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        exchange = Exchange(scope)
        self.exchanges.append(exchange)

        async def noted_receive() -> Message:
            message = await receive()
            exchange.request += message.get("body", b"")
            return message

        async def noted_send(message: Message) -> None:
            exchange.sent(message)  # first: the client may be done before this call is
            await send(message)

        try:
            await self._app(scope, noted_receive, noted_send)
        finally:
            exchange.is_over = True


class Gateway:
    """A cache in front of an upstream.

    Attributes:
        url: Of the gateway, without a slash at the end.
        upstream_url: Of what is behind it: who asks there asks without us.
    """

    def __init__(self, upstream_url: str) -> None:
        self.upstream_url = upstream_url
        proxy = reverse_proxy(upstream_url)
        middleware = RouteCacheMiddleware(proxy, settings=Settings())
        self._tap = Tap(middleware)
        self._server = serve(self._tap)
        self.url = self._server.url

    def seen(self, key: str) -> list[Exchange]:
        """Return the exchanges of an API key, in order."""
        return [exchange for exchange in self._tap.exchanges if exchange.key == key]

    def __enter__(self) -> Self:
        self._server.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.__exit__()
