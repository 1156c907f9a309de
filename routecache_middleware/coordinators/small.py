"""SmallStore: cachetools' TLRUCache made safe for the small classes (metadata, load, markers).

TLRUCache is byte-bounded with an expiry per item, which is what we need, and has traps, measured on
8.0.1, which this wrapper closes:

1. an iterator that is not exhausted freezes its clock, and expired items are served: none is kept;
2. it is not thread-safe and breaks for good when threads meet in it: one lock around everything;
3. items that expire together are removed in one call: the number of items is capped;
4. ``len``, ``currsize`` and ``repr`` remove expired items (a statistics page would stall the loop),
   and reading an expired item does not free it: counters bypass expiry, a read frees;
5. a value that is too large raises, and the old value stays: the size is checked first;
6. deleting an expired item raises KeyError, and ``getsizeof`` sees no key: caught, and counted in;
7. ``get()`` looks twice and is three times slower than ``[]``: we use ``[]``.
"""

import math
import threading
from contextlib import suppress
from typing import Generic, NamedTuple, TypeVar

from cachetools import Cache, TLRUCache

from routecache_middleware.coordinators.bounded import OVERHEAD_BYTES

__all__ = ["SmallStore"]

V = TypeVar("V")


class _Held(NamedTuple, Generic[V]):
    value: V
    cost_bytes: int
    expires_s: float


class SmallStore(Generic[V]):
    """A thread-safe, byte-bounded LRU map with an expiry per item, for some thousand small items.

    Same methods and meaning as :class:`ByteBoundedStore`, so that one can stand in for the other.
    """

    __slots__ = ("_cache", "_lock", "_max_entries", "_now_s", "evictions", "limit_bytes")

    def __init__(self, *, max_bytes: int, max_entries: int = 4096) -> None:
        """Prepare an empty store.

        Args:
            max_bytes: Budget of keys, values and 256 bytes of bookkeeping per item.
            max_entries: How many items at most; bounds the pause when all expire together.
        """
        self._now_s = 0.0
        self._lock = threading.Lock()
        self._max_entries = max_entries
        self._cache: TLRUCache[str, _Held[V]] = TLRUCache(
            max_bytes, ttu=_expires_s, timer=self._timer, getsizeof=_cost_bytes
        )
        self.limit_bytes = max_bytes
        self.evictions = 0

    def get(self, key: str, now_s: float) -> V | None:
        """Return the value of ``key``, or None when there is none or it has expired."""
        with self._lock:
            self._now_s = now_s
            try:
                return self._cache[key].value
            except KeyError:
                self._discard(key)  # it may be there, expired, and would stay
                return None

    def set(self, key: str, value: V, *, size_bytes: int, expires_s: float, now_s: float) -> bool:
        """Keep ``value`` until ``expires_s``; whatever was kept under ``key`` is gone in any case.

        Returns:
            False when it is larger than the whole store or has already expired.
        """
        cost_bytes = size_bytes + len(key) + OVERHEAD_BYTES
        with self._lock:
            self._now_s = now_s
            if cost_bytes > self.limit_bytes or not now_s < expires_s < math.inf:
                self._discard(key)
                return False
            self._put(key, _Held(value, cost_bytes, expires_s))
            return True

    def delete(self, key: str) -> bool:
        """Forget ``key``; False when it was not there."""
        with self._lock:
            return self._discard(key)

    def sweep(self, now_s: float) -> int:
        """Free every expired item, and say how many."""
        with self._lock:
            self._now_s = now_s
            before = self.entries
            self._cache.expire()
            return before - self.entries

    def sample(self, limit: int, now_s: float) -> list[tuple[str, V]]:
        """Return up to ``limit`` unexpired items, in no particular order."""
        with self._lock:
            self._now_s = now_s
            keys = list(self._cache)[:limit]  # in one go: a suspended iterator stops its clock
            # Not through the cache itself, where reading would change what leaves first.
            return [(key, Cache.__getitem__(self._cache, key).value) for key in keys]

    def clear(self) -> None:
        """Forget everything."""
        with self._lock:
            self._cache.clear()

    @property
    def entries(self) -> int:
        """Items held, expired ones that were not freed yet included."""
        return Cache.__len__(self._cache)

    @property
    def bytes(self) -> int:
        """What they are charged for."""
        return _currsize(self._cache)

    def _timer(self) -> float:
        return self._now_s

    def _put(self, key: str, held: _Held[V]) -> None:
        self._cache.expire()
        before = self.entries
        is_new = not Cache.__contains__(self._cache, key)
        if is_new and before >= self._max_entries:
            self._cache.popitem()
        self._cache[key] = held
        self.evictions += before + is_new - self.entries

    def _discard(self, key: str) -> bool:
        is_there = Cache.__contains__(self._cache, key)
        if is_there:
            with suppress(KeyError):  # raised for an expired item, after it was deleted
                del self._cache[key]
        return is_there


def _expires_s(_key: str, held: _Held[V], _now_s: float) -> float:
    return held.expires_s


def _cost_bytes(held: _Held[V]) -> int:
    return held.cost_bytes


def _currsize(cache: TLRUCache[str, _Held[V]]) -> int:
    size: int = Cache.currsize.fget(cache)  # type: ignore[attr-defined]  # a property, unbound
    return size
