"""Response headers of the proxy: what the cache did."""

from routecache_middleware.adapters.litellm.outcomes import CallOutcome
from routecache_middleware.core import cache_status
from routecache_middleware.core.models import BypassReason, MissReason, Outcome

__all__ = ["fields_of"]

_REUSED = frozenset({Outcome.HIT, Outcome.STALE, Outcome.COALESCED})


def fields_of(record: CallOutcome, served_by: str) -> dict[str, str]:
    """Return the response fields that say how a call was served, names in lower case.

    ``served_by``: the coordinator's name.
    """
    fields: dict[str, str] = {}
    outcome = record.outcome
    if outcome is not None:
        fields["cache-status"] = _status(record, outcome, served_by).decode("ascii")
        shown = Outcome.MISS if outcome is Outcome.ERROR else outcome
        fields["x-routecache"] = shown.value.upper()
    if outcome in _REUSED:
        fields["age"] = str(int(record.age_s))
        # LiteLLM shows what it once cost.
        fields["x-litellm-response-cost"] = "0.0"
    if record.model and record.model.isascii() and record.model.isprintable():
        fields["x-routecache-model"] = record.model
    if record.decision is not None:
        fields["x-routecache-decision"] = "HIT" if record.decision in _REUSED else "MISS"
    return fields


def _status(record: CallOutcome, outcome: Outcome, served_by: str) -> bytes:
    if outcome in {Outcome.HIT, Outcome.STALE}:
        return cache_status.hit(record.ttl_s, served_by)
    if outcome is Outcome.COALESCED:
        return cache_status.collapsed()
    if outcome is Outcome.MISS:
        return cache_status.forwarded(MissReason(record.reason) if record.reason else None)
    return cache_status.bypassed(BypassReason(record.reason or BypassReason.INTERNAL_ERROR))
