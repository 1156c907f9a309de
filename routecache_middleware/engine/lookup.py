"""What a lookup found, and what telemetry is told of it."""

import re
from collections.abc import Callable

import msgspec

from routecache_middleware.core.events import LookupFinished
from routecache_middleware.core.keys import CacheKey
from routecache_middleware.core.models import Entry, Outcome, Position, StaleReason
from routecache_middleware.core.plan import Forward, Serve
from routecache_middleware.core.prices import Prices

__all__ = ["Lookup", "lookup_finished", "stale_reason", "told_hash"]

_HASH = re.compile(r"[:@]([0-9a-f]{32})(?:$|:)")


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


def lookup_finished(
    plan: Serve | Forward, served_by: str, key_hash: str, prices: Callable[[], Prices]
) -> LookupFinished:
    """Return the record of a lookup that did not fail."""
    if isinstance(plan, Forward):
        return LookupFinished(Outcome.MISS, miss_reason=plan.reason, key_hash=key_hash)
    entry, cost_usd = plan.entry, None
    if entry.input_tokens or entry.output_tokens:
        price = prices().find(entry.model_id)
        cost_usd = price and price.usd(entry.input_tokens, entry.output_tokens)
    return LookupFinished(
        Outcome.STALE if plan.is_stale else Outcome.HIT,
        served_by,
        item_size=len(entry.body),
        ttl_s=plan.ttl_s,
        age_s=plan.age_s,
        model_id=entry.model_id,
        origin=entry.origin,
        cost_ms=entry.cost_ms,
        key_hash=key_hash,
        stale_reason=stale_reason(plan) if plan.is_stale else None,
        input_tokens=entry.input_tokens,
        output_tokens=entry.output_tokens,
        cost_usd=cost_usd,
    )


def told_hash(key: CacheKey, secret: bytes) -> str:
    """Return what telemetry is told of a key: the request's hash, or nothing.

    Without a secret a short prompt could be guessed from it; and who uses the library may put any
    text where a hash belongs.
    """
    found = _HASH.search(key) if secret else None
    return found[1] if found else ""


def stale_reason(plan: Serve) -> StaleReason:
    """Say why something stale may be served that is no stand-in for a failure."""
    is_revalidated = -plan.ttl_s < plan.entry.stale_while_revalidate_s
    return StaleReason.WHILE_REVALIDATE if is_revalidated else StaleReason.MAX_STALE
