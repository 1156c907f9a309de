"""Replay a request trace through the middleware on a clock that jumps from request to request.

``python -m tests.bench.replay TRACE.csv.gz [--ttl 600]`` prints the hit rate of answers and of
decisions next to the bound of an infinite cache with the same TTL, counted from the fill. A rate
above the bound would mean that the key is too coarse.

A trace has the columns ``t_s``, ``exact_key`` (equal keys are equal prompts), ``session_key`` (a
shared conversation prefix), ``input_tokens`` and ``output_tokens``; prompts are made from the keys.
"""

import argparse
import asyncio
import csv
import gzip
import json
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from routecache_middleware import (
    LLMRequest,
    RouteCache,
    RouteCacheMiddleware,
    RoutingDecision,
    Settings,
)
from routecache_middleware.adapters.asgi.types import Message, Receive, Scope, Send
from routecache_middleware.testing.clock import FakeClock
from tests.support.asgi import scope_of
from tests.support.chat import completion

ANSWER = completion()


class Row(NamedTuple):
    """One request of a trace."""

    at_s: float
    exact: str
    session: str


def read_trace(path: Path) -> Iterator[Row]:
    """Read a gzipped trace."""
    with gzip.open(path, "rt", newline="") as lines:
        for row in csv.DictReader(lines):
            yield Row(float(row["t_s"]), row["exact_key"], row["session_key"])


def bound(rows: list[Row], key: int, ttl_s: float) -> float:
    """Return the hit rate of an infinite cache whose entries live ``ttl_s`` from the fill."""
    filled: dict[object, float] = {}
    hits = 0
    for row in rows:
        if row.at_s - filled.get(row[key], float("-inf")) < ttl_s:
            hits += 1
        else:
            filled[row[key]] = row.at_s
    return hits / len(rows)


async def gateway(_scope: Scope, receive: Receive, send: Send) -> None:
    """Answer at once."""
    await receive()
    headers = [(b"content-type", b"application/json")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": ANSWER})


async def choose(_request: LLMRequest) -> RoutingDecision:
    """Decide at once."""
    return RoutingDecision("m")


def body_of(row: Row) -> bytes:
    """Make a prompt: a conversation that begins as its session's do and ends as it alone does."""
    turns = [row.session, "yes", row.exact]
    roles = ["user", "assistant", "user"]
    messages = [{"role": r, "content": t} for r, t in zip(roles, turns, strict=True)]
    return json.dumps({"model": "auto", "messages": messages}).encode()


async def replay(rows: list[Row], ttl_s: float) -> tuple[float, float]:
    """Return the hit rates of answers and of decisions."""
    clock = FakeClock()
    settings = Settings(
        result_ttl_s=ttl_s, routing_ttl_s=ttl_s, decision_scope="conversation", memo_bytes=0
    )
    cache = RouteCache(url="memory://", settings=settings, observers=[], clock=clock)
    mw = RouteCacheMiddleware(gateway, cache=cache, router=choose)
    now_s = 0.0
    for row in rows:
        clock.advance(max(0.0, row.at_s - now_s))
        now_s = max(now_s, row.at_s)
        await _ask(mw, body_of(row))
    stats = cache.stats()
    await cache.aclose()
    return stats.result_hit_rate(), stats.routing_hit_rate()


async def _ask(app: RouteCacheMiddleware, body: bytes) -> None:
    async def receive() -> Message:
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(_message: Message) -> None: ...

    await app(scope_of(), receive, send)


def main() -> None:
    """Replay and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("trace", type=Path)
    parser.add_argument("--ttl", type=float, nargs="+", default=[300.0, 600.0, 3600.0])
    options = parser.parse_args()
    rows = list(read_trace(options.trace))
    print(f"{len(rows):,} requests over {rows[-1].at_s - rows[0].at_s:,.0f} s")
    print("ttl s   answers     bound   decisions     bound")
    for ttl_s in options.ttl:
        answers, decisions = asyncio.run(replay(rows, ttl_s))
        exact, session = bound(rows, 1, ttl_s), bound(rows, 2, ttl_s)
        print(f"{ttl_s:5.0f}  {answers:8.3%}  {exact:8.3%}    {decisions:8.3%}  {session:8.3%}")


if __name__ == "__main__":
    main()
