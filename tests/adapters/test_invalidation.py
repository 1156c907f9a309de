"""Invalidation wins over answers in flight (design 8, issue 2)."""

import pytest

from routecache_middleware import RouteCache, RouteCacheMiddleware
from routecache_middleware.core.keys import Layer
from tests.adapters.conftest import Gateway
from tests.support.apps import ScriptedApp, json_answer, sse_answer
from tests.support.asgi import Client, fetch, settle
from tests.support.chat import ask, chunks, completion

OLD, NEW = completion("old"), completion("new")


def old_then_new() -> ScriptedApp:
    return ScriptedApp(json_answer(OLD), json_answer(NEW), is_stepped=True)


async def answer_after(mw: RouteCacheMiddleware, app: ScriptedApp, forget: object) -> bytes:
    """Body of the request after a leader whose answer was overtaken by ``forget``."""
    leader = Client(mw).start()
    await settle()
    await app.call.step()
    await forget(mw.cache)  # type: ignore[operator]
    await app.call.step()
    assert (await leader.end()).body == OLD
    app.is_stepped = False
    return (await fetch(mw)).body


async def invalidate_model(cache: RouteCache) -> None:
    await cache.invalidate_model("m")


async def invalidate_all(cache: RouteCache) -> None:
    await cache.invalidate_all()


async def invalidate_layer(cache: RouteCache) -> None:
    await cache.invalidate_layer(Layer.RESULT)


@pytest.mark.parametrize("forget", [invalidate_model, invalidate_all, invalidate_layer])
async def test_what_is_in_flight_when_its_model_is_invalidated_is_never_served(
    gateway: Gateway, forget: object
) -> None:
    """Dead on arrival: it carries the position captured by its lookup."""
    app = old_then_new()
    assert await answer_after(gateway(app), app, forget) == NEW
    assert len(app.calls) == 2


async def test_deleting_the_key_instead_does_serve_the_old_answer(gateway: Gateway) -> None:
    """The control of issue 2: with a plain delete the same check fails."""
    app = old_then_new()
    mw = gateway(app)

    async def delete_everything(cache: RouteCache) -> None:
        coordinator = cache.engine.coordinator
        for key, _ in await coordinator.sample(Layer.RESULT, 100):
            await coordinator.delete(key)
        (flight,) = cache.engine.live._open
        await coordinator.delete(flight.rpartition("|")[0])  # type: ignore[arg-type]

    assert await answer_after(mw, app, delete_everything) == OLD
    assert len(app.calls) == 1


async def test_a_flight_from_before_an_invalidation_is_not_joined(gateway: Gateway) -> None:
    """Design 8: joined only if its captured position is current for the joiner."""
    app = old_then_new()
    mw = gateway(app)
    early = [Client(mw).start() for _ in range(2)]
    await settle()
    await mw.cache.invalidate_model("m")
    late = [Client(mw).start() for _ in range(2)]
    await settle()
    assert len(app.calls) == 2
    await app.calls[1].step(2)
    for client in late:
        assert (await client.end()).body == NEW
    await app.calls[0].step(2)
    for client in early:
        assert (await client.end()).body == OLD
    hit = await fetch(mw)
    assert hit.outcome == "HIT"
    assert hit.body == NEW


async def test_the_older_flight_does_not_end_the_newer_one(gateway: Gateway) -> None:
    """Both are open under one key for a while; each closes only itself."""
    app = old_then_new()
    mw = gateway(app)
    first = Client(mw).start()
    await settle()
    await mw.cache.invalidate_model("m")
    second = Client(mw).start()
    await settle()
    await app.calls[0].step(2)
    await first.end()
    third = Client(mw).start()
    await settle()
    assert len(app.calls) == 2
    await app.calls[1].step(2)
    assert (await second.end()).body == (await third.end()).body == NEW


async def test_another_models_invalidation_changes_nothing(gateway: Gateway) -> None:
    """Scopes are exact."""
    app = old_then_new()
    mw = gateway(app)
    leader = Client(mw).start()
    await settle()
    await mw.cache.invalidate_model("other")
    follower = Client(mw).start()
    await settle()
    await app.call.step(2)
    await leader.end()
    assert (await follower.end()).outcome == "COALESCED"
    assert (await fetch(mw)).body == OLD


async def test_a_stored_answer_dies_with_the_model_it_names(gateway: Gateway) -> None:
    """The model that the answer names counts beside the one that was asked for."""
    mw = gateway(ScriptedApp(json_answer(completion(model="m-2024-05-13"))))
    await fetch(mw)
    assert (await fetch(mw)).outcome == "HIT"
    await mw.cache.invalidate_model("m-2024-05-13")
    got = await fetch(mw)
    assert got.get("cache-status") == "routecache; fwd=miss; detail=invalidated"


async def test_tags_learned_in_flight_are_dead_on_arrival_too(gateway: Gateway) -> None:
    """Scopes that are learned late are safe (design 8)."""
    app = ScriptedApp(is_stepped=True)
    app.on_call = lambda call: call.scope["state"]["routecache"].add_tags("t")
    mw = gateway(app)
    leader = Client(mw).start()
    await settle()
    await mw.cache.invalidate_tag("t")
    await app.call.step(2)
    await leader.end()
    app.is_stepped = False
    assert (await fetch(mw)).outcome == "MISS"


async def test_a_stream_under_way_is_dead_on_arrival(gateway: Gateway) -> None:
    """Also between two of its chunks; who reads it gets it to the end."""
    pieces = chunks()
    app = ScriptedApp(sse_answer(pieces), is_stepped=True)
    mw = gateway(app)
    leader = Client(mw, ask(stream=True)).start()
    await settle()
    await app.call.step(3)
    await mw.cache.invalidate_model("m")
    await app.call.step(5)
    assert (await leader.end()).body == b"".join(pieces)
    app.is_stepped = False
    assert (await fetch(mw, ask(stream=True))).outcome == "MISS"
