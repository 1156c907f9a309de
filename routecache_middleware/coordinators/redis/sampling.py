"""A few entries to look at, for operators. A bounded number of SCAN steps, never all keys."""

from collections.abc import Sequence
from typing import Any

from routecache_middleware.coordinators.redis.entries import Entries
from routecache_middleware.coordinators.redis.keys import Keys
from routecache_middleware.coordinators.redis.links import Links
from routecache_middleware.core.keys import CacheKey, Layer
from routecache_middleware.core.models import Entry

__all__ = ["sample"]

_STEPS = 8
_KEYS_PER_STEP = 500


async def sample(
    links: Links, keys: Keys, entries: Entries, layer: Layer, limit: int
) -> list[tuple[CacheKey, Entry]]:
    """Return up to ``limit`` entries of a layer, from among the first 4,000 keys of each server.

    Raises:
        CoordinatorError: No server answered.
    """
    if limit <= 0:
        return []
    found: dict[CacheKey, Entry] = {}
    cursors = await _first_cursors(links)
    for _ in range(_STEPS):
        names: list[bytes] = []
        for place, cursor in list(cursors.items()):
            following, batch = await _scan(links, place, cursor, keys.pattern(layer))
            names += batch
            cursors[place] = following
            if not int(following):
                del cursors[place]
        wanted = [keys.cache_key(name) for name in names][: limit - len(found)]
        fetched = zip(wanted, await entries.fetch(wanted), strict=True)
        found |= {key: entry for key, entry in fetched if entry is not None}
        if not cursors or len(found) >= limit:
            break
    return list(found.items())[:limit]


async def _first_cursors(links: Links) -> dict[Any, Any]:
    if links.cluster is None:
        return {None: 0}
    return dict.fromkeys(await links.cluster.primaries(), 0)


async def _scan(links: Links, place: Any, cursor: Any, pattern: str) -> tuple[Any, Sequence[bytes]]:
    command = ("SCAN", cursor, "MATCH", pattern, "COUNT", _KEYS_PER_STEP)
    if links.cluster is None:
        cursor, names = await links.entries.call(*command)
    else:
        cursor, names = await links.cluster.on(place, command)
        if isinstance(cursor, dict):  # the driver's: cursor per node
            cursor = cursor.popitem()[1]
    return cursor, names
