"""stale-if-error, and what another process has invalidated while the app was at work."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from routecache_middleware import RouteCache, RouteCacheMiddleware, RoutingDecision, Settings
from tests.coordinators.lmdb.support import until
from tests.support.apps import ScriptedApp, json_answer
from tests.support.asgi import Client, fetch, settle
from tests.support.chat import completion
from tests.support.fleets import Process, new_store
from tests.support.virtual_time import in_virtual_time

OLD = completion("old")
TERMS: dict[str, Any] = {"result_ttl_s": 10.0, "result_stale_if_error_s": 600.0}


def failing_second() -> ScriptedApp:
    return ScriptedApp(json_answer(OLD), json_answer(b"{}", status=503), is_stepped=True)


async def asked_when_stale(one: Process, app: ScriptedApp) -> Client:
    """Store an answer, let it grow stale, and ask again: the app is about to fail."""
    first = Client(one.app).start()
    await settle()
    await app.call.step(2)
    await first.end()
    await asyncio.sleep(20)
    asking = Client(one.app).start()
    await settle()
    assert len(app.calls) == 2
    return asking


@in_virtual_time
async def test_what_was_invalidated_elsewhere_is_no_rescue() -> None:
    """Design 8: invalidated data is never served, not even by stale-if-error."""
    store, app = new_store(), failing_second()
    async with Process(store, app, **TERMS) as one, Process(store, app, **TERMS) as other:
        asking = await asked_when_stale(one, app)
        await other.cache.invalidate_model("m")
        await asyncio.sleep(30)  # the promise is 5 ms, 1 s at most
        await app.call.step(2)
        got = await asking.end()
        assert (got.status, got.body) == (503, b"{}")


@in_virtual_time
async def test_what_nobody_invalidated_is_a_rescue() -> None:
    store, app = new_store(), failing_second()
    async with Process(store, app, **TERMS) as one, Process(store, app, **TERMS) as other:
        asking = await asked_when_stale(one, app)
        await other.cache.invalidate_model("another")
        await app.call.step(2)
        got = await asking.end()
        assert (got.status, got.body, got.outcome) == (200, OLD, "STALE")


@in_virtual_time
async def test_who_cannot_know_has_no_rescue() -> None:
    """A store that fails, or is asked for too long: the app's own words are passed on."""
    store, app = new_store(), failing_second()
    async with Process(store, app, **TERMS) as one:
        asking = await asked_when_stale(one, app)
        one.link.broken.add("*")
        await app.call.step(2)
        got = await asking.end()
        assert (got.status, got.body) == (503, b"{}")


async def test_what_was_invalidated_elsewhere_is_no_rescue_with_lmdb(tmp_path: Path) -> None:
    app = ScriptedApp(json_answer(OLD), json_answer(b"{}", status=503))
    settings = Settings(result_ttl_s=0.2, result_stale_if_error_s=600.0)
    caches = [RouteCache.from_url(f"lmdb://{tmp_path}/c", settings=settings) for _ in range(2)]
    one, other = caches
    mw = RouteCacheMiddleware(app, cache=one)
    async with one, other:
        await fetch(mw)
        await asyncio.sleep(0.4)
        app.is_stepped = True
        asking = Client(mw).start()
        await until(lambda: len(app.calls) == 2)
        await other.invalidate_model("m")
        await asyncio.sleep(1.5)
        await app.call.step(2)
        got = await asking.end()
        assert (got.status, got.body) == (503, b"{}")


@in_virtual_time
async def test_a_decision_that_was_invalidated_elsewhere_is_no_rescue() -> None:
    store = new_store()
    terms: dict[str, Any] = {"routing_ttl_s": 10.0, "routing_stale_if_error_s": 600.0}
    async with Process(store, **terms) as one, Process(store, **terms) as other:

        async def decide() -> RoutingDecision:
            return RoutingDecision("m")

        async def fail() -> RoutingDecision:
            await asyncio.sleep(5)
            await other.cache.invalidate_model("m")
            await asyncio.sleep(30)
            raise RuntimeError("the router is down")

        await one.cache.route("a" * 32, decide)
        await asyncio.sleep(20)
        with pytest.raises(RuntimeError):
            await one.cache.route("a" * 32, fail)
