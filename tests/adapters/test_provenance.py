"""What an app may say of where its answer comes from."""

import math

import pytest

from routecache_middleware import RouteCache, RouteCacheMiddleware
from routecache_middleware.adapters.asgi.state import RouteCacheState
from routecache_middleware.testing.clock import FakeClock
from tests.support.apps import Call, ScriptedApp
from tests.support.asgi import fetch


def gateway(say: object) -> tuple[RouteCacheMiddleware, FakeClock, RouteCache]:
    clock = FakeClock()
    cache = RouteCache(url="memory://", clock=clock)

    def on_call(call: Call) -> None:
        state = call.scope["state"]["routecache"]
        assert callable(say)
        say(state)

    return RouteCacheMiddleware(ScriptedApp(on_call=on_call), cache=cache), clock, cache


async def test_an_answer_that_was_made_before_keeps_its_age() -> None:
    app, clock, cache = gateway(lambda state: (state.made_before(100.0), state.set_ttl(130.0)))
    await fetch(app)
    clock.advance(20)
    hit = await fetch(app)
    assert (hit.outcome, hit.get("age")) == ("HIT", "120")
    clock.advance(11)
    assert (await fetch(app)).outcome == "MISS"
    await cache.aclose()


async def test_an_answer_falls_with_each_model_and_tenant_it_is_said_to_depend_on() -> None:
    app, _, cache = gateway(lambda state: (state.depends_on("part"), state.owned_by("team")))
    for drop in (cache.invalidate_model("part"), cache.invalidate_tenant("team")):
        await fetch(app)
        assert (await fetch(app)).outcome == "HIT"
        await drop
        assert (await fetch(app)).outcome == "MISS"
    await cache.invalidate_model("another")
    assert (await fetch(app)).outcome == "HIT"
    await cache.aclose()


@pytest.mark.parametrize("age_s", [-1.0, math.inf, math.nan])
def test_an_impossible_age_is_refused(age_s: float) -> None:
    with pytest.raises(ValueError, match="age is"):
        RouteCacheState(None).made_before(age_s)


def test_a_cache_above_hears_of_it_too() -> None:
    outer, inner = RouteCacheState(None), RouteCacheState(None)
    inner.outer = outer
    inner.depends_on("a", "b")
    inner.owned_by("t")
    inner.made_before(5.0)
    assert (outer.models, outer.owners, outer.age_s) == (("a", "b"), ("t",), 5.0)
