"""What telemetry is told: frozen records, one per finished operation.

Nothing in them is secret: no prompt, completion, credential or raw key. ``origin`` and ``leader``
are ``traceparent`` values (W3C Trace Context section 3.2) and are empty when not sampled.
"""

from enum import StrEnum

import msgspec

from routecache_middleware.core.keys import Layer
from routecache_middleware.core.models import BypassReason, MissReason, Outcome, StaleReason

__all__ = [
    "Finished",
    "LookupFinished",
    "Operation",
    "PutFinished",
    "RefreshFinished",
    "RemoveFinished",
    "RequestFinished",
    "WaitFinished",
]


class Operation(StrEnum):
    """What is being done; together with the layer it names a span."""

    GET = "cache.get"
    WAIT = "cache.wait"
    PUT = "cache.put"
    REFRESH = "cache.refresh"
    REMOVE = "cache.remove"


class LookupFinished(msgspec.Struct, frozen=True):
    """A lookup is over. Sizes are bytes, times seconds; ``ttl_s`` is negative when stale.

    Tokens are those that making the answer took, 0: unknown; ``cost_usd`` what they cost, None:
    nobody has said so (yet).
    """

    outcome: Outcome
    served_by: str = ""
    miss_reason: MissReason | None = None
    item_size: int = 0
    ttl_s: float = 0.0
    age_s: float = 0.0
    model_id: str = ""
    origin: str = ""
    cost_ms: float = 0.0
    key_hash: str = ""
    stale_reason: StaleReason | None = None
    input_tokens: int = 0
    output_tokens: int = 0
    cost_usd: float | None = None


class WaitFinished(msgspec.Struct, frozen=True):
    """A follower's wait is over: shared the leader's answer, or the leader failed."""

    outcome: Outcome
    leader: str = ""


class PutFinished(msgspec.Struct, frozen=True):
    """A write is over; ``error_type`` is the class name of the failure, or empty."""

    is_stored: bool
    item_size: int = 0
    ttl_s: float = 0.0
    model_id: str = ""
    error_type: str = ""


class RefreshFinished(msgspec.Struct, frozen=True):
    """What was stale has been made anew; ``error_type`` as for a write."""

    error_type: str = ""


class RemoveFinished(msgspec.Struct, frozen=True):
    """An invalidation is over."""

    scope: str
    error_type: str = ""


Finished = LookupFinished | WaitFinished | PutFinished | RefreshFinished | RemoveFinished
"""What an open operation is finished with."""


class RequestFinished(msgspec.Struct, frozen=True):
    """How one request of a known dialect was answered; marks the enclosing server span."""

    outcome: Outcome
    layer: Layer = Layer.RESULT
    served_by: str = ""
    bypass_reason: BypassReason | None = None
    stale_reason: StaleReason | None = None
