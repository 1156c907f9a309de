"""Settling a finished answer: may it be stored, and under which model."""

import asyncio

from routecache_middleware.adapters.asgi.consult import Case
from routecache_middleware.adapters.asgi.leader import Leader
from routecache_middleware.adapters.asgi.parts import Parts
from routecache_middleware.adapters.asgi.state import RouteCacheState
from routecache_middleware.core.dialect import Judgement, ParsedRequest
from routecache_middleware.core.keys import result_key
from routecache_middleware.core.models import DiscardReason, Entry, QueryResult, ResponseMode
from routecache_middleware.core.plan import plan_store
from routecache_middleware.core.records import Provenance, result_entry
from routecache_middleware.core.settings import Mode

__all__ = ["settle"]


async def settle(
    parts: Parts, case: Case, leader: Leader, state: RouteCacheState, duration_s: float
) -> None:
    """Store a complete answer if everything speaks for it, and count why not otherwise."""
    engine, found = parts.engine, case.found
    assert found is not None  # noqa: S101 - what could not be read is not led
    reason, judgement = _objection(parts, case, leader, state), Judgement()
    if reason is None:
        judgement = await _judge(parts, case, found.parsed, leader.live.body())
        reason = plan_store(judgement, found.parsed, engine.policy)
    if reason is not None:
        engine.recorder.discarded(reason)
        return
    entry = _entry(parts, case, leader, state, judgement=judgement, duration_s=duration_s)
    key = case.key
    if entry.model_id != case.model:
        key = result_key(found.fingerprint.result, entry.model_id, case.tenant)
    # What was invalidated meanwhile could never be served, but would push out what can be.
    if entry.freshness_lifetime_s > 0 and engine.is_current(key, entry):
        await engine.put(key, entry, verb=case.dialect.verb)


def _objection(
    parts: Parts, case: Case, leader: Leader, state: RouteCacheState
) -> DiscardReason | None:
    if leader.discard not in (None, DiscardReason.NO_STORE):
        return leader.discard
    if case.proceed is None or not case.proceed.may_store:
        is_mode = parts.engine.mode is Mode.READ_ONLY
        return DiscardReason.MODE if is_mode else DiscardReason.NO_STORE
    if state.is_vetoed:
        return DiscardReason.VETOED
    length = leader.shared_head.content_length
    if length and length != b"%d" % leader.live.total_bytes:
        return DiscardReason.INCOMPLETE
    return None


async def _judge(parts: Parts, case: Case, parsed: ParsedRequest, body: bytes) -> Judgement:
    if len(body) > parts.engine.settings.hash_in_thread_bytes:
        return await asyncio.to_thread(case.dialect.judge, body, parsed.mode, parsed)
    return case.dialect.judge(body, parsed.mode, parsed)


def _entry(
    parts: Parts,
    case: Case,
    leader: Leader,
    state: RouteCacheState,
    *,
    judgement: Judgement,
    duration_s: float,
) -> Entry:
    engine, head, found = parts.engine, leader.shared_head, case.found
    result = QueryResult(
        result_data=leader.live.body(),
        model_id=state.model_served or case.model,
        response_time_ms=round(duration_s * 1000, 3),
        content_type=head.facts.content_type,
        mode=head.facts.mode or ResponseMode.JSON,
        has_usage=judgement.has_usage,
        headers=head.headers,
    )
    made = Provenance(
        now_s=engine.clock.now_s(),
        ttl_s=engine.settings.result_ttl_s if state.ttl_s is None else state.ttl_s,
        position=leader.position,
        tenant=case.tenant,
        tags=state.tags,
        origin=leader.live.traceparent,
    )
    shape = "json" if found is None else found.parsed.shape
    return result_entry(result, made, shape=shape, also=judgement.model)
