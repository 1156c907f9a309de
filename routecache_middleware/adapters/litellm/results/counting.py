"""Telling what became of a call: counters, telemetry, and the record that others read."""

from routecache_middleware.adapters.litellm.results.calls import Ask, Call
from routecache_middleware.core.choices import Mode
from routecache_middleware.core.events import RequestFinished
from routecache_middleware.core.keys import Layer
from routecache_middleware.core.models import BypassReason, MissReason, Outcome
from routecache_middleware.core.plan import Serve
from routecache_middleware.engine.engine import Engine

__all__ = ["Counting"]

_RESULT = Layer.RESULT


class Counting:
    """Counts each entry that a call wants, and reports each call once."""

    __slots__ = ("_engine",)

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def served(self, call: Call, plan: Serve, outcome: Outcome, tenant: str) -> None:
        """The cache has answered: ``hit`` or ``coalesced``."""
        engine, record = self._engine, call.record
        engine.recorder.result.count(outcome)
        engine.recorder.saved_results.served(plan.entry, tenant)
        if call.is_reported:  # another part of it was not there
            record.is_partly_stored = True
            return
        is_first = record.outcome is not outcome
        record.outcome, record.reason = outcome, ""
        record.age_s = plan.age_s if is_first else max(record.age_s, plan.age_s)
        record.ttl_s = plan.ttl_s if is_first else min(record.ttl_s, plan.ttl_s)
        call.served += 1
        if call.served >= len(call.asks):
            served_by = engine.coordinator.name if outcome is Outcome.HIT else ""
            self._report(call, RequestFinished(outcome, _RESULT, served_by))

    def missed(self, call: Call, ask: Ask, reason: MissReason | None) -> None:
        """The provider is asked."""
        engine = self._engine
        recorder, lookup = engine.recorder, ask.lookup
        bypass: BypassReason | None = None
        if engine.mode is Mode.SHADOW:
            bypass, outcome = BypassReason.SHADOW, Outcome.BYPASS
            recorder.bypassed(bypass)
        elif lookup is not None and lookup.outcome is Outcome.ERROR:
            bypass, outcome = BypassReason.COORDINATOR_ERROR, Outcome.ERROR
            recorder.result.errors += 1
        else:
            outcome = Outcome.MISS
            recorder.result.misses += 1
            if reason is MissReason.REQUEST:  # others were counted when they were looked up
                recorder.missed(_RESULT, reason)
        if call.served:
            call.record.is_partly_stored = True
        call.record.outcome = outcome
        call.record.reason = bypass or reason or ""
        self._report(call, RequestFinished(outcome))

    def bypassed(self, call: Call, reason: BypassReason) -> None:
        """The cache stands aside."""
        if not call.is_reported:
            self._engine.recorder.bypassed(reason)
            call.record.outcome, call.record.reason = Outcome.BYPASS, reason.value
            self._report(call, RequestFinished(Outcome.BYPASS, bypass_reason=reason))

    def _report(self, call: Call, finished: RequestFinished) -> None:
        if not call.is_reported:
            call.is_reported = True
            models = self._engine.recorder.models
            models.count(finished.outcome, call.record.model, call.api.verb)
            self._engine.observer.request(finished)
