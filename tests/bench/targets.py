"""The ASGI apps that are measured, and the bodies they exchange. Each factory is a server's app.

All of them end in the same bare app: it reads the request's body and sends fixed bytes.
"""

import json
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from routecache_middleware import (
    LLMRequest,
    RouteCache,
    RouteCacheMiddleware,
    RoutingDecision,
    Settings,
)

CHAT_PATH = "/v1/chat/completions"
OTHER_PATH = "/v1/files"
MODEL = "bench-model"
CREDENTIAL = "Bearer bench"
ANSWER_BYTES = 2048
REQUEST_BYTES = 1024

Message = MutableMapping[str, Any]
App = Callable[
    [Message, Callable[[], Awaitable[Message]], Callable[[Message], Awaitable[None]]],
    Awaitable[None],
]


def request_body(size: int = REQUEST_BYTES, *, model: str = MODEL, stream: bool = False) -> bytes:
    """Return a chat request of ``size`` bytes; its text starts with ``@``, a place for a nonce."""

    def render(text: str) -> bytes:
        payload = {
            "model": model,
            "temperature": 0,
            "max_tokens": 256,
            "stream": stream,
            "messages": [
                {"role": "system", "content": "Answer in one sentence."},
                {"role": "user", "content": f"@ {text}"},
            ],
        }
        return json.dumps(payload).encode()

    return render(("why " * size)[: size - len(render(""))])


def answer_body(size: int = ANSWER_BYTES) -> bytes:
    """Return a complete chat answer of ``size`` bytes."""

    def render(text: str) -> bytes:
        message = {"role": "assistant", "content": text}
        payload = {
            "id": "chatcmpl-1",
            "object": "chat.completion",
            "created": 1,
            "model": MODEL,
            "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
            "usage": {"prompt_tokens": 250, "completion_tokens": 400, "total_tokens": 650},
        }
        return json.dumps(payload).encode()

    return render("x" * (size - len(render(""))))


def streamed_answer_body(chunks: int = 10) -> bytes:
    """Return a complete event stream of about 2 KB."""
    events = [_event({"content": "because "}, None) for _ in range(chunks)]
    return b"".join([*events, _event({}, "stop"), b"data: [DONE]\n\n"])


def _event(delta: dict[str, str], finish_reason: str | None) -> bytes:
    payload = {
        "id": "chatcmpl-1",
        "object": "chat.completion.chunk",
        "created": 1,
        "model": MODEL,
        "choices": [{"index": 0, "delta": delta, "finish_reason": finish_reason}],
    }
    return b"data: " + json.dumps(payload).encode() + b"\n\n"


def fixed_app(content_type: bytes, body: bytes) -> App:
    """Return the app that reads the request and sends ``body``."""
    start = {
        "type": "http.response.start",
        "status": 200,
        "headers": [(b"content-type", content_type), (b"content-length", b"%d" % len(body))],
    }
    end = {"type": "http.response.body", "body": body}

    async def app(
        scope: Message,
        receive: Callable[[], Awaitable[Message]],
        send: Callable[[Message], Awaitable[None]],
    ) -> None:
        while (await receive()).get("more_body"):
            pass
        await send(dict(start))
        await send(dict(end))

    return app


def new_cache() -> RouteCache:
    """Return the cache that is measured: in memory, with the production profile."""
    return RouteCache.from_url("memory://", settings=Settings.profile("production"))


async def choose_model(request: LLMRequest) -> RoutingDecision:
    """Choose the one model there is."""
    return RoutingDecision(selected_model=MODEL, score=0.7)


def bare() -> App:
    """Return the bare app."""
    return fixed_app(b"application/json", answer_body())


def cached() -> App:
    """Return the bare app behind the cache."""
    return RouteCacheMiddleware(bare(), cache=new_cache())


def routed() -> App:
    """Return the bare app behind the cache with a router."""
    return RouteCacheMiddleware(bare(), cache=new_cache(), router=choose_model)


def streamed() -> App:
    """Return an app that sends an event stream, behind the cache."""
    app = fixed_app(b"text/event-stream", streamed_answer_body())
    return RouteCacheMiddleware(app, cache=new_cache())
