"""OpenAI chat requests and answers as bytes."""

import json
from collections.abc import Sequence

__all__ = ["ask", "chunk", "chunks", "completion"]


def ask(prompt: str = "hello", *, model: str = "m", **fields: object) -> bytes:
    """Return a request body."""
    payload = {"model": model, "messages": [{"role": "user", "content": prompt}], **fields}
    return json.dumps(payload).encode()


def completion(text: str = "hi there", *, model: str = "m", finish: str = "stop") -> bytes:
    """Return a JSON answer."""
    message = {"role": "assistant", "content": text}
    return json.dumps(
        {
            "id": "chatcmpl-1",
            "object": "chat.completion",
            "created": 1,
            "model": model,
            "choices": [{"index": 0, "message": message, "finish_reason": finish}],
            "usage": {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3},
        }
    ).encode()


def chunk(delta: dict[str, object], finish: str | None = None, *, model: str = "m") -> bytes:
    """Return one event of a stream."""
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    event = {
        "id": "chatcmpl-1",
        "object": "chat.completion.chunk",
        "created": 1,
        "model": model,
        "choices": [choice],
    }
    return b"data: " + json.dumps(event).encode() + b"\n\n"


def chunks(texts: Sequence[str] = ("hi", " there"), *, finish: str = "stop") -> list[bytes]:
    """Return a whole stream: role, one event for each text, the finish reason, ``[DONE]``."""
    return [
        chunk({"role": "assistant", "content": ""}),
        *(chunk({"content": text}) for text in texts),
        chunk({}, finish),
        b"data: [DONE]\n\n",
    ]
