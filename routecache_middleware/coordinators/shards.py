"""One shard of a byte-bounded store: a lock, a budget, and a rule for what leaves first.

Everything is removed exactly when it goes: an item sits in one queue and in one expiry bucket, and
both forget it at once. So nothing has to be compacted later, and no single operation pays for
thousands: an operation sweeps at most ``SWEEP_LIMIT`` expired items.
"""

import threading
from abc import ABC, abstractmethod
from collections import OrderedDict
from itertools import islice
from typing import Generic, TypeVar

from routecache_middleware.coordinators.expiry import SWEEP_LIMIT, ExpiryBuckets

__all__ = ["LruShard", "S3FifoShard", "Shard"]

V = TypeVar("V")

_FREQUENCY_CAP = 3
_SMALL_SHARE = 0.1
_MIN_GHOSTS = 64

# When every item of a shard is popular, finding an unpopular one could take a walk over all of
# them; after so many second chances within one operation the next in line goes, popular or not.
_MAX_SECOND_CHANCES = 64


class _Item(Generic[V]):
    __slots__ = ("cost_bytes", "expires_s", "frequency", "is_main", "value")

    def __init__(self, value: V, cost_bytes: int, expires_s: float) -> None:
        self.value = value
        self.cost_bytes = cost_bytes
        self.expires_s = expires_s
        self.frequency = 0
        self.is_main = False


class Shard(ABC, Generic[V]):
    """A thread-safe part of a store. ``bytes`` never exceeds ``limit_bytes``, even for a moment."""

    __slots__ = ("_expiry", "_lock", "bytes", "entries", "evictions", "limit_bytes")

    def __init__(self, limit_bytes: int) -> None:
        self.limit_bytes = limit_bytes
        self.entries = 0
        self.bytes = 0
        self.evictions = 0
        self._expiry = ExpiryBuckets()
        self._lock = threading.Lock()

    def get(self, key: str, now_s: float) -> V | None:
        """Return the unexpired value of ``key``; an expired one is freed."""
        with self._lock:
            item = self._hit(key)
            if item is None:
                return None
            if now_s < item.expires_s:
                return item.value
            self._remove(key)
            return None

    def set(self, key: str, value: V, cost_bytes: int, expires_s: float, now_s: float) -> None:
        """Keep ``value``; the caller has made sure that it fits and has not expired."""
        item = _Item(value, cost_bytes, expires_s)
        with self._lock:
            self._sweep(now_s, SWEEP_LIMIT)
            old = self._remove(key)
            self._make_room(cost_bytes)
            self._admit(key, item, old)
            self._expiry.add(key, expires_s)
            self.entries += 1
            self.bytes += cost_bytes

    def delete(self, key: str) -> bool:
        """Forget ``key``; False when it was not there."""
        with self._lock:
            return self._remove(key) is not None

    def sweep(self, now_s: float, limit: int) -> int:
        """Free up to ``limit`` expired items; how many were freed."""
        with self._lock:
            return self._sweep(now_s, limit)

    def sample(self, limit: int, now_s: float) -> list[tuple[str, V]]:
        """Return up to ``limit`` unexpired items, the latest first."""
        with self._lock:
            found: list[tuple[str, V]] = []
            for queue in self._queues():
                # Bounded, and over before the lock is given back: no iterator outlives this call.
                items = islice(reversed(queue.items()), limit + SWEEP_LIMIT)
                found += [(key, item.value) for key, item in items if now_s < item.expires_s]
            return found[:limit]

    def clear(self) -> None:
        """Forget everything; the eviction count stays."""
        with self._lock:
            for queue in self._queues():
                queue.clear()
            self._expiry.clear()
            self._reset()
            self.entries = self.bytes = 0

    def _remove(self, key: str) -> _Item[V] | None:
        item = self._unlink(key)
        if item is not None:
            self._forget(key, item)
        return item

    def _forget(self, key: str, item: _Item[V]) -> None:
        self._expiry.discard(key, item.expires_s)
        self.entries -= 1
        self.bytes -= item.cost_bytes

    def _sweep(self, now_s: float, limit: int) -> int:
        due = self._expiry.pop_due(now_s, limit)
        for key in due:
            self._remove(key)
        return len(due)

    def _make_room(self, cost_bytes: int) -> None:
        chances = _MAX_SECOND_CHANCES
        while self.bytes + cost_bytes > self.limit_bytes:
            key, item, chances = self._pop_victim(chances)
            self._forget(key, item)
            self.evictions += 1

    def _reset(self) -> None:
        """Forget what the rule remembers beyond its queues."""

    @abstractmethod
    def _hit(self, key: str) -> _Item[V] | None:
        """Find an item and note that it was asked for."""

    @abstractmethod
    def _admit(self, key: str, item: _Item[V], old: _Item[V] | None) -> None:
        """Put an item in a queue; ``old`` is what it replaces."""

    @abstractmethod
    def _unlink(self, key: str) -> _Item[V] | None:
        """Take an item out of its queue."""

    @abstractmethod
    def _pop_victim(self, chances: int) -> tuple[str, _Item[V], int]:
        """Take out what goes first, and say how many second chances are left."""

    @abstractmethod
    def _queues(self) -> tuple[OrderedDict[str, _Item[V]], ...]:
        """Every queue, the most valuable first."""


class LruShard(Shard[V]):
    """What was not asked for the longest goes first."""

    __slots__ = ("_queue",)

    def __init__(self, limit_bytes: int) -> None:
        super().__init__(limit_bytes)
        self._queue: OrderedDict[str, _Item[V]] = OrderedDict()

    def _hit(self, key: str) -> _Item[V] | None:
        item = self._queue.get(key)
        if item is not None:
            self._queue.move_to_end(key)
        return item

    def _admit(self, key: str, item: _Item[V], old: _Item[V] | None) -> None:  # noqa: ARG002  a replaced item counts as asked for
        self._queue[key] = item

    def _unlink(self, key: str) -> _Item[V] | None:
        return self._queue.pop(key, None)

    def _pop_victim(self, chances: int) -> tuple[str, _Item[V], int]:
        return *self._queue.popitem(last=False), chances

    def _queues(self) -> tuple[OrderedDict[str, _Item[V]], ...]:
        return (self._queue,)


class S3FifoShard(Shard[V]):
    """S3-FIFO (Yang et al., SOSP 2023): new items prove themselves in a small queue first.

    What is asked for there moves to the main queue; what is not, leaves but is remembered as a
    ghost, and goes straight to the main queue when it comes back soon. A hit only raises a small
    counter. Prompts that are never repeated therefore push out each other and nothing else.
    """

    __slots__ = ("_ghosts", "_main", "_small", "_small_bytes", "_small_limit_bytes")

    def __init__(self, limit_bytes: int) -> None:
        super().__init__(limit_bytes)
        self._small: OrderedDict[str, _Item[V]] = OrderedDict()
        self._main: OrderedDict[str, _Item[V]] = OrderedDict()
        # Hashes, not keys: a collision only sends an item to the wrong queue.
        self._ghosts: OrderedDict[int, None] = OrderedDict()
        self._small_bytes = 0
        self._small_limit_bytes = int(limit_bytes * _SMALL_SHARE)

    def _reset(self) -> None:
        self._ghosts.clear()
        self._small_bytes = 0

    def _hit(self, key: str) -> _Item[V] | None:
        item = self._main.get(key) or self._small.get(key)
        if item is not None and item.frequency < _FREQUENCY_CAP:
            item.frequency += 1
        return item

    def _admit(self, key: str, item: _Item[V], old: _Item[V] | None) -> None:
        if old is not None:  # a new value of the same key is as popular as the old one
            item.is_main, item.frequency = old.is_main, old.frequency
        elif hash(key) in self._ghosts:
            del self._ghosts[hash(key)]
            item.is_main = True
        if item.is_main:
            self._main[key] = item
        else:
            self._small[key] = item
            self._small_bytes += item.cost_bytes

    def _unlink(self, key: str) -> _Item[V] | None:
        item = self._main.pop(key, None)
        if item is None:
            item = self._small.pop(key, None)
            self._small_bytes -= item.cost_bytes if item is not None else 0
        return item

    def _pop_victim(self, chances: int) -> tuple[str, _Item[V], int]:
        while True:
            if self._small_bytes > self._small_limit_bytes or not self._main:
                key, item = self._small.popitem(last=False)
                self._small_bytes -= item.cost_bytes
                if not item.frequency or not chances:
                    self._remember(key)
                    return key, item, chances
                item.is_main, item.frequency = True, 0
            else:
                key, item = self._main.popitem(last=False)
                if not item.frequency or not chances:
                    return key, item, chances
                item.frequency -= 1
            self._main[key] = item
            chances -= 1

    def _remember(self, key: str) -> None:
        self._ghosts[hash(key)] = None
        limit = max(_MIN_GHOSTS, self.entries)
        for _ in range(min(2, len(self._ghosts) - limit)):  # two: shrinks with the queues, no pause
            self._ghosts.popitem(last=False)

    def _queues(self) -> tuple[OrderedDict[str, _Item[V]], ...]:
        return self._main, self._small
