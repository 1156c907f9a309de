"""One process that reads through a cache, and perhaps invalidates, and checks every answer.

``python -m tests.chaos.worker '{"url": ..., "truth": ...}'`` prints one JSON report per second, the
counters of the process so far, so that a process that is killed has still told what it saw.
"""

import asyncio
import json
import random
import sys
import time
from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass, field
from typing import Protocol

from routecache_middleware import RouteCache, Settings
from routecache_middleware.errors import CoordinatorError
from tests.chaos.truth import MODELS, Truth

__all__ = ["Orders", "Report", "Subject"]

QUERIES = 6


@dataclass(kw_only=True)
class Orders:
    """What a worker is told.

    Attributes:
        url: The coordinator, or ``naive+redis://...`` for the control.
        truth: Name of the shared truth.
        seed: Of its randomness.
        tasks: How many callers it has.
        invalidates: The models that this process alone invalidates.
        pause_s: Mean pause between two bursts of invalidations. After the first of a burst all
            make answers anew, and the next ones come while they are at it.
        make_s: The longest time that making an answer takes.
        bound_s: How long after its acknowledgement an invalidation may take to get here.
    """

    url: str
    truth: str
    seed: int = 0
    tasks: int = 8
    invalidates: tuple[int, ...] = ()
    pause_s: float = 1.5
    make_s: float = 0.02
    bound_s: float = 1.0


@dataclass(kw_only=True)
class Report:
    """What it saw.

    Attributes:
        reads: Answers read and checked.
        made: Answers made, the rest came from the cache.
        invalidations: Invalidations that were acknowledged.
        unrecorded: Invalidations that could not be recorded.
        late: Answers that had been replaced when they were asked for, within the bound.
        late_s: How long ago, of the worst of those.
        stale: The same, beyond the bound: each is a broken promise.
    """

    reads: int = 0
    made: int = 0
    invalidations: int = 0
    unrecorded: int = 0
    late: int = 0
    late_s: float = 0.0
    stale: list[str] = field(default_factory=list)


class Subject(Protocol):
    """The cache under test."""

    async def read(self, query: int, model: int, make: Callable[[], Awaitable[bytes]]) -> bytes:
        """Get an answer, from the cache or by ``make``."""

    async def invalidate(self, model: int) -> None:
        """Drop all answers of a model, in all processes."""


class _RouteCacheSubject:
    def __init__(self, cache: RouteCache) -> None:
        self._cache = cache

    async def read(self, query: int, model: int, make: Callable[[], Awaitable[bytes]]) -> bytes:
        return (await self._cache.result(f"{query:032x}", f"m{model}", make)).result_data

    async def invalidate(self, model: int) -> None:
        await self._cache.invalidate_model(f"m{model}")


class _NaiveSubject:
    """The control: Redis as a bare key-value store, and a DEL to invalidate."""

    def __init__(self, url: str) -> None:
        from redis.asyncio import Redis  # noqa: PLC0415 - only the control needs it

        self._redis = Redis.from_url(url)

    async def read(self, query: int, model: int, make: Callable[[], Awaitable[bytes]]) -> bytes:
        key = f"naive:{query}:{model}"
        found = await self._redis.get(key)
        if isinstance(found, bytes):
            return found
        made = await make()
        await self._redis.set(key, made, ex=600)
        return made

    async def invalidate(self, model: int) -> None:
        await self._redis.delete(*(f"naive:{query}:{model}" for query in range(QUERIES)))


def _subject(url: str) -> Subject:
    if url.startswith("naive+"):
        return _NaiveSubject(url.removeprefix("naive+"))
    return _RouteCacheSubject(RouteCache(url=url, settings=Settings(), observers=()))


class _Worker:
    def __init__(self, orders: Orders) -> None:
        self._orders = orders
        self._truth = Truth.attach(orders.truth)
        self._subject = _subject(orders.url)
        self._report = Report()
        self._random = random.Random(orders.seed)

    async def run(self) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(self._tell())
            for _ in range(self._orders.tasks):
                group.create_task(self._read())
            for model in self._orders.invalidates:
                group.create_task(self._invalidate(model))

    async def _tell(self) -> None:
        while True:
            sys.stdout.write(json.dumps(asdict(self._report)) + "\n")
            sys.stdout.flush()
            await asyncio.sleep(0.25)

    async def _read(self) -> None:
        report = self._report
        while True:
            model, query = self._random.randrange(MODELS), self._random.randrange(QUERIES)
            asked_s = time.monotonic()
            version = int(await self._subject.read(query, model, lambda m=model: self._make(m)))  # type: ignore[misc]
            report.reads += 1
            stale_s = self._truth.stale_for_s(model, version, asked_s)
            if stale_s > self._orders.bound_s:
                report.stale.append(
                    f"model {model} version {version}, replaced {stale_s:.3f} s ago"
                )
            elif stale_s:
                report.late += 1
                report.late_s = max(report.late_s, stale_s)
            await asyncio.sleep(self._random.random() * 0.002)

    async def _make(self, model: int) -> bytes:
        self._report.made += 1
        version = self._truth.version(model)
        await asyncio.sleep(self._random.random() * self._orders.make_s)
        return b"%d" % version

    async def _invalidate(self, model: int) -> None:
        while True:
            await asyncio.sleep(self._random.expovariate(1 / self._orders.pause_s))
            for _ in range(self._random.randint(1, 3)):
                await self._invalidate_once(model)
                await asyncio.sleep(self._random.random() * self._orders.make_s)

    async def _invalidate_once(self, model: int) -> None:
        version = self._truth.change(model)
        try:
            await self._subject.invalidate(model)
        except CoordinatorError:
            self._report.unrecorded += 1
        else:
            self._truth.acknowledged(model, version)
            self._report.invalidations += 1


def main() -> None:
    """Run until killed."""
    orders = Orders(**json.loads(sys.argv[1]))
    asyncio.run(_Worker(orders).run())


if __name__ == "__main__":
    main()
