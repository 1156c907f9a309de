"""What each API of the fast lane is asked, and what it answers, as plain JSON."""

from typing import Any

from routecache_middleware.adapters.litellm.fastlane.dialect import (
    CHAT,
    EMBEDDINGS,
    MESSAGES,
    RESPONSES,
    TEXT,
    LaneDialect,
)

__all__ = ["PATHS", "PLAIN", "answer"]

_TALK: list[dict[str, Any]] = [{"role": "user", "content": "hi"}]
PLAIN: dict[LaneDialect, dict[str, Any]] = {
    CHAT: {"model": "m", "messages": _TALK},
    TEXT: {"model": "m", "prompt": "hi"},
    EMBEDDINGS: {"model": "m", "input": "hi"},
    RESPONSES: {"model": "m", "input": "hi", "store": False},
    MESSAGES: {"model": "m", "messages": _TALK, "max_tokens": 5},
}
"""The least that each of them takes."""

PATHS: dict[LaneDialect, str] = {
    CHAT: "/v1/chat/completions",
    TEXT: "/v1/completions",
    EMBEDDINGS: "/v1/embeddings",
    RESPONSES: "/v1/responses",
    MESSAGES: "/v1/messages",
}


def answer(lane: LaneDialect, text: str, tokens: tuple[int, int] = (3, 2)) -> dict[str, Any]:
    """A complete answer in one piece."""
    counted = {"prompt_tokens": tokens[0], "completion_tokens": tokens[1]}
    named = {"input_tokens": tokens[0], "output_tokens": tokens[1]}
    said = {"type": "text", "text": text}
    if lane is TEXT:
        choice: dict[str, Any] = {"index": 0, "text": text, "finish_reason": "stop"}
        return {"id": text, "model": "m", "choices": [choice], "usage": counted}
    if lane is EMBEDDINGS:
        data = [{"index": 0, "embedding": [0.5, len(text)]}]
        return {"model": text, "data": data, "usage": {"prompt_tokens": tokens[0]}}
    if lane is RESPONSES:
        item = {"type": "message", "content": [{**said, "type": "output_text"}]}
        return {"id": text, "model": "m", "status": "completed", "output": [item], "usage": named}
    if lane is MESSAGES:
        whole = {"id": text, "type": "message", "model": "m", "content": [said]}
        return {**whole, "stop_reason": "end_turn", "usage": named}
    message = {"role": "assistant", "content": text}
    choice = {"index": 0, "message": message, "finish_reason": "stop"}
    whole = {"id": text, "object": "chat.completion", "model": "m", "choices": [choice]}
    return {**whole, "usage": counted}
