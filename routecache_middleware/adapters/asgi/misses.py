"""Counting a request that is forwarded, and saying so in the head of its response."""

from routecache_middleware.adapters.asgi.case import Case
from routecache_middleware.adapters.asgi.parts import Parts
from routecache_middleware.core import cache_status
from routecache_middleware.core.choices import Mode
from routecache_middleware.core.events import RequestFinished
from routecache_middleware.core.models import BypassReason, Outcome

__all__ = ["count_miss"]


def count_miss(parts: Parts, case: Case, *, is_known: bool) -> Outcome:
    """Count a request whose answer the app is about to make, and return how it counts.

    ``is_known=False``: something stale may take the place of the app's answer; who decides that
    counts the miss.
    """
    engine = parts.engine
    recorder = engine.recorder
    if engine.mode is Mode.SHADOW:
        case.stamp.cache_status = cache_status.bypassed(BypassReason.SHADOW)
        recorder.bypassed(BypassReason.SHADOW)
        outcome = Outcome.BYPASS
    elif case.is_refresh:
        recorder.result.refreshes += 1
        return Outcome.MISS
    elif case.lookup is not None and case.lookup.outcome is Outcome.ERROR:
        case.stamp.cache_status = cache_status.bypassed(BypassReason.COORDINATOR_ERROR)
        recorder.result.errors += 1
        outcome = Outcome.ERROR
    else:
        case.stamp.cache_status = cache_status.forwarded(case.miss)
        recorder.result.misses += is_known
        outcome = Outcome.MISS
    engine.observer.request(RequestFinished(outcome))
    return outcome
