"""Answering a request from an entry, whichever way that was come by."""

import asyncio

from routecache_middleware.adapters.asgi.answers import stored_answer
from routecache_middleware.adapters.asgi.case import Case
from routecache_middleware.adapters.asgi.parts import Parts
from routecache_middleware.adapters.asgi.types import Message
from routecache_middleware.core import cache_status
from routecache_middleware.core.events import RequestFinished
from routecache_middleware.core.keys import Layer
from routecache_middleware.core.models import Entry, Outcome, ResponseMode, StaleReason
from routecache_middleware.core.plan import Serve
from routecache_middleware.engine.identify import Identified
from routecache_middleware.engine.lookup import stale_reason

__all__ = ["as_coalesced", "as_hit", "as_rescue", "body_for"]

# Members of an Enum are slow to read from their class on Python 3.11: 75 ns each.
_HIT = Outcome.HIT
_RESULT = Layer.RESULT
_DETAILS = {
    StaleReason.WHILE_REVALIDATE: "stale-while-revalidate",
    StaleReason.IF_ERROR: "stale-if-error",
    StaleReason.MAX_STALE: "max-stale",
}


async def body_for(parts: Parts, case: Case, entry: Entry, found: Identified) -> bytes | None:
    """Return an entry's body in the wire form asked for; None when that cannot be made of it."""
    parsed = found.parsed
    if entry.shape == parsed.shape:
        return entry.body
    if case.proceed is None or not case.proceed.may_convert:
        return None
    convert = case.dialect.render
    if len(entry.body) > parts.engine.settings.hash_in_thread_bytes:  # 12 ms for 2,000 chunks
        return await asyncio.to_thread(convert, entry.body, entry.mode, parsed)
    return convert(entry.body, entry.mode, parsed)


def as_hit(parts: Parts, case: Case, plan: Serve, body: bytes, mode: ResponseMode) -> list[Message]:
    """Return the response to a request whose answer was there; counts."""
    engine, stamp = parts.engine, case.stamp
    if plan.is_stale:
        why = stale_reason(plan)
        engine.recorder.result.stale_max += why is StaleReason.MAX_STALE
        return _as_stale(parts, case, plan, body, mode, why)
    served_by = engine.coordinator.name
    stamp.cache_status = cache_status.hit(plan.ttl_s, served_by)
    stamp.outcome = _HIT
    engine.recorder.result.hits += 1
    engine.recorder.models.count(_HIT, case.model, case.dialect.verb)
    engine.recorder.saved_results.served(plan.entry, case.tenant)
    engine.recorder.popular.seen(case.key)
    engine.observer.request(RequestFinished(_HIT, _RESULT, served_by))
    if case.ticket is not None:
        case.ticket.served(plan.entry)
    replay = engine.settings.replay
    return stored_answer(plan.entry, body, mode, plan.age_s, stamp, replay=replay)


def as_rescue(
    parts: Parts, case: Case, plan: Serve, body: bytes, mode: ResponseMode
) -> list[Message]:
    """Return the response to a request that the app could not answer; counts."""
    parts.engine.recorder.result.stale_if_error += 1
    return _as_stale(parts, case, plan, body, mode, StaleReason.IF_ERROR)


def _as_stale(  # noqa: PLR0917 - private, and always the same six
    parts: Parts, case: Case, plan: Serve, body: bytes, mode: ResponseMode, why: StaleReason
) -> list[Message]:
    engine, stamp = parts.engine, case.stamp
    stamp.cache_status = cache_status.hit(plan.ttl_s, _DETAILS[why])
    stamp.outcome = Outcome.STALE
    engine.recorder.result.stale += 1
    engine.recorder.models.count(Outcome.STALE, case.model, case.dialect.verb)
    engine.recorder.saved_results.served(plan.entry, case.tenant)
    served_by = engine.coordinator.name
    engine.observer.request(RequestFinished(Outcome.STALE, _RESULT, served_by, stale_reason=why))
    replay = engine.settings.replay
    return stored_answer(plan.entry, body, mode, plan.age_s, stamp, replay=replay)


def as_coalesced(
    parts: Parts, case: Case, plan: Serve, body: bytes, mode: ResponseMode
) -> list[Message]:
    """Return the response to a request that waited for somebody else to make the answer; counts."""
    engine, stamp = parts.engine, case.stamp
    stamp.cache_status = cache_status.collapsed()
    stamp.outcome = Outcome.COALESCED
    engine.recorder.result.coalesced += 1
    engine.recorder.models.count(Outcome.COALESCED, case.model, case.dialect.verb)
    engine.recorder.saved_results.served(plan.entry, case.tenant)
    engine.observer.request(RequestFinished(Outcome.COALESCED))
    if case.ticket is not None:
        case.ticket.served(plan.entry)
    replay = engine.settings.replay
    return stored_answer(plan.entry, body, mode, plan.age_s, stamp, replay=replay)
