"""Settling a finished answer: may it be stored, and under which model."""

import asyncio

from routecache_middleware.adapters.asgi.batch import aside, store_items
from routecache_middleware.adapters.asgi.case import Case
from routecache_middleware.adapters.asgi.leader import Leader
from routecache_middleware.adapters.asgi.parts import Parts
from routecache_middleware.adapters.asgi.state import RouteCacheState
from routecache_middleware.core.choices import Mode
from routecache_middleware.core.dialect import Judgement, ParsedRequest
from routecache_middleware.core.keys import CacheKey, Layer, result_key
from routecache_middleware.core.models import (
    DiscardReason,
    Entry,
    Outcome,
    QueryResult,
    ResponseMode,
)
from routecache_middleware.core.overrides import RequestPolicy
from routecache_middleware.core.plan import plan_store
from routecache_middleware.core.records import Provenance, result_entry, with_models, with_tenant
from routecache_middleware.core.shadow import compare
from routecache_middleware.core.targeted import ResponseDirectives
from routecache_middleware.engine.claims import Claim
from routecache_middleware.engine.identify import Several
from routecache_middleware.engine.leases import (
    UNSHAREABLE_S,
    Lease,
    after_discard_s,
    after_placing_s,
)

__all__ = ["settle"]


async def settle(
    parts: Parts,
    case: Case,
    leader: Leader,
    state: RouteCacheState,
    duration_s: float,
    *,
    lease: Lease | None = None,
    late: Claim | None = None,
) -> float:
    """Store a complete answer if everything speaks for it, and count why not otherwise.

    Args:
        parts: The middleware's.
        case: The request.
        leader: Who has recorded the answer.
        state: What the app has said of it.
        duration_s: How long the app took.
        lease: The lease under which it was made, if any.
        late: The claim of a request that waited too long for the lease: it stores only if the lease
            has become free.

    Returns:
        For how many seconds nobody should wait for another answer to such a request.
    """
    engine, found = parts.engine, case.found
    assert found is not None  # noqa: S101 - what could not be read is not led
    reason, judgement = await _verdict(parts, case, leader, state, found.parsed)
    if reason is not None:
        engine.recorder.discarded(reason, case.key)
        return after_discard_s(reason, is_promoted=lease is not None and lease.is_promoted)
    entry = _entry(parts, case, leader, state, judgement=judgement, duration_s=duration_s)
    if entry.freshness_lifetime_s <= 0:  # in the eyes of the app, or of this client alone
        return _not_for_a_moment(parts, case, leader, state)
    if isinstance(found, Several):
        await store_items(parts, case, found, entry)
        return 0.0
    key = case.key
    if entry.model_id != case.model:
        key = result_key(found.fingerprint.result, entry.model_id, case.tenant)
    # What was invalidated meanwhile could never be served, but would push out what can be.
    if not engine.is_current(key, entry):
        return 0.0
    if key == case.key:
        leader.kept = entry
    if engine.coordinator.is_shared:
        return await _store(parts, case, key, entry, lease=lease, late=late)
    await engine.put(key, entry, verb=case.dialect.verb)
    return 0.0


def _not_for_a_moment(parts: Parts, case: Case, leader: Leader, state: RouteCacheState) -> float:
    if _said_s(state, leader.shared_head.facts.directives) is not None:
        parts.engine.recorder.remember(DiscardReason.VETOED, case.key)
    return 0.0 if case.ttl_s == 0 else UNSHAREABLE_S


async def _verdict(
    parts: Parts, case: Case, leader: Leader, state: RouteCacheState, parsed: ParsedRequest
) -> tuple[DiscardReason | None, Judgement]:
    """Say why an answer may not be kept, or what is in it; in shadow mode compares it first."""
    reason = _objection(parts, case, leader, state)
    if reason is not None:
        return reason, Judgement()
    judgement = await _judge(parts, case, parsed, leader.live.body())
    if not (leader.live.is_complete or judgement.is_ended):
        return DiscardReason.INCOMPLETE, judgement
    if case.shadow is not None and judgement.discard is None:
        await _compare(parts, case.shadow, leader.live.body())
    return plan_store(judgement, parsed, _policy(parts, case).policy), judgement


async def _store(
    parts: Parts,
    case: Case,
    key: CacheKey,
    entry: Entry,
    *,
    lease: Lease | None,
    late: Claim | None,
) -> float:
    engine, verb = parts.engine, case.dialect.verb
    if case.lookup is not None and case.lookup.outcome is Outcome.ERROR:
        # A coordinator that makes requests wait is left alone.
        engine.recorder.result.write_errors += 1
        return 0.0
    if key != case.key:  # made by another model: who asks for this one next will fare no better
        await engine.put(key, entry, verb=verb)
        return UNSHAREABLE_S
    if late is None:
        return after_placing_s(await engine.put(key, entry, verb=verb, lease=lease))
    await _put_late(parts, late, entry, case)
    return 0.0


async def _put_late(parts: Parts, late: Claim, entry: Entry, case: Case) -> None:
    lease = await late.take_if_free(entry.position)
    if lease is None:  # somebody else is still making it, or has made it
        parts.engine.recorder.result.discards += 1
        return
    try:
        await parts.engine.put(case.key, entry, verb=case.dialect.verb, lease=lease)
    finally:
        lease.give_back()


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


async def _compare(parts: Parts, stored: Entry, live: bytes) -> None:
    """Say how what shadow mode would have served compares with what was served."""
    found = await aside(parts, len(live), 0, lambda: compare(stored.body, live))
    parts.engine.recorder.shadow.compared(stored, found)


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
    revalidate_s, error_s = _stale_windows_s(parts, head.facts.directives)
    made = Provenance(
        now_s=engine.clock.now_s() - state.age_s,
        ttl_s=_lifetime_s(parts, case, state, head.facts.directives),
        position=leader.position,
        tenant=case.tenant,
        tags=state.tags,
        origin=leader.live.traceparent,
        stale_while_revalidate_s=revalidate_s,
        stale_if_error_s=error_s,
    )
    shape = "json" if found is None else found.parsed.shape
    tokens = (judgement.input_tokens, judgement.output_tokens)
    entry = result_entry(result, made, shape=shape, also=judgement.model, tokens=tokens)
    if state.models:
        entry = with_models(entry, case.tenant, state.models)
    for owner in state.owners:
        entry = with_tenant(entry, owner)
    return entry


def _policy(parts: Parts, case: Case) -> RequestPolicy:
    return case.policy or RequestPolicy(parts.engine.policy)


def _lifetime_s(
    parts: Parts, case: Case, state: RouteCacheState, said: ResponseDirectives | None
) -> float:
    """How long the answer is fresh: by the app, the upstream, or operator and client together."""
    said_s = _said_s(state, said)
    if said_s is not None:
        return said_s
    return _policy(parts, case).lifetime_s(parts.engine.settings, case.ttl_s)


def _said_s(state: RouteCacheState, said: ResponseDirectives | None) -> float | None:
    """How long the answer is fresh by the app, or else by the upstream; None: they do not say."""
    if state.ttl_s is not None or said is None:
        return state.ttl_s
    return said.max_age_s


def _stale_windows_s(parts: Parts, said: ResponseDirectives | None) -> tuple[float, float]:
    """How long after that it may be served: while it is made anew, and instead of an error."""
    revalidate_s, error_s = parts.engine.settings.stale_windows_s(Layer.RESULT)
    if said is not None and said.stale_while_revalidate_s is not None:
        revalidate_s = said.stale_while_revalidate_s
    if said is not None and said.stale_if_error_s is not None:
        error_s = said.stale_if_error_s
    return revalidate_s, error_s
