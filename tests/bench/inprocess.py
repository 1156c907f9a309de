"""What a lookup costs without HTTP: the library's methods, and the middleware called directly."""

import asyncio
import itertools
import math
import sys
import time
from collections.abc import Awaitable, Callable, Iterator

from routecache_middleware import hash_query
from tests.bench.targets import (
    CHAT_PATH,
    CREDENTIAL,
    MODEL,
    App,
    Message,
    answer_body,
    bare,
    cached,
    new_cache,
    request_body,
    routed,
)

CALLS = 1000
SIZES = {"2 KB": 2048, "20 KB": 20480}

Operation = Callable[[], Awaitable[object]]


def measure_in_process(rounds: int) -> dict[str, float]:
    """Return microseconds per call, of the best of ``5 * rounds`` batches.

    The best, because other load on the machine can only make a batch of some milliseconds slower.
    """
    return asyncio.run(_measure(5 * rounds))


async def _measure(batches: int) -> dict[str, float]:
    operations = {**await _library(), **await _middleware()}
    figures = dict.fromkeys(operations, math.inf)
    for _ in range(batches):
        for name, operation in operations.items():
            figures[name] = min(figures[name], await _batch_us(operation))
    return figures


async def _batch_us(operation: Operation) -> float:
    began_s = time.perf_counter()
    for _ in range(CALLS):
        await operation()
    return (time.perf_counter() - began_s) / CALLS * 1e6


async def _library() -> dict[str, Operation]:
    cache = new_cache()
    await cache.open()
    operations: dict[str, Operation] = {}
    for label, size in SIZES.items():
        body = request_body(size)
        query_hash = hash_query(body)
        await cache.cache_routing_decision(query_hash, MODEL, 0.7)
        await cache.cache_query_result(query_hash, MODEL, answer_body(), 100.0)

        async def hash_and_decision(body: bytes = body) -> None:
            _expect(await cache.get_routing_decision(hash_query(body)))

        async def decision(query_hash: str = query_hash) -> None:
            _expect(await cache.get_routing_decision(query_hash))

        async def result(query_hash: str = query_hash) -> None:
            _expect(await cache.get_query_result(query_hash, MODEL))

        operations[f"hash_query and get_routing_decision, hit, {label}"] = hash_and_decision
        if size == min(SIZES.values()):
            operations["get_routing_decision, hit"] = decision
            operations["get_query_result, hit"] = result
    return operations


async def _middleware() -> dict[str, Operation]:
    operations: dict[str, Operation] = {}
    for label, size in SIZES.items():
        for name, app, model in (("hit", cached(), MODEL), ("routed hit", routed(), "auto")):
            body = request_body(size, model=model)
            seen, unseen = Call(app, itertools.repeat(body)), Call(app, _variants(body))
            await seen()  # the miss that stores the answer
            await asyncio.sleep(0.05)
            seen.expected = unseen.expected = b"HIT"
            operations[f"middleware, {name}, {label}, body seen before"] = seen
            operations[f"middleware, {name}, {label}, body at first sight"] = unseen
    operations["middleware, other path"] = Call(cached(), itertools.repeat(b"{}"), path="/v1/files")
    operations["bare app"] = Call(bare(), itertools.repeat(b"{}"))
    return operations


def _variants(body: bytes) -> Iterator[bytes]:
    """Yield the request in spellings never seen before: white space does not change its hash."""
    for number in itertools.count(1):
        tail = f"{number:b}".translate({48: " ", 49: "\t"}).encode()
        yield body[:-1] + tail + b"}"


class Call:
    """Calls an app as a server would, with the next body."""

    def __init__(self, app: App, bodies: Iterator[bytes], *, path: str = CHAT_PATH) -> None:
        self._app = app
        self._bodies = bodies
        self._path = path
        self._body = b""
        self._outcome: bytes | None = None
        self.expected: bytes | None = None

    async def __call__(self) -> None:
        self._body = next(self._bodies)
        await self._app(self._scope(), self._receive, self._send)
        if self.expected is not None and self._outcome != self.expected:
            sys.exit(f"the middleware answered {self._outcome!r}, not {self.expected!r}")

    def _scope(self) -> Message:
        return {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": "1.1",
            "method": "POST",
            "scheme": "http",
            "path": self._path,
            "raw_path": self._path.encode(),
            "query_string": b"",
            "root_path": "",
            "headers": [
                (b"host", b"127.0.0.1"),
                (b"authorization", CREDENTIAL.encode()),
                (b"content-type", b"application/json"),
                (b"content-length", b"%d" % len(self._body)),
            ],
            "client": ("127.0.0.1", 1),
            "server": ("127.0.0.1", 2),
            "state": {},
        }

    async def _receive(self) -> Message:
        return {"type": "http.request", "body": self._body, "more_body": False}

    async def _send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._outcome = dict(message["headers"]).get(b"x-routecache")


def _expect(found: object) -> None:
    if found is None:
        sys.exit("a value that was just stored is not there")
