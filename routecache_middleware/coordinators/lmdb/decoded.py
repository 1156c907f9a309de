"""Entries decoded lately, each beside the very bytes that it was decoded from.

Decoding costs more than reading. What is kept saves it, and nothing else: every lookup still reads
the file, and only a value that is the same byte for byte is not decoded again.
"""

from routecache_middleware.core.codec import EntryCodec
from routecache_middleware.core.keys import CacheKey
from routecache_middleware.core.models import Entry

__all__ = ["DecodedEntries"]

_MAX_VALUE_BYTES = 65_536
_OVERHEAD_BYTES = 1_024


class DecodedEntries:
    """A bounded number of them, oldest out first. Not thread-safe; its owner holds a lock."""

    __slots__ = ("_bytes", "_codec", "_kept", "_max_bytes")

    def __init__(self, codec: EntryCodec, *, max_bytes: int = 16 * 1024 * 1024) -> None:
        self._codec = codec
        self._max_bytes = max_bytes
        self._bytes = 0
        self._kept: dict[bytes, tuple[bytes, Entry]] = {}

    def __len__(self) -> int:
        return len(self._kept)

    def decode(self, key: CacheKey, slot: bytes, value: memoryview) -> Entry:
        """Return the entry that ``value``, found in the slot of ``key``, stands for.

        Raises:
            CorruptEntryError: It is not an entry of ``key``.
        """
        if len(value) > _MAX_VALUE_BYTES:
            return self._codec.decode(key, value)
        raw = bytes(value)
        kept = self._kept.get(slot)
        if kept is not None and kept[0] == raw:
            return kept[1]
        entry = self._codec.decode(key, raw)
        self._drop(slot)
        self._kept[slot] = raw, entry
        self._bytes += _cost_bytes(raw, entry)
        while self._bytes > self._max_bytes:
            self._drop(next(iter(self._kept)))
        return entry

    def _drop(self, slot: bytes) -> None:
        kept = self._kept.pop(slot, None)
        if kept is not None:
            self._bytes -= _cost_bytes(*kept)


def _cost_bytes(raw: bytes, entry: Entry) -> int:
    return len(raw) + len(entry.body) + _OVERHEAD_BYTES
