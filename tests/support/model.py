"""A model that takes its time: ``uvicorn tests.support.model:app`` stands in for a real one."""

import asyncio

from routecache_middleware.adapters.asgi.types import Receive, Scope, Send
from tests.support.apps import json_answer

__all__ = ["app"]

ANSWERS_AFTER_S = 0.2


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer every request with the same completion."""
    if scope["type"] != "http":
        return
    while (await receive()).get("more_body", False):
        pass
    await asyncio.sleep(ANSWERS_AFTER_S)
    for message in json_answer():
        await send(message)
