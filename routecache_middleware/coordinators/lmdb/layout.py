"""What stands in the LMDB file: the databases in it, their keys and their rows. Pure.

    entries    slot -> entry as the codec wrote it
    index      slot -> layer (1) | sequence (8) | expiry in ms (8) | charge (8) | key
    order      layer (1) | sequence (8) -> slot: oldest first, for eviction
    expiry     expiry in ms (8) | slot -> nothing: first to expire first
    usage      layer (1) -> entries (8) | charge (8) | evictions (8) | last sequence (8)
    leases     slot of key and form -> who may fill it
    log        position (8) -> invalidation row
    news       number (8) -> kind (1) | key: latest fills and releases
    processes  host:pid -> how far it has read the log, and when it said so
    meta       b"position" -> where the log ends (8); b"news" -> last number (8)

All numbers are big-endian, so that LMDB keeps them in order. LMDB keys end at 511 bytes; a slot is
a hash of the key. The codec's checksum tells whether an entry is that of the key asked for.
"""

from hashlib import blake2b
from struct import Struct
from typing import NamedTuple

from routecache_middleware.core.codec import FORMAT_VERSION
from routecache_middleware.core.keys import CacheKey, Layer

__all__ = [
    "DATABASES",
    "EXPIRY_ROW",
    "INDEX_ROW",
    "LAYERS",
    "LAYER_NUMBERS",
    "NUMBER",
    "ORDER_KEY",
    "SLOT_BYTES",
    "USAGE_ROW",
    "VERSION_NAME",
    "DamagedError",
    "Usage",
    "charge_bytes",
    "expiry_ms",
    "pack_key",
    "slot_of",
    "unpack_key",
]

VERSION_NAME = f"v1.{FORMAT_VERSION}"
"""Name of the directory of this layout: other versions, during a rolling deploy, use their own."""

DATABASES = (
    *("entries", "index", "order", "expiry", "usage"),
    *("leases", "log", "news", "processes", "meta"),
)
"""The databases inside the file."""

SLOT_BYTES = 16

NUMBER = Struct(">Q")
INDEX_ROW = Struct(">BQQQ")
ORDER_KEY = Struct(">BQ")
EXPIRY_ROW = Struct(f">Q{SLOT_BYTES}s")
USAGE_ROW = Struct(">QQQQ")

LAYERS = (Layer.ROUTING, Layer.RESULT, Layer.METADATA, Layer.LOAD)
"""Layers by their number in the file; never reordered."""

LAYER_NUMBERS = {layer.value: number for number, layer in enumerate(LAYERS)}

_NODE_HEADER_BYTES = 8
_PAGE_HEADER_BYTES = 16
# An entry's rows in index, order and expiry without the key, in leaves two thirds full.
_BOOKKEEPING_BYTES = 256
_LATEST_MS = 2**63


class DamagedError(Exception):
    """A row of the bookkeeping is not what this version writes."""


class Usage(NamedTuple):
    """What a layer holds, and the last number given to an entry of it."""

    entries: int = 0
    charged_bytes: int = 0
    evictions: int = 0
    sequence: int = 0


def slot_of(key: CacheKey, form: str | None = None) -> bytes:
    """Return where an entry is kept; with ``form``, where the lease for filling it is kept."""
    name = key if form is None else f"{key}|{form}"
    return blake2b(name.encode("utf-8", "surrogatepass"), digest_size=SLOT_BYTES).digest()


def pack_key(key: CacheKey) -> bytes:
    """Return ``key`` as it stands in a row."""
    return key.encode("utf-8", "surrogatepass")


def unpack_key(row: bytes | memoryview) -> CacheKey:
    """Return the key of :func:`pack_key`; of damaged bytes some key that nobody asks for."""
    return CacheKey(bytes(row).decode("utf-8", "replace"))


def expiry_ms(expires_s: float) -> int:
    """Return the first whole millisecond at which an entry has expired."""
    return min(_LATEST_MS, int(expires_s * 1000) + 1)


def charge_bytes(value_bytes: int, page_bytes: int) -> int:
    """Return what an entry costs in the file, pages that it fills only in part included.

    LMDB puts what is larger than half a page on pages of its own. Counting bytes instead would
    be wrong by a factor of two for values of 2 KB.
    """
    node_bytes = value_bytes + SLOT_BYTES + _NODE_HEADER_BYTES
    if node_bytes > page_bytes // 2 - 2 * _PAGE_HEADER_BYTES:
        pages = -(-(value_bytes + _PAGE_HEADER_BYTES) // page_bytes)
        return pages * page_bytes + _BOOKKEEPING_BYTES
    return node_bytes * 3 // 2 + _BOOKKEEPING_BYTES
