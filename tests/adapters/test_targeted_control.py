"""``RouteCache-Control``: what an upstream says to this cache alone (RFC 9213)."""

import asyncio
from typing import Any

import pytest

from routecache_middleware.testing.clock import FakeClock
from tests.adapters.conftest import Gateway
from tests.support.apps import (
    JSON_HEADERS,
    SSE_HEADERS,
    Answer,
    ScriptedApp,
    json_answer,
    sse_answer,
)
from tests.support.asgi import KEY, Client, fetch, settle
from tests.support.chat import ask, chunks, completion


def saying(*values: bytes, text: str = "hi") -> Answer:
    fields = [(b"routecache-control", value) for value in values]
    return json_answer(completion(text), headers=[*JSON_HEADERS, *fields])


@pytest.mark.parametrize(
    ("values", "lifetime_s"),
    [
        ([b"max-age=5"], 5),
        ([b"max-age=60"], 60),  # the upstream knows best: also longer than usual
        ([b"max-age=5", b"max-age=7"], 7),  # lines are one field; the last member counts
        ([b"must-revalidate"], 10),
        ([b""], 10),
        ([b"max-age=5, ="], 10),  # unreadable: ignored as a whole (RFC 9213 section 2.1)
        ([b"public;x, max-age=5;y=1"], 5),
        ([b'max-age="5"'], 0),
    ],
)
async def test_it_says_how_long_an_answer_is_fresh(
    gateway: Gateway, clock: FakeClock, values: list[bytes], lifetime_s: int
) -> None:
    cached = gateway(ScriptedApp(saying(*values)), result_ttl_s=10.0)
    await fetch(cached)
    if lifetime_s:
        clock.advance(lifetime_s - 1)
        assert (await fetch(cached)).outcome == "HIT"
        clock.advance(1)
    assert (await fetch(cached)).outcome == "MISS"


async def test_it_counts_instead_of_what_the_client_asks_for(
    gateway: Gateway, clock: FakeClock
) -> None:
    cached = gateway(ScriptedApp(saying(b"max-age=60")))
    await fetch(cached, headers=[KEY, (b"routecache-ttl", b"5")])
    clock.advance(59)
    assert (await fetch(cached)).outcome == "HIT"


@pytest.mark.parametrize("value", [b"no-store", b"No-Store", b"no-cache, max-age=60"])
async def test_no_store_is_neither_kept_nor_shared(gateway: Gateway, value: bytes) -> None:
    """Nor is ``no-cache``: it asks for a validation that nothing here can do."""
    app = ScriptedApp(saying(value), is_stepped=True)
    cached = gateway(app)
    pair = [Client(cached).start() for _ in range(2)]
    await settle()
    await app.calls[0].step(2)
    await app.calls[1].step(2)
    got = await asyncio.gather(*(one.end() for one in pair))
    assert [one.status for one in got] == [200, 200]
    assert cached.cache.stats().discards == {"vetoed": 2}
    assert len(app.calls) == 2


@pytest.mark.parametrize(
    ("settings", "tenant", "outcome"),
    [
        ({}, None, "HIT"),
        ({"tenancy": "shared", "authenticated_upstream": True}, None, "MISS"),
        ({}, lambda scope: "team", "MISS"),
    ],
)
async def test_private_is_kept_for_one_caller_only(
    gateway: Gateway, settings: dict[str, Any], tenant: object, outcome: str
) -> None:
    """RFC 9111 section 5.2.2.7."""
    cached = gateway(ScriptedApp(saying(b"private")), tenant=tenant, **settings)
    await fetch(cached)
    assert (await fetch(cached)).outcome == outcome


async def test_it_says_how_long_it_may_be_stale(gateway: Gateway, clock: FakeClock) -> None:
    said = b"max-age=10, stale-while-revalidate=10, stale-if-error=60"
    app = ScriptedApp(saying(said), json_answer(b"{}", status=503))
    cached = gateway(app)
    await fetch(cached)
    clock.advance(15)
    stale = await fetch(cached)
    assert stale.get("cache-status") == "routecache; hit; ttl=-5; detail=stale-while-revalidate"
    await settle()
    clock.advance(10)
    saved = await fetch(cached)
    assert saved.get("cache-status") == "routecache; hit; ttl=-15; detail=stale-if-error"


@pytest.mark.parametrize("body", [ask(), ask(store=True), b"{"])
async def test_it_is_not_for_those_downstream(gateway: Gateway, body: bytes) -> None:
    """RFC 9213 section 2.1; a CDN's own field passes."""
    answer = json_answer(
        headers=[*JSON_HEADERS, (b"RouteCache-Control", b"max-age=5"), (b"cdn-cache-control", b"x")]
    )
    cached = gateway(ScriptedApp(answer))
    for _ in range(2):
        got = await fetch(cached, body)
        assert got.get("routecache-control") is None
    assert (await fetch(gateway(ScriptedApp(answer)), body)).get("cdn-cache-control") == "x"


async def test_a_stream_says_it_too(gateway: Gateway, clock: FakeClock) -> None:
    fields = [*SSE_HEADERS, (b"routecache-control", b"max-age=5")]
    cached = gateway(ScriptedApp(sse_answer(chunks(), headers=fields)))
    body = ask(stream=True)
    assert (await fetch(cached, body)).get("routecache-control") is None
    clock.advance(4)
    assert (await fetch(cached, body)).outcome == "HIT"
    clock.advance(1)
    assert (await fetch(cached, body)).outcome == "MISS"


async def test_a_cache_above_hears_it_as_well(gateway: Gateway) -> None:
    inner = gateway(ScriptedApp(saying(b"no-store")))
    outer = gateway(inner)
    got = await fetch(outer)
    assert got.get("routecache-control") is None
    assert outer.cache.stats().discards == {"vetoed": 1}
