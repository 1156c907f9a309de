"""Several entries at once: one read, one span and one count of failures for all of them."""

import asyncio
from collections.abc import Sequence
from time import perf_counter

import msgspec

from routecache_middleware.core.budget import current_budget
from routecache_middleware.core.directives import NO_DIRECTIVES, Directives
from routecache_middleware.core.events import LookupFinished, Operation, PutFinished
from routecache_middleware.core.keys import CacheKey, Layer
from routecache_middleware.core.models import DiscardReason, Entry, MissReason, Outcome
from routecache_middleware.core.plan import Forward, Serve
from routecache_middleware.core.records import with_tenant
from routecache_middleware.engine.engine import Engine
from routecache_middleware.engine.lookup import Lookup
from routecache_middleware.engine.writing import error_name

__all__ = ["FoundMany", "lookup_many", "put_many"]

_ABSENT = Forward(MissReason.ABSENT)
_RESULT = Layer.RESULT
_AT_ONCE = 256  # a millisecond of work; then others get their turn
_KEYS = 128  # to be read in one round trip: about 1 MB
_TRIPS = 16  # to a coordinator, under way at a time


class FoundMany(msgspec.Struct, frozen=True):
    """What a lookup of several keys found.

    Attributes:
        lookup: Of all of them: a hit when each was found, else a miss; it has no entry.
        plans: Of each of them, in order.
        under: Former keys under which some were found, by the keys that they have now.
    """

    lookup: Lookup
    plans: list[Serve | Forward]
    under: dict[CacheKey, CacheKey] = {}


async def lookup_many(
    engine: Engine,
    keys: Sequence[CacheKey],
    *,
    asked: Directives = NO_DIRECTIVES,
    model: str = "",
    verb: str = "",
    former: Sequence[Sequence[CacheKey]] = (),
    tenant: str = "",
) -> FoundMany:
    """Look several answers up, 128 in one round trip; the rest as for ``Engine.lookup``.

    ``former``: what ``keys`` were under each of the former secrets.
    """
    began_s = perf_counter()
    span = engine.observer.begin(Operation.GET, _RESULT, model=model, verb=verb)
    name, recorder = engine.coordinator.name, engine.recorder
    try:
        entries = await _read(engine, [*keys, *(key for old in former for key in old)])
    except BaseException as error:
        span.finish(LookupFinished(Outcome.ERROR, name))
        if not isinstance(error, Exception):
            raise
        recorder.backend_failed("get", error)
        recorder.looked_up(_RESULT, name, Outcome.ERROR, perf_counter() - began_s)
        lookup = Lookup(_ABSENT, Outcome.ERROR, engine.table.position, span.traceparent)
        return FoundMany(lookup, [_ABSENT] * len(keys))
    plans: list[Serve | Forward] = []
    under: dict[CacheKey, CacheKey] = {}
    for place, key in enumerate(keys):
        if place % _AT_ONCE == _AT_ONCE - 1:
            await asyncio.sleep(0)
        plan = engine.judge(key, entries[place], asked)
        for number, old in enumerate(former, 1):
            entry = entries[number * len(keys) + place]
            if entry is not None and not isinstance(plan, Serve):
                entry = with_tenant(entry, tenant)
                if engine.is_current(old[place], entry):
                    plan = engine.judge(key, entry, asked)
                    under[key] = old[place]
        plans.append(plan)
    missed = [plan for plan in plans if isinstance(plan, Forward)]
    found = [plan for plan in plans if isinstance(plan, Serve)]
    outcome = Outcome.MISS if missed else Outcome.HIT
    # A stale answer to fall back on is one of a single item, and no answer to the request.
    plan = Forward(missed[0].reason) if missed else found[0]
    took_s = perf_counter() - began_s
    if isinstance(plan, Forward):
        recorder.looked_up(_RESULT, "none", outcome, took_s)
    else:
        recorder.found(_RESULT, engine.coordinator, plan, took_s)
    if span.is_watched:
        span.finish(
            LookupFinished(
                outcome,
                "" if missed else name,
                miss_reason=_why(missed, found),
                item_size=sum(len(serve.entry.body) for serve in found),
            )
        )
    return FoundMany(Lookup(plan, outcome, engine.table.position, span.traceparent), plans, under)


async def _read(engine: Engine, keys: Sequence[CacheKey]) -> list[Entry | None]:
    """Read entries.

    A networked coordinator is asked for a handful at a time, and one that has answered gets the
    whole time again: 2,048 embeddings are 16 MB, which take longer than a request waits for a
    coordinator that hangs, and would look like one.

    Raises:
        CoordinatorError: They could not be read.
        ValueError: Another number of entries came than was asked for.
    """
    step = _KEYS if engine.coordinator.is_shared else _AT_ONCE
    budget, entries = current_budget(), list[Entry | None]()
    for start in range(0, len(keys), step):
        if start:
            await asyncio.sleep(0)
            if budget is not None and budget.remaining_s > 0:
                budget.remaining_s = engine.settings.coordinator_timeout_s
        some = keys[start : start + step]
        fetched = await engine.read(some)
        if len(fetched.entries) != len(some):
            raise ValueError("a coordinator gave another number of entries than was asked for")
        entries += fetched.entries
    return entries


async def put_many(
    engine: Engine, entries: Sequence[tuple[CacheKey, Entry]], *, verb: str = ""
) -> None:
    """Store several answers, each by itself; counts. The first failure is the last attempt."""
    fitting: list[tuple[CacheKey, Entry]] = []
    for key, entry in entries:
        if len(entry.body) > engine.settings.max_result_bytes:
            engine.recorder.discarded(DiscardReason.TOO_LARGE, key)
        else:
            fitting.append((key, entry))
    if not fitting:
        return
    model, ttl_s = fitting[0][1].model_id, fitting[0][1].freshness_lifetime_s
    span = engine.observer.begin(Operation.PUT, _RESULT, model=model, verb=verb)
    done = _Done()
    try:
        await _put_all(engine, fitting, done)
    except BaseException as error:
        done.failure = error_name(error)
        raise
    finally:
        if span.is_watched:
            is_stored = bool(done.stored)
            span.finish(PutFinished(is_stored, done.stored_bytes, ttl_s, model, done.failure))


class _Done(msgspec.Struct):
    stored: int = 0
    stored_bytes: int = 0
    failure: str = ""


async def _put_all(engine: Engine, fitting: Sequence[tuple[CacheKey, Entry]], done: _Done) -> None:
    step = _TRIPS if engine.coordinator.is_shared else _AT_ONCE
    for start in range(0, len(fitting), step):
        if start:
            await asyncio.sleep(0)
        some = fitting[start : start + step]
        current = [pair for pair in some if engine.is_current(*pair)]
        engine.recorder.result.discards += len(some) - len(current)
        written = await _write(engine, current)
        for (_, entry), (has_fitted, failed) in zip(current, written, strict=True):
            done.failure = done.failure or failed
            done.stored += has_fitted
            done.stored_bytes += len(entry.body) * has_fitted
        if done.failure:
            return


async def _write(
    engine: Engine, entries: Sequence[tuple[CacheKey, Entry]]
) -> list[tuple[bool, str]]:
    if engine.coordinator.is_shared:  # a round trip each: not one after the other
        return await asyncio.gather(*(engine.write(key, entry) for key, entry in entries))
    return [await engine.write(key, entry) for key, entry in entries]


def _why(missed: Sequence[Forward], found: Sequence[Serve]) -> MissReason | None:
    if not missed:
        return None
    return MissReason.PARTIAL if found else missed[0].reason
