"""ByteBoundedStore: what the memory coordinator keeps decisions and results in.

The store is cut into shards, so that no dict resize and no mass expiry pauses the event loop, and
so that threads seldom wait for each other. A shard never holds more bytes than its share.
"""

import math
from typing import Generic, TypeVar

from routecache_middleware.coordinators.expiry import SWEEP_LIMIT
from routecache_middleware.coordinators.shards import LruShard, S3FifoShard, Shard
from routecache_middleware.core.choices import Eviction

__all__ = ["OVERHEAD_BYTES", "ByteBoundedStore"]

V = TypeVar("V")

OVERHEAD_BYTES = 256
"""What is charged for an item beyond its key and value: queue and expiry slots, object headers."""

_MAX_SHARDS = 16
_MIN_SHARD_BYTES = 4 * 1024 * 1024
_ITEMS_PER_SHARD = 2


class ByteBoundedStore(Generic[V]):
    """A thread-safe, byte-bounded map with an expiry per item.

    Times are wall-clock Unix seconds, handed in by the caller. Keys are hashed with Python's own
    randomised hash, so that nobody outside can aim at one shard.
    """

    __slots__ = ("_mask", "_next_sweep", "_shards", "limit_bytes", "max_item_bytes")

    def __init__(self, *, max_bytes: int, eviction: Eviction = Eviction.S3FIFO) -> None:
        """Prepare an empty store.

        Args:
            max_bytes: Budget of keys, values and :data:`OVERHEAD_BYTES` per item.
            eviction: What leaves first when it is full.
        """
        # A shard gets at least 4 MiB: with a small budget fewer shards, so that one item of a
        # megabyte still fits. Half a shard is the most that one item may push out.
        wanted = min(_MAX_SHARDS, max(1, max_bytes // _MIN_SHARD_BYTES))
        count = 1 << (wanted.bit_length() - 1)
        kind: type[Shard[V]] = S3FifoShard if eviction is Eviction.S3FIFO else LruShard
        self._shards = [kind(max_bytes // count) for _ in range(count)]
        self._mask = count - 1
        self._next_sweep = 0
        self.limit_bytes = max_bytes
        self.max_item_bytes = max_bytes // count // _ITEMS_PER_SHARD

    def get(self, key: str, now_s: float) -> V | None:
        """Return the value of ``key``, or None when there is none or it has expired."""
        return self._shards[hash(key) & self._mask].get(key, now_s)

    def set(self, key: str, value: V, *, size_bytes: int, expires_s: float, now_s: float) -> bool:
        """Keep ``value`` until ``expires_s``; whatever was kept under ``key`` is gone in any case.

        Args:
            key: Where to keep it.
            value: What to keep.
            size_bytes: Size of ``value``; the key and the overhead are added here.
            expires_s: When it expires, Unix seconds.
            now_s: The time, Unix seconds.

        Returns:
            False when it is larger than ``max_item_bytes`` or has already expired.
        """
        shard = self._shards[hash(key) & self._mask]
        cost_bytes = size_bytes + len(key) + OVERHEAD_BYTES
        # The comparison is written so that NaN is refused as well.
        if cost_bytes > self.max_item_bytes or not now_s < expires_s < math.inf:
            shard.delete(key)
            return False
        shard.set(key, value, cost_bytes, expires_s, now_s)
        return True

    def delete(self, key: str) -> bool:
        """Forget ``key``; False when it was not there."""
        return self._shards[hash(key) & self._mask].delete(key)

    def sweep(self, now_s: float) -> int:
        """Free up to 64 expired items, shard after shard, and say how many.

        Writes sweep the shard they touch; this is for stores that nobody writes to any more.
        """
        freed = 0
        for _ in self._shards:
            freed += self._shards[self._next_sweep].sweep(now_s, SWEEP_LIMIT - freed)
            if freed == SWEEP_LIMIT:
                break
            self._next_sweep = (self._next_sweep + 1) & self._mask
        return freed

    def sample(self, limit: int, now_s: float) -> list[tuple[str, V]]:
        """Return up to ``limit`` unexpired items, in no particular order; never a full scan."""
        found: list[tuple[str, V]] = []
        for shard in self._shards:
            if len(found) >= limit:
                break
            found += shard.sample(limit - len(found), now_s)
        return found

    def clear(self) -> None:
        """Forget everything."""
        for shard in self._shards:
            shard.clear()

    @property
    def entries(self) -> int:
        """Items held, expired ones that were not swept yet included."""
        return sum(shard.entries for shard in self._shards)

    @property
    def bytes(self) -> int:
        """What they are charged for."""
        return sum(shard.bytes for shard in self._shards)

    @property
    def evictions(self) -> int:
        """Items that had to leave before their time, since the store was made."""
        return sum(shard.evictions for shard in self._shards)
