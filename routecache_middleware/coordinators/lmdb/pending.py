"""What waits for the writer: entries that nobody waits for, and jobs that somebody does."""

from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, NamedTuple

from routecache_middleware.coordinators.lmdb.layout import charge_bytes, expiry_ms, pack_key
from routecache_middleware.coordinators.lmdb.shelf import Shelf
from routecache_middleware.core.codec import EntryCodec
from routecache_middleware.core.keys import CacheKey
from routecache_middleware.core.models import Entry

__all__ = ["Job", "Pending", "Work"]


class Pending:
    """An entry on its way into the file; ``entry`` is None for one that is to be deleted."""

    __slots__ = ("charge", "codec", "entry", "key", "layer", "slot", "value")

    def __init__(
        self, slot: bytes, key: CacheKey, layer: int, entry: Entry | None, codec: EntryCodec
    ) -> None:
        self.slot = slot
        self.key = key
        self.layer = layer
        self.entry = entry
        self.codec = codec
        self.value = b""
        self.charge = 0

    @property
    def size_bytes(self) -> int:
        """Roughly what it occupies while it waits."""
        return len(self.entry.body) if self.entry is not None else 0

    def encode(self, page_bytes: int) -> None:
        """Make the bytes that are written, once."""
        if self.entry is not None and not self.value:
            self.value = self.codec.encode(self.key, self.entry)
            self.charge = charge_bytes(len(self.value), page_bytes) + len(self.key) * 3 // 2

    def apply(self, shelf: Shelf) -> None:
        """Write it."""
        if self.entry is None:
            shelf.delete(self.slot)
            return
        shelf.put(
            self.slot,
            pack_key(self.key),
            self.value,
            layer=self.layer,
            expiry_ms=expiry_ms(self.entry.expires_s),
            charge=self.charge,
        )


class Work(NamedTuple):
    """What a job has to work with: a write transaction that is committed when all jobs are done."""

    txn: Any
    tables: Any
    shelf: Shelf


@dataclass(frozen=True, slots=True)
class Job:
    """Something to do in a write transaction, perhaps more than once: only the last time counts.

    Attributes:
        run: What to do.
        done: Gets what ``run`` returned, after the commit.
        slot: The slot it reads or writes, if any; pending entries of it are written first.
        incoming: An entry that ``run`` may write; it is encoded, and room is made for it.
    """

    run: Callable[[Work], Any]
    done: Future[Any]
    slot: bytes | None = None
    incoming: Pending | None = None
