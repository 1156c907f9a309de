"""Reading, inline: one transaction that begins and ends within one call, on whatever thread."""

from collections.abc import Mapping, Sequence
from typing import Any

from routecache_middleware.coordinators.lmdb import log
from routecache_middleware.coordinators.lmdb.decoded import DecodedEntries
from routecache_middleware.coordinators.lmdb.layout import (
    INDEX_ROW,
    LAYERS,
    ORDER_KEY,
    DamagedError,
    Usage,
    slot_of,
    unpack_key,
)
from routecache_middleware.coordinators.lmdb.pending import Pending
from routecache_middleware.coordinators.lmdb.registry import Shared
from routecache_middleware.coordinators.lmdb.shelf import read_usage
from routecache_middleware.core.codec import EntryCodec
from routecache_middleware.core.keys import CacheKey
from routecache_middleware.core.models import Entry, Position
from routecache_middleware.core.ports import Fetched
from routecache_middleware.errors import CoordinatorError, CorruptEntryError

__all__ = ["Reader"]

_SCANNED_PER_WANTED = 4
_SCANNED_AT_LEAST = 256


class Reader:
    """What a coordinator reads with.

    Attributes:
        corrupt_entries: Stored values that could not be read and were taken for misses.
        reads: How many transactions there were.
    """

    def __init__(self, codec: EntryCodec) -> None:
        self._codec = codec
        self._decoded = DecodedEntries(codec)
        self.corrupt_entries = 0
        self.reads = 0

    def fetch(
        self, shared: Shared, keys: Sequence[CacheKey], after: Position, now_s: float
    ) -> Fetched | None:
        """Read entries and the log in one transaction; None when the writer has to help first.

        Raises:
            CoordinatorError: The driver failed.
        """
        environment, hot = shared.environment, shared.hot
        # Before the transaction begins: what is not pending any more is committed by then.
        pending = shared.writer.pending
        own = _pending(pending, keys) if pending else None
        entries: list[Entry | None] = []
        with environment.read_lock:
            if not environment.is_usable():
                return None
            self.reads += 1
            tables = environment.tables
            table = tables["entries"]
            try:
                txn = environment.handle.begin(buffers=True)
                try:
                    position = log.top(txn, tables)
                    if after > position:
                        return None
                    for key in keys:
                        slot = slot_of(key)
                        if own and slot in own:
                            entry = own[slot].entry
                        else:
                            value = txn.get(slot, None, table)
                            entry = None if value is None else self._decode(key, slot, value)
                        if entry is not None and now_s < entry.expires_s:
                            hot.add(slot)
                            entries.append(entry)
                        else:
                            entries.append(None)
                    rows = () if position == after else log.tail(txn, tables, after)
                finally:
                    txn.abort()
            except (environment.driver.MapResizedError, DamagedError):
                return None
            except (environment.driver.CorruptedError, environment.driver.PageNotFoundError):
                environment.is_broken = True
                return None
            except environment.driver.Error as error:
                raise CoordinatorError("the LMDB file could not be read") from error
        shared.writer.has_read(position)
        return Fetched(entries, position, rows)

    def decode(self, key: CacheKey, value: bytes | None, now_s: float) -> Entry | None:
        """Return the unexpired entry that ``value`` stands for, if any; in any thread."""
        if value is None:
            return None
        try:
            entry = self._codec.decode(key, value)
        except CorruptEntryError:
            self.corrupt_entries += 1
            return None
        return entry if now_s < entry.expires_s else None

    def sample(
        self, txn: Any, tables: Any, layer: int, limit: int, now_s: float
    ) -> list[tuple[CacheKey, Entry]]:
        """Return up to ``limit`` unexpired entries, youngest first; never a full scan."""
        found: list[tuple[CacheKey, Entry]] = []
        cursor = txn.cursor(db=tables["order"])
        is_there = cursor.set_range(ORDER_KEY.pack(layer + 1, 0))
        is_there = cursor.prev() if is_there else cursor.last()
        for _ in range(max(_SCANNED_AT_LEAST, limit * _SCANNED_PER_WANTED)):
            if len(found) >= limit or not is_there or cursor.key()[0] != layer:
                break
            slot = cursor.value()
            is_there = cursor.prev()
            row = txn.get(slot, db=tables["index"])
            if row is None:
                continue
            key = unpack_key(row[INDEX_ROW.size :])
            entry = self.decode(key, txn.get(slot, db=tables["entries"]), now_s)
            if entry is not None:
                found.append((key, entry))
        return found

    def usage(self, shared: Shared) -> list[Usage] | None:
        """Return what each layer holds; None while that cannot be read."""
        environment = shared.environment
        with environment.read_lock:
            if not environment.is_usable():
                return None
            try:
                with environment.handle.begin() as txn:
                    tables = environment.tables
                    return [read_usage(txn, tables, layer) for layer in range(len(LAYERS))]
            except (environment.driver.Error, DamagedError):
                return None

    def _decode(self, key: CacheKey, slot: bytes, value: memoryview) -> Entry | None:
        try:
            return self._decoded.decode(key, slot, value)
        except CorruptEntryError:
            self.corrupt_entries += 1
            return None


def _pending(pending: Mapping[bytes, Pending], keys: Sequence[CacheKey]) -> dict[bytes, Pending]:
    """Return what is on its way to the slots of ``keys``; another thread may change ``pending``."""
    found = ((slot, pending.get(slot)) for slot in map(slot_of, keys))
    return {slot: one for slot, one in found if one is not None}
