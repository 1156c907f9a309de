"""A gateway for several workers: ``app`` is built lazily, ``preloaded`` has used its cache already.

Environment: ``ROUTECACHE_URL``, and ``CALLS``, a file that gets one byte for each upstream call.
"""

import asyncio
import os
from pathlib import Path

from routecache_middleware import RouteCache, RouteCacheMiddleware
from routecache_middleware.adapters.asgi.types import ASGIApp, Message, Receive, Scope, Send
from tests.support.chat import completion

URL = os.environ["ROUTECACHE_URL"]


def count_call() -> None:
    """Make the file longer by one byte."""
    with Path(os.environ["CALLS"]).open("ab") as calls:
        calls.write(b".")


async def model(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer with the worker's process id."""
    while (await receive()).get("more_body"):
        pass
    count_call()
    await send(
        {
            "type": "http.response.start",
            "status": 200,
            "headers": [(b"content-type", b"application/json")],
        }
    )
    await send({"type": "http.response.body", "body": completion(f"{os.getpid()}")})


def marked(app: ASGIApp) -> ASGIApp:
    """Add the worker's process id to every response, cached or not."""

    async def call(scope: Scope, receive: Receive, send: Send) -> None:
        async def mark(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = [*message["headers"], (b"x-worker", b"%d" % os.getpid())]
                message = {**message, "headers": headers}
            await send(message)

        await app(scope, receive, mark)

    return call


async def lifespan(scope: Scope, receive: Receive, send: Send) -> None:
    """Take part in start and end, or serve."""
    if scope["type"] != "lifespan":
        await model(scope, receive, send)
        return
    for phase in ("startup", "shutdown"):
        await receive()
        await send({"type": f"lifespan.{phase}.complete"})


def app() -> ASGIApp:
    """Build the gateway; the cache opens in each worker."""
    return marked(RouteCacheMiddleware(lifespan, url=URL))


def preloaded() -> ASGIApp:
    """Build the gateway around a cache that this very process opens, and then forks."""
    cache = RouteCache.from_url(URL)

    async def use() -> None:
        await cache.open()
        await cache.cache_routing_decision("0" * 32, "m", 1.0)
        assert await cache.get_routing_decision("0" * 32) is not None

    asyncio.run(use())
    return marked(RouteCacheMiddleware(lifespan, cache=cache))
