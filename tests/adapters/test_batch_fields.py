"""Embeddings of APIs that have OpenAI's form and more parameters than it."""

import base64
import json
from typing import Any

import pytest

from tests.adapters.conftest import Gateway
from tests.adapters.test_batch import counts, embed
from tests.support.apps import json_answer
from tests.support.embeddings import EmbeddingApp, embeddings, vectors


def answering(make: Any) -> Any:
    """Return an upstream whose vectors are made of the whole request."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        payload = json.loads((await receive())["body"])
        items = payload["input"] if isinstance(payload["input"], list) else [payload["input"]]
        rows = [
            {"object": "embedding", "index": index, "embedding": make(payload, items, item)}
            for index, item in enumerate(items)
        ]
        usage = {"prompt_tokens": len(items), "total_tokens": len(items)}
        whole = {"object": "list", "data": rows, "model": "e", "usage": usage}
        for message in json_answer(json.dumps(whole).encode()):
            await send(message)

    return app


def in_context(_: Any, items: list[str], item: str) -> list[float]:
    """Jina's late_chunking: the inputs are one document, and each vector depends on all of it."""
    return [float(len(item)), float(sum(map(len, items)))]


async def test_vectors_that_depend_on_the_other_inputs_are_not_reused(gateway: Gateway) -> None:
    mw = gateway(answering(in_context))
    await embed(mw, ["a", "bb"], late_chunking=True)
    got = await embed(mw, ["a", "cccc"], late_chunking=True)
    assert vectors(got.body) == [[1.0, 5.0], [4.0, 5.0]], got.get("cache-status")


def in_bytes(payload: Any, _: list[str], item: str) -> Any:
    """Voyage's and Mistral's output_dtype: base64 then holds bytes, not 32-bit floats."""
    numbers = [len(item), 2, 3, 4, 5, 6, 7, 8]
    is_text = payload.get("encoding_format") == "base64"
    return base64.b64encode(bytes(numbers)).decode() if is_text else numbers


async def test_base64_that_holds_bytes_is_not_taken_for_floats(gateway: Gateway) -> None:
    mw = gateway(answering(in_bytes))
    await embed(mw, "a", output_dtype="int8", encoding_format="base64")
    got = await embed(mw, "a", output_dtype="int8")
    assert vectors(got.body) == [[1, 2, 3, 4, 5, 6, 7, 8]], got.get("cache-status")


async def test_the_other_way_neither(gateway: Gateway) -> None:
    mw = gateway(answering(in_bytes))
    await embed(mw, "a", output_dtype="int8")
    got = await embed(mw, "a", output_dtype="int8", encoding_format="base64")
    assert vectors(got.body) == [base64.b64encode(bytes(range(1, 9))).decode()]


def in_jinas_form(payload: Any, _: list[str], item: str) -> Any:
    """Jina's embedding_type says the form, not encoding_format."""
    text = base64.b64encode(bytes([0, 0, 128, 63]) * 2).decode()
    return text if payload.get("embedding_type") == "base64" else [1.0, 1.0]


async def test_a_list_comes_back_in_the_form_that_the_upstream_chose(gateway: Gateway) -> None:
    mw = gateway(answering(in_jinas_form))
    live = await embed(mw, ["a", "b"], embedding_type="base64")
    hit = await embed(mw, ["a", "b"], embedding_type="base64")
    assert vectors(hit.body) == vectors(live.body), hit.outcome


async def test_a_list_with_an_unknown_field_is_one_entry(gateway: Gateway) -> None:
    app = EmbeddingApp()
    mw = gateway(app)
    live = await embed(mw, ["a", "b"], unheard_of=1)
    assert counts(mw) == (0, 1, 1)
    again = await embed(mw, ["a", "b"], unheard_of=1)
    assert (again.outcome, again.body) == ("HIT", live.body)
    for value in (["a"], "a", ["b", "a"], ["a", "c"]):
        got = await embed(mw, value, unheard_of=1)
        assert got.get("cache-status") == "routecache; fwd=miss"
    assert app.asked[1:] == [["a"], ["a"], ["b", "a"], ["a", "c"]]
    assert (await embed(mw, ["a", "b"])).outcome == "MISS"


async def test_with_an_unknown_field_each_form_is_an_entry(gateway: Gateway) -> None:
    """What the other form would hold, or the upstream's own choice of it, nobody knows."""
    app = EmbeddingApp()
    mw = gateway(app)
    for form in ("float", "base64", None):
        live = await embed(mw, ["a", "b"], unheard_of=1, encoding_format=form)
        assert live.outcome == "MISS"
        again = await embed(mw, ["a", "b"], unheard_of=1, encoding_format=form)
        assert (again.outcome, again.body) == ("HIT", live.body)
    assert len(app.asked) == 3


@pytest.mark.parametrize(
    "fields",
    [
        {"metadata": {"trace": "t"}},
        {"safety_identifier": "u"},
        {"service_tier": "flex"},
        {"input_type": "query"},
    ],
)
async def test_what_is_said_of_a_request_does_not_keep_its_inputs_together(
    gateway: Gateway, fields: dict[str, Any]
) -> None:
    app = EmbeddingApp()
    mw = gateway(app)
    await embed(mw, ["a", "b"], **fields)
    got = await embed(mw, ["b", "c"], encoding_format="base64", **fields)
    assert app.asked[1:] == [["c"]]
    assert json.loads(got.body) == embeddings(["b", "c"], form="base64")
    assert (await embed(mw, "b")).outcome == "MISS"  # it counts all the same
