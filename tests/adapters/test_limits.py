"""How old, stale or converted an answer a client accepts, and how long it is kept for it."""

import asyncio
from typing import Any

import pytest

from routecache_middleware.testing.clock import FakeClock
from tests.adapters.conftest import Gateway
from tests.support.apps import ScriptedApp, json_answer, sse_answer
from tests.support.asgi import KEY, Client, Options, fetch, settle
from tests.support.chat import ask, chunks, completion

OLD, NEW = completion("old"), completion("new")
WINDOWS: dict[str, Any] = {
    "result_ttl_s": 10.0,
    "result_stale_while_revalidate_s": 5.0,
    "result_stale_if_error_s": 60.0,
}


def asking(value: bytes, name: bytes = b"cache-control") -> Options:
    return {"headers": [KEY, (name, value)]}


@pytest.mark.parametrize(
    ("after_s", "directive", "expected"),
    [
        (5, b"min-fresh=5", "routecache; hit; ttl=5; detail=memory"),
        (6, b"min-fresh=5", "routecache; fwd=request"),
        (0, b"min-fresh=x", "routecache; fwd=request"),
        (12, b"min-fresh=1", "routecache; fwd=stale"),
        (12, b"max-stale=2", "routecache; hit; ttl=-2; detail=stale-while-revalidate"),
        (20, b"max-stale=10", "routecache; hit; ttl=-10; detail=max-stale"),
        (20, b"max-stale", "routecache; hit; ttl=-10; detail=max-stale"),
        (20, b"max-stale=9", "routecache; fwd=stale"),
        (20, b"max-stale=99, max-age=15", "routecache; fwd=request"),
        (70, b"max-stale", "routecache; fwd=miss"),  # past its physical life
    ],
)
async def test_how_fresh_an_answer_has_to_be(
    gateway: Gateway, clock: FakeClock, after_s: float, directive: bytes, expected: str
) -> None:
    """RFC 9111 sections 5.2.1.2 and 5.2.1.3."""
    cached = gateway(ScriptedApp(json_answer(OLD), json_answer(NEW)), **WINDOWS)
    await fetch(cached)
    clock.advance(after_s)
    got = await fetch(cached, **asking(directive))
    assert got.get("cache-status") == expected
    assert got.body == (OLD if " hit;" in expected else NEW)


async def test_what_somebody_takes_stale_is_made_anew(gateway: Gateway, clock: FakeClock) -> None:
    app = ScriptedApp(json_answer(OLD), json_answer(NEW))
    cached = gateway(app, **WINDOWS)
    await fetch(cached)
    clock.advance(20)
    assert (await fetch(cached, **asking(b"max-stale"))).body == OLD
    await settle()
    assert (await fetch(cached)).body == NEW
    assert len(app.calls) == 2


async def test_who_keeps_nothing_has_nothing_made_anew(gateway: Gateway, clock: FakeClock) -> None:
    app = ScriptedApp(json_answer(OLD))
    cached = gateway(app, **WINDOWS)
    await fetch(cached)
    clock.advance(20)
    assert (await fetch(cached, **asking(b"max-stale, no-store"))).outcome == "STALE"
    await settle()
    assert len(app.calls) == 1


@pytest.mark.parametrize("is_stream", [False, True], ids=["json", "stream"])
async def test_no_transform_gets_no_converted_answer(
    gateway: Gateway,
    is_stream: bool,  # noqa: FBT001 - a parameter of the table
) -> None:
    """RFC 9111 section 5.2.1.6."""
    forms = (json_answer(), sse_answer(chunks()))
    app = ScriptedApp(forms[is_stream], forms[not is_stream])
    cached = gateway(app)
    await fetch(cached, ask(stream=is_stream))
    plain = await fetch(cached, ask(stream=is_stream), **asking(b"no-transform"))
    assert plain.outcome == "HIT"
    other = await fetch(cached, ask(stream=not is_stream), **asking(b"no-transform"))
    assert (other.outcome, len(app.calls)) == ("MISS", 2)


async def test_no_transform_is_not_answered_for_with_a_converted_answer(
    gateway: Gateway, clock: FakeClock
) -> None:
    app = ScriptedApp(json_answer(), json_answer(b"{}", status=503))
    cached = gateway(app, result_ttl_s=10.0, result_stale_if_error_s=60.0)
    await fetch(cached, ask())
    clock.advance(20)
    stream = ask(stream=True)
    assert (await fetch(cached, stream, **asking(b"no-transform"))).status == 503
    assert (await fetch(cached, stream)).outcome == "STALE"


@pytest.mark.parametrize(
    ("asked", "most_s", "is_fresh_after"),
    [
        (b"5", 0.0, {4: True, 5: False}),
        (b"60", 0.0, {9: True, 10: False}),  # no longer than usual
        (b"60", 30.0, {29: True, 30: False}),  # as long as the operator allows
        (b"20", 30.0, {19: True, 20: False}),
        (b"5;x=1", 30.0, {4: True, 5: False}),  # RFC 9651: parameters are ignored
        (b"-1", 30.0, {9: True, 10: False}),  # means nothing
        (b"6.5", 30.0, {9: True, 10: False}),  # no integer
    ],
)
async def test_a_client_may_say_how_long_its_answer_is_fresh(
    gateway: Gateway, clock: FakeClock, asked: bytes, most_s: float, is_fresh_after: dict[int, bool]
) -> None:
    cached = gateway(result_ttl_s=10.0, max_client_ttl_s=most_s)
    await fetch(cached, **asking(asked, b"routecache-ttl"))
    now_s = 0
    for after_s, is_fresh in is_fresh_after.items():
        clock.advance(after_s - now_s)
        now_s = after_s
        only = asking(b"only-if-cached")
        assert ((await fetch(cached, **only)).outcome == "HIT") is is_fresh


async def test_a_lifetime_of_nothing_is_not_stored_and_bothers_nobody_else(
    gateway: Gateway,
) -> None:
    app = ScriptedApp(is_stepped=True)
    cached = gateway(app)
    first = Client(cached, **asking(b"0", b"routecache-ttl")).start()
    await settle()
    await app.calls[0].step(2)
    await first.end()
    herd = [Client(cached).start() for _ in range(3)]
    await settle()
    await app.calls[1].step(2)
    assert [(await one.end()).outcome for one in herd].count("COALESCED") == 2
    assert len(app.calls) == 2


async def test_a_lifetime_changes_neither_the_key_nor_a_hit(
    gateway: Gateway, clock: FakeClock
) -> None:
    cached = gateway(result_ttl_s=10.0)
    await fetch(cached)
    clock.advance(5)
    hit = await fetch(cached, **asking(b"1", b"routecache-ttl"))
    assert (hit.outcome, hit.get("age")) == ("HIT", "5")


async def test_followers_of_another_process_heed_the_limits(gateway: Gateway) -> None:
    """A flight is younger than any answer: whoever joins it gets what is fresh by definition."""
    app = ScriptedApp(is_stepped=True)
    cached = gateway(app)
    pair = [Client(cached).start(), Client(cached, **asking(b"min-fresh=5")).start()]
    await settle()
    await app.calls[0].step(2)
    got = await asyncio.gather(*(one.end() for one in pair))
    assert {one.outcome for one in got} == {"COALESCED", "MISS"}
