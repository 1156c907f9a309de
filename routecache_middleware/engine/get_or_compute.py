"""Get a value from the cache or make it, once for everybody who wants it now."""

from typing import Generic, Protocol, TypeVar

from routecache_middleware.core.events import Operation
from routecache_middleware.core.keys import CacheKey, Layer
from routecache_middleware.core.models import Entry, Outcome, Position
from routecache_middleware.core.ports import OpenOperation
from routecache_middleware.core.records import Provenance, scopes_of
from routecache_middleware.core.settings import Mode
from routecache_middleware.engine.engine import Engine, Lookup
from routecache_middleware.engine.reading import read_out
from routecache_middleware.engine.single_flight import SingleFlight

__all__ = ["Wanted", "get_or_compute"]

T = TypeVar("T")


class Wanted(Protocol[T]):
    """What a caller wants, and on what terms."""

    @property
    def layer(self) -> Layer:
        """Where it is kept."""

    @property
    def key(self) -> CacheKey:
        """Under which key."""

    @property
    def tenant(self) -> str:
        """Whose it is."""

    @property
    def tags(self) -> tuple[str, ...]:
        """Names under which it can be invalidated."""

    @property
    def ttl_s(self) -> float | None:
        """Freshness lifetime, or None for the layer's."""

    @property
    def refresh(self) -> bool:
        """Make it anew even when there is one."""

    @property
    def store(self) -> bool:
        """Keep what is made."""

    def read(self, entry: Entry, age_s: float) -> T | None:
        """Take the value out of an entry, marked as a hit; None when the entry will not do."""

    async def make(self) -> T:
        """Make the value."""

    def write(self, value: T, made: Provenance) -> Entry:
        """Put the value into an entry."""

    def models(self, value: T | None) -> tuple[str, ...]:
        """Models with which the value is invalidated: of a value, or as far as known before."""

    def mark(self, value: T, outcome: Outcome) -> T:
        """Return the value for this caller, marked with how it came."""


async def get_or_compute(engine: Engine, flights: SingleFlight[T], wanted: Wanted[T]) -> T:
    """Return the cached value, or share or make a new one; counts.

    Raises:
        Exception: Whatever the caller's own ``make`` raised. Never an error of the cache.
    """
    layer = wanted.layer
    counters = engine.recorder.layers[layer]
    if engine.mode is Mode.OFF or not engine.is_cached(layer):
        counters.count(Outcome.BYPASS)
        return wanted.mark(await wanted.make(), Outcome.BYPASS)
    await engine.ensure_open()
    if wanted.refresh or not engine.may_read(layer):
        return wanted.mark(await _Making(engine, wanted, await engine.sync()).make(), Outcome.MISS)
    while True:
        lookup = await engine.lookup(layer, wanted.key, tags=wanted.tags)
        value = read_out(lookup, wanted.read)
        if value is None:
            found = await _make(engine, flights, wanted, lookup)
            if found is not None:
                return found
        elif engine.mode is Mode.SHADOW:
            # Not stored again either: a cache that serves would have left it as it was.
            engine.recorder.shadow_hits += 1
            return wanted.mark(await wanted.make(), Outcome.MISS)
        else:
            counters.hits += 1
            return value


async def _make(
    engine: Engine, flights: SingleFlight[T], wanted: Wanted[T], lookup: Lookup
) -> T | None:
    """Make the value or share it; None when what was shared turned out to be invalidated."""
    making = _Making(engine, wanted, lookup.position, lookup)
    if engine.mode is Mode.SHADOW or not engine.settings.coalescing:
        return wanted.mark(await making.make(), making.outcome)
    flown = await flights.run(wanted.key, making)
    if flown is None:
        return None
    if not flown.is_shared:
        return wanted.mark(flown.value, making.outcome)
    engine.recorder.layers[wanted.layer].count(Outcome.COALESCED)
    return wanted.mark(flown.value, Outcome.COALESCED)


class _Making(Generic[T]):
    """One caller on its way to a value, after it found none: makes and stores it, or shares it."""

    __slots__ = ("_engine", "_wanted", "outcome", "position", "traceparent")

    def __init__(
        self, engine: Engine, wanted: Wanted[T], position: Position, lookup: Lookup | None = None
    ) -> None:
        is_error = lookup is not None and lookup.outcome is Outcome.ERROR
        self._engine = engine
        self._wanted = wanted
        self.position = position
        self.outcome = Outcome.ERROR if is_error else Outcome.MISS
        self.traceparent = "" if lookup is None else lookup.traceparent

    async def make(self) -> T:
        engine, wanted = self._engine, self._wanted
        engine.recorder.layers[wanted.layer].count(self.outcome)
        value = await wanted.make()
        if wanted.store and engine.may_write(wanted.layer):
            await self._store(value)
        return value

    def may_join(self, position: Position) -> bool:
        return self._is_current_since(position, self._wanted.models(None))

    def may_share(self, value: T, position: Position) -> bool:
        # Only now is it known which model a decision has selected.
        return self._is_current_since(position, self._wanted.models(value))

    def begin_waiting(self) -> OpenOperation:
        return self._engine.observer.begin(Operation.WAIT, self._wanted.layer)

    def _is_current_since(self, position: Position, models: tuple[str, ...]) -> bool:
        wanted = self._wanted
        scopes = scopes_of(wanted.tenant, models, wanted.tags)
        return self._engine.is_current_since(wanted.key, scopes, position)

    async def _store(self, value: T) -> None:
        engine, wanted = self._engine, self._wanted
        ttl_s = engine.settings.ttl_s(wanted.layer) if wanted.ttl_s is None else wanted.ttl_s
        if ttl_s <= 0:
            return
        made = Provenance(
            now_s=engine.clock.now_s(),
            ttl_s=ttl_s,
            position=self.position,
            tenant=wanted.tenant,
            tags=wanted.tags,
            origin=self.traceparent,
        )
        try:
            entry = wanted.write(value, made)
        except (TypeError, ValueError):  # something in it cannot be written down: still an answer
            engine.recorder.layers[wanted.layer].write_errors += 1
            return
        await engine.put(wanted.key, entry)
