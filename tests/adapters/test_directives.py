"""What clients ask of the cache, and what operators switch (RFC 9111 section 5.2.1, design 4)."""

import json

import pytest

from routecache_middleware import CachePolicy
from routecache_middleware.testing.clock import FakeClock
from tests.adapters.conftest import Gateway
from tests.support.apps import ScriptedApp, json_answer
from tests.support.asgi import KEY, Options, fetch
from tests.support.chat import ask, completion


def asking(value: bytes, name: bytes = b"cache-control") -> Options:
    return {"headers": [KEY, (name, value)]}


@pytest.mark.parametrize(
    "options", [asking(b"no-cache"), asking(b"max-age=0, no-cache"), asking(b"no-cache", b"pragma")]
)
async def test_no_cache_asks_the_app_and_replaces_the_entry(
    gateway: Gateway, options: Options
) -> None:
    """Section 5.2.1.4; ``Pragma`` counts without ``Cache-Control`` (section 5.4)."""
    app = ScriptedApp(json_answer(completion("old")), json_answer(completion("new")))
    mw = gateway(app)
    await fetch(mw)
    got = await fetch(mw, **options)
    assert got.body == completion("new")
    assert got.get("cache-status") == "routecache; fwd=request"
    assert (await fetch(mw)).body == completion("new")


async def test_pragma_is_ignored_beside_cache_control(gateway: Gateway) -> None:
    """Section 5.4."""
    mw = gateway()
    await fetch(mw)
    headers = [KEY, (b"cache-control", b"max-age=60"), (b"pragma", b"no-cache")]
    assert (await fetch(mw, headers=headers)).outcome == "HIT"


async def test_no_store_stores_nothing_but_may_be_served(gateway: Gateway) -> None:
    """Section 5.2.1.5."""
    app = ScriptedApp()
    mw = gateway(app)
    assert (await fetch(mw, **asking(b"no-store"))).outcome == "MISS"
    assert mw.cache.stats().discards == {"no-store": 1}
    assert (await fetch(mw)).outcome == "MISS"
    assert (await fetch(mw, **asking(b"no-store"))).outcome == "HIT"


async def test_no_cache_and_no_store_together_are_a_bypass(gateway: Gateway) -> None:
    """Neither read nor written: nothing is left for us to do."""
    got = await fetch(gateway(), **asking(b"no-cache, no-store"))
    assert got.get("cache-status") == "routecache; fwd=bypass; detail=no-store"


async def test_max_age_limits_the_age_and_is_no_ttl(gateway: Gateway, clock: FakeClock) -> None:
    """Section 5.2.1.1; an unreadable value counts as 0."""
    mw = gateway()
    await fetch(mw)
    clock.advance(10)
    assert (await fetch(mw, **asking(b"max-age=10"))).outcome == "HIT"
    assert (await fetch(mw, **asking(b"max-age=9"))).get("cache-status") == (
        "routecache; fwd=request"
    )
    clock.advance(1)
    assert (await fetch(mw, **asking(b"max-age=x"))).outcome == "MISS"
    assert (await fetch(mw)).outcome == "HIT"


async def test_only_if_cached_is_answered_from_the_cache_or_with_504(gateway: Gateway) -> None:
    """Section 5.2.1.7, in OpenAI's error shape; no Cache-Status (RFC 9211 section 2)."""
    app = ScriptedApp()
    mw = gateway(app)
    for body in (ask(), ask(stream=True)):
        got = await fetch(mw, body, **asking(b"only-if-cached"))
        assert got.status == 504
        assert got.get("content-type") == "application/json"
        assert got.get("content-length") == str(len(got.body))
        assert (got.all("cache-status"), got.outcome) == ([], "MISS")
        error = json.loads(got.body)["error"]
        assert (error["type"], error["code"]) == ("cache_miss", "only_if_cached")
    assert app.calls == []
    await fetch(mw)
    assert (await fetch(mw, **asking(b"only-if-cached"))).outcome == "HIT"


async def test_only_if_cached_also_refuses_what_would_be_bypassed(gateway: Gateway) -> None:
    """What cannot come from the cache is not asked of the app."""
    app = ScriptedApp()
    mw = gateway(app)
    assert (await fetch(mw, b"{", **asking(b"only-if-cached"))).status == 504
    options: Options = {"headers": [(b"cache-control", b"only-if-cached")]}
    assert (await fetch(mw, **options)).status == 504
    assert app.calls == []


@pytest.mark.parametrize("mode", ["shadow", "off"])
async def test_a_cache_that_does_not_serve_refuses_nobody(gateway: Gateway, mode: str) -> None:
    """Shadow and off must not change what clients get."""
    assert (await fetch(gateway(mode=mode), **asking(b"only-if-cached"))).status == 200


async def test_shadow_counts_what_it_would_have_served(gateway: Gateway) -> None:
    """Everything but serving (design 4): the first week in production."""
    app = ScriptedApp()
    mw = gateway(app, mode="shadow")
    for _ in range(3):
        got = await fetch(mw)
        assert got.get("cache-status") == "routecache; fwd=bypass; detail=shadow"
        assert got.outcome == "BYPASS"
    assert len(app.calls) == 3
    stats = mw.cache.stats()
    assert stats.shadow_hits == 2
    assert stats.bypasses == {"shadow": 3}
    assert stats.result.writes >= 1


async def test_read_only_stores_nothing(gateway: Gateway) -> None:
    """Mode ``read_only``."""
    mw = gateway()
    await fetch(mw)
    mw.cache.mode = "read_only"
    assert (await fetch(mw)).outcome == "HIT"
    assert (await fetch(mw, ask("other"))).outcome == "MISS"
    assert (await fetch(mw, ask("other"))).outcome == "MISS"
    assert mw.cache.stats().discards == {"mode": 2}


async def test_write_only_serves_nothing(gateway: Gateway) -> None:
    """Mode ``write_only``: warm up behind a live gateway."""
    mw = gateway(mode="write_only")
    assert (await fetch(mw)).outcome == "MISS"
    assert (await fetch(mw)).outcome == "MISS"
    mw.cache.mode = "on"
    assert (await fetch(mw)).outcome == "HIT"


async def test_modes_switch_at_run_time(gateway: Gateway) -> None:
    """A kill switch without a redeploy (design 10)."""
    app = ScriptedApp()
    mw = gateway(app)
    await fetch(mw)
    assert (await fetch(mw)).outcome == "HIT"
    mw.cache.mode = "off"
    got = await fetch(mw)
    assert got.outcome is None
    assert len(app.calls) == 2
    mw.cache.mode = "on"
    assert (await fetch(mw)).outcome == "HIT"


async def test_our_headers_can_be_turned_off(gateway: Gateway) -> None:
    """``response_headers=False``: hits, misses and bypasses look like the app's own."""
    mw = gateway(response_headers=False)
    for body in (ask(), ask(), b"{"):
        names = {name for name, _ in (await fetch(mw, body)).headers}
        assert names == {b"content-type", b"content-length"}


async def test_server_timing_says_where_the_time_went(gateway: Gateway) -> None:
    """``server_timing``: ours and, when it was asked, the app's, in milliseconds."""
    mw = gateway(server_timing=True)
    missed = str((await fetch(mw)).get("server-timing"))
    ours, app = missed.split(", ")
    assert ours.startswith("routecache;dur=")
    assert app.startswith("app;dur=")
    hit = str((await fetch(mw)).get("server-timing"))
    assert float(hit.removeprefix("routecache;dur=")) >= 0


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"store": True}, "store"),
        ({"web_search_options": {}}, "web-search"),
        ({"tools": [{"type": "web_search"}]}, "server-tools"),
        ({"temperature": 1.5}, "temperature"),
    ],
)
async def test_requests_that_no_cache_may_answer(
    gateway: Gateway, fields: dict[str, object], reason: str
) -> None:
    """The dialect and the policy say which."""
    mw = gateway(policy=CachePolicy(max_temperature=1.2))
    got = await fetch(mw, ask(**fields))  # type: ignore[arg-type]
    assert got.get("cache-status") == f"routecache; fwd=bypass; detail={reason}"
