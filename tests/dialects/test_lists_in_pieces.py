"""Lists of a choice that come in pieces: nobody knows how they join."""

import json

from routecache_middleware.core.models import ResponseMode
from routecache_middleware.dialects.openai_chat import OpenAIChat
from routecache_middleware.dialects.openai_completions import OpenAICompletions

USAGE = {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3}


def stream(kind: str, *choices: dict[str, object]) -> bytes:
    head = {"id": "c", "object": kind, "created": 1, "model": "m"}
    chunks = [{**head, "choices": [{"index": 0, **choice}]} for choice in choices]
    chunks.append({**head, "choices": [], "usage": USAGE})
    frames = [b"data: " + json.dumps(chunk).encode() + b"\n\n" for chunk in chunks]
    return b"".join([*frames, b"data: [DONE]\n\n"])


def test_token_ids_of_a_chat() -> None:
    """vLLM's return_token_ids: each chunk has the ids of its own tokens."""
    chat = OpenAIChat()
    asked = {"model": "m", "messages": [{"role": "user"}], "return_token_ids": True}
    request = chat.parse(asked)
    assert request is not None
    body = stream(
        "chat.completion.chunk",
        {"delta": {"role": "assistant", "content": "a"}, "token_ids": [1], "finish_reason": None},
        {"delta": {"content": "b"}, "token_ids": [2, 3], "finish_reason": "stop"},
    )
    assert chat.judge(body, ResponseMode.STREAM, request).discard is None
    made = chat.render(body, ResponseMode.STREAM, request)
    assert made is None or json.loads(made)["choices"][0]["token_ids"] == [1, 2, 3]


def test_token_ids_of_a_completion() -> None:
    legacy = OpenAICompletions()
    request = legacy.parse({"model": "m", "prompt": "x", "return_token_ids": True})
    assert request is not None
    body = stream(
        "text_completion",
        {"text": "a", "token_ids": [1], "finish_reason": None},
        {"text": "b", "token_ids": [2, 3], "finish_reason": "stop"},
    )
    assert legacy.judge(body, ResponseMode.STREAM, request).discard is None
    made = legacy.render(body, ResponseMode.STREAM, request)
    assert made is None or json.loads(made)["choices"][0]["token_ids"] == [1, 2, 3]
