"""What became of each call, until its response is sent: for headers, logs and the fast lane."""

import msgspec
from cachetools import FIFOCache

from routecache_middleware.core.models import Outcome

__all__ = ["CallOutcome", "Outcomes", "lane_tag"]

_MAX_CALLS = 16_384


class CallOutcome(msgspec.Struct):
    """How one call was served.

    Attributes:
        outcome: Of the answer; None while nobody has looked it up.
        reason: Why it was forwarded or not looked up: a word of RFC 9211's ``detail``.
        age_s: Age of a stored answer, seconds.
        ttl_s: For how long it will be fresh, seconds.
        granted_s: How long an answer that is made for it will be, or None.
        model: The model group that it is kept under.
        keys: Under which keys the answer is kept: several where it has parts, or parts in LiteLLM.
        decision: Whether the routing decision was cached; None when none was needed.
        is_partly_stored: Some of it was stored, and some was not.
        is_cut_off: It is a stream that LiteLLM has ended by itself.
    """

    outcome: Outcome | None = None
    reason: str = ""
    age_s: float = 0.0
    ttl_s: float = 0.0
    granted_s: float | None = None
    model: str = ""
    keys: set[str] = set()
    decision: Outcome | None = None
    is_partly_stored: bool = False
    is_cut_off: bool = False


class Outcomes:
    """Outcomes by ``litellm_call_id``; bounded, and forgetting one costs a header."""

    __slots__ = ("_calls",)

    def __init__(self) -> None:
        self._calls: FIFOCache[str, CallOutcome] = FIFOCache(_MAX_CALLS)

    def of(self, call_id: object) -> CallOutcome:
        """The record of a call, made on first use; without an id one that nobody will find."""
        if not isinstance(call_id, str) or not call_id:
            return CallOutcome()
        found = self._calls.get(call_id)
        if found is None:
            found = self._calls[call_id] = CallOutcome()
        return found

    def peek(self, call_id: object) -> CallOutcome | None:
        """The record of a call, if there is one."""
        return self._calls.get(call_id) if isinstance(call_id, str) else None


def lane_tag(key: str) -> str:
    """Name the tag of what the fast lane keeps of an answer that the callback has under ``key``."""
    return f"fast-lane:{key}"
