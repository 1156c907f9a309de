"""Get a value from the cache or make it, once for everybody who wants it now."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from routecache_middleware.core.events import Operation, WaitFinished
from routecache_middleware.core.keys import CacheKey, Layer
from routecache_middleware.core.models import Entry, Outcome, Position, Scope
from routecache_middleware.core.plan import Serve
from routecache_middleware.core.settings import Mode
from routecache_middleware.engine.engine import Engine, Lookup
from routecache_middleware.engine.single_flight import SingleFlight
from routecache_middleware.errors import CorruptEntryError

__all__ = ["Came", "Wanted", "get_or_compute"]

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Wanted(Generic[T]):
    """What a caller wants.

    Attributes:
        layer: Where it is kept.
        key: Under which key.
        scopes: What invalidates a flight for it.
        decode: Takes it out of an entry; None when the entry will not do.
        compute: Makes it.
        encode: Puts it into an entry, with the captured position and the maker's traceparent.
        refresh: Make it anew even when there is one.
        store: Keep what is made.
    """

    layer: Layer
    key: CacheKey
    scopes: tuple[Scope, ...]
    decode: Callable[[Entry, Outcome, float], T | None]
    compute: Callable[[], Awaitable[T]]
    encode: Callable[[T, Position, str], Entry]
    refresh: bool = False
    store: bool = True


@dataclass(frozen=True, slots=True)
class Came(Generic[T]):
    """A value and how it came."""

    value: T
    outcome: Outcome


async def get_or_compute(engine: Engine, flights: SingleFlight[T], wanted: Wanted[T]) -> Came[T]:
    """Return the cached value, or share or make a new one.

    Raises:
        Exception: Whatever the caller's own ``compute`` raised. Never an error of the cache.
    """
    mode, counters = engine.mode, engine.recorder.layers[wanted.layer]
    if mode is Mode.OFF:
        counters.count(Outcome.BYPASS)
        return Came(await wanted.compute(), Outcome.BYPASS)
    await engine.ensure_open()
    lookup: Lookup | None = None
    if not wanted.refresh and mode is not Mode.WRITE_ONLY:
        lookup = await engine.lookup(wanted.layer, wanted.key)
        value = _decode(wanted, lookup)
        if value is not None and mode is not Mode.SHADOW:
            counters.count(Outcome.HIT)
            return Came(value, Outcome.HIT)
        if value is not None:
            engine.recorder.shadow_hits += 1
    position = engine.table.position if lookup is None else lookup.position
    making = _Making(engine, wanted, position, "" if lookup is None else lookup.traceparent)
    if lookup is None or mode is Mode.SHADOW or not engine.settings.coalescing:
        came = Came(await making.run(), Outcome.MISS)
    else:
        came = await _share(engine, flights, making)
    is_error = lookup is not None and lookup.outcome is Outcome.ERROR
    outcome = Outcome.ERROR if is_error and came.outcome is Outcome.MISS else came.outcome
    counters.count(outcome)
    return Came(came.value, outcome)


def _decode(wanted: Wanted[T], lookup: Lookup) -> T | None:
    if not isinstance(lookup.plan, Serve):
        return None
    try:
        return wanted.decode(lookup.plan.entry, Outcome.HIT, lookup.plan.age_s)
    except CorruptEntryError:
        return None


async def _share(engine: Engine, flights: SingleFlight[T], making: "_Making[T]") -> Came[T]:
    wanted = making.wanted
    waiting = (
        engine.observer.begin(Operation.WAIT, wanted.layer.value)
        if flights.has(wanted.key)
        else None
    )
    flown = await flights.run(
        wanted.key,
        making.run,
        position=making.position,
        is_current=lambda at: engine.table.is_current_since(wanted.key, wanted.scopes, at),
        traceparent=making.traceparent,
    )
    outcome = Outcome.MISS if flown.leader is None else Outcome.COALESCED
    if waiting is not None:
        waiting.finish(WaitFinished(outcome, flown.leader or ""))
    return Came(flown.value, outcome)


class _Making(Generic[T]):
    """Making one value and storing it."""

    __slots__ = ("engine", "position", "traceparent", "wanted")

    def __init__(
        self, engine: Engine, wanted: Wanted[T], position: Position, traceparent: str
    ) -> None:
        self.engine = engine
        self.wanted = wanted
        self.position = position
        self.traceparent = traceparent

    async def run(self) -> T:
        wanted = self.wanted
        value = await wanted.compute()
        if wanted.store and self.engine.mode is not Mode.READ_ONLY:
            entry = wanted.encode(value, self.position, self.traceparent)
            if entry.freshness_lifetime_s > 0:
                await self.engine.put(wanted.key, entry)
        return value
