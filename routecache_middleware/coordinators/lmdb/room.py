"""Making room before it is needed, in transactions that are small enough to succeed.

LMDB writes changed pages to free ones, so deleting needs room as well: a full file cannot be
emptied by one great transaction, and eviction within the transaction of a put fails with it. So
entries leave while a quarter of the file is still free, a few at a time, in transactions of their
own; when the file fills up all the same, fewer at a time; and when nothing helps, all at once. A
cache may lose everything, but it may not turn read-only.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from routecache_middleware.coordinators.lmdb.environment import Environment
from routecache_middleware.coordinators.lmdb.layout import EXPIRY_ROW, LAYERS, NUMBER, DamagedError
from routecache_middleware.coordinators.lmdb.shelf import ENTRY_TABLES, Shelf

__all__ = ["Room"]

_BATCH = 64
_SMALL_BATCH = 16
_SQUEEZES = 8
_HIGH = 0.75
_LOW = 0.60
_BATCHES_PER_CALL = 8


class Room:
    """Keeps each layer below its limit, and the file below its watermark.

    Attributes:
        limits: Layer number to the bytes that its entries may be charged for.
        wipes: How often nothing but dropping everything has helped.
    """

    def __init__(
        self,
        environment: Environment,
        limits: Mapping[int, int],
        is_wanted: Callable[[bytes], bool],
    ) -> None:
        self._environment = environment
        self._is_wanted = is_wanted
        self._is_draining = False
        self.limits = limits
        self.wipes = 0

    def make(self, incoming: Mapping[int, int], now_s: float) -> None:
        """See that ``incoming`` (layer number to bytes) fits, as far as eviction can."""
        while self._has_expired(now_s):
            with self._shelf() as shelf:
                freed = shelf.drop_expired(now_s, _BATCH)
            if freed < _BATCH:
                break
        for layer, wanted_bytes in incoming.items():
            while self._is_over(layer, wanted_bytes):
                if not self._evict(layer, _BATCH):
                    break
        self._drain()

    def squeeze(self) -> None:
        """The file is full: make some room in any way there is."""
        # A reader that was killed keeps every page that it could still have read.
        self._environment.check_readers()
        for _ in range(_SQUEEZES):
            try:
                self._evict(self._fullest(), _SMALL_BATCH)
            except (self._environment.driver.MapFullError, DamagedError):
                return self.wipe()
        return None

    def wipe(self) -> None:
        """Drop all entries; leases and the log stay, if the file is not past that as well."""
        self.wipes += 1
        try:
            with self._environment.write() as txn:
                for name in ENTRY_TABLES:
                    txn.drop(self._environment.tables[name], delete=False)
        except self._environment.driver.Error:
            self._environment.replace()

    def _drain(self) -> None:
        """Evict, between two watermarks, a bounded number at a time: others wait for the writer."""
        for _ in range(_BATCHES_PER_CALL):
            with self._environment.read() as txn:
                used = self._environment.used_bytes(txn) / self._environment.map_bytes
            self._is_draining = used > (_LOW if self._is_draining else _HIGH)
            if not self._is_draining or not self._evict(self._fullest(), _BATCH):
                return

    def _has_expired(self, now_s: float) -> bool:
        with self._environment.read() as txn:
            cursor = txn.cursor(db=self._environment.tables["expiry"])
            if not cursor.first():
                return False
            key = cursor.key()
            is_ours = len(key) == EXPIRY_ROW.size
            return not is_ours or int.from_bytes(key[: NUMBER.size], "big") <= int(now_s * 1000)

    def _is_over(self, layer: int, incoming_bytes: int) -> bool:
        with self._environment.read() as txn:
            charged = Shelf(txn, self._environment.tables).usage(layer).charged_bytes
        return charged > 0 and charged + incoming_bytes > self.limits[layer]

    def _fullest(self) -> int:
        with self._environment.read() as txn:
            shelf = Shelf(txn, self._environment.tables)
            return max(
                range(len(LAYERS)),
                key=lambda layer: shelf.usage(layer).charged_bytes / max(1, self.limits[layer]),
            )

    def _evict(self, layer: int, limit: int) -> int:
        with self._shelf() as shelf:
            return shelf.evict(layer, limit, self._is_wanted)

    @contextmanager
    def _shelf(self) -> Iterator[Shelf]:
        with self._environment.write() as txn:
            shelf = Shelf(txn, self._environment.tables)
            yield shelf
            shelf.save()
