"""Why a request that could be cached is never found: its last answer was not stored."""

from collections.abc import Callable
from typing import Any

import pytest

from routecache_middleware import CachePolicy, RouteCacheMiddleware
from routecache_middleware.adapters.asgi import RequestExplanation
from routecache_middleware.core.models import DiscardReason
from routecache_middleware.core.reasons import meaning
from routecache_middleware.testing.clock import FakeClock
from tests.adapters.conftest import Gateway
from tests.adapters.test_batch import embed
from tests.support.apps import JSON_HEADERS, Answer, ScriptedApp, json_answer, sse_answer
from tests.support.asgi import KEY, PATH, fetch
from tests.support.chat import ask, chunks, completion
from tests.support.embeddings import PATH as LISTS
from tests.support.embeddings import EmbeddingApp
from tests.support.embeddings import ask as ask_embeddings

OTHER = (b"authorization", b"Bearer key-2")
PLAIN = ask()


async def why(mw: RouteCacheMiddleware, body: bytes = PLAIN, **more: Any) -> RequestExplanation:
    """Explain a request of the usual caller."""
    return await mw.explain(body=body, **{"path": PATH, "headers": [KEY], **more})


def saying(value: bytes) -> Answer:
    return json_answer(headers=[*JSON_HEADERS, (b"routecache-control", value)])


CASES: dict[str, tuple[Answer, DiscardReason]] = {
    "an error": (json_answer(b"{}", status=500), DiscardReason.STATUS),
    "no answer": (json_answer(b"{}"), DiscardReason.EMPTY),
    "filtered": (json_answer(completion(finish="content_filter")), DiscardReason.FINISH_REASON),
    "forbidden": (saying(b"no-store"), DiscardReason.VETOED),
    "not for a moment": (saying(b"max-age=0"), DiscardReason.VETOED),
    "large": (json_answer(completion("x" * 5000)), DiscardReason.TOO_LARGE),
    "a stream": (sse_answer(chunks()), DiscardReason.CONTENT_TYPE),
}


@pytest.mark.parametrize("case", CASES)
async def test_a_miss_says_why_the_last_answer_was_not_stored(gateway: Gateway, case: str) -> None:
    answer, reason = CASES[case]
    mw = gateway(ScriptedApp(answer), max_result_bytes=2000)
    assert (await why(mw)).last_discard == ""
    await fetch(mw)
    said = await why(mw)
    assert (said.outcome, said.reason) == ("miss", "absent")
    assert (said.last_discard, said.discarded_because) == (reason.value, meaning(reason))
    assert f"last answer not stored ({reason}): {meaning(reason)}" in str(said)


async def test_an_app_that_raises(gateway: Gateway) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        raise RuntimeError("sk-secret")

    mw = gateway(app)
    with pytest.raises(RuntimeError):
        await fetch(mw)
    said = await why(mw)
    assert said.last_discard == "incomplete"
    assert "secret" not in str(said)


async def test_what_is_stored_in_the_end_needs_no_explanation(
    gateway: Gateway, clock: FakeClock
) -> None:
    mw = gateway(ScriptedApp(json_answer(b"{}", status=500), json_answer()), result_ttl_s=10.0)
    await fetch(mw)
    assert (await why(mw)).last_discard == "status"
    await fetch(mw)
    assert ((await why(mw)).outcome, (await why(mw)).last_discard) == ("hit", "")
    clock.advance(20)
    assert ((await why(mw)).outcome, (await why(mw)).last_discard) == ("miss", "")


async def test_it_is_told_of_nobody_else_s_request(gateway: Gateway) -> None:
    mw = gateway(ScriptedApp(json_answer(b"{}", status=500)))
    await fetch(mw)
    assert (await why(mw, headers=[OTHER])).last_discard == ""
    assert (await why(mw, ask("another question"))).last_discard == ""


async def test_a_client_or_an_operator_that_wants_none_is_no_veto(gateway: Gateway) -> None:
    """That is said by ``ttl_s`` already."""
    mw = gateway(policy=CachePolicy(decide=lambda _: 0.0))
    await fetch(mw)
    said = await why(mw)
    assert (said.outcome, said.last_discard, said.ttl_s) == ("miss", "", 0)


def no_vectors(made: dict[str, Any]) -> dict[str, Any]:
    return made | {"data": []}


def one_vector_less(made: dict[str, Any]) -> dict[str, Any]:
    return made | {"data": made["data"][:1]}


@pytest.mark.parametrize("change", [no_vectors, one_vector_less])
async def test_a_list_says_it_too(
    gateway: Gateway, change: Callable[[dict[str, Any]], dict[str, Any]]
) -> None:
    app = EmbeddingApp()
    app.answers[0] = change
    mw = gateway(app)
    await embed(mw, ["a", "b"])
    said = await why(mw, ask_embeddings(["a", "b"]), path=LISTS)
    assert (said.outcome, said.last_discard) == ("miss", "incomplete")


async def test_what_is_remembered_is_bounded(gateway: Gateway) -> None:
    mw = gateway(ScriptedApp(json_answer(b"{}", status=500)))
    recorder = mw.cache.engine.recorder
    for number in range(1100):
        await fetch(mw, ask(str(number)))
    assert len(recorder._last_discards) == 1024
    assert (await why(mw, ask("0"))).last_discard == ""
    assert (await why(mw, ask("1099"))).last_discard == "status"
    await fetch(mw, ask(model="m" * 1000))
    assert max(map(len, recorder._last_discards)) <= 512
    assert (await why(mw, ask(model="m" * 1000))).last_discard == ""


async def test_a_list_that_was_stored_since_has_no_last_discard(
    gateway: Gateway, clock: FakeClock
) -> None:
    app = EmbeddingApp()
    app.answers[0] = json_answer(b"{}", status=503)
    mw = gateway(app, result_ttl_s=10.0)
    asked = ask_embeddings(["a", "b"])
    assert (await fetch(mw, asked, path=LISTS)).status == 503
    assert (await fetch(mw, asked, path=LISTS)).status == 200
    assert (await fetch(mw, asked, path=LISTS)).outcome == "HIT"
    clock.advance(20)
    said = await mw.explain(path=LISTS, body=asked, headers=[KEY])
    assert (said.outcome.value, said.last_discard) == ("miss", "")
