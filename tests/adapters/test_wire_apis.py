"""Anthropic's and OpenAI's newer APIs through the middleware: one entry, both modes, as it was."""

import json
from typing import Any, NamedTuple

import anthropic
import httpx
import httpx2
import openai
import pytest

from routecache_middleware import CachePolicy
from routecache_middleware.core.models import ResponseMode
from routecache_middleware.dialects.table import load
from tests.adapters.conftest import Gateway
from tests.support.apps import Answer, ScriptedApp, json_answer, sse_answer
from tests.support.asgi import fetch
from tests.support.wire import FIXTURES, asked, files, names_of_pairs

STREAM = ResponseMode.STREAM


class Api(NamedTuple):
    """Where an API is served, and what it is asked; temperature 0, so that tool calls are kept."""

    path: str
    ask: dict[str, Any]

    def body(self, *, stream: bool) -> bytes:
        return json.dumps(self.ask | {"temperature": 0, "stream": stream}).encode()


APIS = {
    "anthropic.messages": Api(
        "/v1/messages",
        {"model": "m", "max_tokens": 9, "messages": [{"role": "user", "content": "hi"}]},
    ),
    "openai.responses": Api("/v1/responses", {"model": "m", "store": False, "input": "hi"}),
}
PAIRS = [(dialect, name) for dialect in APIS for name in names_of_pairs(dialect)]
DISCARDED = [(dialect, path) for dialect in APIS for path in files(dialect, "discarded")]
MODES = pytest.mark.parametrize("is_stream", [False, True], ids=["json", "stream"])


def answers(dialect: str, name: str) -> tuple[bytes, bytes]:
    """Return an answer as JSON and as a stream."""
    folder = FIXTURES / dialect / "answers"
    return (folder / f"{name}.json").read_bytes(), (folder / f"{name}.sse").read_bytes()


def sent(body: bytes, *, is_stream: bool) -> Answer:
    pieces = [body[start : start + 100] for start in range(0, len(body), 100)]
    return sse_answer(pieces) if is_stream else json_answer(body)


@MODES
@pytest.mark.parametrize(("dialect", "name"), PAIRS)
async def test_one_answer_serves_both_modes(
    gateway: Gateway,
    dialect: str,
    name: str,
    is_stream: bool,  # noqa: FBT001 - a parameter of the table
) -> None:
    """Issue 5: same-mode hits byte-identical, converted hits what the upstream would have sent."""
    api, pair = APIS[dialect], answers(dialect, name)
    app = ScriptedApp(sent(pair[is_stream], is_stream=is_stream))
    mw = gateway(app)
    same, other = api.body(stream=is_stream), api.body(stream=not is_stream)
    live = await fetch(mw, same, path=api.path)
    hit = await fetch(mw, same, path=api.path)
    converted = await fetch(mw, other, path=api.path)
    assert [got.outcome for got in (live, hit, converted)] == ["MISS", "HIT", "HIT"]
    assert live.body == hit.body == pair[is_stream]
    kind = "application/json" if is_stream else "text/event-stream"
    assert (converted.get("content-type") or "").startswith(kind)
    if is_stream:
        assert json.loads(converted.body) == json.loads(pair[0])
    else:
        judge = load(dialect).judge
        assert judge(converted.body, STREAM, asked(STREAM)) == judge(pair[1], STREAM, asked(STREAM))
    assert len(app.calls) == 1


@pytest.mark.parametrize(("dialect", "path"), DISCARDED, ids=lambda value: str(value)[-40:])
async def test_what_must_not_be_stored_is_asked_for_again(
    gateway: Gateway, dialect: str, path: Any
) -> None:
    api, is_stream = APIS[dialect], path.suffix == ".sse"
    app = ScriptedApp(sent(path.read_bytes(), is_stream=is_stream))
    mw = gateway(app, policy=CachePolicy(cache_tool_calls=True))
    for _ in range(2):
        got = await fetch(mw, api.body(stream=is_stream), path=api.path)
        assert (got.outcome, got.body) == ("MISS", path.read_bytes())
    assert len(app.calls) == 2


async def test_a_count_of_tokens_is_kept(gateway: Gateway) -> None:
    app = ScriptedApp(json_answer(b'{"input_tokens":57}'))
    mw = gateway(app, policy=CachePolicy(max_temperature=0.0, finish_reasons=frozenset()))
    ask = json.dumps({"model": "m", "messages": [{"role": "user", "content": "hi"}]}).encode()
    got = [await fetch(mw, ask, path="/v1/messages/count_tokens") for _ in range(2)]
    assert [response.outcome for response in got] == ["MISS", "HIT"]
    assert len(app.calls) == 1


async def test_a_ranking_is_kept_for_its_documents_alone(gateway: Gateway) -> None:
    results = [{"index": 1, "relevance_score": 0.5}, {"index": 0, "relevance_score": 0.25}]
    body = json.dumps({"results": results}).encode()
    app = ScriptedApp(json_answer(body))
    mw = gateway(app, policy=CachePolicy(max_temperature=0.0))
    asks = [
        json.dumps({"model": "m", "query": "q", "documents": documents}).encode()
        for documents in (["a", "b"], ["a", "b"], ["b", "a"], ["a", "b", "c"], ["a", "b", "c"])
    ]
    got = [await fetch(mw, ask, path="/v2/rerank") for ask in asks]
    assert [response.outcome for response in got] == ["MISS", "HIT", "MISS", "MISS", "MISS"]
    assert {response.body for response in got} == {body}
    assert mw.cache.stats().discards == {"incomplete": 2}


@pytest.mark.parametrize(
    ("dialect", "shape"),
    [("anthropic.messages", "type"), ("openai.responses", "error")],
)
async def test_only_if_cached_fails_in_the_api_s_own_shape(
    gateway: Gateway, dialect: str, shape: str
) -> None:
    """RFC 9111 section 5.2.1.7."""
    api = APIS[dialect]
    headers = [(b"x-api-key", b"k"), (b"cache-control", b"only-if-cached")]
    got = await fetch(gateway(), api.body(stream=False), path=api.path, headers=headers)
    assert got.status == 504
    assert next(iter(json.loads(got.body))) == shape


@MODES
@pytest.mark.parametrize("name", names_of_pairs("anthropic.messages"))
async def test_anthropic_s_sdk_cannot_tell_a_hit(
    gateway: Gateway,
    name: str,
    is_stream: bool,  # noqa: FBT001 - a parameter of the table
) -> None:
    pair = answers("anthropic.messages", name)
    app = ScriptedApp(sent(pair[is_stream], is_stream=is_stream))
    http = httpx2.AsyncClient(transport=httpx2.ASGITransport(app=gateway(app)))
    ask: Any = APIS["anthropic.messages"].ask | {"extra_body": {"temperature": 0}}
    async with anthropic.AsyncAnthropic(
        api_key="k", base_url="http://gateway", http_client=http
    ) as client:
        found = []
        for _ in range(2):
            if is_stream:
                async with client.messages.stream(**ask) as events:
                    found.append((await events.get_final_message()).to_dict())
            else:
                found.append((await client.messages.create(**ask)).to_dict())
    assert found[0] == found[1]
    assert len(app.calls) == 1


@MODES
@pytest.mark.parametrize("name", names_of_pairs("openai.responses"))
async def test_openai_s_sdk_cannot_tell_a_hit(
    gateway: Gateway,
    name: str,
    is_stream: bool,  # noqa: FBT001 - a parameter of the table
) -> None:
    pair = answers("openai.responses", name)
    app = ScriptedApp(sent(pair[is_stream], is_stream=is_stream))
    http = httpx.AsyncClient(transport=httpx.ASGITransport(app=gateway(app)))
    ask: Any = APIS["openai.responses"].ask | {"temperature": 0}
    async with openai.AsyncOpenAI(
        api_key="k", base_url="http://gateway/v1", http_client=http
    ) as client:
        found = []
        for _ in range(2):
            if is_stream:
                async with client.responses.stream(**ask) as events:
                    found.append((await events.get_final_response()).to_dict())
            else:
                found.append((await client.responses.create(**ask)).to_dict())
    assert found[0] == found[1]
    assert len(app.calls) == 1
