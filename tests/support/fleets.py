"""Several processes in one: each has an engine of its own, and all share one store."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import replace
from typing import Any, Self, TypeVar

from routecache_middleware import CachePolicy, RouteCache, RouteCacheMiddleware, Settings
from routecache_middleware.adapters.asgi.types import ASGIApp
from routecache_middleware.coordinators.memory import MemoryCoordinator
from routecache_middleware.core.cluster import ClusterStats
from routecache_middleware.core.invalidation import InvalidationRow
from routecache_middleware.core.keys import CacheKey, Layer
from routecache_middleware.core.models import Entry, Position
from routecache_middleware.core.ports import (
    Acquired,
    AppendReceipt,
    CoordinatorEvent,
    CoordinatorStats,
    Fetched,
    Observer,
)
from routecache_middleware.errors import CoordinatorError
from tests.support.virtual_time import LoopClock

__all__ = ["Link", "Process", "new_store"]

T = TypeVar("T")


def new_store() -> MemoryCoordinator:
    """What all processes share."""
    return MemoryCoordinator(max_bytes=50_000_000, clock=LoopClock())


def _at_once() -> float:
    return 0.0


class Link:
    """One process's way to the store: slow, broken or deaf, as a test wants it.

    Attributes:
        delay: How long each call takes, there and back again, seconds.
        broken: Methods that fail; ``"*"`` stands for all.
        calls: How often each method was called.
        is_deaf: No event comes through.
        on_call: Called with each method's name, before it reaches the store.
    """

    name = "shared"
    is_shared = True

    def __init__(self, store: MemoryCoordinator, *, poll_s: float = 0.25) -> None:
        self._store = store
        self.poll_s = poll_s
        self.delay: Callable[[], float] = _at_once
        self.broken: set[str] = set()
        self.calls: Counter[str] = Counter()
        self.is_deaf = False
        self.on_call: Callable[[str], None] | None = None
        self.listeners = 0

    async def _travel(self, method: str, call: Callable[[], Awaitable[T]]) -> T:
        self.calls[method] += 1
        if self.on_call is not None:
            self.on_call(method)
        await asyncio.sleep(self.delay() / 2)
        if not self.broken.isdisjoint({method, "*"}):
            raise CoordinatorError("down")
        # As networked coordinators do: what is under way is done, whoever gives up waiting for it.
        answer = await asyncio.shield(asyncio.ensure_future(call()))
        await asyncio.sleep(self.delay() / 2)
        return answer

    async def open(self) -> None:
        """Nothing to do."""

    async def aclose(self) -> None:
        """Nothing to do: the store goes on."""

    async def fetch(self, keys: Sequence[CacheKey], after: Position) -> Fetched:
        return await self._travel("fetch", lambda: self._store.fetch(keys, after))

    async def store(self, key: CacheKey, entry: Entry, **lease: Any) -> bool:
        return await self._travel("store", lambda: self._store.store(key, entry, **lease))

    async def delete(self, key: CacheKey) -> None:
        await self._travel("delete", lambda: self._store.delete(key))

    async def acquire(self, key: CacheKey, **terms: Any) -> Acquired:
        return await self._travel("acquire", lambda: self._store.acquire(key, **terms))

    async def renew(self, key: CacheKey, **terms: Any) -> bool:
        return await self._travel("renew", lambda: self._store.renew(key, **terms))

    async def release(self, key: CacheKey, **terms: Any) -> None:
        await self._travel("release", lambda: self._store.release(key, **terms))

    async def append(self, rows: Sequence[InvalidationRow]) -> AppendReceipt:
        return await self._travel("append", lambda: self._store.append(rows))

    async def events(self) -> AsyncIterator[CoordinatorEvent]:
        self.listeners += 1
        try:
            async for event in self._store.events():
                if not self.is_deaf:
                    yield event
        finally:
            self.listeners -= 1

    async def sample(self, layer: Layer, limit: int) -> Sequence[tuple[CacheKey, Entry]]:
        return await self._store.sample(layer, limit)

    def stats(self) -> CoordinatorStats:
        return self._store.stats()

    async def cluster_stats(self) -> ClusterStats:
        return await self._travel("cluster_stats", self._store.cluster_stats)


class Process:
    """One gateway process: its link, its cache, its middleware.

    Used as a context it checks that nothing is left behind.
    """

    def __init__(
        self,
        store: MemoryCoordinator,
        app: ASGIApp | None = None,
        *,
        observers: Sequence[Observer] = (),
        poll_s: float = 0.25,
        router: object = None,
        policy: CachePolicy | None = None,
        tenant: object = None,
        **settings: object,
    ) -> None:
        self.link = Link(store, poll_s=poll_s)
        self.cache = RouteCache(
            coordinator=self.link,
            # What is asked of the coordinator is counted: only what requests ask for belongs there.
            settings=replace(Settings(share_metrics=False), **settings),  # type: ignore[arg-type]
            policy=policy or CachePolicy(),
            observers=list(observers),
            clock=LoopClock(),
        )
        self.app: Any = None
        if app is not None:
            self.app = RouteCacheMiddleware(
                app,
                cache=self.cache,
                router=router,  # type: ignore[arg-type]
                tenant=tenant,  # type: ignore[arg-type]
            )

    async def __aenter__(self) -> Self:
        await self.cache.open()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.cache.aclose()
        engine = self.cache.engine
        assert len(engine.live) == 0
        assert engine.captures.used == 0
        assert engine.fleet is None or len(engine.fleet.wakeups) == 0
        assert self.link.listeners == 0
