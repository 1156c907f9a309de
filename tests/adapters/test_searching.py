"""Models that search the web by themselves: known by their names, in every API."""

import json
from typing import Any

import pytest

from routecache_middleware import CachePolicy
from routecache_middleware.core.override import Override
from tests.adapters.conftest import Gateway
from tests.support.apps import ScriptedApp, json_answer
from tests.support.asgi import KEY, fetch
from tests.support.chat import ask, completion

RESPONSE = json.dumps(
    {
        "id": "resp_1",
        "object": "response",
        "created_at": 1,
        "status": "completed",
        "model": "m",
        "error": None,
        "output": [
            {
                "type": "message",
                "id": "msg_1",
                "role": "assistant",
                "status": "completed",
                "content": [{"type": "output_text", "text": "old news", "annotations": []}],
            }
        ],
        "usage": {"input_tokens": 1, "output_tokens": 1, "total_tokens": 2},
    }
).encode()
TEXT = json.dumps(
    {
        "id": "cmpl-1",
        "object": "text_completion",
        "created": 1,
        "model": "m",
        "choices": [{"index": 0, "text": "old news", "logprobs": None, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3},
    }
).encode()
MESSAGE = json.dumps(
    {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": "m",
        "content": [{"type": "text", "text": "old news"}],
        "stop_reason": "end_turn",
        "stop_sequence": None,
        "usage": {"input_tokens": 1, "output_tokens": 1},
    }
).encode()


async def test_a_model_that_searches_is_not_cached_when_the_router_chose_it(
    gateway: Gateway,
) -> None:
    async def router(_: object) -> str:
        return "gpt-4o-search-preview"

    app = ScriptedApp(json_answer(completion("old news")), json_answer(completion("news")))
    mw = gateway(app, router=router)
    await fetch(mw, ask(model="auto"))
    again = await fetch(mw, ask(model="auto"))
    assert again.get("cache-status") == "routecache; fwd=bypass; detail=web-search"
    assert again.get("x-routecache-model") == "gpt-4o-search-preview"
    said = await mw.explain(path="/v1/chat/completions", body=ask(model="auto"), headers=[KEY])
    assert (said.outcome, said.reason) == ("bypass", "web-search")


@pytest.mark.parametrize(
    ("path", "body", "answer"),
    [
        ("/v1/responses", {"input": "news?", "store": False}, RESPONSE),
        ("/v1/completions", {"prompt": "news?"}, TEXT),
        (
            "/v1/messages",
            {"max_tokens": 9, "messages": [{"role": "user", "content": "news?"}]},
            MESSAGE,
        ),
    ],
)
async def test_an_online_model_is_known_by_its_name_in_every_api(
    gateway: Gateway, path: str, body: dict[str, Any], answer: bytes
) -> None:
    mw = gateway(ScriptedApp(json_answer(answer)))
    sent = json.dumps({"model": "openai/gpt-4o:online", **body}).encode()
    await fetch(mw, sent, path=path)
    again = await fetch(mw, sent, path=path)
    assert again.get("cache-status") == "routecache; fwd=bypass; detail=web-search"


async def test_an_override_forbids_the_model_that_the_router_chose(gateway: Gateway) -> None:
    live = Override(models=frozenset({"sonar*"}), is_cached=False)
    app = ScriptedApp()
    mw = gateway(app, router=lambda _: "sonar-pro", policy=CachePolicy(overrides=(live,)))
    for _ in range(2):
        got = await fetch(mw, ask(model="auto"))
        assert got.get("cache-status") == "routecache; fwd=bypass; detail=policy"
    assert len(app.calls) == 2
    said = await mw.explain(path="/v1/chat/completions", body=ask(model="auto"), headers=[KEY])
    assert (said.outcome, said.reason) == ("bypass", "policy")
