"""Bad input reaches the app untouched, and so does its answer the client (issue 2)."""

import asyncio
import re

import pytest

from routecache_middleware.adapters.asgi.types import Message, Receive, Scope, Send
from routecache_middleware.engine.identify import Identifier
from tests.adapters.conftest import Gateway
from tests.support.apps import ScriptedApp, json_answer
from tests.support.asgi import KEY, Client, Options, fetch, settle
from tests.support.chat import ask

DEEP = b'{"model":"m","messages":' + b"[" * 100_000 + b"]" * 100_000 + b"}"
BAD_BODIES = {
    "empty": (b"", "invalid-json"),
    "not JSON": (b"{", "invalid-json"),
    "not UTF-8": (b'{"model":"m\xff"}', "invalid-json"),
    "a list": (b"[]", "invalid-json"),
    "a number": (b"1", "invalid-json"),
    "null": (b"null", "invalid-json"),
    "no model": (b'{"messages":[{"role":"user","content":"x"}]}', "invalid-json"),
    "no messages": (b'{"model":"m"}', "invalid-json"),
    "messages of text": (b'{"model":"m","messages":["x"]}', "invalid-json"),
    "100,000 brackets": (DEEP, "invalid-json"),
    "100,000 brackets alone": (b"[" * 100_000, "invalid-json"),
    "a lone surrogate": (ask("\ud800"), "invalid-json"),
    "a duplicate key": (b'{"model":"m","model":"n","messages":[{"role":"user"}]}', "invalid-json"),
    "NaN": (b'{"model":"m","messages":[{"role":"user"}],"temperature":NaN}', "invalid-json"),
    "1e400": (b'{"model":"m","messages":[{"role":"user"}],"seed":1e400}', "invalid-json"),
    "5,000 digits": (ask()[:-1] + b',"seed":' + b"9" * 5000 + b"}", "invalid-json"),
    "too large": (b" " * 1_048_577, "body-too-large"),
}


@pytest.mark.parametrize("kind", BAD_BODIES)
@pytest.mark.parametrize("status", [200, 400])
async def test_a_bad_body_gets_the_apps_own_answer(
    gateway: Gateway, kind: str, status: int
) -> None:
    """Anything doubtful is a bypass, never an error (design 5); nothing is stored."""
    body, reason = BAD_BODIES[kind]
    answer = json_answer(b'{"what":"the app says"}', status=status)
    app = ScriptedApp(answer)
    mw = gateway(app)
    for _ in range(2):
        client = Client(mw, body)
        sent = list(client.to_receive)
        response = await client.start().end()
        assert [m is s for m, s in zip(app.call.received, sent, strict=True)] == [True]
        assert response.status == status
        assert response.body == b'{"what":"the app says"}'
        assert response.headers[:-2] == answer[0]["headers"]
        assert response.get("cache-status") == f"routecache; fwd=bypass; detail={reason}"
        assert response.outcome == "BYPASS"
        assert app.call.scope["state"]["routecache"].bypass_reason == reason
    assert len(app.calls) == 2
    assert mw.cache.stats().result.entries == 0
    assert mw.cache.stats().bypasses == {reason: 2}


UNREADABLE: dict[str, tuple[Options, str]] = {
    "no content type": ({"content_type": None}, "content-type"),
    "a form": ({"content_type": b"multipart/form-data; boundary=x"}, "content-type"),
    "text": ({"content_type": b"text/plain"}, "content-type"),
    "almost JSON": ({"content_type": b"application/jsonp"}, "content-type"),
    "UTF-16": ({"content_type": b"application/json; charset=utf-16"}, "content-type"),
    "gzip": ({"headers": [KEY, (b"content-encoding", b"gzip")]}, "content-encoding"),
}


@pytest.mark.parametrize("kind", UNREADABLE)
async def test_an_unreadable_body_is_not_even_read(gateway: Gateway, kind: str) -> None:
    """The app reads from the server directly, whenever it likes."""
    options, reason = UNREADABLE[kind]
    reads_before_app: list[int] = []
    app = ScriptedApp(on_call=lambda _: reads_before_app.append(client.receives))
    mw = gateway(app)
    client = Client(mw, ask(), **options)
    response = await client.start().end()
    assert reads_before_app == [0]
    assert app.call.body == ask()
    assert response.get("cache-status") == f"routecache; fwd=bypass; detail={reason}"
    assert mw.cache.stats().result.entries == 0


@pytest.mark.parametrize(
    "content_type",
    [b"application/json", b"Application/JSON; charset=UTF-8", b'application/json;charset="utf-8"'],
)
async def test_json_is_recognised_however_it_is_spelled(
    gateway: Gateway, content_type: bytes
) -> None:
    """RFC 9110 section 8.3.1: media types are case-insensitive, parameters may be quoted."""
    assert (await fetch(gateway(), content_type=content_type)).outcome == "MISS"


async def test_ten_megabytes_stream_through_without_being_buffered(gateway: Gateway) -> None:
    """Design 10: larger bodies stream through uncached without being buffered whole."""
    piece = 65_536
    total = 160
    produced = consumed = peak = 0

    async def receive() -> Message:
        nonlocal produced, peak
        produced += 1
        peak = max(peak, produced - consumed)
        body = bytes([produced % 256]) * piece
        return {"type": "http.request", "body": body, "more_body": produced < total}

    got: list[bytes] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        nonlocal consumed
        while True:
            message = await receive()
            consumed += 1
            got.append(message["body"][:1])
            if not message["more_body"]:
                break
        for answer in json_answer():
            await send(answer)

    client = Client(gateway(app))
    client.receive = receive  # type: ignore[method-assign]
    response = await client.start().end()
    assert response.status == 200
    assert response.get("cache-status") == "routecache; fwd=bypass; detail=body-too-large"
    assert got == [bytes([n % 256]) for n in range(1, total + 1)]
    assert peak * piece <= 1_048_576 + 2 * piece


async def test_a_client_that_leaves_while_it_sends_is_the_apps_to_notice(gateway: Gateway) -> None:
    """What was received is replayed, the disconnect included; we invent nothing."""
    parts: list[Message] = [
        {"type": "http.request", "body": b'{"model":', "more_body": True},
        {"type": "http.disconnect"},
    ]
    app = ScriptedApp()
    await fetch(gateway(app), parts)
    assert app.call.received == parts


async def test_a_receive_that_fails_half_way_loses_nothing_of_what_came(gateway: Gateway) -> None:
    """The app gets what came, and then the server's own error."""
    first: Message = {"type": "http.request", "body": b'{"model":', "more_body": True}
    queue: list[Message] = [first]

    async def receive() -> Message:
        if queue:
            return queue.pop()
        raise ConnectionResetError

    app = ScriptedApp()
    client = Client(gateway(app))
    client.receive = receive  # type: ignore[method-assign]
    assert isinstance(await client.start().error(), ConnectionResetError)
    assert app.call.received == [first]


async def test_after_the_body_the_app_waits_on_the_real_connection(gateway: Gateway) -> None:
    """Design 10: ``receive`` delegates to the real one; no disconnect is invented."""
    got: list[Message] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        got.append(await receive())
        got.append(await receive())

    client = Client(gateway(app)).start()
    await settle()
    assert len(got) == 1
    client.disconnect()
    await client.error()
    assert got[1] == {"type": "http.disconnect"}


async def test_large_bodies_are_parsed_in_a_thread(gateway: Gateway) -> None:
    """Bodies over 64 KB would block the loop; they are cached all the same."""
    mw = gateway()
    body = ask("x" * 100_000)
    assert (await fetch(mw, body)).outcome == "MISS"
    assert (await fetch(mw, body)).outcome == "HIT"
    await asyncio.get_running_loop().shutdown_default_executor()


async def test_a_fault_of_ours_is_logged_once_and_forwarded(
    gateway: Gateway, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The promise of design 1: never wrong, never failed."""
    mw = gateway(app := ScriptedApp())

    async def broken(*_: object) -> None:
        raise ZeroDivisionError("secret")

    monkeypatch.setattr(Identifier, "identify", broken)
    for _ in range(2):
        response = await fetch(mw)
        assert response.status == 200
        assert response.get("cache-status") == "routecache; fwd=bypass; detail=internal-error"
    assert app.call.body == ask()
    (said,) = [r.getMessage() for r in caplog.records]  # what and where, never the text
    assert re.fullmatch(
        r"the cache failed with ZeroDivisionError at .*test_bad_input\.py:\d+; requests go on .*",
        said,
    )
