"""Counting a request that is forwarded, and saying so in the head of its response."""

from routecache_middleware.adapters.asgi.case import Case
from routecache_middleware.adapters.asgi.parts import Parts
from routecache_middleware.core import cache_status
from routecache_middleware.core.choices import Mode
from routecache_middleware.core.events import RequestFinished
from routecache_middleware.core.models import BypassReason, MissReason, Outcome

__all__ = ["count_miss"]


def count_miss(parts: Parts, case: Case, *, is_known: bool) -> Outcome:
    """Count a request whose answer the app is about to make, and return how it counts.

    ``is_known=False``: something stale may take the place of the app's answer; who decides that
    counts the miss.
    """
    if case.is_refresh:
        parts.engine.recorder.result.refreshes += 1
        return Outcome.MISS
    outcome = _stamp(parts, case)
    if parts.gate is None:  # whoever admits requests counts those that it forwards
        recorder = parts.engine.recorder
        if outcome is Outcome.BYPASS:
            recorder.bypassed(BypassReason.SHADOW)
        elif is_known or outcome is not Outcome.MISS:
            recorder.result.count(outcome)
        parts.engine.observer.request(RequestFinished(outcome))
    return outcome


def _stamp(parts: Parts, case: Case) -> Outcome:
    if parts.engine.mode is Mode.SHADOW:
        case.stamp.cache_status = cache_status.bypassed(BypassReason.SHADOW)
        return Outcome.BYPASS
    if case.lookup is not None and case.lookup.outcome is Outcome.ERROR:
        case.stamp.cache_status = cache_status.bypassed(BypassReason.COORDINATOR_ERROR)
        return Outcome.ERROR
    # Whether parts can be joined with what the app answers is known when it has answered.
    is_partial = case.miss is MissReason.PARTIAL
    case.stamp.cache_status = (
        cache_status.unjoined() if is_partial else cache_status.forwarded(case.miss)
    )
    return Outcome.MISS
