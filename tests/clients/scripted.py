"""An upstream that answers what a test wants: found by the API key, which is the test's own."""

import asyncio
import json
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

from routecache_middleware.adapters.asgi.types import Receive, Scope, Send
from tests.clients.serving import api_key

__all__ = ["Answer", "Call", "Script", "Scripted", "in_both_modes", "in_turn"]

_PIECE_BYTES = 100
_TYPES = {b"{": "application/json", b"[": "application/json"}


class Call(NamedTuple):
    """A request that arrived."""

    path: str
    headers: dict[str, str]
    body: dict[str, Any]


class Answer(NamedTuple):
    """What to answer: a status and the body; at an event among its pieces it waits for that."""

    body: bytes | Sequence[bytes | threading.Event]
    status: int = 200
    headers: tuple[tuple[str, str], ...] = ()

    @property
    def pieces(self) -> Iterator[bytes | threading.Event]:
        """The body in pieces that keep to no border of anything."""
        if not isinstance(self.body, bytes):
            yield from self.body
            return
        for start in range(0, len(self.body), _PIECE_BYTES):
            yield self.body[start : start + _PIECE_BYTES]


Script = Callable[[Call], Answer]


def in_both_modes(json_body: bytes, stream: bytes) -> Script:
    """Answer in the mode that is asked for."""
    return lambda call: Answer(stream if call.body.get("stream") else json_body)


def in_turn(*answers: Answer) -> Script:
    """Give these answers, one after the other."""
    left = list(answers)
    return lambda _: left.pop(0)


class Scripted:
    """The upstream's app.

    Attributes:
        scripts: What to answer, by API key.
        calls: What arrived, by API key.
    """

    def __init__(self) -> None:
        self.scripts: dict[str, Script] = {}
        self.calls: dict[str, list[Call]] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer by the script."""
        if scope["type"] != "http":
            return
        body, more = b"", True
        while more:
            message = await receive()
            body += message.get("body", b"")
            more = message.get("more_body", False)
        headers = {name.decode(): value.decode() for name, value in scope["headers"]}
        key = api_key(headers)
        call = Call(scope["path"], headers, json.loads(body or b"{}"))
        self.calls.setdefault(key, []).append(call)
        await _send(self.scripts[key](call), send)


async def _send(answer: Answer, send: Send) -> None:
    pieces = list(answer.pieces)
    first = next((piece for piece in pieces if isinstance(piece, bytes)), b"")
    kind = _TYPES.get(first[:1], "text/event-stream; charset=utf-8")
    fields = [("content-type", kind), ("x-request-id", "req_1"), *answer.headers]
    headers = [(name.encode(), value.encode()) for name, value in fields]
    await send({"type": "http.response.start", "status": answer.status, "headers": headers})
    for at, piece in enumerate(pieces, start=1):
        if isinstance(piece, bytes):
            more = at < len(pieces)
            await send({"type": "http.response.body", "body": piece, "more_body": more})
        else:
            await asyncio.to_thread(piece.wait, 20)
    if not pieces or not isinstance(pieces[-1], bytes):
        await send({"type": "http.response.body", "body": b"", "more_body": False})
