"""What streams cost: replaying a long one, and getting the first byte of one that is not there."""

import asyncio
import json
import sys
import time
from itertools import count
from statistics import median

from routecache_middleware import RouteCache, RouteCacheMiddleware, Settings
from tests.bench.targets import App, Message, request_body, streamed_answer_body
from tests.support.asgi import scope_of

__all__ = ["first_byte_us", "replay_ms"]

_CHUNKS = 2_000
_PAIRS = 100
_EVENT_STREAM = (b"content-type", b"text/event-stream")
_JSON = (b"content-type", b"application/json")


class _Caller:
    """Calls an app as a server would, and takes the time.

    Attributes:
        first_s: From the call to the first byte of the body.
        whole_s: From the call to the last message.
        outcome: ``X-RouteCache``, or empty.
    """

    def __init__(self, app: App) -> None:
        self._app = app
        self._body = b""
        self._began_s = self.first_s = self.whole_s = 0.0
        self.outcome = b""

    async def ask(self, body: bytes) -> None:
        """Make a request."""
        self._body, self.first_s = body, 0.0
        scope = scope_of()
        self._began_s = time.perf_counter()
        await self._app(scope, self._receive, self._send)

    async def _receive(self) -> Message:
        return {"type": "http.request", "body": self._body, "more_body": False}

    async def _send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.outcome = dict(message["headers"]).get(b"x-routecache", b"")
            return
        now_s = time.perf_counter()
        self.first_s = self.first_s or now_s - self._began_s
        if not message.get("more_body", False):
            self.whole_s = now_s - self._began_s


async def replay_ms(rounds: int) -> dict[str, float]:
    """Return milliseconds from the request to the last message of a hit, medians."""
    head: dict[str, object] = {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1,
        "model": "bench-model",
    }
    message = {"role": "assistant", "content": "because " * _CHUNKS}
    choice = {"index": 0, "message": message, "finish_reason": "stop"}
    usage = {"prompt_tokens": 9, "completion_tokens": _CHUNKS, "total_tokens": 9 + _CHUNKS}
    whole = json.dumps({**head, "choices": [choice], "usage": usage}).encode()
    role = {"index": 0, "delta": {"role": "assistant", "content": ""}, "finish_reason": None}
    stream = _event({**head, "choices": [role]}) + streamed_answer_body(_CHUNKS)
    # A stream carries usage only when it was asked to: without it no JSON is made of it.
    counted = _event({**head, "choices": [], "usage": usage})
    with_usage = stream.replace(b"data: [DONE]", counted + b"data: [DONE]")
    ask_stream = request_body(stream=True)
    ask_json = ask_stream.replace(b'"stream": true', b'"stream": false')
    ask_usage = json.dumps(
        {**json.loads(ask_stream), "stream_options": {"include_usage": True}}
    ).encode()
    return {
        "same mode, burst": await _replay_ms(rounds, stream, ask_stream, ask_stream),
        "same mode, original": await _replay_ms(
            rounds, stream, ask_stream, ask_stream, replay="original"
        ),
        "stream to JSON": await _replay_ms(rounds, with_usage, ask_usage, ask_json),
        "JSON of the same text to stream": await _replay_ms(rounds, whole, ask_json, ask_stream),
    }


def _event(payload: dict[str, object]) -> bytes:
    chunk = payload | {"object": "chat.completion.chunk"}
    return b"data: " + json.dumps(chunk).encode() + b"\n\n"


async def _replay_ms(
    rounds: int, answer: bytes, make: bytes, ask: bytes, *, replay: str = "burst"
) -> float:
    content_type = _EVENT_STREAM if answer.startswith(b"data:") else _JSON
    settings = Settings.profile("production", replay=replay)
    async with RouteCache.from_url("memory://", settings=settings) as cache:
        caller = _Caller(RouteCacheMiddleware(_app([answer], content_type), cache=cache))
        await caller.ask(make)
        while not cache.stats().result.writes:  # it is judged in a thread
            if cache.stats().discards:
                sys.exit(f"the answer was not stored: {cache.stats().discards}")
            await asyncio.sleep(0.01)
        figures = []
        for _ in range(3 * rounds):
            await caller.ask(ask)
            if caller.outcome != b"HIT":
                sys.exit(f"the middleware answered {caller.outcome!r}, not a hit")
            figures.append(caller.whole_s * 1e3)
    return median(figures)


async def first_byte_us(rounds: int) -> float:
    """Return how much later than without a cache the first byte of a missed stream comes.

    Microseconds, median of pairs measured in turn.
    """
    numbers = count()
    bare = _app([streamed_answer_body()], _EVENT_STREAM)
    settings = Settings.profile("production")
    added = []
    async with RouteCache.from_url("memory://", settings=settings) as cache:
        alone, behind = _Caller(bare), _Caller(RouteCacheMiddleware(bare, cache=cache))
        for _ in range(_PAIRS * rounds):
            body = request_body(2048, stream=True).replace(b"@", b"%d" % next(numbers), 1)
            await alone.ask(body)
            await behind.ask(body)
            if behind.outcome != b"MISS":
                sys.exit(f"the middleware answered {behind.outcome!r}, not a miss")
            added.append((behind.first_s - alone.first_s) * 1e6)
    return median(added)


def _app(pieces: list[bytes], content_type: tuple[bytes, bytes]) -> App:
    """Return an app that reads the request and sends an answer at once."""

    async def app(scope: Message, receive: object, send: object) -> None:
        del scope
        await receive()  # type: ignore[operator]
        await send(  # type: ignore[operator]
            {"type": "http.response.start", "status": 200, "headers": [content_type]}
        )
        for piece in pieces:
            await send(  # type: ignore[operator]
                {"type": "http.response.body", "body": piece, "more_body": True}
            )
        await send({"type": "http.response.body", "body": b""})  # type: ignore[operator]

    return app
