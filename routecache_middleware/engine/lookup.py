"""What a lookup found, and what telemetry is told of it."""

import msgspec

from routecache_middleware.core.events import LookupFinished
from routecache_middleware.core.models import Entry, Outcome, Position
from routecache_middleware.core.plan import Forward, Serve

__all__ = ["Lookup", "lookup_finished"]


class Lookup(msgspec.Struct, frozen=True):
    """What a lookup found.

    Attributes:
        plan: Serve what was found, or forward, and why.
        outcome: ``hit``, ``stale``, ``miss`` or ``error``.
        position: The captured position: store what is made from now on with it.
        traceparent: The lookup's span, for links.
        entry: What is stored under the key, useful or not, or None.
    """

    plan: Serve | Forward
    outcome: Outcome
    position: Position
    traceparent: str
    entry: Entry | None = None


def lookup_finished(plan: Serve | Forward, served_by: str) -> LookupFinished:
    """Return the record of a lookup that did not fail."""
    if isinstance(plan, Forward):
        return LookupFinished(Outcome.MISS, miss_reason=plan.reason)
    return LookupFinished(
        Outcome.STALE if plan.is_stale else Outcome.HIT,
        served_by,
        item_size=len(plan.entry.body),
        ttl_s=plan.ttl_s,
        age_s=plan.age_s,
        model_id=plan.entry.model_id,
        origin=plan.entry.origin,
        cost_ms=plan.entry.cost_ms,
    )
