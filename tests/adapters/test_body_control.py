"""LiteLLM's ``cache`` object in a request body: heeded, not part of the key, and not forwarded."""

import json
from typing import Any

import pytest

from routecache_middleware import LLMRequest
from routecache_middleware.testing.clock import FakeClock
from tests.adapters.conftest import Gateway
from tests.support.apps import ScriptedApp, json_answer
from tests.support.asgi import KEY, Client, fetch, settle
from tests.support.chat import ask, completion

SIGNED = [KEY, (b"content-digest", b"sha-256=:X48E9qOokqqrvdts8nOJRJN3OWDUoyWxBf7kbu9DBPE=:")]


def with_cache(**members: object) -> bytes:
    return ask(cache=members)


async def test_it_is_cut_out_of_what_the_app_gets(gateway: Gateway) -> None:
    app = ScriptedApp()
    cached = gateway(app)
    await fetch(cached, b'{"model": "m" , "cache":{"ttl": 5},"messages":[{"role":"user"}]}')
    assert app.call.body == b'{"model": "m" ,"messages":[{"role":"user"}]}'
    lengths = [value for name, value in app.call.scope["headers"] if name == b"content-length"]
    assert lengths in ([], [b"%d" % len(app.call.body)])


async def test_it_is_no_part_of_the_key(gateway: Gateway) -> None:
    cached = gateway()
    await fetch(cached, ask())
    assert (await fetch(cached, with_cache(ttl=5))).outcome == "HIT"
    assert (await fetch(cached, with_cache(**{"s-maxage": 5}))).outcome == "HIT"


async def test_no_cache_and_no_store(gateway: Gateway) -> None:
    app = ScriptedApp(json_answer(completion("old")), json_answer(completion("new")))
    cached = gateway(app)
    await fetch(cached, with_cache(**{"no-store": True}))
    assert cached.cache.stats().discards == {"no-store": 1}
    await fetch(cached)
    got = await fetch(cached, with_cache(**{"no-cache": True}))
    assert got.get("cache-status") == "routecache; fwd=request"
    got = await fetch(cached, with_cache(**{"no-cache": True, "no-store": True}))
    assert got.get("cache-status") == "routecache; fwd=bypass; detail=no-store"
    assert json.loads(app.call.body).keys() == {"model", "messages"}


async def test_its_age_and_lifetime(gateway: Gateway, clock: FakeClock) -> None:
    cached = gateway(result_ttl_s=10.0, max_client_ttl_s=60.0)
    await fetch(cached, with_cache(ttl=30))
    clock.advance(20)
    assert (await fetch(cached, with_cache(**{"s-maxage": 19}))).outcome == "MISS"
    clock.advance(9)
    assert (await fetch(cached, with_cache(**{"s-maxage": 19}))).outcome == "HIT"


async def test_the_stricter_of_body_and_header_counts(gateway: Gateway, clock: FakeClock) -> None:
    cached = gateway()
    await fetch(cached)
    clock.advance(20)
    headers = [KEY, (b"cache-control", b"max-age=10")]
    body = with_cache(**{"s-maxage": 30})
    assert (await fetch(cached, body, headers=headers)).outcome == "MISS"


@pytest.mark.parametrize(("in_body", "in_head"), [(50, b"5"), (5, b"50")])
async def test_of_two_lifetimes_the_shorter_counts(
    gateway: Gateway, clock: FakeClock, in_body: int, in_head: bytes
) -> None:
    cached = gateway()
    await fetch(cached, with_cache(ttl=in_body), headers=[KEY, (b"routecache-ttl", in_head)])
    clock.advance(6)
    assert (await fetch(cached)).outcome == "MISS"


async def test_namespaces_are_apart(gateway: Gateway) -> None:
    cached = gateway()
    await fetch(cached, with_cache(namespace="a"))
    assert (await fetch(cached, with_cache(namespace="a"))).outcome == "HIT"
    assert (await fetch(cached, with_cache(namespace="b"))).outcome == "MISS"
    assert (await fetch(cached)).outcome == "MISS"
    assert (await fetch(cached, with_cache(namespace=""))).outcome == "HIT"


async def test_who_says_use_cache_false_goes_by(gateway: Gateway) -> None:
    cached = gateway()
    await fetch(cached)
    got = await fetch(cached, with_cache(**{"use-cache": False}))
    assert got.get("cache-status") == "routecache; fwd=bypass; detail=no-store"
    assert (await fetch(cached, with_cache(**{"use-cache": True}))).outcome == "HIT"


@pytest.mark.parametrize("held", [{"type": "ephemeral"}, True, "5m"])
async def test_what_is_something_else_stays_where_it_is(gateway: Gateway, held: Any) -> None:
    app = ScriptedApp()
    cached = gateway(app)
    await fetch(cached)
    body = ask(cache=held)
    assert (await fetch(cached, body)).outcome == "MISS"
    assert app.call.body == body


async def test_what_is_signed_is_forwarded_as_it_came(gateway: Gateway) -> None:
    app = ScriptedApp()
    cached = gateway(app)
    body = with_cache(ttl=5)
    await fetch(cached, body, headers=SIGNED)
    assert app.call.body == body


async def test_a_bypassed_request_is_forwarded_without_it(gateway: Gateway) -> None:
    app = ScriptedApp()
    cached = gateway(app)
    assert (await fetch(cached, ask(store=True, cache={"ttl": 5}))).outcome == "BYPASS"
    assert app.call.body == ask(store=True)


@pytest.mark.parametrize("limit", [100, 1_000_000])
async def test_who_is_not_known_is_forwarded_without_it(gateway: Gateway, limit: int) -> None:
    """Whether or not the cache takes part, clients write the same body."""
    app = ScriptedApp()
    cached = gateway(app, hash_in_thread_bytes=limit)
    got = await fetch(cached, ask("x" * 200, cache={"ttl": 60}), headers=())
    assert got.get("cache-status") == "routecache; fwd=bypass; detail=no-principal"
    assert app.call.body == ask("x" * 200)


@pytest.mark.parametrize(
    ("body", "headers"),
    [
        (with_cache(ttl=60), SIGNED[1:]),
        (with_cache(ttl=60), [(b"content-type", b"text/plain")]),
        (ask(cache={"type": "ephemeral"}), ()),
        (b'{"cache": {"ttl": 60}', ()),
        (b'{"cache": {"ttl": 60}, "cache": 1}', ()),
        (b'{"model": ""cache""}', ()),
        (b"", ()),
        (with_cache(ttl="x" * 20_000), ()),
    ],
)
async def test_what_cannot_be_cut_is_forwarded_as_it_came(
    gateway: Gateway, body: bytes, headers: Any
) -> None:
    app = ScriptedApp()
    cached = gateway(app, max_request_bytes=10_000)
    await fetch(cached, body, headers=headers)
    assert app.call.body == body


async def test_an_object_with_unknown_words_is_heeded_all_the_same(gateway: Gateway) -> None:
    app = ScriptedApp()
    cached = gateway(app)
    await fetch(cached, ask(cache={"no-store": True, "x": 1}))
    assert cached.cache.stats().discards == {"no-store": 1}
    await fetch(cached, ask(cache={}))
    assert json.loads(app.call.body).keys() == {"model", "messages"}
    assert (await fetch(cached)).outcome == "HIT"


async def test_a_router_sees_the_request_without_it(gateway: Gateway) -> None:
    seen: list[LLMRequest] = []

    async def router(request: LLMRequest) -> str:
        seen.append(request)
        return "cheap"

    app = ScriptedApp()
    cached = gateway(app, router=router)
    await fetch(cached, with_cache(ttl=5))
    assert "cache" not in seen[0].payload
    assert app.call.body == ask(model="cheap")
    await fetch(cached, ask())  # the same decision
    assert len(seen) == 1


async def test_a_large_body_is_cut_in_a_thread(gateway: Gateway) -> None:
    app = ScriptedApp()
    cached = gateway(app, hash_in_thread_bytes=100)
    await fetch(cached, ask("x" * 200, cache={"ttl": 5}))
    assert app.call.body == ask("x" * 200)


async def test_only_if_cached_holds_beside_it(gateway: Gateway) -> None:
    headers = [KEY, (b"cache-control", b"only-if-cached")]
    assert (await fetch(gateway(), with_cache(ttl=5), headers=headers)).status == 504


async def test_its_repeats_are_remembered_too(gateway: Gateway) -> None:
    """The memo of bodies holds what was read of them."""
    cached = gateway()
    body = with_cache(namespace="a")
    assert [(await fetch(cached, body)).outcome for _ in range(3)] == ["MISS", "HIT", "HIT"]


async def test_a_text_that_says_use_cache_false_is_heeded(gateway: Gateway) -> None:
    """README: a known word of the wrong type has its cautious meaning."""
    mw = gateway()
    await fetch(mw)
    got = await fetch(mw, ask(cache={"use-cache": "false"}))
    assert got.outcome != "HIT"


@pytest.mark.parametrize("ttl", ["0", -1, "soon"])
async def test_a_ttl_of_the_wrong_type_keeps_nothing(gateway: Gateway, ttl: object) -> None:
    mw = gateway()
    await fetch(mw, ask(cache={"ttl": ttl}))
    assert (await fetch(mw)).outcome == "MISS"


async def test_the_cache_object_is_cut_out_of_what_no_dialect_understands(
    gateway: Gateway,
) -> None:
    """README: it stays only in mode off, in compressed or large bodies, and on other paths."""
    app = ScriptedApp()
    mw = gateway(app)
    objects = json.dumps(
        {"model": "jina-clip", "input": [{"text": "a"}], "cache": {"no-store": True}}
    )
    got = await fetch(mw, objects.encode(), path="/v1/embeddings")
    assert got.outcome == "BYPASS"
    assert "cache" not in json.loads(app.call.body)


async def test_an_app_may_refuse_whoever_has_no_credential_before_it_has_the_body(
    gateway: Gateway,
) -> None:
    """As it could before bodies of such requests were read to the end; slow ones are held up."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        for message in json_answer(b"{}", status=401):
            await send(message)

    mw = gateway(app)
    part = {"type": "http.request", "body": ask()[:20], "more_body": True}
    asking = Client(mw, [part], headers=[]).start()
    await settle()
    is_answered = bool(asking.got)
    asking.disconnect()
    await asking.error()
    assert is_answered
