"""NearStore: copies of entries that a shared coordinator holds, and whether they may be used.

A copy is what the shared coordinator once confirmed, with the position that its maker had captured.
Whether it is current depends on that position and on the rows of the log after it, and on nothing
else, so it stays exactly as true as the log that is known here is complete:

* Rows only add reasons to drop a copy. A copy that has been found current up to the position that
  the table has reached is current until the table moves, so it is judged once per position.
* A gap in the events changes nothing: what is not known yet has not been claimed either. Whoever
  uses a copy needs proof that the log was read to its end a moment ago.
* A log that was rewound has an ``all`` row, or makes the table begin with one, whose position is
  greater than any that was handed out before. Every copy from before is void by its own position,
  and one that was captured later was made by somebody who had seen the new log. So nothing has to
  be cleared, and copies that are rightly current survive.

A copy may be older than what the shared coordinator holds by now: then another process has replaced
an entry that was, and is, current and fresh. That ends with the copy's freshness.
"""

from collections.abc import Mapping
from types import MappingProxyType

from routecache_middleware.coordinators.bounded import ByteBoundedStore
from routecache_middleware.coordinators.charge import charged_bytes
from routecache_middleware.core.choices import Eviction
from routecache_middleware.core.freshness import Freshness, classify
from routecache_middleware.core.invalidation import InvalidationTable
from routecache_middleware.core.keys import CacheKey, Layer
from routecache_middleware.core.models import Entry, Position
from routecache_middleware.core.ports import Clock, Fetched, LayerUsage

__all__ = ["SHARES", "NearStore"]

SHARES: Mapping[Layer, float] = MappingProxyType(
    {Layer.RESULT: 0.80, Layer.ROUTING: 0.15, Layer.METADATA: 0.05}
)
"""How the budget is divided. Load metrics are never kept near: they live for a few seconds, and
others write them all the time."""

_LARGEST_SHARE = 16
# Members of an Enum are slow to read from their class in Python 3.11: 75 ns each, measured.
_FRESH = Freshness.FRESH


class _Copy:
    __slots__ = ("entry", "judged")

    def __init__(self, entry: Entry, judged: Position) -> None:
        self.entry = entry
        self.judged = judged  # the position up to which it is known to be current


class NearStore:
    """A byte-bounded store of copies, with a table of invalidations to judge them by.

    Attributes:
        table: The log as far as it is known here.
    """

    __slots__ = ("_clock", "_largest_bytes", "_stores", "table")

    def __init__(self, *, max_bytes: int, clock: Clock, eviction: Eviction) -> None:
        """Prepare an empty store.

        Args:
            max_bytes: Budget of all layers together. What is larger than a 16th of it is not kept:
                it would push out too much.
            clock: The wall clock, for what expires.
            eviction: What leaves first when a layer's share is full.
        """
        self._clock = clock
        self._largest_bytes = max_bytes // _LARGEST_SHARE
        self._stores: dict[str, ByteBoundedStore[_Copy]] = {
            layer.value: ByteBoundedStore(max_bytes=int(max_bytes * share), eviction=eviction)
            for layer, share in SHARES.items()
        }
        self.table = InvalidationTable()

    def fresh(self, key: CacheKey) -> Entry | None:
        """Return a copy that is current and fresh; one that is stale may have been replaced."""
        now_s = self._clock.now_s()
        entry = self._current(key, now_s)
        return None if entry is None or classify(entry, now_s) is not _FRESH else entry

    def current(self, key: CacheKey) -> Entry | None:
        """Return a copy that is current, but may be stale; drop one that is not current."""
        return self._current(key, self._clock.now_s())

    def _current(self, key: CacheKey, now_s: float) -> Entry | None:
        store = self._stores.get(key.partition(":")[0])
        copy = None if store is None else store.get(key, now_s)
        if store is None or copy is None:
            return None
        entry, table = copy.entry, self.table
        if copy.judged != table.position:
            if not table.is_current(key, entry):
                store.delete(key)
                return None
            copy.judged = table.position
        return entry

    def put(self, key: CacheKey, entry: Entry) -> None:
        """Keep a copy if it is of use: current, fresh and small enough. The old one is gone."""
        store = self._stores.get(key.partition(":")[0])
        if store is None:
            return
        now_s = self._clock.now_s()
        size_bytes = charged_bytes(entry)
        is_useful = (
            size_bytes <= self._largest_bytes
            and classify(entry, now_s) is _FRESH
            and self.table.is_current(key, entry)
        )
        if not is_useful:
            store.delete(key)
            return
        copy = _Copy(entry, self.table.position)
        store.set(key, copy, size_bytes=size_bytes, expires_s=entry.expires_s, now_s=now_s)

    def drop(self, key: CacheKey, seen: Entry | None = None) -> None:
        """Forget a copy; with ``seen``, only if it equals that."""
        store = self._stores.get(key.partition(":")[0])
        if store is None:
            return
        copy = None if seen is None else store.get(key, self._clock.now_s())
        if seen is None or (copy is not None and copy.entry == seen):
            store.delete(key)

    def learn(self, asked: Position, fetched: Fetched) -> None:
        """Take in the log's tail after ``asked``; one that begins beyond the table's end is not."""
        table = self.table
        if fetched.is_rewound:
            # Forward only, as others may have read further while this was on its way.
            table.rewind(max(fetched.position, table.position))
        elif asked > table.position:
            return
        if fetched.rows:
            table.fold(fetched.rows)
        table.advance(fetched.position)

    def clear(self) -> None:
        """Forget every copy; what is known of the log stays."""
        for store in self._stores.values():
            store.clear()

    def usage(self) -> Mapping[Layer, LayerUsage]:
        """Return what each layer holds; frees a few expired copies first."""
        now_s = self._clock.now_s()
        for store in self._stores.values():
            store.sweep(now_s)
        return {layer: _usage(self._stores[layer]) for layer in SHARES}


def _usage(store: ByteBoundedStore[_Copy]) -> LayerUsage:
    return LayerUsage(store.entries, store.bytes, store.limit_bytes, store.evictions)
