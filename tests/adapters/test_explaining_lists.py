"""What is said of a request for several things at once: each of them is looked at by itself."""

from typing import Any

import pytest

from routecache_middleware import RouteCache, RouteCacheMiddleware, Settings
from routecache_middleware.adapters.asgi import RequestExplanation
from routecache_middleware.core.models import MissReason
from routecache_middleware.core.reasons import meaning
from routecache_middleware.testing.clock import FakeClock
from tests.adapters.conftest import Gateway
from tests.adapters.test_batch import embed
from tests.support.asgi import KEY, Client, Pair, settle
from tests.support.embeddings import PATH, EmbeddingApp
from tests.support.embeddings import ask as ask_embeddings
from tests.support.faulty import FaultyCoordinator
from tests.support.fleets import new_store
from tests.support.virtual_time import LoopClock, in_virtual_time


async def why(
    mw: RouteCacheMiddleware, value: object, *headers: Pair, **fields: Any
) -> RequestExplanation:
    """Explain a request of the usual caller."""
    body = ask_embeddings(value, **fields)
    return await mw.explain(path=PATH, body=body, headers=[KEY, *headers])


async def test_explain_knows_the_inputs_of_a_list(gateway: Gateway) -> None:
    mw = gateway(EmbeddingApp())
    await embed(mw, ["a", "b"])
    assert (await embed(mw, ["a", "b"])).outcome == "HIT"
    said = await mw.explain(path=PATH, body=ask_embeddings(["a", "b"]), headers=dict([KEY]))
    assert said.outcome == "hit"


async def test_a_list_of_which_everything_is_known(gateway: Gateway) -> None:
    mw = gateway(EmbeddingApp())
    for item in ("a", "b"):
        await embed(mw, item)
    before = mw.cache.stats()
    said = await why(mw, ["b", "a", "b"], encoding_format="base64")
    assert (said.outcome, said.inputs, said.known_inputs, said.answer) == ("hit", 3, 3, None)
    assert str(said) == "hit: The stored answers to all 3 inputs are served, put together."
    assert mw.cache.stats() == before
    assert (await embed(mw, ["b", "a", "b"], encoding_format="base64")).outcome == "HIT"


@pytest.mark.parametrize(
    ("headers", "because"),
    [
        ([], "2 of 4 inputs have a stored answer; the others are asked for."),
        (
            [(b"idempotency-key", b"x")],
            "2 of 4 inputs have a stored answer; as a header names this body, all are asked for.",
        ),
    ],
)
async def test_a_list_of_which_some_is_known(
    gateway: Gateway, headers: list[Pair], because: str
) -> None:
    app = EmbeddingApp()
    mw = gateway(app)
    await embed(mw, "b")
    said = await why(mw, ["a", "b", "c", "b"], *headers)
    assert (said.outcome, said.reason, said.because) == ("miss", "partial", because)
    assert (said.inputs, said.known_inputs) == (4, 2)
    assert said.neighbour is None
    got = await embed(mw, ["a", "b", "c", "b"], *headers)
    how = "fwd=miss; detail=partial" if headers else "fwd=partial"
    assert got.get("cache-status") == f"routecache; {how}"
    assert app.asked[-1] == (["a", "b", "c", "b"] if headers else ["a", "c"])


@pytest.mark.parametrize("alone", [True, False])
async def test_one_input_is_a_request_like_any_other(gateway: Gateway, *, alone: bool) -> None:
    mw = gateway(EmbeddingApp())
    await embed(mw, "a")
    said = await why(mw, "a" if alone else ["a"])
    assert (said.outcome, said.inputs) == ("hit", 0)
    assert said.answer is not None


CONTROL = b"cache-control"
UNJOINED = "routecache; fwd=miss; detail=conversion"

Case = tuple[dict[str, Any], list[Pair], str]
CASES: dict[str, Case] = {
    "nothing known": ({}, [], "absent"),
    "no-cache": ({}, [(CONTROL, b"no-cache")], "request"),
    "no-transform": ({}, [(CONTROL, b"no-transform")], "conversion"),
    "too old": ({}, [(CONTROL, b"max-age=5")], "request"),
    "stale": ({"result_stale_while_revalidate_s": 100.0}, [(CONTROL, b"max-stale")], "expired"),
}


@pytest.mark.parametrize("case", CASES)
async def test_what_it_says_is_what_happens(gateway: Gateway, clock: FakeClock, case: str) -> None:
    settings, headers, reason = CASES[case]
    mw = gateway(EmbeddingApp(), result_ttl_s=60.0, **settings)
    if reason != "absent":
        await embed(mw, ["a", "b"])
    clock.advance(70 if reason == "expired" else 10)
    said = await why(mw, ["a", "b"], *headers)
    assert (said.outcome, said.reason, said.because) == (
        "miss",
        reason,
        meaning(MissReason(reason)),
    )
    assert (await embed(mw, ["a", "b"], *headers)).outcome == "MISS"


async def test_answers_of_different_models_do_not_go_together(gateway: Gateway) -> None:
    app = EmbeddingApp()
    app.answers[1] = lambda made: made | {"model": "e-2"}
    mw = gateway(app)
    await embed(mw, "a")
    await embed(mw, "b")
    said = await why(mw, ["a", "b"])
    assert (said.outcome, said.reason) == ("miss", "conversion")
    got = await embed(mw, ["a", "b"])
    assert (got.outcome, got.get("cache-status")) == ("MISS", UNJOINED)


@pytest.mark.parametrize("known", [(), ("b",)])
async def test_a_list_that_is_being_made_is_shared(
    gateway: Gateway, known: tuple[str, ...]
) -> None:
    app = EmbeddingApp()
    mw = gateway(app)
    for item in known:
        await embed(mw, item)
    app.is_gated = True
    clients = [Client(mw, ask_embeddings(["a", "b"]), path=PATH).start()]
    await settle()
    said = await why(mw, ["a", "b"])
    assert (said.outcome, said.is_under_way) == ("coalesced", True)
    said = await why(mw, ["a", "b"], (CONTROL, b"max-age=500"))
    assert said.outcome == ("miss" if known else "coalesced")  # other parts may be older
    clients.append(Client(mw, ask_embeddings(["a", "b"]), path=PATH).start())
    await settle()
    app.go_on()
    got = [await client.end() for client in clients]
    assert [one.outcome for one in got] == ["MISS", "COALESCED"]


@pytest.mark.parametrize(("limit", "count"), [(100, 3), (65_536, 300)])
async def test_a_large_list_is_put_together_in_a_thread(
    gateway: Gateway, limit: int, count: int
) -> None:
    mw = gateway(EmbeddingApp(), hash_in_thread_bytes=limit)
    items = [f"text {number}" for number in range(count)]
    await embed(mw, items)
    await mw.cache.engine.background.drain(10)
    assert (await why(mw, items)).outcome == "hit"


@in_virtual_time
async def test_what_is_stored_under_a_former_secret_counts() -> None:
    app, store, clock = EmbeddingApp(), new_store(), LoopClock()
    settings = [
        Settings(secret=b"o" * 16),
        Settings(secret=b"n" * 16, previous_secrets=(b"o" * 16,)),
    ]
    before, after = (
        RouteCacheMiddleware(
            app, cache=RouteCache(coordinator=store, settings=one, observers=[], clock=clock)
        )
        for one in settings
    )
    await embed(before, ["a", "b"])
    await settle()
    said = await why(after, ["c", "a", "b"])
    assert (said.reason, said.known_inputs, said.inputs) == ("partial", 2, 3)
    assert (await why(after, ["a", "b"])).outcome == "hit"
    await after.cache.invalidate_model("e-1")
    assert (await why(after, ["a", "b"])).known_inputs == 0
    await settle()


@pytest.mark.parametrize("count", [2, 300])
async def test_a_coordinator_that_fails_is_said_to(count: int) -> None:
    coordinator = FaultyCoordinator(FakeClock())
    cache = RouteCache(coordinator=coordinator, observers=[], clock=coordinator._clock)
    mw = RouteCacheMiddleware(EmbeddingApp(), cache=cache)
    items = [str(number) for number in range(count)]
    await embed(mw, items)
    await mw.cache.engine.background.drain(10)
    assert (await why(mw, items)).outcome == "hit"
    coordinator.fail()
    said = await why(mw, items)
    assert (said.outcome, said.reason) == ("error", "coordinator-error")
    assert "failed with" in said.trouble
    assert said.inputs == 0  # it is not known how many are there
