"""The entries, as one write transaction sees them: four tables that always change together."""

from collections.abc import Callable, Mapping
from struct import error as StructError  # noqa: N812 - it is a class
from typing import Any

from routecache_middleware.coordinators.lmdb.layout import (
    EXPIRY_ROW,
    INDEX_ROW,
    LAYERS,
    NUMBER,
    ORDER_KEY,
    SLOT_BYTES,
    USAGE_ROW,
    DamagedError,
    Usage,
)

__all__ = ["ENTRY_TABLES", "Shelf", "read_usage"]

ENTRY_TABLES = ("entries", "index", "order", "expiry", "usage")
"""What is emptied when entries have to go all at once."""


def read_usage(txn: Any, tables: Mapping[str, Any], layer: int) -> Usage:
    """Return what a layer holds.

    Raises:
        DamagedError: Its row is not one of ours.
    """
    row = txn.get(bytes([layer]), db=tables["usage"])
    if row is None:
        return Usage()
    try:
        return Usage(*USAGE_ROW.unpack(row))
    except StructError as error:
        raise DamagedError("usage of a layer") from error


class Shelf:
    """Puts entries in and takes them out. ``save`` has to be called before the commit."""

    def __init__(self, txn: Any, tables: Mapping[str, Any]) -> None:
        self._txn = txn
        self._tables = tables
        self._usage: dict[int, Usage] = {}

    def usage(self, layer: int) -> Usage:
        """Return what a layer holds, this transaction's changes included."""
        found = self._usage.get(layer)
        if found is None:
            found = self._usage[layer] = read_usage(self._txn, self._tables, layer)
        return found

    def get(self, slot: bytes) -> bytes | None:
        """Return what stands in a slot."""
        value: bytes | None = self._txn.get(slot, db=self._tables["entries"])
        return value

    def put(
        self, slot: bytes, key: bytes, value: bytes, *, layer: int, expiry_ms: int, charge: int
    ) -> None:
        """Put ``value`` into ``slot``, as the youngest of its layer."""
        self.delete(slot)
        before = self.usage(layer)
        sequence = before.sequence + 1
        self._usage[layer] = Usage(
            before.entries + 1, before.charged_bytes + charge, before.evictions, sequence
        )
        self._put("entries", slot, value)
        self._put("index", slot, INDEX_ROW.pack(layer, sequence, expiry_ms, charge) + key)
        self._put("order", ORDER_KEY.pack(layer, sequence), slot)
        self._put("expiry", EXPIRY_ROW.pack(expiry_ms, slot), b"")

    def delete(self, slot: bytes) -> int | None:
        """Empty a slot; returns the layer of what stood there, or None."""
        row = self._txn.pop(slot, db=self._tables["index"])
        if row is None:
            return None
        layer, sequence, expiry_ms, charge = _index_row(row)
        for table, key in (
            ("entries", slot),
            ("order", ORDER_KEY.pack(layer, sequence)),
            ("expiry", EXPIRY_ROW.pack(expiry_ms, slot)),
        ):
            self._txn.delete(key, db=self._tables[table])
        before = self.usage(layer)
        if before.entries < 1 or before.charged_bytes < charge:
            raise DamagedError("usage of a layer")
        self._usage[layer] = before._replace(
            entries=before.entries - 1, charged_bytes=before.charged_bytes - charge
        )
        return layer

    def drop_expired(self, now_s: float, limit: int) -> int:
        """Take out up to ``limit`` entries that have expired, and say how many."""
        now_ms = int(now_s * 1000)
        for count in range(limit):
            first = self._first("expiry", b"")
            if first is None or int.from_bytes(first[0][: NUMBER.size], "big") > now_ms:
                return count
            self._take_out("expiry", first[0], first[0][NUMBER.size :])
        return limit

    def evict(self, layer: int, limit: int, is_wanted: Callable[[bytes], bool]) -> int:
        """Take out up to ``limit`` of a layer's oldest entries, and say how many rows that freed.

        Entries of which ``is_wanted`` says that they were used are made the youngest instead, but
        no more than ``limit`` of them: this has to end.
        """
        freed = evicted = spared = 0
        prefix = bytes([layer])
        while freed < limit:
            first = self._first("order", prefix)
            if first is None:
                break
            order_key, slot = first
            if spared < limit and is_wanted(slot):
                self._make_youngest(layer, order_key, slot)
                spared += 1
                continue
            evicted += self._take_out("order", order_key, slot)
            freed += 1
        before = self.usage(layer)
        self._usage[layer] = before._replace(evictions=before.evictions + evicted)
        return freed

    def save(self) -> None:
        """Write the usage figures."""
        for layer, usage in self._usage.items():
            self._put("usage", bytes([layer]), USAGE_ROW.pack(*usage))

    def _first(self, table: str, prefix: bytes) -> tuple[bytes, bytes] | None:
        cursor = self._txn.cursor(db=self._tables[table])
        if not cursor.set_range(prefix or b"\0"):
            return None
        key, value = cursor.item()
        return (key, value) if key.startswith(prefix) else None

    def _take_out(self, table: str, key: bytes, slot: bytes) -> bool:
        was_there = len(slot) == SLOT_BYTES and self.delete(slot) is not None
        # Gone with its slot, unless the row was an orphan, which must not be found for ever.
        self._txn.delete(key, db=self._tables[table])
        return was_there

    def _make_youngest(self, layer: int, order_key: bytes, slot: bytes) -> None:
        row = self._txn.get(slot, db=self._tables["index"])
        self._txn.delete(order_key, db=self._tables["order"])
        if row is None:
            return
        _, _, expiry_ms, charge = _index_row(row)
        before = self.usage(layer)
        sequence = before.sequence + 1
        self._usage[layer] = before._replace(sequence=sequence)
        key = row[INDEX_ROW.size :]
        self._put("index", slot, INDEX_ROW.pack(layer, sequence, expiry_ms, charge) + key)
        self._put("order", ORDER_KEY.pack(layer, sequence), slot)

    def _put(self, table: str, key: bytes, value: bytes) -> None:
        self._txn.put(key, value, db=self._tables[table])


def _index_row(row: bytes) -> tuple[int, int, int, int]:
    try:
        layer, sequence, expiry_ms, charge = INDEX_ROW.unpack_from(row)
    except StructError as error:
        raise DamagedError("index of an entry") from error
    if layer >= len(LAYERS):
        raise DamagedError("layer of an entry")
    return layer, sequence, expiry_ms, charge
