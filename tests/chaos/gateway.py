"""A gateway for chaos runs: the middleware as configured by the environment, over a slow app.

``uvicorn tests.chaos.gateway:app``. ``GET /calls`` says how many calls the app itself has answered.
"""

import asyncio
import json
import os
from typing import Any

from routecache_middleware import RouteCacheMiddleware
from routecache_middleware.adapters.asgi.types import Receive, Scope, Send

__all__ = ["app"]

_calls = 0
_TAKES_S = float(os.environ.get("CHAOS_APP_S", "0.02"))


async def _model(scope: Scope, receive: Receive, send: Send) -> None:
    global _calls  # noqa: PLW0603 - one counter per process is the point
    if scope["path"] == "/calls":
        await _answer(send, {"calls": _calls})
        return
    body = b""
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return
        body += message.get("body", b"")
        if not message.get("more_body"):
            break
    _calls += 1
    asked = json.loads(body)
    await asyncio.sleep(_TAKES_S)
    choice = {
        "index": 0,
        "message": {"role": "assistant", "content": asked["messages"][0]["content"]},
        "finish_reason": "stop",
    }
    answer = {"id": "c", "object": "chat.completion", "created": 1, "model": asked["model"]}
    usage = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}
    await _answer(send, {**answer, "choices": [choice], "usage": usage})


async def _answer(send: Send, document: dict[str, Any]) -> None:
    headers = [(b"content-type", b"application/json")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": json.dumps(document).encode()})


async def _with_lifespan(scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] != "lifespan":
        await _model(scope, receive, send)
        return
    for phase in ("startup", "shutdown"):
        await receive()
        await send({"type": f"lifespan.{phase}.complete"})


app = RouteCacheMiddleware(_with_lifespan)
