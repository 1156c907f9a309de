"""An upstream for embeddings: what it answers depends on each input alone, as a model's does."""

import asyncio
import base64
import json
import struct
import zlib
from collections.abc import Callable, Sequence
from typing import Any

from routecache_middleware.adapters.asgi.types import Message, Receive, Scope, Send
from tests.support.apps import json_answer

__all__ = ["PATH", "EmbeddingApp", "ask", "embeddings", "vector", "vectors"]

PATH = "/v1/embeddings"

Json = dict[str, Any]


def ask(value: object, *, model: str = "e", **fields: object) -> bytes:
    """Return a request body."""
    return json.dumps({"model": model, "input": value, **fields}).encode()


def vector(item: object, size: int = 3) -> list[float]:
    """Return the 32-bit floats that stand for an input."""
    seed = zlib.crc32(json.dumps(item).encode())
    return [float(f"{((seed >> shift) % 997 - 498) / 1000:.7g}") for shift in range(size)]


def tokens(item: object) -> int:
    """Return how many tokens an input has: a letter is one."""
    return len(item) if isinstance(item, str | list) else 0


def embeddings(items: Sequence[object], *, form: str = "float", **fields: object) -> Json:
    """Return the answer to a list of inputs."""
    count = sum(map(tokens, items))
    return {
        "object": "list",
        "data": [
            {"object": "embedding", "index": index, "embedding": _formed(vector(item), form)}
            for index, item in enumerate(items)
        ],
        "model": "e-1",
        "usage": {"prompt_tokens": count, "total_tokens": count},
        **fields,
    }


def vectors(body: bytes) -> list[Any]:
    """Return the vectors of an answer, having checked that they are numbered in order."""
    data = json.loads(body)["data"]
    assert [row["index"] for row in data] == list(range(len(data)))
    return [row["embedding"] for row in data]


class EmbeddingApp:
    """Answers every request for embeddings.

    Attributes:
        asked: The inputs of each call.
        bodies: The body of each call.
        scopes: The scope of each call.
        answers: What the n-th call answers instead, by its number: messages, or a change to the
            answer that it would have given, or an error to raise.
        headers: Further headers of its answers.
        is_gated: Each call waits for :meth:`go_on` before it answers.
    """

    def __init__(self) -> None:
        self.asked: list[list[Any]] = []
        self.bodies: list[bytes] = []
        self.scopes: list[Scope] = []
        self.answers: dict[int, Sequence[Message] | Callable[[Json], Json] | Exception] = {}
        self.headers: list[tuple[bytes, bytes]] = []
        self.on_call: Callable[[Scope], None] | None = None
        self.is_gated = False
        self._gate = asyncio.Semaphore(0)
        self._called = asyncio.Event()

    def go_on(self, calls: int = 1) -> None:
        """Let so many calls answer."""
        for _ in range(calls):
            self._gate.release()

    async def until_asked(self, calls: int) -> None:
        """Wait until it was called so often."""
        async with asyncio.timeout(10):
            while len(self.asked) < calls:
                await self._called.wait()
                self._called.clear()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        number = len(self.asked)
        payload = await self._read(scope, receive)
        if self.on_call is not None:
            self.on_call(scope)
        if self.is_gated:
            await self._gate.acquire()
        script = self.answers.get(number)
        if isinstance(script, Exception):
            raise script
        if script is None or callable(script):
            form = payload.get("encoding_format") or "float"
            made = embeddings(self.asked[number], form=form)
            made = script(made) if callable(script) else made
            body = json.dumps(made, separators=(",", ":")).encode()
            head = [(b"content-type", b"application/json"), *self.headers]
            script = json_answer(body, headers=head)
        for message in script:
            await send(message)

    async def _read(self, scope: Scope, receive: Receive) -> Json:
        body, is_open = b"", True
        while is_open:
            message = await receive()
            assert message["type"] == "http.request"
            body, is_open = body + message.get("body", b""), message.get("more_body", False)
        payload: Json = json.loads(body)
        value = payload["input"]
        is_one = isinstance(value, str) or isinstance(value[0], int)
        self.asked.append([value] if is_one else value)
        self.bodies.append(body)
        self.scopes.append(scope)
        self._called.set()
        return payload


def _formed(numbers: list[float], form: str) -> object:
    if form == "float":
        return numbers
    return base64.b64encode(struct.pack(f"<{len(numbers)}f", *numbers)).decode()
