"""A networked coordinator in miniature: every call suspends, and hangs or fails on demand."""

import asyncio
import math
from collections import Counter
from collections.abc import AsyncIterator, Sequence

from routecache_middleware.coordinators.memory import MemoryCoordinator
from routecache_middleware.core.cluster import ClusterStats
from routecache_middleware.core.invalidation import InvalidationRow
from routecache_middleware.core.keys import CacheKey, Layer
from routecache_middleware.core.models import START, Entry, Position
from routecache_middleware.core.ports import (
    Acquired,
    AppendReceipt,
    CoordinatorEvent,
    Fetched,
)
from routecache_middleware.errors import CoordinatorError
from routecache_middleware.testing.clock import FakeClock

__all__ = ["FaultyCoordinator", "ProbedCoordinator", "ProvingCoordinator"]

MIB = 1024 * 1024


class FaultyCoordinator(MemoryCoordinator):
    """Works until told otherwise.

    Attributes:
        asked: How often each method was called.
        cancelled: Calls that were cancelled on the way.
        delay_s: How long the way there takes; 0 is one turn of the loop.
        read: The keys of each ``fetch``.
    """

    name = "faulty"
    is_shared = True

    def __init__(self, clock: FakeClock, *, max_bytes: int = 64 * MIB) -> None:
        super().__init__(max_bytes=max_bytes, clock=clock)
        self.asked: Counter[str] = Counter()
        self.cancelled = 0
        self.delay_s = 0.0
        self.read: list[tuple[CacheKey, ...]] = []
        self._faults: dict[str, Exception | None] = {}
        self._healed = asyncio.Event()

    def hang(self, *methods: str) -> None:
        """Let these calls wait until :meth:`heal`; none named: all."""
        self._faults.update(dict.fromkeys(methods or ("*",)))

    def fail(self, *methods: str, error: Exception | None = None) -> None:
        """Let these calls fail."""
        error = error or CoordinatorError("connection refused; start the server")
        self._faults.update(dict.fromkeys(methods or ("*",), error))

    def heal(self) -> None:
        """Work again; what hangs goes on."""
        self._faults.clear()
        self._healed.set()
        self._healed = asyncio.Event()

    async def _travel(self, method: str) -> None:
        self.asked[method] += 1
        try:
            await self.journey()
            for name in (method, "*"):
                if name in self._faults:
                    error = self._faults[name]
                    if error is not None:
                        raise error.with_traceback(None)
                    await self._healed.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise

    async def journey(self) -> None:
        """Be on the way; a test may replace it."""
        await asyncio.sleep(self.delay_s)

    async def open(self) -> None:
        await self._travel("open")

    async def fetch(self, keys: Sequence[CacheKey], after: Position) -> Fetched:
        self.read.append(tuple(keys))
        await self._travel("fetch")
        return self.fetch_now(keys, after)

    async def store(
        self, key: CacheKey, entry: Entry, *, token: str | None = None, form: str = ""
    ) -> bool:
        await self._travel("store")
        return self.store_now(key, entry, token=token, form=form)

    async def delete(self, key: CacheKey) -> None:
        await self._travel("delete")
        self.delete_now(key)

    async def acquire(
        self,
        key: CacheKey,
        *,
        token: str,
        ttl_s: float,
        form: str = "",
        position: Position = START,
        since: Position = START,
        seen: Entry | None = None,
    ) -> Acquired:
        await self._travel("acquire")
        return self.acquire_now(
            key, token=token, ttl_s=ttl_s, form=form, position=position, since=since, seen=seen
        )

    async def renew(self, key: CacheKey, *, token: str, ttl_s: float, form: str = "") -> bool:
        await self._travel("renew")
        return await super().renew(key, token=token, ttl_s=ttl_s, form=form)

    async def release(
        self, key: CacheKey, *, token: str, form: str = "", parallel_s: float = 0.0
    ) -> None:
        await self._travel("release")
        await super().release(key, token=token, form=form, parallel_s=parallel_s)

    async def append(self, rows: Sequence[InvalidationRow]) -> AppendReceipt:
        await self._travel("append")
        return self.append_now(rows)

    async def events(self) -> AsyncIterator[CoordinatorEvent]:
        await self._travel("listen")
        async for event in super().events():
            yield event
            await self._travel("event")

    async def sample(self, layer: Layer, limit: int) -> Sequence[tuple[CacheKey, Entry]]:
        await self._travel("sample")
        return await super().sample(layer, limit)

    async def cluster_stats(self) -> ClusterStats:
        await self._travel("cluster_stats")
        return await super().cluster_stats()


class ProbedCoordinator(FaultyCoordinator):
    """Offers probes."""

    async def probe(self, *, writes: bool) -> None:
        await self._travel("probe writes" if writes else "probe reads")


class ProvingCoordinator(ProbedCoordinator):
    """Offers the log as read ahead: by default all of it, proven just now.

    Attributes:
        proof_age_s: As in the port; for a test to set.
        mirrored: How far the log was read ahead; None: to its end.
    """

    def __init__(self, clock: FakeClock, *, max_bytes: int = 64 * MIB) -> None:
        super().__init__(clock, max_bytes=max_bytes)
        self.proof_age_s = 0.0
        self.mirrored: Position | None = None

    def cut_off(self, proof_age_s: float = math.inf) -> None:
        """Fail everything, the last proof being so old."""
        self.proof_age_s = proof_age_s
        self.fail()

    def proven_position(self, within_s: float) -> Position | None:
        if self.proof_age_s >= within_s:
            return None
        return self._log.position if self.mirrored is None else self.mirrored

    def tail_now(self, after: Position) -> Fetched:
        end = self._log.position if self.mirrored is None else self.mirrored
        if after >= end:  # who knows more than was read ahead learns nothing
            return Fetched((), after)
        tail = self._log.tail(after)
        rows = [row for row in tail.rows if row.position <= end]
        return Fetched((), end, rows, tail.is_rewound)
