"""The coordinator inside one process. Nothing in it ever waits.

The work is done by plain methods named ``..._now``; the coroutines of the port only call them. So a
lookup costs no task switch, and code that is not async can use the same coordinator.
"""

import logging
import os
import threading
from collections.abc import AsyncIterator, Mapping, Sequence
from types import MappingProxyType
from typing import Protocol

from routecache_middleware.coordinators.bounded import ByteBoundedStore
from routecache_middleware.coordinators.charge import charged_bytes
from routecache_middleware.coordinators.leases import LeaseTable
from routecache_middleware.coordinators.log import InvalidationLog
from routecache_middleware.coordinators.small import SmallStore
from routecache_middleware.coordinators.subscribers import Subscribers
from routecache_middleware.coordinators.url import CoordinatorUrl
from routecache_middleware.core.choices import Eviction
from routecache_middleware.core.cluster import ClusterStats, NodeStats
from routecache_middleware.core.invalidation import InvalidationRow
from routecache_middleware.core.keys import CacheKey, Layer
from routecache_middleware.core.models import START, Entry, Position
from routecache_middleware.core.ports import (
    Acquired,
    AppendReceipt,
    Clock,
    CoordinatorEvent,
    CoordinatorStats,
    Fetched,
    Filled,
    Follower,
    Found,
    Invalidated,
    LayerUsage,
    Leader,
    Parallel,
    Released,
)
from routecache_middleware.core.settings import Settings

__all__ = ["SHARES", "MemoryCoordinator", "create"]

SHARES: Mapping[Layer, float] = MappingProxyType(
    {Layer.RESULT: 0.80, Layer.ROUTING: 0.15, Layer.METADATA: 0.025, Layer.LOAD: 0.025}
)
"""How the budget is divided: one store per layer, so that none pushes out another."""

_SMALL_LAYERS = frozenset({Layer.METADATA, Layer.LOAD})
_DAY_S = 86_400.0

_logger = logging.getLogger("routecache")


class _Store(Protocol):
    """What both kinds of store can do."""

    limit_bytes: int

    @property
    def entries(self) -> int: ...
    @property
    def bytes(self) -> int: ...
    @property
    def evictions(self) -> int: ...
    def get(self, key: str, now_s: float) -> Entry | None: ...
    def set(
        self, key: str, value: Entry, *, size_bytes: int, expires_s: float, now_s: float
    ) -> bool: ...
    def delete(self, key: str) -> bool: ...
    def sweep(self, now_s: float) -> int: ...
    def sample(self, limit: int, now_s: float) -> list[tuple[str, Entry]]: ...
    def clear(self) -> None: ...


class MemoryCoordinator:
    """A :class:`routecache_middleware.core.ports.Coordinator` for one process, from any thread.

    It is ready at once; ``open`` only warns when this process is one of several. ``aclose`` frees
    everything.
    """

    name = "memory"
    is_shared = False
    poll_s = 0.25

    def __init__(
        self,
        *,
        max_bytes: int,
        clock: Clock,
        eviction: Eviction = Eviction.S3FIFO,
        shares: Mapping[Layer, float] = SHARES,
        log_max_age_s: float = _DAY_S,
    ) -> None:
        """Prepare an empty coordinator.

        Args:
            max_bytes: Budget of all layers together.
            clock: Where time comes from.
            eviction: What leaves first when a layer's share is full.
            shares: What part of ``max_bytes`` each layer gets; at most 1 in total.
            log_max_age_s: The longest physical life of an entry: how long invalidations are kept
                for readers that have not seen them.
        """
        self._clock = clock
        self._stores: dict[str, _Store] = {
            layer.value: _new_store(layer, int(max_bytes * shares[layer]), eviction)
            for layer in Layer
        }
        self._log = InvalidationLog(clock=clock, max_age_s=log_max_age_s)
        self._leases = LeaseTable()
        self._subscribers = Subscribers()
        self._has_warned = False
        # Held over "check the lease, then store" and over "read the entry, then take the lease".
        self._lease_lock = threading.Lock()
        # Held over "append, then publish": listeners must learn of rows in the log's order.
        self._append_lock = threading.Lock()

    async def open(self) -> None:
        """Warn once when several worker processes run: each has its own cache and its own log."""
        workers = os.environ.get("WEB_CONCURRENCY", "")
        if not self._has_warned and workers.isdecimal() and int(workers) > 1:
            self._has_warned = True
            _logger.warning(
                "memory:// keeps one cache per process, and WEB_CONCURRENCY is %s: workers share "
                "neither entries nor invalidations. Use a shared coordinator to change that.",
                workers,
            )

    async def aclose(self) -> None:
        """End every ``events`` and free everything; log positions go on from where they are."""
        self._subscribers.close()
        with self._lease_lock:
            self._leases.clear()
        for store in self._stores.values():
            store.clear()
        self._log.forget()

    async def fetch(self, keys: Sequence[CacheKey], after: Position) -> Fetched:
        """Read entries together with the log's rows after ``after``."""
        return self.fetch_now(keys, after)

    async def store(
        self, key: CacheKey, entry: Entry, *, token: str | None = None, form: str = ""
    ) -> bool:
        """Store until ``entry.expires_s``; fenced by the lease when ``token`` is given."""
        return self.store_now(key, entry, token=token, form=form)

    async def delete(self, key: CacheKey) -> None:
        """Forget a key, to free memory."""
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
        """Take the lease of a key, or learn who has it; see the port."""
        return self.acquire_now(
            key, token=token, ttl_s=ttl_s, form=form, position=position, since=since, seen=seen
        )

    async def renew(self, key: CacheKey, *, token: str, ttl_s: float, form: str = "") -> bool:
        """Extend a lease; False when it is no longer held with ``token``."""
        with self._lease_lock:
            return self._leases.renew(_lease(key, form), token, ttl_s, self._clock.monotonic_s())

    async def release(
        self, key: CacheKey, *, token: str, form: str = "", parallel_s: float = 0.0
    ) -> None:
        """Give a lease back; nothing happens when it is not held with ``token``."""
        now_s = self._clock.monotonic_s()
        with self._lease_lock:
            was_held = self._leases.release(_lease(key, form), token, now_s, parallel_s=parallel_s)
        if was_held:
            self._subscribers.publish(Released(key))

    async def append(self, rows: Sequence[InvalidationRow]) -> AppendReceipt:
        """Append to the invalidation log, in order, atomically."""
        return self.append_now(rows)

    def events(self) -> AsyncIterator[CoordinatorEvent]:
        """Yield what happens from the first ``__anext__`` on; ends when the coordinator closes."""
        return self._subscribers.listen()

    async def sample(self, layer: Layer, limit: int) -> Sequence[tuple[CacheKey, Entry]]:
        """Return up to ``limit`` unexpired entries of a layer; never a full scan."""
        found = self._stores[layer.value].sample(limit, self._clock.now_s())
        return [(CacheKey(key), entry) for key, entry in found]

    def stats(self) -> CoordinatorStats:
        """Return exact usage; frees a few expired entries first, so that idle layers drain."""
        now_s = self._clock.now_s()
        for store in self._stores.values():
            store.sweep(now_s)
        return CoordinatorStats(layers={layer: _usage(self._stores[layer]) for layer in Layer})

    async def cluster_stats(self) -> ClusterStats:
        """One node and one process: this one."""
        stats = self.stats()
        keys = sum(layer.entries for layer in stats.layers.values())
        size = sum(layer.bytes for layer in stats.layers.values())
        node = NodeStats(name="memory", keys=keys, bytes=size)
        return ClusterStats(nodes=(node,), position=self._log.position)

    def fetch_now(self, keys: Sequence[CacheKey], after: Position) -> Fetched:
        """Read entries, then the log: rows that arrive in between are reported, never missed."""
        now_s = self._clock.now_s()
        stores = self._stores
        entries: list[Entry | None] = []
        for key in keys:  # a comprehension costs a call of its own on Python 3.11, 0.2 µs
            entries.append(stores[key.partition(":")[0]].get(key, now_s))  # noqa: PERF401
        if self._log.position == after:
            return Fetched(entries, after)
        rows, position, is_rewound = self._log.tail(after)
        return Fetched(entries, position, rows, is_rewound)

    def store_now(
        self, key: CacheKey, entry: Entry, *, token: str | None = None, form: str = ""
    ) -> bool:
        """Store an entry. Only a fenced one is told to listeners: nobody waits for the others."""
        if token is None:
            return self._put(key, entry)
        now_s = self._clock.monotonic_s()
        with self._lease_lock:
            is_held = self._leases.is_held(_lease(key, form), token, now_s)
            is_stored = is_held and self._put(key, entry)
        if is_stored:
            self._subscribers.publish(Filled(key))
        return is_stored

    def delete_now(self, key: CacheKey) -> None:
        """Forget a key."""
        self._stores[key.partition(":")[0]].delete(key)

    def acquire_now(
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
        """Take the lease of a key, or learn who has it, re-reading the entry first."""
        with self._lease_lock:
            now_s = self._clock.now_s()
            entry = self._stores[key.partition(":")[0]].get(key, now_s)
            if entry is not None and entry != seen and _is_fresh(entry, now_s):
                return Found(entry)
            now_s = self._clock.monotonic_s()
            held = self._leases.acquire(
                _lease(key, form), token, ttl_s, now_s, position=position, since=since
            )
        if held is None:
            return Leader(token)
        remaining_s = held.expires_s - now_s
        return Follower(remaining_s) if held.token else Parallel(remaining_s)

    def append_now(self, rows: Sequence[InvalidationRow]) -> AppendReceipt:
        """Append to the invalidation log."""
        with self._append_lock:
            logged = self._log.append(rows)
            if logged:
                self._subscribers.publish(Invalidated(logged))
            return AppendReceipt(logged[-1].position if logged else self._log.position)

    def _put(self, key: CacheKey, entry: Entry) -> bool:
        return self._stores[key.partition(":")[0]].set(
            key,
            entry,
            size_bytes=charged_bytes(entry),
            expires_s=entry.expires_s,
            now_s=self._clock.now_s(),
        )


def create(url: CoordinatorUrl, settings: Settings, clock: Clock) -> MemoryCoordinator:
    """Build the coordinator of ``memory://?max_bytes=...&eviction=...``.

    Raises:
        ConfigurationError: The URL names a host, a path or an option that does not exist.
    """
    if url.location:
        raise url.error("names a host or a path", "memory:// with nothing before the '?'")
    url.check_options("max_bytes", "eviction")
    return MemoryCoordinator(
        max_bytes=url.whole_number("max_bytes", settings.max_memory_bytes),
        eviction=Eviction(url.choice("eviction", tuple(Eviction), settings.eviction)),
        clock=clock,
    )


def _new_store(layer: Layer, max_bytes: int, eviction: Eviction) -> _Store:
    if layer in _SMALL_LAYERS:
        return SmallStore[Entry](max_bytes=max_bytes)
    return ByteBoundedStore[Entry](max_bytes=max_bytes, eviction=eviction)


def _usage(store: _Store) -> LayerUsage:
    return LayerUsage(store.entries, store.bytes, store.limit_bytes, store.evictions)


def _lease(key: CacheKey, form: str) -> str:
    return f"{key}|{form}"


def _is_fresh(entry: Entry, now_s: float) -> bool:
    return now_s < entry.created_s + entry.freshness_lifetime_s
