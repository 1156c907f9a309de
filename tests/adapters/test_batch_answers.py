"""What the app answers to a request for the rest: joined, passed on, or asked for as a whole."""

import json
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from routecache_middleware import CachePolicy
from routecache_middleware.adapters.asgi.types import Message
from routecache_middleware.core.dialect import Judgement
from routecache_middleware.core.override import Override
from routecache_middleware.dialects.openai_embeddings import OpenAIEmbeddings
from tests.adapters.conftest import Gateway
from tests.support.apps import JSON_HEADERS, json_answer
from tests.support.asgi import Client, Response, fetch
from tests.support.embeddings import PATH, EmbeddingApp, ask, embeddings

NOT_JOINED = "routecache; fwd=miss; detail=partial"

Json = dict[str, Any]
Script = Sequence[Message] | Callable[[Json], Json]


def body_of(*items: str, **fields: Any) -> bytes:
    return json.dumps(embeddings(items, **fields), separators=(",", ":")).encode()


async def embed(mw: Any, value: object, **fields: Any) -> Response:
    return await fetch(mw, ask(value, **fields), path=PATH)


def encoded(body: bytes) -> list[Message]:
    return json_answer(body, headers=[*JSON_HEADERS, (b"content-encoding", b"br")])


def with_trailers(body: bytes) -> list[Message]:
    start, end = json_answer(body)
    trailers: Message = {"type": "http.response.trailers", "headers": [], "more_trailers": False}
    return [{**start, "trailers": True}, end, trailers]


UNUSABLE: dict[str, Script] = {
    "400": json_answer(b'{"error": {"message": "input[0]"}}', status=400),
    "413": json_answer(b"{}", status=413),
    "422": json_answer(b"{}", status=422),
    "201": json_answer(body_of("c"), status=201),
    "304": json_answer(b"", status=304),
    "error in a 200": json_answer(b'{"error": {"message": "no"}}'),
    "too few": json_answer(body_of()),
    "too many": json_answer(body_of("c", "d")),
    "no JSON": json_answer(b"<html>"),
    "not even UTF-8": json_answer(b"\xff"),
    "deep": json_answer(b'{"data":' + b"[" * 50_000),
    "empty": json_answer(b""),
    "another media type": json_answer(body_of("c"), headers=[(b"content-type", b"text/html")]),
    "encoded": encoded(body_of("c")),
    "cut short": json_answer(body_of("c"), has_length=False)[:1],
    "nothing": [],
    "no head": json_answer(body_of("c"))[1:],
    "another length": json_answer(
        body_of("c"), headers=[*JSON_HEADERS, (b"content-length", b"7")], has_length=False
    ),
    "trailers": with_trailers(body_of("c")),
    "varies": json_answer(body_of("c"), headers=[*JSON_HEADERS, (b"vary", b"*")]),
    "another model": lambda made: made | {"model": "e-2"},
    "no vector": lambda made: made | {"data": [made["data"][0] | {"embedding": []}]},
    "a number": lambda made: made | {"data": [made["data"][0] | {"embedding": 5}]},
    "an index beyond": lambda made: made | {"data": [made["data"][0] | {"index": 1}]},
    "too large": json_answer(body_of("c", padding="x" * 5000)),
}


@pytest.mark.parametrize("name", UNUSABLE)
async def test_what_cannot_be_joined_costs_a_second_call_and_nothing_else(
    gateway: Gateway, name: str
) -> None:
    app = EmbeddingApp()
    mw = gateway(app, max_result_bytes=4000)
    await embed(mw, ["a", "b"])
    app.answers[1] = UNUSABLE[name]
    got = await embed(mw, ["a", "c", "b"])
    assert app.asked[1:] == [["c"], ["a", "c", "b"]]
    assert app.bodies[2] == ask(["a", "c", "b"])
    assert (got.status, json.loads(got.body)) == (200, embeddings(["a", "c", "b"]))
    assert (got.is_complete, len(got.starts), got.get("age")) == (True, 1, None)
    assert (got.outcome, got.get("cache-status")) == ("MISS", NOT_JOINED)
    assert (await embed(mw, ["b", "c", "a"])).outcome == "HIT"
    assert mw.cache.stats().result.misses == 2


async def test_a_vector_that_has_no_other_form_costs_a_second_call(gateway: Gateway) -> None:
    app = EmbeddingApp()
    mw = gateway(app)
    await embed(mw, ["a", "b"])
    app.answers[1] = lambda made: made | {"data": [made["data"][0] | {"embedding": "AAAA"}]}
    got = await embed(mw, ["a", "c"])
    assert json.loads(got.body) == embeddings(["a", "c"])


@pytest.mark.parametrize("status", [401, 403, 404, 408, 409, 429, 500, 502, 503, 504])
async def test_an_error_is_passed_on_as_it_is(gateway: Gateway, status: int) -> None:
    app = EmbeddingApp()
    mw = gateway(app, result_stale_if_error_s=60.0)
    await embed(mw, ["a", "b"])
    app.headers = [(b"retry-after", b"3")]
    pieces = json_answer(b'{"error": {"message": "not now"}}', status=status)
    app.answers[1] = pieces
    got = await embed(mw, ["a", "c"])
    assert (got.status, got.body) == (status, pieces[1]["body"])
    assert (got.get("cache-status"), got.get("age")) == (NOT_JOINED, None)
    assert len(app.asked) == 2
    assert mw.cache.stats().result.writes == 2
    load = await mw.cache.get_load_metrics("e")
    assert load is None or load.in_flight == 0


async def test_what_the_app_raises_is_raised(gateway: Gateway) -> None:
    app = EmbeddingApp()
    mw = gateway(app)
    await embed(mw, ["a", "b"])
    app.answers[1] = RuntimeError("the upstream failed")
    client = Client(mw, ask(["a", "c"]), path=PATH).start()
    assert isinstance(await client.error(), RuntimeError)
    assert (client.got, len(app.asked)) == ([], 2)


async def test_an_error_in_pieces_arrives_in_pieces(gateway: Gateway) -> None:
    app = EmbeddingApp()
    mw = gateway(app)
    await embed(mw, ["a", "b"])
    start, _ = json_answer(b"", status=503, has_length=False)
    pieces = [{"type": "http.response.body", "body": b"no", "more_body": True}] * 2
    app.answers[1] = [start, *pieces, {"type": "http.response.body", "body": b"!"}]
    got = await embed(mw, ["a", "c"])
    assert [message["body"] for message in got.bodies] == [b"no", b"no", b"!"]


async def test_messages_that_we_do_not_know_pass(gateway: Gateway) -> None:
    app = EmbeddingApp()
    mw = gateway(app)
    await embed(mw, ["a", "b"])
    debug: Message = {"type": "http.response.debug", "info": {"template": "x"}}
    app.answers[1] = [debug, *json_answer(body_of("c")), debug]
    got = await embed(mw, ["a", "c"])
    kinds = [message["type"].rpartition(".")[2] for message in got.messages]
    assert kinds == ["debug", "start", "body", "debug"]
    assert json.loads(got.body) == embeddings(["a", "c"])


async def test_trailers_of_the_rest_are_not_sent_before_a_head(gateway: Gateway) -> None:
    app = EmbeddingApp()
    mw = gateway(app)
    await embed(mw, "b")
    body = json.dumps({"data": [{"embedding": [1.0], "index": 0}], "model": "e-1"}).encode()
    app.answers[1] = [
        {
            "type": "http.response.start",
            "status": 200,
            "headers": JSON_HEADERS,
            "trailers": True,
        },
        {"type": "http.response.body", "body": body, "more_body": False},
        {"type": "http.response.trailers", "headers": [(b"x", b"y")], "more_trailers": False},
    ]
    got = await embed(mw, ["a", "b"])
    assert got.messages[0]["type"] == "http.response.start"


def trailing(status: int, *, is_told: bool) -> list[Message]:
    """An answer with trailers, of which its head says so or not."""
    start, end, trailers = with_trailers(body_of("c"))
    headers = [(name, value) for name, value in start["headers"] if name != b"content-length"]
    return [{**start, "status": status, "headers": headers, "trailers": is_told}, end, trailers]


@pytest.mark.parametrize("status", [200, 400])
async def test_trailers_of_an_answer_that_is_not_passed_on_are_not_either(
    gateway: Gateway, status: int
) -> None:
    """They would come before any head; the whole answer has none."""
    app = EmbeddingApp()
    mw = gateway(app)
    await embed(mw, ["a", "b"])
    app.answers[1] = trailing(status, is_told=True)
    got = await embed(mw, ["a", "c"])
    kinds = [message["type"].rpartition(".")[2] for message in got.messages]
    assert (kinds, len(app.asked)) == (["start", "body"], 3)
    assert json.loads(got.body) == embeddings(["a", "c"])


async def test_trailers_that_nobody_announced_are_not_those_of_a_joined_answer(
    gateway: Gateway,
) -> None:
    app = EmbeddingApp()
    mw = gateway(app)
    await embed(mw, ["a", "b"])
    app.answers[1] = trailing(200, is_told=False)
    got = await embed(mw, ["a", "c"])
    kinds = [message["type"].rpartition(".")[2] for message in got.messages]
    assert (kinds, len(app.asked)) == (["start", "body"], 2)
    assert json.loads(got.body) == embeddings(["a", "c"])


async def test_trailers_of_an_error_are_passed_on_with_it(gateway: Gateway) -> None:
    app = EmbeddingApp()
    mw = gateway(app)
    await embed(mw, ["a", "b"])
    app.answers[1] = trailing(503, is_told=True)
    got = await embed(mw, ["a", "c"])
    kinds = [message["type"].rpartition(".")[2] for message in got.messages]
    assert (got.status, kinds) == (503, ["start", "body", "trailers"])


async def test_an_answer_that_goes_on_after_its_end_is_joined_once(gateway: Gateway) -> None:
    app = EmbeddingApp()
    mw = gateway(app)
    await embed(mw, ["a", "b"])
    answer = json_answer(body_of("c"))
    app.answers[1] = [*answer, *answer]
    got = await embed(mw, ["a", "c"])
    assert (len(got.starts), len(got.bodies), len(app.asked)) == (1, 1, 2)
    assert json.loads(got.body) == embeddings(["a", "c"])


async def test_an_answer_in_pieces_is_joined(gateway: Gateway) -> None:
    app = EmbeddingApp()
    mw = gateway(app)
    await embed(mw, ["a", "b"])
    start, _ = json_answer(b"", has_length=False)
    body = body_of("d", "c")
    pieces = [
        {"type": "http.response.body", "body": body[at : at + 7], "more_body": True}
        for at in range(0, len(body), 7)
    ]
    app.answers[1] = [start, *pieces, {"type": "http.response.body"}]
    got = await embed(mw, ["d", "a", "c"])
    assert json.loads(got.body) == embeddings(["d", "a", "c"])


async def test_an_answer_out_of_order_is_put_in_order(gateway: Gateway) -> None:
    app = EmbeddingApp()
    mw = gateway(app)
    await embed(mw, "b")
    app.answers[1] = lambda made: made | {"data": made["data"][::-1]}
    got = await embed(mw, ["a", "b", "c"])
    assert json.loads(got.body) == embeddings(["a", "b", "c"])
    assert len(app.asked) == 2


async def test_the_second_call_s_answer_is_not_judged_by_what_was_said_of_the_first(
    gateway: Gateway,
) -> None:
    app = EmbeddingApp()
    mw = gateway(app)
    await embed(mw, ["a", "b"])

    def said(scope: Any) -> None:
        if len(app.asked) == 2:
            scope["state"]["routecache"].no_store()

    app.on_call = said
    app.answers[1] = json_answer(b"{}")
    await embed(mw, ["a", "c"])
    assert (await embed(mw, ["a", "c"])).outcome == "HIT"


async def test_a_cache_above_hears_of_both_calls(gateway: Gateway) -> None:
    """What one call says counts for the cache above, although another state is in its place."""
    app = EmbeddingApp()
    inner = gateway(app)
    outer = gateway(inner)
    await embed(inner, "a")

    def tagged(scope: Any) -> None:
        scope["state"]["routecache"].add_tags(f"call-{len(app.asked)}")

    app.on_call = tagged
    app.answers[1] = json_answer(b"{}")
    await embed(outer, ["a", "c"])
    assert app.asked[1:] == [["c"], ["a", "c"]]
    assert (await embed(outer, "c")).outcome == "HIT"
    await outer.cache.invalidate_tag("call-3")
    engine = outer.cache.engine
    lookups = engine.recorder.result.misses
    await embed(outer, "c")
    assert engine.recorder.result.misses == lookups + 1


async def test_another_model_that_served_the_rest_is_not_joined(gateway: Gateway) -> None:
    app = EmbeddingApp()
    mw = gateway(app)
    await embed(mw, ["a", "b"])
    app.on_call = lambda scope: scope["state"]["routecache"].served_by("spare")
    got = await embed(mw, ["a", "c"])
    assert app.asked[1:] == [["c"], ["a", "c"]]
    assert json.loads(got.body) == embeddings(["a", "c"])
    assert (await embed(mw, "c")).outcome == "MISS"  # it is stored under the model that served
    assert (await embed(mw, "c", model="spare")).outcome == "MISS"


async def test_parts_of_two_models_are_asked_for_anew(gateway: Gateway) -> None:
    app = EmbeddingApp()
    mw = gateway(app)
    await embed(mw, "a")
    app.answers[1] = lambda made: made | {"model": "e-2"}
    await embed(mw, "b")
    app.answers[2] = lambda made: made | {"model": "e-2"}
    got = await embed(mw, ["a", "b"])
    assert got.get("cache-status") == "routecache; fwd=miss; detail=conversion"
    assert (await embed(mw, ["b", "a"])).outcome == "HIT"


async def test_a_whole_answer_that_is_none_is_not_stored(gateway: Gateway) -> None:
    app = EmbeddingApp()
    mw = gateway(app)
    app.answers[0] = json_answer(body_of("a"))
    await embed(mw, ["a", "b"])
    stats = mw.cache.stats()
    assert (stats.result.writes, stats.discards) == (0, {"incomplete": 1})


async def test_parts_that_are_too_large_are_not_stored(gateway: Gateway) -> None:
    app = EmbeddingApp()
    mw = gateway(app, max_result_bytes=1000)

    def padded(made: Json) -> Json:
        return made | {"data": [made["data"][0] | {"padding": "x" * 1100}, *made["data"][1:]]}

    app.answers[0] = padded
    await embed(mw, ["a", "b", "c"])
    stats = mw.cache.stats()
    assert (stats.result.writes, stats.discards) == (2, {"too-large": 1})
    await embed(mw, ["a", "b", "c"])
    assert app.asked[1] == ["a"]


@pytest.mark.parametrize("broken", ["only", "take_apart", "put_together", "judge"])
async def test_a_fault_of_ours_fails_no_request(
    gateway: Gateway, broken: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = EmbeddingApp()
    mw = gateway(app)
    await embed(mw, ["a", "b"])

    def fails(*_: object) -> None:
        raise RuntimeError("a fault of ours")

    monkeypatch.setattr(OpenAIEmbeddings, broken, fails)
    got = await embed(mw, ["a", "c", "d"])
    assert json.loads(got.body) == embeddings(["a", "c", "d"])
    assert app.asked[-1] == ["a", "c", "d"]
    got = await embed(mw, ["a", "b"])
    assert json.loads(got.body) == embeddings(["a", "b"])


@pytest.mark.parametrize("allowed", [None, "odd"])
async def test_what_may_be_joined_is_for_the_policy_of_the_request_to_say(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch, allowed: str | None
) -> None:
    """What may not be stored is not joined either; another dialect has finish reasons."""
    override = Override(models=frozenset({"e"}), finish_reasons=frozenset({allowed or "stop"}))
    app = EmbeddingApp()
    mw = gateway(app, policy=CachePolicy(overrides=(override,)))
    await embed(mw, ["a", "b"])
    judgement = Judgement(finish_reasons=("odd",))
    monkeypatch.setattr(OpenAIEmbeddings, "judge", lambda *_: judgement)
    got = await embed(mw, ["a", "c"])
    assert json.loads(got.body) == embeddings(["a", "c"])
    assert app.asked[1:] == ([["c"]] if allowed else [["c"], ["a", "c"]])
    assert (await embed(mw, "c")).outcome == ("HIT" if allowed else "MISS")


async def test_an_answer_that_a_dialect_cannot_take_apart_is_asked_for_anew(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = EmbeddingApp()
    mw = gateway(app)
    await embed(mw, "a")
    monkeypatch.setattr(OpenAIEmbeddings, "take_apart", lambda *_: None)
    got = await embed(mw, ["a", "c", "d"])
    assert json.loads(got.body) == embeddings(["a", "c", "d"])
    assert app.asked[1:] == [["c", "d"], ["a", "c", "d"]]
    assert mw.cache.stats().discards == {"incomplete": 1}


async def test_a_large_rest_is_read_aside(gateway: Gateway) -> None:
    app = EmbeddingApp()
    mw = gateway(app, hash_in_thread_bytes=10)
    await embed(mw, ["a", "b"])
    await mw.cache.engine.background.drain(5)
    got = await embed(mw, ["c", "a"])
    await mw.cache.engine.background.drain(5)
    assert json.loads(got.body) == embeddings(["c", "a"])
    assert (await embed(mw, ["a", "c", "b"])).outcome == "HIT"
    assert len(app.asked) == 2
