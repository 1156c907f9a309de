"""Keeping an answer: whether it may be, and as what."""

import asyncio
from typing import Any

import msgspec

from routecache_middleware.adapters.litellm.results.calls import Ask, Call
from routecache_middleware.adapters.litellm.results.heeding import Heeding
from routecache_middleware.adapters.litellm.results.keying import Identified
from routecache_middleware.core.choices import Mode
from routecache_middleware.core.dialect import Judgement
from routecache_middleware.core.keys import Layer
from routecache_middleware.core.models import (
    DiscardReason,
    Entry,
    Outcome,
    Position,
    ResponseMode,
)
from routecache_middleware.core.plan import plan_store
from routecache_middleware.core.policy import CachePolicy
from routecache_middleware.core.records import scopes_of
from routecache_middleware.engine.engine import Engine
from routecache_middleware.engine.leases import (
    UNSHAREABLE_S,
    Placing,
    after_discard_s,
    after_placing_s,
)

__all__ = ["Made", "Storing", "body_of", "entry_of", "judged"]

_encode = msgspec.json.Encoder().encode


class Made(msgspec.Struct, frozen=True):
    """Where and when an answer was made.

    Attributes:
        now_s: Unix seconds.
        ttl_s: Freshness lifetime, seconds.
        position: Captured position.
        cost_ms: How long it took, milliseconds.
        origin: ``traceparent`` of the lookup, or empty.
    """

    now_s: float
    ttl_s: float
    position: Position
    cost_ms: float = 0.0
    origin: str = ""


def body_of(result: Any) -> bytes:
    """Return the JSON of what LiteLLM wants to have stored; empty when it is none."""
    try:
        if hasattr(result, "model_dump_json"):
            result = result.model_dump_json()
        if isinstance(result, str):
            return result.encode()
        return result if isinstance(result, bytes) else _encode(result)
    except (TypeError, ValueError):  # its text would quote the answer
        return b""


def judged(
    found: Identified, body: bytes, policy: CachePolicy
) -> tuple[DiscardReason | None, Judgement]:
    """Return why an answer must not be kept, or None, and what it is."""
    judgement = found.api.judge(body, found.parsed)
    return plan_store(judgement, found.parsed, policy), judgement


def entry_of(found: Identified, body: bytes, judgement: Judgement, made: Made) -> Entry:
    """Return the entry of an answer; all names of its model invalidate it."""
    is_silent = found.api.asks_usage and found.parsed.shape == "stream"
    names = dict.fromkeys((*found.models, judgement.model))
    return Entry(
        layer=Layer.RESULT,
        body=body,
        created_s=made.now_s,
        freshness_lifetime_s=made.ttl_s,
        cost_ms=made.cost_ms,
        position=made.position,
        scopes=scopes_of(found.tenant.name, filter(None, names)),
        model_id=found.model,
        content_type="application/json",
        mode=ResponseMode.JSON,
        shape=found.parsed.shape,
        has_usage=judgement.has_usage and not is_silent,
        origin=made.origin,
        input_tokens=max(0, judgement.input_tokens),
        output_tokens=max(0, judgement.output_tokens),
    )


class Storing:
    """Stores answers, and lets go who waits for them."""

    __slots__ = ("_engine", "_heeding")

    def __init__(self, engine: Engine, heeding: Heeding) -> None:
        self._engine = engine
        self._heeding = heeding

    async def store(self, call: Call, ask: Ask, result: Any) -> None:
        """Keep an answer if it may be kept; the second time for the same one does nothing."""
        if ask.is_written:
            return
        ask.is_written = True
        parallel_s, is_over = 0.0, False
        try:
            parallel_s = await self._store(call, ask, result)
            is_over = True
        finally:
            if not is_over:  # cancelled: LiteLLM tries once more when it shuts down
                ask.is_written = False
            if ask.flight is not None:
                ask.flight.end(parallel_s)

    async def _store(self, call: Call, ask: Ask, result: Any) -> float:
        """Store; returns for how many seconds nobody should wait for another answer."""
        engine, found, held = self._engine, call.identified, call.held
        if not isinstance(found, Identified) or call.proceed is None or held is None:
            return 0.0
        body, judgement = b"", Judgement()
        reason: DiscardReason | None = None
        if call.is_cut_off:
            reason = DiscardReason.INCOMPLETE
        elif not call.proceed.may_store:
            reason = _not_wanted(engine)
        else:
            body = body_of(result)
            reason, judgement = await self._judge(found, body, held.policy)
        ttl_s = self._heeding.lifetime_s(held, call.controls)
        if reason is not None:
            engine.recorder.discarded(reason)
            is_promoted = ask.lease is not None and ask.lease.is_promoted
            return after_discard_s(reason, is_promoted=is_promoted)
        if ttl_s <= 0:
            engine.recorder.discarded(DiscardReason.NO_STORE)
            return UNSHAREABLE_S
        return await self._place(call, ask, self._entry(found, ask, body, judgement, ttl_s))

    async def _judge(
        self, found: Identified, body: bytes, policy: CachePolicy
    ) -> tuple[DiscardReason | None, Judgement]:
        engine = self._engine
        if len(body) > engine.settings.max_result_bytes:
            return DiscardReason.TOO_LARGE, Judgement()
        if len(body) > engine.settings.hash_in_thread_bytes:
            return await asyncio.to_thread(judged, found, body, policy)
        return judged(found, body, policy)

    def _entry(
        self, found: Identified, ask: Ask, body: bytes, judgement: Judgement, ttl_s: float
    ) -> Entry:
        clock, lookup = self._engine.clock, ask.lookup
        cost_ms = round((clock.monotonic_s() - ask.began_s) * 1000, 3)
        origin = "" if lookup is None else lookup.traceparent
        made = Made(clock.now_s(), ttl_s, ask.position, cost_ms, origin)
        return entry_of(found, body, judgement, made)

    async def _place(self, call: Call, ask: Ask, entry: Entry) -> float:
        engine, key, verb = self._engine, ask.keys.key, call.api.verb
        if ask.flight is not None:
            ask.flight.answer(entry)
        if not engine.is_current(key, entry):
            # It could never be served, but would push out what can be.
            engine.recorder.result.discards += 1
            return 0.0
        has_failed = ask.lookup is not None and ask.lookup.outcome is Outcome.ERROR
        if has_failed and engine.coordinator.is_shared:
            # A coordinator that makes calls wait is left alone.
            engine.recorder.result.write_errors += 1
            return 0.0
        if ask.late is None:
            placing = await engine.put(key, entry, verb=verb, lease=ask.lease)
            return after_placing_s(placing) if engine.coordinator.is_shared else _alone_s(placing)
        lease = await ask.late.take_if_free(entry.position)
        if lease is None:  # somebody else is still making it, or has made it
            engine.recorder.result.discards += 1
            return 0.0
        try:
            await engine.put(key, entry, verb=verb, lease=lease)
        finally:
            lease.give_back()
        return 0.0


def _not_wanted(engine: Engine) -> DiscardReason:
    return DiscardReason.MODE if engine.mode is Mode.READ_ONLY else DiscardReason.NO_STORE


def _alone_s(placing: Placing) -> float:
    """In a process of its own: what does not fit will never fit, the rest is over."""
    return UNSHAREABLE_S if placing is Placing.TOO_LARGE else 0.0
