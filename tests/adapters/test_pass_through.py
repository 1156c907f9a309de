"""What is none of our business passes untouched: same objects, same bytes, same order (issue 2)."""

import pytest

from routecache_middleware.adapters.asgi.types import Message, Receive, Scope, Send
from tests.adapters.conftest import Gateway
from tests.support.apps import ScriptedApp, json_answer, sse_answer
from tests.support.asgi import PATH, Client, fetch, scope_of
from tests.support.chat import ask, chunks


class Seen:
    """An app that notes what it was called with."""

    def __init__(self) -> None:
        self.scope: Scope | None = None
        self.receive: Receive | None = None
        self.send: Send | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.scope, self.receive, self.send = scope, receive, send


OTHER_SCOPES: dict[str, Scope] = {
    "GET": scope_of(method="GET"),
    "HEAD": scope_of(method="HEAD"),
    "OPTIONS": scope_of(method="OPTIONS"),
    "PUT": scope_of(method="PUT"),
    "another path": scope_of(path="/v1/models"),
    "a longer path": scope_of(path=PATH + "/x"),
    "a trailing slash": scope_of(path=PATH + "/"),
    "a longer segment": scope_of(path="/av1/chat/completions"),
    "websocket": {"type": "websocket", "path": PATH, "headers": []},
    "lifespan": {"type": "lifespan", "asgi": {"version": "3.0"}},
    "unknown": {"type": "something new"},
}


@pytest.mark.parametrize("kind", OTHER_SCOPES)
async def test_other_connections_reach_the_app_as_the_very_same_objects(
    gateway: Gateway, kind: str
) -> None:
    """Design 10: method and whole path segments decide; everything else passes."""
    app, scope = Seen(), OTHER_SCOPES[kind]
    before = dict(scope)

    async def receive() -> Message:
        raise AssertionError("nothing is read")

    async def send(message: Message) -> None:
        raise AssertionError("nothing is sent")

    await gateway(app)(scope, receive, send)
    assert app.scope is scope
    assert app.receive is receive
    assert app.send is send
    assert scope == before


@pytest.mark.parametrize("path", [PATH, "/openai" + PATH, "/a/b" + PATH])
async def test_the_path_may_have_any_prefix(gateway: Gateway, path: str) -> None:
    """Issue 2: ``/v1/chat/completions``, also under any prefix."""
    mw = gateway()
    assert (await fetch(mw, path=path)).outcome == "MISS"
    assert (await fetch(mw, path=path)).outcome == "HIT"


async def test_a_mode_that_is_off_passes_the_very_same_objects(gateway: Gateway) -> None:
    """The kill switch leaves nothing of us in the way."""
    app, scope = Seen(), scope_of()
    mw = gateway(app, mode="off")

    async def receive() -> Message:
        raise AssertionError("nothing is read")

    async def send(message: Message) -> None:
        raise AssertionError("nothing is sent")

    await mw(scope, receive, send)
    assert app.scope is scope
    assert app.send is send


async def test_of_two_gateways_the_nearer_one_speaks(gateway: Gateway) -> None:
    """Cache-Status has a member for each (RFC 9211 section 2); the rest says what one did."""
    theirs = [
        (b"content-type", b"application/json"),
        (b"cache-status", b"routecache; hit; ttl=3; detail=memory"),
        (b"X-RouteCache", b"HIT"),
        (b"X-RouteCache-Model", b"small"),
        (b"X-RouteCache-Decision", b"HIT"),
    ]
    got = await fetch(gateway(ScriptedApp(json_answer(headers=theirs))))
    assert got.all("x-routecache") == ["MISS"]
    assert got.all("cache-status") == [theirs[1][1].decode(), "routecache; fwd=miss"]
    assert (got.get("x-routecache-model"), got.get("x-routecache-decision")) == ("small", "HIT")
    routed = gateway(ScriptedApp(json_answer(headers=theirs)), router=lambda _: "large")
    got = await fetch(routed)
    assert got.all("x-routecache-model") == ["large"]
    assert got.all("x-routecache-decision") == ["MISS"]


async def test_the_apps_headers_survive_and_ours_come_last(gateway: Gateway) -> None:
    """Duplicates stay; so does an existing Cache-Status, ours comes last (RFC 9211 section 2)."""
    theirs = [
        (b"Content-Type", b"application/json"),
        (b"set-cookie", b"a=1"),
        (b"set-cookie", b"b=2"),
        (b"cache-status", b'"CDN"; fwd=miss'),
        (b"x-odd", b"\xff\xfe"),
    ]
    answer = json_answer(headers=theirs)
    mw = gateway(ScriptedApp(answer))
    response = await fetch(mw)
    assert response.headers[: len(theirs) + 1] == answer[0]["headers"]
    assert response.headers[len(theirs) + 1 :] == [
        (b"cache-status", b"routecache; fwd=miss"),
        (b"x-routecache", b"MISS"),
    ]
    assert len(answer[0]["headers"]) == len(theirs) + 1, "the app's own list is not touched"


async def test_messages_we_do_not_know_pass_in_their_place(gateway: Gateway) -> None:
    """Early hints, push, debug: unknown messages pass; with trailers nothing is stored."""
    start, *rest = sse_answer(chunks())
    answer: list[Message] = [
        {"type": "http.response.early_hint", "links": [b"</x>; rel=preload"]},
        {**start, "trailers": True},
        *rest,
        {"type": "http.response.trailers", "headers": [(b"x-sum", b"1")], "more_trailers": False},
    ]
    mw = gateway(ScriptedApp(answer))
    got = (await fetch(mw, ask(stream=True))).messages
    assert [m["type"] for m in got] == [m["type"] for m in answer]
    assert got[0] is answer[0]
    assert got[1]["trailers"] is True
    assert got[2:] == answer[2:]
    assert mw.cache.stats().discards == {"trailers": 1}


async def test_ways_around_send_are_taken_from_the_apps_scope(gateway: Gateway) -> None:
    """Design 10: pathsend and zero-copy could be neither recorded nor shared."""
    extensions = {"http.response.pathsend": {}, "http.response.zerocopysend": {}, "tls": {"x": 1}}
    scope = scope_of(extensions=extensions)
    app = ScriptedApp()
    await Client(gateway(app), scope=scope).start().end()
    assert app.call.scope["extensions"] == {"tls": {"x": 1}}
    assert scope["extensions"] is extensions
    assert len(extensions) == 3


async def test_compression_below_is_prevented_for_what_may_be_stored(gateway: Gateway) -> None:
    """Design 10: accept-encoding is removed from the copied scope, and from no other."""
    app = ScriptedApp()
    mw = gateway(app)
    headers = [(b"authorization", b"Bearer k"), (b"accept-encoding", b"gzip")]
    scope = scope_of(headers=headers)
    await Client(mw, scope=scope).start().end()
    assert b"accept-encoding" not in dict(app.call.scope["headers"])
    assert dict(scope["headers"])[b"accept-encoding"] == b"gzip"
    await fetch(mw, b"not json", headers=headers)
    assert dict(app.call.scope["headers"])[b"accept-encoding"] == b"gzip"


async def test_an_answer_that_is_encoded_all_the_same_is_passed_on_and_forgotten(
    gateway: Gateway,
) -> None:
    """Neither stored nor shared (design 10)."""
    answer = json_answer(
        b"\x1f\x8b...",
        headers=[(b"content-type", b"application/json"), (b"content-encoding", b"gzip")],
    )
    mw = gateway(ScriptedApp(answer))
    assert (await fetch(mw)).body == b"\x1f\x8b..."
    assert (await fetch(mw)).outcome == "MISS"
    assert mw.cache.stats().discards == {"content-encoding": 2}


async def test_what_the_app_adds_to_its_scope_is_seen_above(gateway: Gateway) -> None:
    """Middleware above reads the matched route from the scope it passed down, also in its send."""
    seen: list[object] = []

    def routed(call: object) -> None:
        app.calls[-1].scope.update(route="the route", path_params={"a": 1})

    app = ScriptedApp(on_call=routed)
    client = Client(gateway(app))
    send = client.send

    async def noting(message: Message) -> None:
        seen.append(client.scope.get("route"))
        await send(message)

    client.send = noting  # type: ignore[method-assign]
    await client.start().end()
    assert seen == ["the route", "the route"]
    assert client.scope["path_params"] == {"a": 1}
    assert dict(client.scope["headers"])[b"host"] == b"gateway"


async def test_what_is_changed_above_meanwhile_stays_as_it_is(gateway: Gateway) -> None:
    """Only what the app itself changed is given back."""
    app = ScriptedApp(on_call=lambda call: call.scope.update(theirs=1, headers=[]))
    client = Client(gateway(app), kept="before")
    send = client.send

    async def changing(message: Message) -> None:
        client.scope["kept"] = "above"
        await send(message)

    client.send = changing  # type: ignore[method-assign]
    await client.start().end()
    assert (client.scope["kept"], client.scope["theirs"]) == ("above", 1)
    assert len(client.scope["headers"]) == 3


async def test_one_miss_changes_neither_the_servers_headers_nor_its_messages(
    gateway: Gateway,
) -> None:
    """The body is replayed message by message, with the same objects."""
    body = ask()
    parts: list[Message] = [
        {"type": "http.request", "body": body[:10], "more_body": True},
        {"type": "http.request", "body": b"", "more_body": True},
        {"type": "http.request", "body": body[10:]},
    ]
    app = ScriptedApp()
    mw = gateway(app)
    await fetch(mw, parts)
    assert all(got is sent for got, sent in zip(app.call.received, parts, strict=True))
    assert (await fetch(mw, body)).outcome == "HIT"
