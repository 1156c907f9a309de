"""``python -m tests.admin.loaded [MODE [PORT]]``: a gateway with its dashboard; see ModuleChild.

Prints its port. ``load N`` sends N rounds of requests and answers with what they came to, as JSON.
``ask M`` asks for a model, a JSON string, twice. ``token T`` has it take another token from then
on, ``stall`` lets its coordinator fall silent, ``down`` and ``up`` have it refuse and take writes.
Ends when its input does.
"""

import asyncio
import json
import socket
import sys
from collections import Counter
from typing import Any

import httpx
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Mount, Route

from routecache_middleware import CachePolicy, RouteCache, RouteCacheMiddleware, Settings
from routecache_middleware.admin import AdminSettings, create_admin
from routecache_middleware.admin.access import authorizer
from routecache_middleware.core.choices import Mode
from routecache_middleware.core.prices import Price, Prices
from routecache_middleware.errors import CoordinatorError
from tests.admin.kit import TOKEN

MODELS = ("gpt-large", "gpt-small", "claude")
PATH = "/v1/chat/completions"


async def answer(request: Request) -> Response:
    """Answer after a while, as a model does."""
    body = await request.json()
    await asyncio.sleep(0.03)
    text = "word " * (20 * (1 + len(body["messages"][0]["content"]) % 7))
    choice = {
        "index": 0,
        "message": {"role": "assistant", "content": text},
        "finish_reason": "stop",
    }
    usage = {"prompt_tokens": 100, "completion_tokens": 50, "total_tokens": 150}
    told = {"id": "x", "object": "chat.completion", "created": 1, "model": body["model"]}
    return JSONResponse({**told, "choices": [choice], "usage": usage})


class Door:
    """Lets in who has the token of now."""

    def __init__(self) -> None:
        self.use(TOKEN)

    def use(self, token: str) -> None:
        """Take another token from now on."""
        self._ask = authorizer(AdminSettings(token=token), is_local=False)

    async def __call__(self, request: Any) -> Any:
        return await self._ask(request)


class Gateway:
    """The gateway and whoever asks it."""

    def __init__(self, mode: Mode) -> None:
        self.door = Door()
        prices = Prices({model: Price(10.0, 30.0) for model in MODELS})
        self.cache = RouteCache(
            url="memory://",
            settings=Settings(max_memory_bytes=50_000_000, mode=mode),
            policy=CachePolicy(max_temperature=1.0),
            observers=[],
            prices=lambda: prices,
        )
        self.cache.engine.recorder.prices = lambda: prices  # at once, not when they are read
        admin = create_admin(
            self.cache, authorize=self.door, settings=AdminSettings(requests_per_s=1e6)
        )
        app = Starlette(routes=[Route(PATH, answer, methods=["POST"]), Mount("/routecache", admin)])
        app.add_middleware(RouteCacheMiddleware, cache=self.cache)
        self.app = app
        self.stop = admin.stop
        self.rounds = 0

    async def load(self, client: httpx.AsyncClient, rounds: int) -> dict[str, int]:
        """Send rounds of 20 requests each, and say what they came to."""
        counts: Counter[str] = Counter()
        for _ in range(rounds):
            self.rounds += 1
            answers = await asyncio.gather(*(self._ask(client, place) for place in range(20)))
            counts.update(answer.headers.get("x-routecache", "") for answer in answers)
        return dict(counts)

    def stall(self) -> None:
        """Let the coordinator say nothing of its nodes, and nothing new of anything."""
        numbers = self.cache.metrics()

        async def same() -> Any:
            await asyncio.sleep(60)
            return numbers

        async def nobody() -> Any:
            raise CoordinatorError("the coordinator did not answer")

        self.cache.total_metrics = same  # type: ignore[method-assign]
        self.cache.cluster_stats = nobody  # type: ignore[method-assign]

    async def ask(self, client: httpx.AsyncClient, model: str) -> None:
        """Ask for a model, twice the same."""
        body = {"model": model, "messages": [{"role": "user", "content": "question"}]}
        for _ in range(2):
            await client.post(PATH, json=body, headers={"authorization": "Bearer key-0"})

    async def _ask(self, client: httpx.AsyncClient, place: int) -> httpx.Response:
        place = min(place, 18)  # the last two are alike: one of them waits for the other's answer
        # Popular questions, some new ones, and what may not be looked up.
        asked = place % 9 if place < 15 else 1000 + 20 * self.rounds + place
        body: dict[str, Any] = {
            "model": MODELS[place % 3],
            "messages": [{"role": "user", "content": f"question {asked}"}],
        }
        if place == 14:
            body["temperature"] = 1.5
        key = f"Bearer key-{place % 9 % 2}"
        headers = {"authorization": key}
        if place == 13:
            headers["cache-control"] = "no-cache"
        return await client.post(PATH, json=body, headers=headers)


async def main() -> None:
    mode, port = (*sys.argv[1:], *("on", "0")[len(sys.argv) - 1 :])
    gateway = Gateway(Mode(mode))
    listener = socket.create_server(("127.0.0.1", int(port)))
    port = listener.getsockname()[1]
    config = uvicorn.Config(
        gateway.app,
        log_level="warning",
        timeout_graceful_shutdown=1,
        timeout_keep_alive=600,  # or it closes connections just as the load takes them up again
    )
    server = uvicorn.Server(config)
    serving = asyncio.create_task(server.serve(sockets=[listener]))
    print(port, flush=True)  # noqa: T201 - ModuleChild reads it
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=60) as client:
        while line := await asyncio.to_thread(sys.stdin.readline):
            word, _, value = line.strip().partition(" ")
            told: object = "done"
            if word == "load":
                told = await gateway.load(client, int(value))
            elif word == "ask":
                await gateway.ask(client, json.loads(value))
            elif word == "stall":
                gateway.stall()
            elif word in {"down", "up"}:
                vars(gateway.cache.engine.coordinator)["is_writing"] = word == "up"
            elif word == "token":
                gateway.door.use(value)
            print(json.dumps(told), flush=True)  # noqa: T201 - as above
    gateway.stop()
    server.should_exit = True
    await serving
    await gateway.cache.aclose()


if __name__ == "__main__":
    asyncio.run(main())
