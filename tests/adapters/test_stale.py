"""RFC 5861: what is past its lifetime is served while it is made anew, or instead of a failure."""

import asyncio
from itertools import pairwise
from typing import Any

import pytest

from routecache_middleware.testing.clock import FakeClock
from tests.adapters.conftest import Gateway
from tests.support.apps import ScriptedApp, json_answer, sse_answer
from tests.support.asgi import Client, fetch, settle
from tests.support.chat import ask, chunks, completion

OLD, NEW = completion("old"), completion("new")
WHILE: dict[str, Any] = {"result_ttl_s": 10.0, "result_stale_while_revalidate_s": 20.0}
ON_ERROR: dict[str, Any] = {"result_ttl_s": 10.0, "result_stale_if_error_s": 20.0}


def control(value: bytes) -> dict[str, Any]:
    return {"headers": [(b"authorization", b"Bearer key-1"), (b"cache-control", value)]}


async def test_a_stale_answer_is_served_at_once_and_made_anew(
    gateway: Gateway, clock: FakeClock
) -> None:
    """RFC 5861 section 3."""
    app = ScriptedApp(json_answer(OLD), json_answer(NEW))
    cached = gateway(app, **WHILE)
    await fetch(cached)
    clock.advance(12)
    stale = await fetch(cached)
    assert (stale.body, stale.outcome, stale.get("age")) == (OLD, "STALE", "12")
    assert stale.get("cache-status") == "routecache; hit; ttl=-2; detail=stale-while-revalidate"
    await settle()
    assert len(app.calls) == 2
    fresh = await fetch(cached)
    assert (fresh.body, fresh.outcome, fresh.get("age")) == (NEW, "HIT", "0")
    counted = cached.cache.stats().result
    assert (counted.misses, counted.stale, counted.refreshes, counted.hits) == (1, 1, 1, 1)
    assert counted.stale_if_error == 0


async def test_after_the_window_it_is_not_served(gateway: Gateway, clock: FakeClock) -> None:
    """RFC 5861 section 3: after the delta a cache must not."""
    app = ScriptedApp(json_answer(OLD), json_answer(NEW))
    cached = gateway(app, **WHILE)
    await fetch(cached)
    clock.advance(30)
    late = await fetch(cached)
    assert (late.body, late.outcome) == (NEW, "MISS")
    assert late.get("cache-status") == "routecache; fwd=miss"


async def test_without_a_window_nothing_stale_is_served(gateway: Gateway, clock: FakeClock) -> None:
    cached = gateway(ScriptedApp(json_answer(OLD), json_answer(NEW)), result_ttl_s=10.0)
    await fetch(cached)
    clock.advance(10)
    assert (await fetch(cached)).body == NEW


async def test_one_request_makes_it_anew_for_all(gateway: Gateway, clock: FakeClock) -> None:
    app = ScriptedApp(json_answer(OLD), json_answer(NEW))
    cached = gateway(app, **WHILE)
    await fetch(cached)
    clock.advance(12)
    app.is_stepped = True
    responses = [await fetch(cached) for _ in range(5)]
    assert [response.outcome for response in responses] == ["STALE"] * 5
    await settle()
    assert len(app.calls) == 2
    await app.call.step(2)
    assert cached.cache.stats().result.refreshes == 1
    assert (await fetch(cached)).outcome == "HIT"


async def test_a_miss_follows_a_refresh_that_is_under_way(
    gateway: Gateway, clock: FakeClock
) -> None:
    app = ScriptedApp(json_answer(OLD), json_answer(NEW))
    cached = gateway(app, **WHILE)
    await fetch(cached)
    clock.advance(12)
    app.is_stepped = True
    await fetch(cached)
    await settle()
    clock.advance(30)  # too old for everybody who comes now
    follower = Client(cached).start()
    await settle()
    await app.call.step(2)
    got = await follower.end()
    assert (got.body, got.outcome, len(app.calls)) == (NEW, "COALESCED", 2)


async def test_a_refresh_that_fails_is_tried_again_by_the_next(
    gateway: Gateway, clock: FakeClock, caplog: pytest.LogCaptureFixture
) -> None:
    app = ScriptedApp(json_answer(OLD), json_answer(NEW))
    cached = gateway(app, **WHILE)
    await fetch(cached)
    clock.advance(12)
    app.fails_at = 0
    assert (await fetch(cached)).body == OLD
    await settle()
    assert "asked for a fresh answer" in caplog.text
    app.fails_at = None
    assert (await fetch(cached)).outcome == "STALE"
    await settle()
    assert (await fetch(cached)).body == NEW
    assert cached.cache.stats().result.refreshes == 2


async def test_a_refresh_gets_the_whole_request_and_a_client_that_stays(
    gateway: Gateway, clock: FakeClock
) -> None:
    app = ScriptedApp(json_answer(OLD), json_answer(NEW), listens=True)
    cached = gateway(app, **WHILE)
    await fetch(cached)
    clock.advance(12)
    scope_state = {"mine": 1}
    await fetch(cached, state=scope_state)
    await settle()
    first, second = app.calls
    assert second.body == first.body == ask()
    assert second.scope["headers"] == first.scope["headers"]
    assert second.scope["state"]["mine"] == 1
    assert second.saw == ""
    assert "routecache" not in scope_state, "the request itself was answered from the cache"


async def test_a_stream_is_made_anew_as_a_stream(gateway: Gateway, clock: FakeClock) -> None:
    old, new = chunks("old"), chunks("new")
    app = ScriptedApp(sse_answer(old), sse_answer(new))
    cached = gateway(app, **WHILE)
    body = ask(stream=True)
    await fetch(cached, body)
    clock.advance(12)
    assert (await fetch(cached, body)).body == b"".join(old)
    await settle()
    assert (await fetch(cached, body)).body == b"".join(new)


@pytest.mark.parametrize("directive", [b"max-age=60", b"no-cache"])
async def test_who_limits_the_age_gets_nothing_stale(
    gateway: Gateway, clock: FakeClock, directive: bytes
) -> None:
    """RFC 9111 section 5.2.1.1: without max-stale."""
    cached = gateway(ScriptedApp(json_answer(OLD), json_answer(NEW)), **WHILE)
    await fetch(cached)
    clock.advance(12)
    assert (await fetch(cached, **control(directive))).body == NEW


async def test_only_if_cached_is_answered_stale_and_asks_nobody(
    gateway: Gateway, clock: FakeClock
) -> None:
    app = ScriptedApp(json_answer(OLD))
    cached = gateway(app, **WHILE)
    await fetch(cached)
    clock.advance(12)
    assert (await fetch(cached, **control(b"only-if-cached"))).outcome == "STALE"
    await settle()
    assert len(app.calls) == 1


async def test_who_stores_nothing_refreshes_nothing(gateway: Gateway, clock: FakeClock) -> None:
    app = ScriptedApp(json_answer(OLD), json_answer(NEW))
    cached = gateway(app, **WHILE)
    await fetch(cached)
    clock.advance(12)
    got = await fetch(cached, **control(b"no-store"))
    assert (got.body, got.outcome) == (NEW, "MISS")


async def test_what_was_invalidated_is_never_served_stale(
    gateway: Gateway, clock: FakeClock
) -> None:
    app = ScriptedApp(json_answer(OLD), json_answer(status=503))
    cached = gateway(app, **{**WHILE, **ON_ERROR})
    await fetch(cached)
    await cached.cache.invalidate_all()
    clock.advance(12)
    assert (await fetch(cached)).status == 503


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
async def test_a_failing_upstream_is_answered_for(
    gateway: Gateway, clock: FakeClock, status: int
) -> None:
    """RFC 5861 section 4, and 429."""
    app = ScriptedApp(json_answer(OLD), json_answer(b"{}", status=status))
    cached = gateway(app, **ON_ERROR)
    await fetch(cached)
    clock.advance(12)
    got = await fetch(cached)
    assert (got.status, got.body, got.outcome, got.is_complete) == (200, OLD, "STALE", True)
    assert got.get("cache-status") == "routecache; hit; ttl=-2; detail=stale-if-error"
    assert got.get("age") == "12"
    counted = cached.cache.stats().result
    assert (counted.misses, counted.stale, counted.stale_if_error) == (1, 1, 1)


@pytest.mark.parametrize("status", [400, 401, 403, 404, 422])
async def test_a_client_that_is_wrong_hears_so(
    gateway: Gateway, clock: FakeClock, status: int
) -> None:
    app = ScriptedApp(json_answer(OLD), json_answer(b"{}", status=status))
    cached = gateway(app, **ON_ERROR)
    await fetch(cached)
    clock.advance(12)
    got = await fetch(cached)
    assert (got.status, got.outcome) == (status, "MISS")
    assert got.get("cache-status") == "routecache; fwd=stale"
    assert cached.cache.stats().result.misses == 2


async def test_an_app_that_raises_is_answered_for(
    gateway: Gateway, clock: FakeClock, caplog: pytest.LogCaptureFixture
) -> None:
    """A connection that is refused, or a timeout, comes out of an app as an exception."""
    app = ScriptedApp(json_answer(OLD))
    cached = gateway(app, **ON_ERROR)
    await fetch(cached)
    clock.advance(12)
    app.fails_at = 0
    for _ in range(2):
        got = await fetch(cached)
        assert (got.status, got.body, got.outcome) == (200, OLD, "STALE")
    assert caplog.text.count("RuntimeError") == 1, "the operator hears of it once"


async def test_an_app_that_raises_in_the_middle_breaks_off(
    gateway: Gateway, clock: FakeClock
) -> None:
    app = ScriptedApp(json_answer(OLD))
    cached = gateway(app, **ON_ERROR)
    await fetch(cached)
    clock.advance(12)
    app.fails_at = 1
    client = Client(cached).start()
    assert isinstance(await client.error(), RuntimeError)
    assert not client.response.is_complete
    assert cached.cache.stats().result.stale == 0


async def test_after_the_window_failures_are_passed_on(gateway: Gateway, clock: FakeClock) -> None:
    cached = gateway(ScriptedApp(json_answer(OLD), json_answer(status=503)), **ON_ERROR)
    await fetch(cached)
    clock.advance(30)
    assert (await fetch(cached)).status == 503


async def test_a_good_answer_replaces_the_stale_one(gateway: Gateway, clock: FakeClock) -> None:
    cached = gateway(ScriptedApp(json_answer(OLD), json_answer(NEW)), **ON_ERROR)
    await fetch(cached)
    clock.advance(12)
    assert [(await fetch(cached)).body for _ in range(2)] == [NEW, NEW]
    counted = cached.cache.stats().result
    assert (counted.misses, counted.hits, counted.stale) == (2, 1, 0)


async def test_the_other_wire_form_is_answered_for_too(gateway: Gateway, clock: FakeClock) -> None:
    cached = gateway(ScriptedApp(json_answer(OLD), json_answer(status=500)), **ON_ERROR)
    await fetch(cached)
    clock.advance(12)
    got = await fetch(cached, ask(stream=True))
    assert (got.status, got.outcome) == (200, "STALE")
    assert got.body.endswith(b"data: [DONE]\n\n")


async def test_followers_of_a_failure_are_answered_for_without_asking_again(
    gateway: Gateway, clock: FakeClock
) -> None:
    app = ScriptedApp(json_answer(OLD), json_answer(status=503))
    cached = gateway(app, **ON_ERROR)
    await fetch(cached)
    clock.advance(12)
    app.is_stepped = True
    clients = [Client(cached).start() for _ in range(5)]
    await settle()
    await app.call.step(2)
    outcomes = {(await client.end()).outcome for client in clients}
    assert (outcomes, len(app.calls)) == ({"STALE"}, 2)
    counted = cached.cache.stats().result
    assert (counted.stale, counted.misses, counted.coalesced) == (5, 1, 0)


async def test_a_client_that_leaves_while_the_app_works_is_a_miss(
    gateway: Gateway, clock: FakeClock
) -> None:
    app = ScriptedApp(json_answer(OLD))
    cached = gateway(app, **ON_ERROR)
    await fetch(cached)
    clock.advance(12)
    app.is_stepped = True
    client = Client(cached).start()
    await settle()
    client.cancel()
    assert isinstance(await client.error(), asyncio.CancelledError)
    assert cached.cache.stats().result.misses == 2


async def test_shadow_mode_answers_for_nothing(gateway: Gateway, clock: FakeClock) -> None:
    app = ScriptedApp(json_answer(OLD), json_answer(status=503))
    cached = gateway(app, mode="shadow", **{**WHILE, **ON_ERROR})
    await fetch(cached)
    clock.advance(12)
    assert (await fetch(cached)).status == 503
    await settle()
    assert len(app.calls) == 2


async def test_while_it_is_made_anew_an_error_changes_nothing(
    gateway: Gateway, clock: FakeClock
) -> None:
    """Both windows: first served while revalidating, later only when the upstream fails."""
    app = ScriptedApp(json_answer(OLD), json_answer(b"{}", status=503))
    cached = gateway(
        app,
        result_ttl_s=10.0,
        result_stale_while_revalidate_s=5.0,
        result_stale_if_error_s=20.0,
    )
    await fetch(cached)
    details = []
    for seconds in (12, 6):
        clock.advance(seconds)
        got = await fetch(cached)
        await settle()
        assert (got.status, got.body) == (200, OLD)
        details.append((got.get("cache-status") or "").rpartition("detail=")[2])
    assert details == ["stale-while-revalidate", "stale-if-error"]
    assert all(before.scope["path"] == after.scope["path"] for before, after in pairwise(app.calls))


async def test_a_request_that_is_not_rescued_is_one_miss(
    gateway: Gateway, clock: FakeClock
) -> None:
    """Three requests, none of them answered from the cache."""
    app = ScriptedApp(json_answer(), json_answer(b"{}", status=503), is_stepped=True)
    mw = gateway(app, result_ttl_s=10.0, result_stale_if_error_s=600.0)
    first = Client(mw).start()
    await settle()
    await app.call.step(2)
    await first.end()
    clock.advance(20)
    asking = [Client(mw).start() for _ in range(2)]
    await settle()
    assert len(app.calls) == 2
    await mw.cache.invalidate_model("m")
    await app.call.step(2)
    assert (await asking[0].end()).status == 503
    await settle()
    assert len(app.calls) == 3
    await app.call.step(2)
    assert (await asking[1].end()).status == 503
    assert mw.cache.stats().result.misses == 3
