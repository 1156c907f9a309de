"""What a hit and an invalidation cost at each coordinator, against a bare ``GET`` of redis-py.

    python -m tests.bench.coordinators

Everything is asked in turns of some hundred calls within the same second, and the median over the
turns is reported: other load on the machine then hits all alike. The server is a real one.
"""

import argparse
import asyncio
import json
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from statistics import median

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from routecache_middleware import RouteCache, Settings
from routecache_middleware.core.keys import result_key
from tests.support.valkey import start_server

HASH = "ab" * 16
MODEL = "m"
BODY = b"x" * 2048
CALLS = 300

Operation = Callable[[], Awaitable[object]]


async def measure(url: str, directory: Path, turns: int) -> dict[str, float]:
    """Return microseconds per call, medians over the turns."""
    async with AsyncExitStack() as stack:
        operations = await _operations(url, directory, stack)
        seen: dict[str, list[float]] = {name: [] for name in operations}
        for _ in range(turns):
            for name, operation in operations.items():
                began_s = time.perf_counter()
                for _ in range(CALLS):
                    await operation()
                seen[name].append((time.perf_counter() - began_s) / CALLS * 1e6)
    return {name: median(values) for name, values in seen.items()}


async def _operations(url: str, directory: Path, stack: AsyncExitStack) -> dict[str, Operation]:
    bare = Redis.from_url(url, retry=Retry(NoBackoff(), 0))
    stack.push_async_callback(bare.aclose)
    await bare.set("bare", BODY, ex=600)

    async def get() -> None:
        if await bare.get("bare") != BODY:
            raise AssertionError

    operations: dict[str, Operation] = {
        "redis-py, bare GET": get,
        "redis, guarded fetch alone": await _fetch(f"{url}?near=false", stack),
    }
    for name, cache_url in {
        "redis, hit": f"{url}?near=false",
        "redis, hit in the near cache": url,
        "lmdb, hit": f"lmdb://{directory}/cache",
        "memory, hit": "memory://",
    }.items():
        operations[name] = await _hit(cache_url, stack)
    return operations


async def _fetch(url: str, stack: AsyncExitStack) -> Operation:
    cache = RouteCache(url=url, settings=Settings(), observers=())
    await stack.enter_async_context(cache)
    await cache.cache_query_result(HASH, MODEL, BODY, 1.0)
    await asyncio.sleep(0.6)
    engine, key = cache.engine, result_key(HASH, MODEL)

    async def fetch() -> None:
        fetched = await engine.coordinator.fetch((key,), engine.table.position)
        if fetched.entries[0] is None:
            raise AssertionError

    await fetch()
    return fetch


async def _hit(url: str, stack: AsyncExitStack) -> Operation:
    cache = RouteCache(url=url, settings=Settings(), observers=())
    await stack.enter_async_context(cache)
    await cache.cache_query_result(HASH, MODEL, BODY, 1.0)
    await asyncio.sleep(0.6)  # until the log is proven, and what was stored is in place

    async def hit() -> None:
        found = await cache.get_query_result(HASH, MODEL)
        if found is None or found.result_data != BODY:
            raise AssertionError(url)

    await hit()
    return hit


async def measure_invalidation(url: str, entries: Sequence[int]) -> dict[str, float]:
    """Return milliseconds of ``invalidate_model`` with so many entries of the model stored."""
    figures: dict[str, float] = {}
    for count in entries:
        async with RouteCache(url=url, settings=Settings(), observers=()) as cache:
            for first in range(0, count, 200):
                await asyncio.gather(
                    *(
                        cache.cache_query_result(f"{number:032x}", MODEL, b"{}", 1.0)
                        for number in range(first, min(first + 200, count))
                    )
                )
            took_s = []
            for _ in range(21):
                began_s = time.perf_counter()
                await cache.invalidate_model(MODEL)
                took_s.append(time.perf_counter() - began_s)
            if count and await cache.get_query_result(f"{0:032x}", MODEL) is not None:
                raise AssertionError
            figures[f"invalidate_model, {count:,} entries stored"] = median(took_s) * 1000
    return figures


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.coordinators", description=__doc__)
    parser.add_argument("--turns", type=int, default=31)
    parser.add_argument("--entries", type=int, default=100_000)
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the figures there")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        server = start_server(Path(directory))
        try:
            hits = asyncio.run(measure(server.url, Path(directory), given.turns))
            drops = asyncio.run(measure_invalidation(server.url, (0, given.entries)))
        finally:
            server.close()
    bare_us = hits["redis-py, bare GET"]
    for name, value_us in hits.items():
        print(f"{name:<34}{value_us:8.1f} us  {value_us / bare_us:6.3f} of a bare GET")
    for name, value_ms in drops.items():
        print(f"{name:<44}{value_ms:8.3f} ms")
    if given.json:
        given.json.write_text(json.dumps({"us": hits, "ms": drops}, indent=2) + "\n", "utf-8")


if __name__ == "__main__":
    main()
