"""What is asked and answered in each API, with canaries wherever a text can stand."""

import json
from collections.abc import Iterator, Sequence
from itertools import cycle
from pathlib import Path
from typing import Any, Final, NamedTuple

from tests.canary.planted import planted, prose
from tests.support.apps import Answer, json_answer, sse_answer
from tests.support.asgi import Pair
from tests.support.embeddings import embeddings
from tests.support.wire import FIXTURES

__all__ = ["APIS", "CREDENTIALS", "QUERY", "Api", "answers", "chat", "completion", "requests"]

Json = dict[str, Any]

CREDENTIALS: Final[tuple[Pair, ...]] = (
    (b"authorization", f"Bearer {planted('authorization')}".encode()),
    (b"x-api-key", planted("x-api-key").encode()),
    (b"api-key", planted("api-key").encode()),
    (b"x-goog-api-key", planted("x-goog-api-key").encode()),
    (b"cookie", f"session={planted('cookie')}; other=1".encode()),
    (b"x-forwarded-user", planted("forwarded user").encode()),
    (b"idempotency-key", planted("idempotency key").encode()),
    (b"baggage", f"tenant={planted('baggage')}".encode()),
    (b"openai-organization", planted("tenant").encode()),
    (b"traceparent", b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
)
"""A header with every credential that there is."""

QUERY: Final = f"key={planted('query key')}&api-version=1&user={planted('user')}".encode()

_ANSWERED: Final[tuple[Pair, ...]] = (
    (b"set-cookie", f"session={planted('set-cookie')}; Path=/".encode()),
    (b"x-account", planted("response header").encode()),
)


class Api(NamedTuple):
    """Where an API is served, and what it is asked.

    Attributes:
        path: Where.
        asks: Requests; each makes another entry.
        answers: Name to answer. Where there is an answer of that name as JSON and as a stream, the
            stream's ends with ``.sse``.
    """

    path: str
    asks: tuple[Json, ...]
    answers: dict[str, bytes]


def chat() -> Json:
    """Return a chat request with canaries in all fields."""
    arguments = json.dumps({"city": prose("tool arguments")})
    call = {"name": planted("tool name"), "arguments": arguments}
    image = {"url": f"data:image/png;base64,{planted('image url')}"}
    schema = {"type": "object", "properties": {planted("tool schema"): {"type": "string"}}}
    return {
        "model": "gpt-4o",
        "temperature": 0,
        "messages": [
            {"role": "system", "content": prose("system prompt")},
            {
                "role": "user",
                "name": planted("user"),
                "content": [
                    {"type": "text", "text": prose("prompt")},
                    {"type": "image_url", "image_url": image},
                    {"type": "file", "file": {"file_data": prose("document")}},
                ],
            },
            {
                "role": "assistant",
                "tool_calls": [{"id": "call_1", "type": "function", "function": call}],
            },
            {"role": "tool", "tool_call_id": "call_1", "content": prose("tool result")},
            {"role": "user", "content": prose("second prompt")},
        ],
        "tools": [
            {"type": "function", "function": {"name": planted("tool name"), "parameters": schema}}
        ],
        "stop": [prose("stop word")],
        "user": planted("user"),
        "metadata": {planted("metadata name"): prose("metadata")},
        "prompt_cache_key": planted("prompt cache key"),
    }


def completion(*, finish: str = "stop", **message: Any) -> bytes:
    """Return an answer to a chat request, with canaries in all fields."""
    said = {
        "role": "assistant",
        "content": prose("completion"),
        "reasoning_content": prose("thoughts"),
        "annotations": [{"type": "url_citation", "url": planted("annotation")}],
        **message,
    }
    choice = {"index": 0, "message": said, "finish_reason": finish}
    usage = {"prompt_tokens": 5, "completion_tokens": 2, "total_tokens": 7}
    return json.dumps(
        {
            "id": planted("answered id"),
            "object": "chat.completion",
            "created": 1,
            "model": "gpt-4o-2024",
            "choices": [choice],
            "usage": usage,
        }
    ).encode()


def _call() -> list[Json]:
    arguments = json.dumps({"city": prose("answered arguments")})
    function = {"name": planted("answered name"), "arguments": arguments}
    return [{"index": 0, "id": "call_1", "type": "function", "function": function}]


def _chunks(delta: Json, finish: str = "stop") -> bytes:
    """Return a stream of one delta."""
    named = {"id": planted("answered id"), "object": "chat.completion.chunk", "created": 1}
    choices: list[Json] = [
        {"index": 0, "delta": {"role": "assistant", "content": ""}, "finish_reason": None},
        {"index": 0, "delta": delta, "finish_reason": None},
        {"index": 0, "delta": {}, "finish_reason": finish},
    ]
    events = [json.dumps({**named, "model": "gpt-4o-2024", "choices": [one]}) for one in choices]
    return "".join(f"data: {event}\n\n" for event in [*events, "[DONE]"]).encode()


_CHAT: Final[dict[str, bytes]] = {
    "said": completion(),
    "said.sse": _chunks({"content": prose("completion"), "reasoning_content": prose("thoughts")}),
    "called": completion(finish="tool_calls", content=None, tool_calls=_call()),
    "called.sse": _chunks({"tool_calls": _call()}, "tool_calls"),
    "refused": completion(content=None, refusal=prose("refusal")),
    "refused.sse": _chunks({"refusal": prose("refusal")}),
    "failed": json.dumps({"error": {"message": prose("error text"), "code": "x"}}).encode(),
    "failed.sse": f"data: {json.dumps({'error': {'message': prose('error text')}})}\n\n".encode(),
    "broken": b'{"choices": [{"message": "' + planted("completion").encode(),
    "broken.sse": b'data: {"choices": ' + planted("completion").encode() + b"\n\ndata: [DONE]\n\n",
    "no text": b"\xff\xfe" + planted("completion").encode(),
    "page": b"<html>" + planted("completion").encode(),
}

# Words that an API's own parser reads; anything else may hold a canary.
_KEPT: Final = frozenset(
    (
        *("type", "role", "model", "modelVersion", "object", "status", "event", "alt"),
        *("finish_reason", "finishReason", "stop_reason", "stop_sequence"),
        *("media_type", "mimeType", "mime_type", "encoding_format"),
    )
)
_WORDS: Final = (
    *("prompt", "system prompt", "tool arguments", "tool name", "document", "metadata"),
    *("file id", "stop word", "reasoning", "user", "tool result", "image url"),
)
_ANSWER_WORDS: Final = (
    *("completion", "answered name", "answered arguments", "refusal", "thoughts", "annotation"),
)


def _loaded(value: Any, words: Iterator[str], name: str = "") -> Any:
    """Return a JSON value with a canary at the end of each of its texts."""
    if isinstance(value, dict):
        return {key: _loaded(member, words, key) for key, member in value.items()}
    if isinstance(value, list):
        return [_loaded(item, words, name) for item in value]
    if not isinstance(value, str) or name in _KEPT:
        return value
    if name in {"arguments", "partial_json", "delta", "input_json"} or value.startswith("data:"):
        return value  # pieces of JSON, which have to fit together
    return f"{value} {planted(next(words))}"


def _as_bytes(file: Path) -> bytes:
    """Return an answer of the fixtures with canaries in it."""
    words = cycle(_ANSWER_WORDS)
    if file.suffix == ".json":
        try:
            return json.dumps(_loaded(json.loads(file.read_bytes()), words)).encode()
        except ValueError:  # that is what it is there for
            return file.read_bytes()
    lines = []
    for line in file.read_text("utf-8").replace("\r\n", "\n").split("\n"):
        field, _, data = line.partition(":")
        try:
            event = json.loads(data) if field == "data" else None
        except ValueError:
            event = None
        if isinstance(event, dict):
            line = f"data: {json.dumps(_loaded(event, words))}"  # noqa: PLW2901 - it is rewritten
        lines.append(line)
    return "\n".join(lines).encode()


def _of_fixtures(dialect: str) -> dict[str, bytes]:
    folder = FIXTURES / dialect
    files = sorted(
        file
        for kind in ("answers", "recorded", "discarded", "streams")
        for file in (folder / kind).glob("*")
    )
    return {f"{file.parent.name}/{file.name}": _as_bytes(file) for file in files}


def requests(dialect: str) -> tuple[Json, ...]:
    """Return the requests of the fixtures with canaries in them."""
    files = sorted((FIXTURES / dialect / "requests").glob("*.json"))
    words = cycle(_WORDS)
    return tuple(_loaded(json.loads(file.read_bytes()), words) for file in files)


_TALK: Final = [{"role": "user", "content": prose("prompt")}]
_TEXT: Final = {"model": "m", "prompt": prose("prompt"), "suffix": prose("document")}
_MESSAGES: Final[Json] = {
    "model": "claude",
    "max_tokens": 9,
    "system": prose("system prompt"),
    "messages": [*_TALK, {"role": "assistant", "content": prose("reasoning")}],
    "metadata": {"user_id": planted("user")},
    "tools": [{"name": planted("tool name"), "input_schema": {"type": "object"}}],
}
_RESPONSES: Final[Json] = {
    "model": "m",
    "store": False,
    "instructions": prose("system prompt"),
    "input": [{"role": "user", "content": [{"type": "input_text", "text": prose("prompt")}]}],
    "metadata": {planted("metadata name"): planted("metadata")},
    "user": planted("user"),
}
_GEMINI: Final[Json] = {
    "systemInstruction": {"parts": [{"text": prose("system prompt")}]},
    "contents": [{"role": "user", "parts": [{"text": prose("prompt")}]}],
    "labels": {planted("metadata name"): planted("metadata")},
}
_RERANK: Final[Json] = {
    "model": "m",
    "query": prose("prompt"),
    "documents": [prose("document"), {"text": prose("second prompt")}],
}
_RANKED: Final = {
    "id": planted("answered id"),
    "results": [
        {"index": 1, "relevance_score": 0.5, "document": {"text": prose("completion")}},
        {"index": 0, "relevance_score": 0.25},
    ],
}

APIS: Final[dict[str, Api]] = {
    "openai.chat": Api(
        "/v1/chat/completions",
        (chat(), *requests("openai.chat")),
        {**_CHAT, **_of_fixtures("openai.chat")},
    ),
    "openai.completions": Api(
        "/v1/completions",
        (_TEXT, *requests("openai.completions")),
        _of_fixtures("openai.completions"),
    ),
    "openai.embeddings": Api(
        "/v1/embeddings",
        (
            {"model": "e", "input": prose("prompt"), "user": planted("user")},
            {"model": "e", "input": [prose("prompt"), prose("second prompt")]},
        ),
        {
            "one": json.dumps(embeddings(["a"], id=planted("answered id"))).encode(),
            "two": json.dumps(embeddings(["a", "b"], id=planted("answered id"))).encode(),
        },
    ),
    "openai.responses": Api(
        "/v1/responses",
        (_RESPONSES, *requests("openai.responses")),
        _of_fixtures("openai.responses"),
    ),
    "anthropic.messages": Api(
        "/v1/messages",
        (_MESSAGES, *requests("anthropic.messages")),
        _of_fixtures("anthropic.messages"),
    ),
    "anthropic.count_tokens": Api(
        "/v1/messages/count_tokens",
        ({"model": "claude", "messages": _TALK},),
        {"counted": json.dumps({"input_tokens": 5, "note": planted("completion")}).encode()},
    ),
    "gemini": Api(
        "/v1beta/models/gemini-2.5-flash:generateContent",
        (_GEMINI, *requests("gemini")),
        _of_fixtures("gemini"),
    ),
    "rerank": Api(
        "/v2/rerank",
        (_RERANK, *requests("rerank")),
        {"ranked": json.dumps(_RANKED).encode(), **_of_fixtures("rerank")},
    ),
}
"""Dialect to how it is used."""


def answers(dialect: str) -> Iterator[tuple[str, Answer]]:
    """Yield every answer of an API as an app sends it: in pieces, with canaries in its header."""
    for name, body in APIS[dialect].answers.items():
        pieces = [body[at : at + 200] for at in range(0, len(body), 200)]
        yield name, _sent(name, body, pieces)


def _sent(name: str, body: bytes, pieces: Sequence[bytes]) -> Answer:
    if name.endswith(".sse"):
        return sse_answer(pieces, headers=[(b"content-type", b"text/event-stream"), *_ANSWERED])
    status = 500 if name == "failed" else 200
    headers = [(b"content-type", b"application/json"), *_ANSWERED]
    return json_answer(body, headers=headers, status=status)
