"""Get a value from the cache or make it, once for everybody who wants it now."""

from typing import TypeVar

from msgspec.structs import replace

from routecache_middleware.core.choices import Mode
from routecache_middleware.core.events import Operation, RefreshFinished
from routecache_middleware.core.keys import Layer
from routecache_middleware.core.models import Outcome
from routecache_middleware.core.plan import Forward, Serve
from routecache_middleware.engine.engine import Engine
from routecache_middleware.engine.lookup import Lookup
from routecache_middleware.engine.making import Making
from routecache_middleware.engine.reading import read_out
from routecache_middleware.engine.recheck import are_still_current
from routecache_middleware.engine.single_flight import SingleFlight
from routecache_middleware.engine.wanted import Wanted

__all__ = ["get_or_compute"]

T = TypeVar("T")


async def get_or_compute(engine: Engine, flights: SingleFlight[T], wanted: Wanted[T]) -> T:
    """Return the cached value, or share or make a new one; counts.

    A value that is past its lifetime is returned as it is while it is made anew in the background,
    or when making it fails, for as long as the settings say (RFC 5861).

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
        return wanted.mark(await Making(engine, wanted, await engine.sync()).make(), Outcome.MISS)
    while True:
        lookup = await engine.lookup(layer, wanted.key, tags=wanted.tags, may_be_stale=True)
        value = read_out(lookup.plan, wanted.read)
        if value is None:
            found = await _make_or_rescue(engine, flights, wanted, lookup)
            if found is not None:
                return found
        elif engine.mode is Mode.SHADOW:
            # Not stored again either: a cache that serves would have left it as it was.
            engine.recorder.shadow_hits += 1
            return wanted.mark(await wanted.make(), Outcome.MISS)
        elif lookup.outcome is Outcome.STALE:
            counters.stale += 1
            _saved(engine, wanted, lookup.plan)
            _refresh(engine, flights, wanted, lookup)
            return wanted.mark(value, Outcome.STALE)
        else:
            counters.hits += 1
            _saved(engine, wanted, lookup.plan)
            return value


def _saved(engine: Engine, wanted: Wanted[T], plan: Serve | Forward) -> None:
    if isinstance(plan, Serve):
        engine.recorder.saved[wanted.layer].served(plan.entry, wanted.tenant)
        if wanted.layer is Layer.RESULT:
            engine.recorder.popular.seen(wanted.key)


async def _make_or_rescue(
    engine: Engine, flights: SingleFlight[T], wanted: Wanted[T], lookup: Lookup
) -> T | None:
    """Make the value; should that fail, return what is stale, if it may be used."""
    plan = lookup.plan
    fallback = plan.fallback if isinstance(plan, Forward) else None
    if fallback is None or engine.mode is Mode.SHADOW:
        return await _make(engine, flights, wanted, lookup)
    try:
        return await _make(engine, flights, wanted, lookup)
    except Exception:
        rescue = await _rescue(engine, wanted, fallback)
        counters = engine.recorder.layers[wanted.layer]
        if rescue is None:
            counters.misses += 1
            raise
        counters.stale += 1
        counters.stale_if_error += 1
        return rescue


async def _rescue(engine: Engine, wanted: Wanted[T], fallback: Serve) -> T | None:
    held = ((wanted.key, fallback.entry),)
    if not await are_still_current(engine, held):  # invalidated while we tried
        return None
    value = read_out(fallback, wanted.read)
    return None if value is None else wanted.mark(value, Outcome.STALE)


def _refresh(engine: Engine, flights: SingleFlight[T], wanted: Wanted[T], lookup: Lookup) -> None:
    """Make the value anew in the background, unless somebody is at it already."""
    if flights.is_under_way(wanted.key) or not (wanted.store and engine.may_write(wanted.layer)):
        return

    async def refresh() -> None:
        if flights.is_under_way(wanted.key):
            return
        span = engine.observer.begin(Operation.REFRESH, wanted.layer)
        error_type = ""
        try:
            told = replace(lookup, traceparent=span.traceparent)  # later hits link to this
            making = Making(engine, wanted, lookup.position, told, is_refresh=True)
            await flights.run(wanted.key, making)
        except Exception as error:  # noqa: BLE001 - nobody waits: the next one will try again
            error_type = type(error).__name__
        finally:
            span.finish(RefreshFinished(error_type))

    engine.background.run(refresh(), is_urgent=False)


async def _make(
    engine: Engine, flights: SingleFlight[T], wanted: Wanted[T], lookup: Lookup
) -> T | None:
    """Make the value or share it; None when what was shared turned out to be invalidated."""
    making = Making(engine, wanted, lookup.position, lookup)
    if engine.mode is Mode.SHADOW or not engine.settings.coalescing:
        return wanted.mark(await making.make(), making.outcome)
    flown = await flights.run(wanted.key, making)
    if flown is None:
        return None
    if not flown.is_shared:
        return wanted.mark(flown.value, making.outcome) if making.entry is None else flown.value
    value = flown.value
    if flown.entry is not None:  # each takes out of an entry what will do for it
        found = making.read(flown.entry)
        if found is None:
            return None
        value = found
    engine.recorder.layers[wanted.layer].count(Outcome.COALESCED)
    return wanted.mark(value, Outcome.COALESCED)
