"""Counting a request that is forwarded, and saying so in the head of its response."""

from time import perf_counter

from routecache_middleware.adapters.asgi.case import Case
from routecache_middleware.adapters.asgi.parts import Parts
from routecache_middleware.core import cache_status
from routecache_middleware.core.choices import Mode
from routecache_middleware.core.events import RequestFinished
from routecache_middleware.core.keys import Layer
from routecache_middleware.core.models import BypassReason, MissReason, Outcome
from routecache_middleware.engine.recorder import Waited

__all__ = ["Wait", "count_miss", "count_shared", "count_time"]

# The others were counted when they were looked up.
_NOT_LOOKED_UP = frozenset({MissReason.REQUEST, MissReason.CONVERSION, MissReason.UNAUTHORISED})
_HITS = frozenset({Outcome.HIT, Outcome.STALE})


def count_miss(parts: Parts, case: Case, *, is_known: bool) -> Outcome:
    """Count a request whose answer the app is about to make, and return how it counts.

    ``is_known=False``: something stale may take the place of the app's answer; who decides that
    counts the miss.
    """
    if case.is_refresh:
        parts.engine.recorder.result.refreshes += 1
        return Outcome.MISS
    outcome = _stamp(parts, case)
    if outcome is Outcome.MISS and case.miss in _NOT_LOOKED_UP:
        parts.engine.recorder.missed(Layer.RESULT, case.miss)
    if parts.gate is None:  # whoever admits requests counts those that it forwards
        recorder = parts.engine.recorder
        if is_known or outcome is not Outcome.MISS:
            recorder.models.count(outcome, case.model, case.dialect.verb)
        if outcome is Outcome.BYPASS:
            recorder.bypassed(BypassReason.SHADOW)
        elif is_known or outcome is not Outcome.MISS:
            recorder.result.count(outcome)
        parts.engine.observer.request(RequestFinished(outcome))
    return outcome


class Wait:
    """A request's wait for another one's answer, counted once: when there is one, or when it ends.

    Attributes:
        is_shared: There was an answer.
    """

    __slots__ = ("_began_s", "_parts", "is_shared")

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._began_s = perf_counter()
        self.is_shared = False

    def answered(self) -> None:
        """Count it: the answer is about to be passed on."""
        self.is_shared = True
        self._count(Waited.SHARED)

    def ended(self) -> None:
        """Count it, if there was no answer."""
        if not self.is_shared:
            self._count(Waited.LEADER_FAILED)

    def _count(self, how: Waited) -> None:
        self._parts.engine.recorder.waited(Layer.RESULT, how, perf_counter() - self._began_s)


def count_shared(parts: Parts, case: Case, wait: Wait) -> None:
    """Count a request that is about to be passed what another one's call brings."""
    wait.answered()
    recorder = parts.engine.recorder
    recorder.result.coalesced += 1
    recorder.models.count(Outcome.COALESCED, case.model, case.dialect.verb)
    recorder.saved_results.shared(case.model, case.tenant)
    parts.engine.observer.request(RequestFinished(Outcome.COALESCED))
    if case.ticket is not None:
        case.ticket.served(None)


def count_time(parts: Parts, case: Case, began_s: float, *, is_answered: bool) -> None:
    """Count how long a request was in the cache. ``began_s``: by ``perf_counter``."""
    took_s = perf_counter() - began_s - case.aside_s
    is_hit = is_answered and case.stamp.outcome in _HITS
    parts.engine.recorder.time.took(took_s, is_hit=is_hit)


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
