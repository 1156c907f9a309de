"""What shadow mode finds out: would the stored answer have done instead of the live one?

A model may say the same thing twice in other words, so "different" is not "wrong"; what is equal,
in bytes or in text, would have made no difference to anybody.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

from routecache_middleware.core.models import Entry
from routecache_middleware.core.sse import split_events

__all__ = ["Comparison", "ShadowCounts", "ShadowReport", "compare"]

# What differs from run to run and says nothing; everything else in a JSON answer counts.
_OF_ONE_RUN = frozenset(
    {
        "call_id",
        "completed_at",
        "created",
        "created_at",
        "encrypted_content",
        "id",
        "item_id",
        "meta",
        "modelVersion",
        "request_id",
        "responseId",
        "response_id",
        "service_tier",
        "signature",
        "system_fingerprint",
        "thoughtSignature",
        "timings",
        "usage",
        "usageMetadata",
    }
)
# The events of a stream may be cut anywhere, so that of these only what they say counts, in a row.
_SAID = frozenset(
    {
        "args",
        "arguments",
        "content",
        "delta",
        "name",
        "partial_json",
        "reasoning",
        "reasoning_content",
        "refusal",
        "text",
        "thinking",
    }
)


class Comparison(StrEnum):
    """How a stored answer compares with the live one."""

    EQUAL_BYTES = "equal-bytes"
    EQUAL_TEXT = "equal-text"
    DIFFERENT = "different"


@dataclass(frozen=True, slots=True, kw_only=True)
class ShadowReport:
    """What would have been served in shadow mode since the cache was made, in this process.

    Attributes:
        served: Requests that would have been answered from the cache and were compared.
        equal_bytes: Those of them whose live answer had the same bytes.
        equal_text: Those whose live answer said the same; identifiers, times and usage differed.
        different: Those whose live answer said something else.
        input_tokens: Input tokens that would have been saved.
        output_tokens: Output tokens that would have been saved.
        upstream_s: Time that clients would not have waited, seconds.
    """

    served: int = 0
    equal_bytes: int = 0
    equal_text: int = 0
    different: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    upstream_s: float = 0.0

    def same_rate(self) -> float:
        """Share of what was compared that said the same, 0..1; 0 when nothing was compared."""
        return (self.equal_bytes + self.equal_text) / self.served if self.served else 0.0


class ShadowCounts:
    """Adds up what shadow mode finds out."""

    __slots__ = ("_compared", "_input_tokens", "_output_tokens", "_upstream_ms")

    def __init__(self) -> None:
        self._compared = dict.fromkeys(Comparison, 0)
        self._input_tokens = self._output_tokens = 0
        self._upstream_ms = 0.0

    def compared(self, entry: Entry, comparison: Comparison) -> None:
        """A request was answered live, and a stored answer was there."""
        self._compared[comparison] += 1
        self._input_tokens += entry.input_tokens
        self._output_tokens += entry.output_tokens
        self._upstream_ms += entry.cost_ms

    def report(self) -> ShadowReport:
        """Return what was found out so far."""
        return ShadowReport(
            served=sum(self._compared.values()),
            equal_bytes=self._compared[Comparison.EQUAL_BYTES],
            equal_text=self._compared[Comparison.EQUAL_TEXT],
            different=self._compared[Comparison.DIFFERENT],
            input_tokens=self._input_tokens,
            output_tokens=self._output_tokens,
            upstream_s=self._upstream_ms / 1000,
        )


def compare(stored: bytes, live: bytes) -> Comparison:
    """Return how two answers of one API in one wire form compare; never raises.

    Of JSON everything counts but what differs from run to run; of a stream its text and the
    arguments of tool calls, however it was cut.
    """
    if stored == live:
        return Comparison.EQUAL_BYTES
    try:
        is_same = _said(stored) == _said(live)
    except (ValueError, RecursionError):
        is_same = False  # one of them cannot be read
    return Comparison.EQUAL_TEXT if is_same else Comparison.DIFFERENT


def _said(body: bytes) -> object:
    """Return all that an answer says.

    Raises:
        ValueError: It cannot be read, or says nothing that is known here.
    """
    if body.lstrip()[:1] in (b"{", b"["):
        said: object = _without(json.loads(body), _OF_ONE_RUN)
    else:
        events = [event.data for event in split_events(body) if event.data != b"[DONE]"]
        said = "".join(text for event in events for text in _texts(json.loads(event)))
    if not said:
        raise ValueError("the answer says nothing that is known")
    return said


def _without(value: object, names: frozenset[str]) -> object:
    """Return a JSON value without the members of these names, however deep."""
    if isinstance(value, dict):
        return {name: _without(one, names) for name, one in value.items() if name not in names}
    if isinstance(value, list):
        return [_without(one, names) for one in value]
    return value


def _texts(event: object) -> Iterator[str]:
    """Yield what an event says, in order."""
    left: list[tuple[str, object]] = [("", event)]
    while left:
        name, value = left.pop()
        if name == "args":  # of Google's: whole, and in JSON itself
            yield json.dumps(value, sort_keys=True)
        elif isinstance(value, dict):
            left += reversed(value.items())
        elif isinstance(value, list):
            left += [(name, one) for one in reversed(value)]
        elif name in _SAID and isinstance(value, str):
            yield value
