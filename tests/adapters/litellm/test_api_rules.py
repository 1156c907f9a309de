"""Which requests and answers of each API may be cached: tables."""

import json
from typing import Any

import pytest

from routecache_middleware.adapters.litellm.results.apis import Api, api_of
from routecache_middleware.adapters.litellm.results.messages import EVENTS
from routecache_middleware.core.dialect import Judgement
from routecache_middleware.core.models import BypassReason, DiscardReason
from routecache_middleware.core.plan import plan_store
from routecache_middleware.core.policy import CachePolicy

Json = dict[str, Any]

REQUESTS: dict[str, Json] = {
    "text_completion": {"model": "m", "prompt": "x"},
    "embedding": {"model": "m", "input": ["x"]},
    "responses": {"model": "m", "input": "x", "store": False},
    "anthropic_messages": {"model": "m", "messages": [{"role": "user", "content": "x"}]},
}


def api(name: str) -> Api:
    found = api_of(name)
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("name", "more"),
    [
        ("text_completion", {"prompt": None}),
        ("text_completion", {"prompt": {}}),
        ("text_completion", {"n": 0}),
        ("text_completion", {"n": True}),
        ("text_completion", {"temperature": "hot"}),
        ("embedding", {"input": None}),
        ("embedding", {"input": 3}),
        ("responses", {"input": None}),
        ("responses", {"temperature": True}),
        ("anthropic_messages", {"messages": []}),
        ("anthropic_messages", {"messages": "x"}),
        ("anthropic_messages", {"temperature": "hot"}),
    ],
)
def test_what_does_not_have_the_apis_form_is_no_request(name: str, more: Json) -> None:
    assert api(name).parse({**REQUESTS[name], **more}) is None


IMAGE = {"type": "image", "source": {"type": "url", "url": "https://x/y.png"}}
FILE = {"type": "document", "source": {"type": "file", "file_id": "f"}}
INLINE = {"type": "input_image", "image_url": "data:image/png;base64,AAAA"}
CALL = {"type": "tool_use", "id": "t", "name": "fetch", "input": {"url": "https://x"}}


def told(*parts: Json) -> list[Json]:
    return [{"role": "user", "content": list(parts)}]


@pytest.mark.parametrize(
    ("name", "more", "reason"),
    [
        ("text_completion", {}, None),
        ("text_completion", {"stream": True}, BypassReason.DISABLED),
        ("embedding", {}, None),
        ("embedding", {"input": [{"type": "image_url", "image_url": "https://x"}]}, "remote-media"),
        ("responses", {}, None),
        ("responses", {"tools": [{"type": "function", "name": "f"}]}, None),
        ("responses", {"tools": [{"type": "code_interpreter"}]}, BypassReason.SERVER_TOOLS),
        ("responses", {"store": True}, BypassReason.STORE),
        ("responses", {"store": None}, BypassReason.STORE),
        ("responses", {"background": True}, BypassReason.BACKGROUND),
        ("responses", {"previous_response_id": "r"}, BypassReason.STATEFUL),
        ("responses", {"conversation": "c"}, BypassReason.STATEFUL),
        ("responses", {"input": [{"type": "item_reference", "id": "i"}]}, BypassReason.STATEFUL),
        ("responses", {"prompt": {"id": "p"}}, BypassReason.MUTABLE_PROMPT),
        ("responses", {"input": told(INLINE)}, None),
        ("responses", {"input": told({"type": "input_file", "file_id": "f"})}, "remote-media"),
        ("anthropic_messages", {}, None),
        ("anthropic_messages", {"tools": [{"name": "f", "input_schema": {}}]}, None),
        ("anthropic_messages", {"tools": [{"type": "bash_20250124", "name": "bash"}]}, None),
        ("anthropic_messages", {"tools": [{"type": "web_search_20250305"}]}, "server-tools"),
        ("anthropic_messages", {"tools": [{"type": "of_next_year"}]}, "server-tools"),
        ("anthropic_messages", {"mcp_servers": [{"url": "x"}]}, BypassReason.SERVER_TOOLS),
        ("anthropic_messages", {"context_management": {"edits": []}}, BypassReason.SERVER_TOOLS),
        ("anthropic_messages", {"thread": "t"}, BypassReason.STATEFUL),
        ("anthropic_messages", {"max_tokens": 0}, BypassReason.PREWARM),
        ("anthropic_messages", {"system": [FILE]}, BypassReason.REMOTE_MEDIA),
        ("anthropic_messages", {"container": "c"}, BypassReason.SERVER_TOOLS),
        ("anthropic_messages", {"messages": told(IMAGE)}, BypassReason.REMOTE_MEDIA),
        ("anthropic_messages", {"messages": told(FILE)}, BypassReason.REMOTE_MEDIA),
        ("anthropic_messages", {"messages": told(CALL)}, None),
        ("anthropic_messages", {"messages": told({"type": "text", "text": "http://x"})}, None),
    ],
)
def test_what_a_cache_must_not_answer(name: str, more: Json, reason: str | None) -> None:
    parsed = api(name).parse({**REQUESTS[name], **more})
    assert parsed is not None
    assert parsed.bypass == reason


def test_a_response_is_kept_by_the_provider_unless_it_says_otherwise() -> None:
    parsed = api("responses").parse({"model": "m", "input": "x"})
    assert parsed is not None
    assert parsed.bypass is BypassReason.STORE


def text(**more: Any) -> Json:
    return {"choices": [{"text": "x", "finish_reason": "stop", **more}], "model": "m"}


def response(*output: Json, **more: Any) -> Json:
    return {"status": "completed", "output": list(output), "model": "m", "usage": {}, **more}


SAID = {"type": "message", "content": [{"type": "output_text", "text": "x"}]}
REFUSED = {"type": "message", "content": [{"type": "refusal", "refusal": "no"}]}


BLOCKS: dict[str, Json] = {
    "text": {"text": "x"},
    "thinking": {"thinking": "hm", "signature": "s"},
    "tool_use": {"id": "t", "name": "f", "input": {}},
}


def message(*kinds: str, stop_reason: str | None = "end_turn") -> Json:
    content = [{"type": kind, **BLOCKS.get(kind, {})} for kind in kinds]
    return {"type": "message", "content": content, "stop_reason": stop_reason, "model": "m"}


def stream(*data: Json) -> Json:
    return {EVENTS: [f"event: {one['type']}\ndata: {json.dumps(one)}\n\n" for one in data]}


START = {"type": "message_start", "message": {"model": "m", "usage": {"input_tokens": 1}}}
BLOCK = {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}
WORD = {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "x"}}
CLOSED = {"type": "content_block_stop", "index": 0}
SAYING = (START, BLOCK, WORD, CLOSED)
END = {"type": "message_delta", "delta": {"stop_reason": "end_turn"}}
STOP = {"type": "message_stop"}


@pytest.mark.parametrize(
    ("name", "answer", "reason"),
    [
        ("text_completion", text(), None),
        ("text_completion", text(text=""), DiscardReason.EMPTY),
        ("text_completion", text(finish_reason=None), DiscardReason.INCOMPLETE),
        ("text_completion", text(finish_reason="content_filter"), DiscardReason.FINISH_REASON),
        ("text_completion", {}, DiscardReason.EMPTY),
        ("text_completion", None, DiscardReason.INCOMPLETE),
        ("embedding", {"embedding": [0.5]}, None),
        ("embedding", {"embedding": []}, DiscardReason.EMPTY),
        ("responses", response(SAID), None),
        ("responses", response({"type": "reasoning"}, SAID), None),
        ("responses", response({"type": "reasoning"}), DiscardReason.EMPTY),
        ("responses", response(), DiscardReason.EMPTY),
        ("responses", response(REFUSED), DiscardReason.FINISH_REASON),
        ("responses", response(SAID, status="incomplete"), DiscardReason.INCOMPLETE),
        ("responses", response(SAID, status="in_progress"), DiscardReason.INCOMPLETE),
        ("responses", response(SAID, error={"code": "x"}), DiscardReason.ERROR_BODY),
        ("responses", response({"type": "web_search_call"}, SAID), DiscardReason.VETOED),
        ("responses", response({"type": "custom_tool_call"}), DiscardReason.TOOL_CALLS),
        ("responses", response({"type": "function_call", "arguments": "{}"}), "tool-calls"),
        ("responses", response({"type": "function_call", "arguments": "{"}), "incomplete"),
        ("responses", response(SAID, id="chatcmpl-1"), DiscardReason.INCOMPLETE),
        ("responses", response({**SAID, "status": "in_progress"}), DiscardReason.INCOMPLETE),
        ("anthropic_messages", message("text"), None),
        ("anthropic_messages", message("thinking", "text"), None),
        ("anthropic_messages", message("text", stop_reason="max_tokens"), None),
        ("anthropic_messages", message("text", stop_reason="refusal"), "finish-reason"),
        ("anthropic_messages", message("text", stop_reason="pause_turn"), "finish-reason"),
        ("anthropic_messages", message("text", stop_reason=None), DiscardReason.INCOMPLETE),
        ("anthropic_messages", message(), DiscardReason.EMPTY),
        ("anthropic_messages", message("server_tool_use", "text"), DiscardReason.TOOL_CALLS),
        ("anthropic_messages", message("web_search_tool_result", "text"), "tool-calls"),
        ("anthropic_messages", message("tool_use", stop_reason="tool_use"), "tool-calls"),
        ("anthropic_messages", {"type": "error", "error": {}}, DiscardReason.ERROR_BODY),
        ("anthropic_messages", stream(*SAYING, END, STOP), None),
        ("anthropic_messages", stream(*SAYING, END), DiscardReason.INCOMPLETE),
        ("anthropic_messages", stream(*SAYING, STOP), DiscardReason.INCOMPLETE),
        ("anthropic_messages", stream(START, BLOCK, WORD, END, STOP), DiscardReason.INCOMPLETE),
        ("anthropic_messages", stream(START, END, STOP), DiscardReason.EMPTY),
        ("anthropic_messages", stream(START, {"type": "error"}), DiscardReason.ERROR_BODY),
        ("anthropic_messages", {EVENTS: "no list"}, DiscardReason.INCOMPLETE),
    ],
)
def test_what_may_be_kept(name: str, answer: Json | None, reason: str | None) -> None:
    parsed = api(name).parse(REQUESTS[name])
    assert parsed is not None
    judgement = api(name).judge(json.dumps(answer).encode(), parsed)
    assert isinstance(judgement, Judgement)
    assert plan_store(judgement, parsed, CachePolicy()) == reason


@pytest.mark.parametrize("name", [*REQUESTS, "completion"])
def test_what_is_no_json_is_not_kept(name: str) -> None:
    request = REQUESTS.get(name, REQUESTS["anthropic_messages"])
    parsed = api(name).parse(request)
    assert parsed is not None
    for body in (b"", b"{", b"[1]", b'"x"', b"[" * 100_000):
        assert api(name).judge(body, parsed).discard is not None


def test_several_prompts_are_several_answers() -> None:
    texts = api("text_completion")
    for prompt, count in ((["a", "b"], 2), ([1, 2, 3], 1), ([[1], [2]], 2), ("a", 1)):
        parsed = texts.parse({"model": "m", "prompt": prompt, "n": 2})
        assert parsed is not None
        assert parsed.choices == 2 * count
