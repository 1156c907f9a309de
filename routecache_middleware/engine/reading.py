"""Plain reads of one record, and what a miss leaves behind for the write that follows it.

The captured position of a miss is kept in the context of the caller, where the ``cache_*`` call
that follows finds it: two callers who fill the same key at the same time must not get each other's.
Whoever looks up in one task and stores in another finds the oldest that is left for the key. That
is cautious, and still a guess if several do so at once; ``captured=`` is not.
"""

from collections.abc import Callable, Mapping
from contextvars import ContextVar
from itertools import islice
from typing import TypeVar

from cachetools import FIFOCache

from routecache_middleware.core.choices import Mode
from routecache_middleware.core.keys import CacheKey, Layer
from routecache_middleware.core.models import Entry, Outcome, Position
from routecache_middleware.core.plan import Forward, Serve
from routecache_middleware.engine.engine import Engine
from routecache_middleware.errors import CorruptEntryError

__all__ = ["Misses", "read", "read_out"]

T = TypeVar("T")

_MAX_MISSES = 10_000
_MAX_OWN = 64

_Own = Mapping[tuple[object, CacheKey], Position]
_own: ContextVar[_Own | None] = ContextVar("routecache_misses", default=None)


class Misses:
    """The captured positions of misses for which nothing has been stored yet."""

    __slots__ = ("_all", "_cache")

    def __init__(self) -> None:
        self._all: FIFOCache[CacheKey, Position] = FIFOCache(_MAX_MISSES)
        self._cache = object()  # tells the keys of several caches apart in one context

    def remember(self, key: CacheKey, position: Position) -> None:
        """Keep where a miss was captured, for the next :meth:`take`."""
        self._all[key] = min(position, self._all.get(key, position))
        own = {**(_own.get() or {}), (self._cache, key): position}
        _own.set(own if len(own) <= _MAX_OWN else dict(islice(own.items(), 1, None)))

    def take(self, key: CacheKey) -> Position | None:
        """Return where the caller's last miss was captured, once; None when there was none."""
        oldest: Position | None = self._all.pop(key, None)
        own = _own.get()
        mine = None if own is None else own.get((self._cache, key))
        if own is None or mine is None:
            return oldest
        _own.set({name: at for name, at in own.items() if name != (self._cache, key)})
        return mine


async def read(
    engine: Engine,
    misses: Misses,
    layer: Layer,
    key: CacheKey,
    decode: Callable[[Entry, float], T],
    *,
    tags: tuple[str, ...] = (),
) -> T | None:
    """Return the record under ``key``, or None; counts, and remembers where it was missed."""
    counters = engine.recorder.layers[layer]
    if not engine.may_read(layer):
        counters.count(Outcome.BYPASS)
        return None
    if not engine.is_open():
        await engine.ensure_open()
    lookup = None if tags else engine.lookup_now(layer, key)
    if lookup is None:
        lookup = await engine.lookup(layer, key, tags=tags)
    record = read_out(lookup.plan, decode)
    if record is not None and engine.mode is not Mode.SHADOW:
        counters.hits += 1
        return record
    if record is None:
        counters.count(lookup.outcome if lookup.outcome is Outcome.ERROR else Outcome.MISS)
    else:
        engine.recorder.shadow_hits += 1
    misses.remember(key, lookup.position)
    return None


def read_out(plan: Serve | Forward, decode: Callable[[Entry, float], T | None]) -> T | None:
    """Return what was found; None when that is nothing, or cannot be read or used."""
    if not isinstance(plan, Serve):
        return None
    try:
        return decode(plan.entry, plan.age_s)
    except CorruptEntryError:
        return None
