"""Under and over real middleware: context, background work, bodies are as without us (issue 2)."""

import contextvars
import gzip
import json
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.middleware.cors import CORSMiddleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Mount, Route

from routecache_middleware.adapters.asgi.types import ASGIApp, Message, Receive, Scope, Send
from tests.adapters.conftest import Gateway
from tests.support.apps import ScriptedApp, sse_answer
from tests.support.asgi import KEY, PATH, Client, fetch, settle
from tests.support.chat import ask, chunks, completion

PIECES = chunks()
STREAM = ask(stream=True)
CORRELATION: contextvars.ContextVar[str] = contextvars.ContextVar("CORRELATION", default="none")
FROM_APP: contextvars.ContextVar[str] = contextvars.ContextVar("FROM_APP", default="none")
LONG = completion("a long answer " * 100)


class Correlated:
    """Sets a context variable above us, and reads two in its own ``send``."""

    def __init__(self, app: ASGIApp, seen: list[tuple[str, str]]) -> None:
        self._app = app
        self._seen = seen

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        CORRELATION.set(dict(scope["headers"]).get(b"x-request-id", b"?").decode())

        async def tagging(message: Message) -> None:
            self._seen.append((CORRELATION.get(), FROM_APP.get()))
            if message["type"] == "http.response.start":
                tag = (b"x-correlation", CORRELATION.get().encode())
                message = {**message, "headers": [*message["headers"], tag]}
            await send(message)

        await self._app(scope, receive, tagging)


def numbered(number: int) -> list[tuple[bytes, bytes]]:
    return [KEY, (b"x-request-id", b"%d" % number)]


async def test_context_variables_go_down_and_come_back_as_without_us(gateway: Gateway) -> None:
    """The app sees what was set above; what it sets is seen by the send above."""
    told: list[str] = []

    def on_call(call: object) -> None:
        told.append(CORRELATION.get())
        FROM_APP.set("set by the app")

    seen: list[tuple[str, str]] = []
    mw = gateway(ScriptedApp(on_call=on_call))
    await fetch(Correlated(mw, seen), headers=numbered(7))
    assert told == ["7"]
    assert seen == [("7", "set by the app")] * 2


async def test_the_pump_writes_in_the_leaders_context(gateway: Gateway) -> None:
    """Middleware above must not take one client's id for another's; the app's values come along."""
    seen: list[tuple[str, str]] = []
    app = ScriptedApp(
        sse_answer(PIECES), is_stepped=True, on_call=lambda _: void(FROM_APP.set("set by the app"))
    )
    wrapped = Correlated(gateway(app), seen)
    clients = [Client(wrapped, STREAM, headers=numbered(n)).start() for n in range(3)]
    await settle()
    await app.call.step(len(PIECES) + 2)
    for n, client in enumerate(clients):
        assert (await client.end()).get("x-correlation") == str(n)
    assert {pair for pair in seen if pair[0] == "0"} == {("0", "set by the app")}
    assert {pair for pair in seen if pair[0] != "0"} == {("1", "none"), ("2", "none")}


def void(_: object) -> None:
    """Drop a value."""


@pytest.mark.parametrize("block_at", [0, 1, 3])
async def test_a_send_that_was_blocked_goes_on_in_its_own_context(
    gateway: Gateway, block_at: int
) -> None:
    """Also the message in whose middle the pump took over."""
    seen: list[str] = []
    app = ScriptedApp(sse_answer(PIECES), is_stepped=True)
    mw = gateway(app)

    async def above(scope: Scope, receive: Receive, send: Send) -> None:
        name = dict(scope["headers"])[b"x-request-id"].decode()
        CORRELATION.set(name)

        async def sending(message: Message) -> None:
            await send(message)
            seen.append(f"{name} {CORRELATION.get()}")

        await mw(scope, receive, sending)

    leader = Client(above, STREAM, headers=numbered(1), block_at=block_at).start()
    await settle()
    await app.call.step(block_at + 1)
    follower = Client(above, STREAM, headers=numbered(2)).start()
    await settle()
    leader.unblock()
    await app.call.step(len(PIECES) + 2)
    await leader.end()
    await follower.end()
    assert set(seen) == {"1 1", "2 2"}


def chat_app(calls: list[str], background: list[str]) -> Starlette:
    """A gateway in Starlette: JSON and streams, with a background task."""

    async def chat(request: Request) -> Response:
        body = await request.json()
        calls.append(request.url.path)
        task = BackgroundTask(background.append, "ran")
        if body.get("stream"):

            async def stream() -> AsyncIterator[bytes]:
                for piece in PIECES:
                    yield piece

            return StreamingResponse(stream(), media_type="text/event-stream", background=task)
        return Response(LONG, media_type="application/json", background=task)

    return Starlette(routes=[Route(PATH, chat, methods=["POST"])])


class Tagging(BaseHTTPMiddleware):
    """The classic base class, which runs what is below in a task of its own."""

    async def dispatch(
        self, request: Request, call_next: Callable[[Request], Awaitable[Response]]
    ) -> Response:
        response = await call_next(request)
        response.headers["x-base"] = "1"
        return response


STACKS = ["bare", "base above", "base below", "gzip above", "gzip below", "cors above", "all above"]


def stacked(gateway: Gateway, stack: str, app: ASGIApp) -> ASGIApp:
    above, below = stack.endswith("above"), stack.endswith("below")
    if below:
        app = Tagging(app) if stack.startswith("base") else GZipMiddleware(app, 10)
    app = gateway(app)
    if above and not stack.startswith(("gzip", "cors")):
        app = Tagging(app)
    if above and not stack.startswith(("base", "cors")):
        app = GZipMiddleware(app, 10)
    if above and not stack.startswith(("base", "gzip")):
        app = CORSMiddleware(app, allow_origins=["https://site"], allow_credentials=True)
    return app


@pytest.mark.parametrize("spec", ["2.3", "2.4"])
@pytest.mark.parametrize("stack", STACKS)
@pytest.mark.parametrize("body", [ask(), STREAM])
async def test_hits_and_misses_in_every_stack(
    gateway: Gateway, stack: str, body: bytes, spec: str
) -> None:
    """Correct bodies; background tasks run on misses; GZip above compresses hits too."""
    calls: list[str] = []
    background: list[str] = []
    app = stacked(gateway, stack, chat_app(calls, background))
    headers = [KEY, (b"accept-encoding", b"gzip"), (b"origin", b"https://site")]
    expected = LONG if body == ask() else b"".join(PIECES)
    for outcome in ("MISS", "HIT", "HIT"):
        got = await fetch(app, body, headers=headers, spec=spec)
        assert got.outcome == outcome
        is_gzipped = stack in ("gzip above", "all above") and body == ask()
        assert (got.get("content-encoding") == "gzip") == is_gzipped
        assert (gzip.decompress(got.body) if is_gzipped else got.body) == expected
        has_cors = stack in ("cors above", "all above")
        assert (got.get("access-control-allow-origin") == "https://site") == has_cors
        assert got.is_complete
    assert calls == [PATH]
    assert background == ["ran"]


@pytest.mark.parametrize("spec", ["2.3", "2.4"])
@pytest.mark.parametrize("stack", STACKS)
@pytest.mark.parametrize("body", [ask(), STREAM])
async def test_sharing_in_every_stack(gateway: Gateway, stack: str, body: bytes, spec: str) -> None:
    """One call for eight clients, each with its own complete copy."""
    calls: list[str] = []
    background: list[str] = []
    app = stacked(gateway, stack, chat_app(calls, background))
    clients = [Client(app, body, spec=spec).start() for _ in range(8)]
    expected = LONG if body == ask() else b"".join(PIECES)
    for client in clients:
        got = await client.end()
        assert got.body == expected
        assert got.is_complete
    assert calls == [PATH]
    assert background == ["ran"]


@pytest.mark.parametrize("stack", ["bare", "base above", "base below", "all above"])
@pytest.mark.parametrize("k", range(len(PIECES)))
async def test_the_leaders_client_leaves_in_every_stack(
    gateway: Gateway, stack: str, k: int
) -> None:
    """Spec 2.3, through real middleware: the followers get everything and the answer is stored."""
    app = ScriptedApp(sse_answer(PIECES), is_stepped=True, listens=True)
    wrapped = stacked(gateway, stack, app)
    leader, follower = Client(wrapped, STREAM).start(), Client(wrapped, STREAM).start()
    await settle()
    await app.call.step(k)
    leader.disconnect()
    await settle()
    await app.call.step(len(PIECES) + 2)
    assert (await follower.end()).body == b"".join(PIECES)
    await leader.error()
    assert (await fetch(wrapped, STREAM)).outcome == "HIT"


@pytest.mark.parametrize("leave_at", range(len(PIECES)))
async def test_starlettes_own_stream_stops_when_the_client_leaves(
    gateway: Gateway, leave_at: int
) -> None:
    """Spec 2.3: its listener hears the disconnect through our ``receive``."""
    produced: list[bytes] = []

    async def stream() -> AsyncIterator[bytes]:
        for piece in PIECES:
            produced.append(piece)
            yield piece
            await settle(5)

    async def chat(request: Request) -> Response:
        await request.body()
        return StreamingResponse(stream(), media_type="text/event-stream")

    mw = gateway(Starlette(routes=[Route(PATH, chat, methods=["POST"])]))
    client = Client(mw, STREAM, leave_at=leave_at + 1).start()
    await client.error()
    assert len(produced) <= leave_at + 2
    assert mw.cache.stats().result.entries == (produced == PIECES)


async def test_an_error_after_the_answer_is_the_apps_own(gateway: Gateway) -> None:
    """A background task that fails: as without us; the answer was complete and is stored."""

    async def fail() -> None:
        raise RuntimeError("in the background")

    mw = gateway(ScriptedApp(after=fail))
    client = Client(mw).start()
    assert isinstance(await client.error(), RuntimeError)
    assert client.response.is_complete
    assert (await fetch(mw)).outcome == "HIT"


async def test_the_route_is_seen_above_after_the_call(gateway: Gateway) -> None:
    """``scope["route"]`` and ``path_params``, as metrics middleware reads them."""
    seen: dict[str, object] = {}

    async def chat(request: Request) -> Response:
        return JSONResponse(json.loads(completion()))

    inner = Starlette(routes=[Route("/{team}/v1/chat/completions", chat, methods=["POST"])])
    mw = gateway(inner)

    async def above(scope: Scope, receive: Receive, send: Send) -> None:
        await mw(scope, receive, send)
        seen.update(scope)

    await fetch(above, path="/red" + PATH)
    assert seen["path_params"] == {"team": "red"}
    assert seen["endpoint"] is chat
    assert seen["app"] is inner


async def test_mounted_under_prefixes_that_do_not_share(gateway: Gateway) -> None:
    """The path with its root path is in the key (design 5)."""
    mw = gateway()
    outer = Starlette(routes=[Mount("/a", app=mw), Mount("/b", app=mw)])
    assert (await fetch(outer, path="/a" + PATH)).outcome == "MISS"
    assert (await fetch(outer, path="/b" + PATH)).outcome == "MISS"
    assert (await fetch(outer, path="/a" + PATH)).outcome == "HIT"


async def test_added_to_an_application_as_middleware(gateway: Gateway) -> None:
    """``app.add_middleware(RouteCacheMiddleware, ...)``, the way of the README."""
    calls: list[str] = []
    app = chat_app(calls, [])
    mw = type(gateway())
    app.user_middleware.insert(0, Middleware(mw, cache=gateway.cache()))
    assert (await fetch(app)).outcome == "MISS"
    assert (await fetch(app)).outcome == "HIT"
    assert calls == [PATH]
