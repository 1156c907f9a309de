"""A gateway in a process of its own: ``python -m tests.support.gateway_process URL PORT {...}``.

Prints its port. Its model is a socket in the test's process (:class:`.upstream.Upstream`), so the
test counts the calls of all gateways and says how each of them ends. It exits when its standard
input is closed.
"""

import asyncio
import json
import os
import sys
import threading
from dataclasses import replace
from typing import Any

import uvicorn

from routecache_middleware import RouteCache, RouteCacheMiddleware, Settings
from routecache_middleware.adapters.asgi.types import Receive, Scope, Send

__all__: list[str] = []


class Gateway:
    """Asks the model and passes its answer on."""

    def __init__(self, upstream_port: int) -> None:
        self._upstream_port = upstream_port

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        body, more = b"", True
        while more:
            message = await receive()
            body += message.get("body", b"")
            more = message.get("more_body", False)
        reader, writer = await asyncio.open_connection("127.0.0.1", self._upstream_port)
        try:
            question = {"pid": os.getpid(), "body": body.decode()}
            writer.write(json.dumps(question).encode() + b"\n")
            for message in json.loads(await reader.readline()):
                await send(_message(message))
        finally:
            writer.close()


def _message(message: dict[str, Any]) -> dict[str, Any]:
    if "body" in message:
        message["body"] = message["body"].encode()
    if "headers" in message:
        message["headers"] = [(name.encode(), value.encode()) for name, value in message["headers"]]
    return message


def _exit_with_parent() -> None:
    sys.stdin.read()
    os._exit(0)


async def _main(url: str, upstream_port: int, settings: dict[str, Any]) -> None:
    cache = RouteCache(url=url, settings=replace(Settings(), **settings), observers=[])
    app = RouteCacheMiddleware(Gateway(upstream_port), cache=cache)
    server = uvicorn.Server(
        uvicorn.Config(app, host="127.0.0.1", port=0, log_level="warning", lifespan="off")
    )
    async with cache:
        serving = asyncio.ensure_future(server.serve())
        while not server.started:  # noqa: ASYNC110 - uvicorn tells nobody
            await asyncio.sleep(0.01)
        print(server.servers[0].sockets[0].getsockname()[1], flush=True)  # noqa: T201
        await serving


if __name__ == "__main__":
    threading.Thread(target=_exit_with_parent, daemon=True).start()
    asyncio.run(_main(sys.argv[1], int(sys.argv[2]), json.loads(sys.argv[3])))
