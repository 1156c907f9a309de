"""Builds the coordinator of ``lmdb:///path?max_bytes=...&map_bytes=...``."""

from pathlib import Path

from routecache_middleware.coordinators.compression import ZstdCompressor
from routecache_middleware.coordinators.lmdb.coordinator import MAP_PER_BYTE, LmdbCoordinator
from routecache_middleware.coordinators.lmdb.driver import load_driver
from routecache_middleware.coordinators.url import CoordinatorUrl
from routecache_middleware.core.choices import Compression
from routecache_middleware.core.codec import EntryCodec
from routecache_middleware.core.ports import Clock
from routecache_middleware.core.settings import Settings

__all__ = ["create"]

_MIN_MAP_BYTES = 64 * 1024 * 1024
_LEAST_MAP_BYTES = 1024 * 1024


def create(url: CoordinatorUrl, settings: Settings, clock: Clock) -> LmdbCoordinator:
    """Build a coordinator; opens and makes nothing.

    Raises:
        ConfigurationError: The URL names no absolute path or an option that does not exist, or the
            package lmdb, or one that a setting needs, is missing.
    """
    url.check_options("max_bytes", "map_bytes")
    if not url.location.startswith("/"):
        raise url.error("names no absolute path", "lmdb:///path/to/a/directory")
    if "\0" in url.location or url.location.strip("/") == "":
        raise url.error("names no directory of its own", "lmdb:///path/to/a/directory")
    max_bytes = url.whole_number("max_bytes", settings.max_memory_bytes)
    map_bytes = url.whole_number("map_bytes", max(_MIN_MAP_BYTES, MAP_PER_BYTE * max_bytes))
    if map_bytes < _LEAST_MAP_BYTES:
        raise url.error(f"has map_bytes={map_bytes}", f"at least {_LEAST_MAP_BYTES} for map_bytes")
    load_driver()  # now, and not at the first request
    compressor = ZstdCompressor() if settings.compression is Compression.ZSTD else None
    return LmdbCoordinator(
        path=Path(url.location),
        max_bytes=max_bytes,
        map_bytes=map_bytes,
        clock=clock,
        codec=EntryCodec(max_bytes=settings.max_result_bytes, compressor=compressor),
    )
