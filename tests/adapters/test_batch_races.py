"""Requests for several embeddings at once: clients, invalidations and coordinators in between."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from typing import Any

import pytest
from msgspec import structs

from routecache_middleware import RouteCache, RouteCacheMiddleware, Settings
from routecache_middleware.adapters.asgi import batch
from routecache_middleware.adapters.asgi.items import Items
from routecache_middleware.coordinators.guarded import GuardedCoordinator
from routecache_middleware.core.keys import CacheKey, Layer, parse_key
from routecache_middleware.core.models import Position
from routecache_middleware.core.ports import Fetched
from routecache_middleware.testing.clock import FakeClock
from tests.adapters.conftest import Gateway
from tests.support.apps import json_answer
from tests.support.asgi import KEY, Client, Response, fetch, settle
from tests.support.embeddings import PATH, EmbeddingApp, ask, embeddings
from tests.support.faulty import FaultyCoordinator
from tests.support.fleets import Process, new_store
from tests.support.virtual_time import in_virtual_time


def client(mw: Any, value: object, *headers: tuple[bytes, bytes], **how: Any) -> Client:
    return Client(mw, ask(value), path=PATH, headers=[KEY, *headers], **how).start()


async def embed(mw: Any, value: object) -> Response:
    return await fetch(mw, ask(value), path=PATH)


async def gated(mw: Any, app: EmbeddingApp, known: object) -> None:
    """Ask for what is to be known; from then on the app waits to be let go."""
    await embed(mw, known)
    app.is_gated = True


# Sharing.


async def test_identical_lists_share_one_call(gateway: Gateway) -> None:
    app = EmbeddingApp()
    mw = gateway(app)
    app.is_gated = True
    clients = [client(mw, ["a", "b"]) for _ in range(20)]
    await settle()
    app.go_on()
    got = [await one.end() for one in clients]
    assert {one.body for one in got} == {got[0].body}
    assert sorted(str(one.outcome) for one in got) == ["COALESCED"] * 19 + ["MISS"]
    assert len(app.asked) == 1


async def test_identical_lists_share_one_call_for_the_rest(
    gateway: Gateway, clock: FakeClock
) -> None:
    app = EmbeddingApp()
    mw = gateway(app)
    await gated(mw, app, "b")
    clock.advance(3)
    clients = [client(mw, ["a", "b"]) for _ in range(20)]
    await settle()
    app.go_on()
    got = [await one.end() for one in clients]
    assert all(json.loads(one.body) == embeddings(["a", "b"]) for one in got)
    assert {one.get("age") for one in got} == {"3"}
    assert app.asked == [["b"], ["a"]]


@pytest.mark.parametrize("directive", [b"max-age=60", b"min-fresh=1"])
async def test_who_limits_ages_shares_no_joined_answer(gateway: Gateway, directive: bytes) -> None:
    """Somebody else may have found an older part than the limit allows."""
    app = EmbeddingApp()
    mw = gateway(app)
    await gated(mw, app, "b")
    clients = [client(mw, ["a", "b"], (b"cache-control", directive)) for _ in range(3)]
    await settle()
    app.go_on(3)
    for one in clients:
        assert json.loads((await one.end()).body) == embeddings(["a", "b"])
    assert app.asked[1:] == [["a"]] * 3


async def test_lists_that_overlap_may_both_ask(gateway: Gateway) -> None:
    app = EmbeddingApp()
    mw = gateway(app)
    app.is_gated = True
    first, second = client(mw, ["a", "b"]), client(mw, ["b", "c"])
    await settle()
    app.go_on(2)
    assert json.loads((await first.end()).body) == embeddings(["a", "b"])
    assert json.loads((await second.end()).body) == embeddings(["b", "c"])
    assert app.asked == [["a", "b"], ["b", "c"]]


async def test_who_knows_other_parts_asks_for_others(gateway: Gateway) -> None:
    app = EmbeddingApp()
    mw = gateway(app)
    await gated(mw, app, "b")
    first = client(mw, ["a", "b", "c"])
    await settle()
    other = client(mw, "c")
    await settle()
    app.go_on(2)
    await other.end()
    await first.end()
    app.is_gated = False
    assert (await embed(mw, ["a", "b", "c"])).outcome == "HIT"
    assert app.asked == [["b"], ["a", "c"], ["c"]]


async def test_followers_get_the_answer_when_the_rest_was_of_no_use(gateway: Gateway) -> None:
    app = EmbeddingApp()
    mw = gateway(app)
    await gated(mw, app, "b")
    app.answers[1] = lambda made: made | {"model": "e-2"}
    clients = [client(mw, ["a", "b"]) for _ in range(3)]
    await settle()
    app.go_on(2)
    got = [await one.end() for one in clients]
    assert all(json.loads(one.body) == embeddings(["a", "b"]) for one in got)
    assert {one.get("age") for one in got} == {None}
    assert app.asked[1:] == [["a"], ["a", "b"]]


async def test_when_the_app_raises_the_others_find_their_own_way(gateway: Gateway) -> None:
    app = EmbeddingApp()
    mw = gateway(app)
    await gated(mw, app, "b")
    app.answers[1] = RuntimeError("the upstream failed")
    clients = [client(mw, ["a", "b"]) for _ in range(3)]
    await settle()
    app.go_on(4)
    ends = [await one.error() for one in clients]
    assert [isinstance(end, RuntimeError) for end in ends] == [True, False, False]
    for one in clients[1:]:
        assert json.loads(one.response.body) == embeddings(["a", "b"])
        assert json.loads(app.bodies[-1])["input"] == ["a"]


# Clients that leave.


@pytest.mark.parametrize("spec", ["2.3", "2.4"])
@pytest.mark.parametrize("leave_at", [0, 1])
async def test_a_client_that_leaves_while_it_is_answered_harms_nobody(
    gateway: Gateway, leave_at: int, spec: str
) -> None:
    app = EmbeddingApp()
    mw = gateway(app)
    await embed(mw, "b")
    left = client(mw, ["a", "b"], leave_at=leave_at, spec=spec)
    error = await left.error()
    assert error is None or (spec == "2.4" and isinstance(error, OSError))
    assert len(left.got) == leave_at + 1
    assert (await embed(mw, "b")).outcome == "HIT"
    assert len(app.asked) == 2 + ((await embed(mw, "a")).outcome == "MISS")


async def test_a_client_that_leaves_before_the_answer_is_not_asked_for_again(
    gateway: Gateway,
) -> None:
    """An app that hears it and gives up has not failed: nothing is asked for as a whole."""
    calls: list[bytes] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        message = await receive()
        calls.append(message["body"])
        if len(calls) > 1:
            assert (await receive())["type"] == "http.disconnect"
            return
        await EmbeddingApp()(scope, _again(message), send)

    mw = gateway(app)
    await embed(mw, "b")
    left = client(mw, ["a", "b"])
    await settle()
    left.disconnect()
    assert await left.error() is None
    assert (len(calls), left.got) == (2, [])


def _again(message: Any) -> Any:
    async def receive() -> Any:
        return message

    return receive


async def test_a_request_that_is_cancelled_leaves_nothing_behind(gateway: Gateway) -> None:
    app = EmbeddingApp()
    mw = gateway(app)
    await gated(mw, app, "b")
    cut = client(mw, ["a", "b"])
    await settle()
    cut.cancel()
    assert isinstance(await cut.error(), asyncio.CancelledError)
    assert len(app.asked) == 2


async def test_the_second_call_hears_the_client_leave(gateway: Gateway) -> None:
    heard: list[str] = []
    bodies: list[bytes] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        message = await receive()
        bodies.append(message["body"])
        if len(bodies) == 2:
            return  # without an answer
        if len(bodies) == 3:
            heard.append((await receive())["type"])
            return
        await EmbeddingApp()(scope, _again(message), send)

    mw = gateway(app)
    await embed(mw, "b")
    left = client(mw, ["a", "b"])
    await settle()
    left.disconnect()
    await left.error()
    assert heard == ["http.disconnect"]
    assert bodies[2] == ask(["a", "b"])


async def test_background_work_of_the_app_does_not_hold_up_the_answer(gateway: Gateway) -> None:
    app, may_end = EmbeddingApp(), asyncio.Event()

    async def with_background(scope: Any, receive: Any, send: Any) -> None:
        await app(scope, receive, send)
        if len(app.asked) > 1:
            await may_end.wait()

    mw = gateway(with_background)
    await embed(mw, "b")
    asking = client(mw, ["a", "b"])
    await settle()
    assert json.loads(asking.response.body) == embeddings(["a", "b"])
    assert not asking.is_done
    may_end.set()
    await asking.end()


async def test_what_was_joined_is_given_back_before_the_app_s_background_work(
    gateway: Gateway,
) -> None:
    done = asyncio.Event()
    app = EmbeddingApp()

    async def with_background(scope: Any, receive: Any, send: Any) -> None:
        await app(scope, receive, send)
        if len(app.asked) > 1:
            await done.wait()

    mw = gateway(with_background)
    await embed(mw, "b")
    client = Client(mw, ask(["a", "b"]), path=PATH).start()
    await settle()
    assert client.response.is_complete
    used = mw.cache.engine.captures.used
    done.set()
    await client.end()
    assert used == 0


@pytest.mark.parametrize("is_used", [True, False])
async def test_no_part_is_held_any_longer_than_it_is_needed(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch, *, is_used: bool
) -> None:
    """Neither what was known nor what was answered: the request may go on for hours."""
    app, may_end, made = EmbeddingApp(), asyncio.Event(), []

    class Watched(Items):
        def __post_init__(self) -> None:
            made.append(self)

    async def with_background(scope: Any, receive: Any, send: Any) -> None:
        await app(scope, receive, send)
        if len(app.asked) == 2:
            await may_end.wait()

    monkeypatch.setattr(batch, "Items", Watched)
    mw = gateway(with_background)
    await embed(mw, "b")
    if not is_used:
        app.answers[1] = json_answer(b"{}", status=400)
    asking = client(mw, ["a", "b"])
    await settle()
    (items,) = made
    assert (items.known, items.fresh or {}) == ({}, {})
    assert mw.cache.engine.captures.used == 0
    may_end.set()
    assert json.loads((await asking.end()).body) == embeddings(["a", "b"])


# Invalidation.


async def test_a_part_that_is_invalidated_meanwhile_is_not_served(gateway: Gateway) -> None:
    app = EmbeddingApp()
    mw = gateway(app)
    await gated(mw, app, "b")
    asking = client(mw, ["a", "b"])
    await settle()
    await mw.cache.invalidate_model("e")
    app.go_on(2)
    got = await asking.end()
    assert app.asked[1:] == [["a"], ["a", "b"]]
    assert json.loads(got.body) == embeddings(["a", "b"])
    app.is_gated = False
    assert (await embed(mw, "a")).outcome == "MISS"  # captured before the invalidation


async def test_no_list_that_was_begun_before_an_invalidation_is_joined(gateway: Gateway) -> None:
    app = EmbeddingApp()
    mw = gateway(app)
    app.is_gated = True
    first = client(mw, ["a", "b"])
    await settle()
    query_hash, model, tenant = await parts_of_key(gateway, "b")
    await mw.cache.invalidate_query_result(query_hash, model, tenant=tenant)
    second = client(mw, ["a", "b"])
    await settle()
    assert len(app.asked) == 2
    app.go_on(2)
    await first.end()
    await second.end()


async def test_a_part_that_is_invalidated_under_its_former_key_is_not_served(
    gateway: Gateway,
) -> None:
    """Whoever has the former secret still names it so."""
    app, secret = EmbeddingApp(), b"1" * 16
    old = gateway(app, secret=secret)
    await embed(old, "b")
    ((key, _),) = await old.cache.engine.coordinator.sample(Layer.RESULT, 9)
    new = gateway(app, secret=b"2" * 16, previous_secrets=(secret,))
    new.cache.engine.coordinator = old.cache.engine.coordinator
    app.is_gated = True
    asking = client(new, ["a", "b"])
    await settle()
    _, tenant, query_hash, model = parse_key(key)
    await new.cache.invalidate_query_result(query_hash, model, tenant=tenant)
    app.go_on(2)
    await asking.end()
    assert app.asked == [["b"], ["a"], ["a", "b"]]


def during_the_next_work_in_a_thread(
    monkeypatch: pytest.MonkeyPatch, happens: Callable[[], Awaitable[object]]
) -> None:
    honest, is_next = asyncio.to_thread, True

    async def to_thread(work: Callable[..., object], *args: object) -> object:
        nonlocal is_next
        done = await honest(work, *args)
        if is_next:
            is_next = False
            await happens()
        return done

    monkeypatch.setattr(asyncio, "to_thread", to_thread)


async def test_a_part_that_is_invalidated_while_a_hit_is_put_together_is_not_served(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = EmbeddingApp()
    mw = gateway(app, hash_in_thread_bytes=100)
    await embed(mw, ["a", "b"])
    await mw.cache.engine.background.drain(5)
    during_the_next_work_in_a_thread(monkeypatch, lambda: mw.cache.invalidate_model("e"))
    got = await embed(mw, ["b", "a"])
    assert got.get("cache-status") == "routecache; fwd=miss; detail=invalidated"
    assert app.asked == [["a", "b"], ["b", "a"]]
    await mw.cache.engine.background.drain(5)
    assert (await embed(mw, "a")).outcome == "MISS"  # captured before the invalidation


async def test_a_part_that_is_invalidated_while_it_is_joined_is_not_served(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = EmbeddingApp()
    mw = gateway(app, hash_in_thread_bytes=100)
    await gated(mw, app, ["a", "b"])
    await mw.cache.engine.background.drain(5)
    asking = client(mw, ["a", "c"])
    await app.until_asked(2)
    during_the_next_work_in_a_thread(monkeypatch, lambda: mw.cache.invalidate_model("e"))
    app.go_on(2)
    got = await asking.end()
    assert json.loads(got.body) == embeddings(["a", "c"])
    assert app.asked[1:] == [["c"], ["a", "c"]]


async def parts_of_key(gateway: Gateway, item: str) -> tuple[str, str, str]:
    """Return hash, model and tenant under which an input is stored."""
    mw = gateway(EmbeddingApp())
    await embed(mw, item)
    ((key, _),) = await mw.cache.engine.coordinator.sample(Layer.RESULT, 9)
    _, tenant, query_hash, model = parse_key(key)
    return query_hash, model, tenant


async def test_one_part_can_be_invalidated(gateway: Gateway) -> None:
    app = EmbeddingApp()
    mw = gateway(app)
    query_hash, model, tenant = await parts_of_key(gateway, "a")
    await embed(mw, ["a", "b"])
    await mw.cache.invalidate_query_result(query_hash, model, tenant=tenant)
    await embed(mw, ["a", "b"])
    assert app.asked[1:] == [["a"]]


# Coordinators: shared, hanging, failing, lying.


@in_virtual_time
async def test_processes_share_parts_and_ask_each_for_itself() -> None:
    app, store = EmbeddingApp(), new_store()
    async with Process(store, app) as one, Process(store, app) as other:
        await embed(one.app, ["a", "b"])
        await settle()
        before = other.link.calls["fetch"]
        got = await embed(other.app, ["b", "a"])
        assert (got.outcome, got.get("age")) == ("HIT", "0")
        assert other.link.calls["fetch"] == before + 1  # one round trip for all
        await embed(other.app, ["b", "c"])
        assert app.asked == [["a", "b"], ["c"]]
        assert one.link.calls["acquire"] == other.link.calls["acquire"] == 0


@in_virtual_time
async def test_an_invalidation_elsewhere_while_the_app_is_at_work_is_seen() -> None:
    app, store = EmbeddingApp(), new_store()
    async with Process(store, app) as one, Process(store, app) as other:
        one.link.is_deaf = True
        await gated(one.app, app, "b")
        asking = client(one.app, ["a", "b"])
        await settle()
        await other.cache.invalidate_model("e")
        app.go_on(2)
        got = await asking.end()
        assert json.loads(got.body) == embeddings(["a", "b"])
        assert app.asked[1:] == [["a"], ["a", "b"]]


@in_virtual_time
async def test_who_cannot_know_what_was_invalidated_asks_for_all() -> None:
    app, store = EmbeddingApp(), new_store()
    async with Process(store, app) as process:
        await gated(process.app, app, "b")
        asking = client(process.app, ["a", "b"])
        await settle()
        process.link.broken.add("fetch")
        app.go_on(2)
        got = await asking.end()
        assert json.loads(got.body) == embeddings(["a", "b"])
        assert app.asked[1:] == [["a"], ["a", "b"]]
        process.link.broken.clear()


@in_virtual_time
async def test_a_coordinator_that_fails_is_no_matter_to_clients() -> None:
    app, store = EmbeddingApp(), new_store()
    async with Process(store, app) as process:
        await embed(process.app, "b")
        process.link.broken.add("*")
        got = await embed(process.app, ["a", "b"])
        assert got.get("cache-status") == "routecache; fwd=bypass; detail=coordinator-error"
        assert json.loads(got.body) == embeddings(["a", "b"])
        stats = process.cache.stats().result
        assert (stats.errors, stats.write_errors) == (1, 1)
        process.link.broken.clear()


@in_virtual_time
async def test_a_coordinator_that_stores_nothing_is_no_matter_to_clients() -> None:
    app, store = EmbeddingApp(), new_store()
    async with Process(store, app) as process:
        process.link.broken.add("store")
        inputs = [f"text {number}" for number in range(100)]
        got = await embed(process.app, inputs)
        await process.cache.engine.background.drain(10)
        assert json.loads(got.body) == embeddings(inputs)
        stats = process.cache.stats().result
        assert stats.write_errors == 16  # one handful, and no more after that


@pytest.fixture
async def hanging(clock: FakeClock) -> AsyncIterator[tuple[RouteCache, FaultyCoordinator]]:
    inner = FaultyCoordinator(clock)
    guard = GuardedCoordinator(inner, clock=clock, timeout_s=0.05, write_timeout_s=0.05)
    settings = replace(Settings(), coordinator_timeout_s=0.05)
    cache = RouteCache(coordinator=guard, settings=settings, observers=[], clock=clock)
    await cache.open()
    yield cache, inner
    inner.heal()
    await cache.aclose()


async def test_a_coordinator_that_hangs_costs_one_wait(
    hanging: tuple[RouteCache, FaultyCoordinator],
) -> None:
    cache, inner = hanging
    app = EmbeddingApp()
    mw = RouteCacheMiddleware(app, cache=cache)
    await embed(mw, "b")
    await cache.engine.background.drain(5)
    inner.hang()
    got = await asyncio.wait_for(embed(mw, ["a", "b"]), 2)
    assert json.loads(got.body) == embeddings(["a", "b"])
    assert app.asked[1:] == [["a", "b"]]


async def test_a_coordinator_that_hangs_while_the_app_works_costs_a_second_call(
    hanging: tuple[RouteCache, FaultyCoordinator],
) -> None:
    cache, inner = hanging
    app = EmbeddingApp()
    mw = RouteCacheMiddleware(app, cache=cache)
    await gated(mw, app, "b")
    await cache.engine.background.drain(5)
    asking = client(mw, ["a", "b"])
    await app.until_asked(2)
    inner.hang()
    app.go_on(2)
    got = await asyncio.wait_for(asking.end(), 2)
    assert json.loads(got.body) == embeddings(["a", "b"])
    assert app.asked[1:] == [["a"], ["a", "b"]]


@pytest.mark.parametrize("lie", ["too few", "too many", "rubbish", "another's", "none"])
async def test_a_coordinator_that_lies_is_not_believed(
    gateway: Gateway, lie: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = EmbeddingApp()
    mw = gateway(app)
    await embed(mw, ["a", "b"])
    coordinator: Any = mw.cache.engine.coordinator
    honest = coordinator.fetch

    async def lying(keys: list[CacheKey], after: Position) -> Fetched:
        found = await honest(keys, after)
        entries = list(found.entries)
        told = {
            "too few": entries[:-1],
            "too many": [*entries, *entries],
            "rubbish": [entry and _with_body(entry, b"\x00") for entry in entries],
            "another's": [entry and _with_body(entry, b'{"choices": []}') for entry in entries],
            "none": [],
        }[lie]
        return Fetched(told, found.position, found.rows, found.is_rewound)

    monkeypatch.setattr(coordinator, "fetch", lying, raising=False)
    for value in (["a", "b"], ["b", "c"]):
        got = await embed(mw, value)
        assert json.loads(got.body) == embeddings(value)


def _with_body(entry: Any, body: bytes) -> Any:
    return structs.replace(entry, body=body)
