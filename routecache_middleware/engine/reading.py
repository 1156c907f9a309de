"""Plain reads of one record."""

from collections.abc import Callable
from typing import TypeVar

from routecache_middleware.core.keys import CacheKey, Layer
from routecache_middleware.core.models import Entry, Outcome
from routecache_middleware.core.plan import Serve
from routecache_middleware.core.settings import Mode
from routecache_middleware.engine.engine import Engine
from routecache_middleware.errors import CorruptEntryError

__all__ = ["read"]

T = TypeVar("T")


async def read(
    engine: Engine, layer: Layer, key: CacheKey, decode: Callable[[Entry, Outcome, float], T]
) -> T | None:
    """Return the record under ``key``, or None; counts, and remembers where a miss was captured."""
    counters = engine.recorder.layers[layer]
    if engine.mode in (Mode.OFF, Mode.WRITE_ONLY):
        counters.count(Outcome.BYPASS)
        return None
    await engine.ensure_open()
    lookup = await engine.lookup(layer, key)
    if isinstance(lookup.plan, Serve):
        try:
            record = decode(lookup.plan.entry, Outcome.HIT, lookup.plan.age_s)
        except CorruptEntryError:
            counters.count(Outcome.MISS)
            return None
        counters.count(Outcome.HIT)
        return record
    counters.count(lookup.outcome)
    engine.remember_miss(key, lookup.position)
    return None
