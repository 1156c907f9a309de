"""The records that the cache keeps and hands out, and the words used for how they came."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import NewType

import msgspec

from routecache_middleware.core.keys import Layer

__all__ = [
    "START",
    "BypassReason",
    "DiscardReason",
    "Entry",
    "LoadMetrics",
    "MissReason",
    "ModelMetadata",
    "Outcome",
    "Position",
    "QueryResult",
    "ResponseMode",
    "RoutingDecision",
    "Scope",
    "StaleReason",
]

Position = NewType("Position", int)
"""A place in the invalidation log. Later rows have greater positions; 0 is before every row."""

START = Position(0)
"""Before every row of the log."""

Scope = NewType("Scope", str)
"""What an invalidation row covers; built by :mod:`routecache_middleware.core.invalidation`."""


class Outcome(StrEnum):
    """How a lookup or a request ended.

    Hit rate = (hit + stale) / (hit + stale + miss + coalesced + error). ``bypass`` is outside, and
    ``coalesced`` is not a hit: RFC 9211 section 2.2 puts ``collapsed`` with ``fwd``.
    """

    HIT = "hit"
    STALE = "stale"
    MISS = "miss"
    COALESCED = "coalesced"
    BYPASS = "bypass"
    ERROR = "error"


class StaleReason(StrEnum):
    """Why something may be served past its lifetime (RFC 5861, RFC 9111 section 5.2.1.2)."""

    WHILE_REVALIDATE = "while_revalidate"
    IF_ERROR = "if_error"
    MAX_STALE = "max_stale"


class MissReason(StrEnum):
    """Why a lookup did not end in a hit."""

    ABSENT = "absent"
    EXPIRED = "expired"
    INVALIDATED = "invalidated"
    REQUEST = "request"
    CONVERSION = "conversion"
    INELIGIBLE = "ineligible"
    UNAUTHORISED = "unauthorised"
    PARTIAL = "partial"


class BypassReason(StrEnum):
    """Why a request of a known dialect was forwarded without looking anything up."""

    DISABLED = "disabled"
    NO_PRINCIPAL = "no-principal"
    TENANT_ERROR = "tenant-error"
    CONTENT_TYPE = "content-type"
    CONTENT_ENCODING = "content-encoding"
    BODY_TOO_LARGE = "body-too-large"
    INVALID_JSON = "invalid-json"
    NO_STORE = "no-store"
    SIGNED = "signed"
    STORE = "store"
    WEB_SEARCH = "web-search"
    SERVER_TOOLS = "server-tools"
    AUDIO = "audio"
    REMOTE_MEDIA = "remote-media"
    STATEFUL = "stateful"
    BACKGROUND = "background"
    MUTABLE_PROMPT = "mutable-prompt"
    PREWARM = "prewarm"
    TEMPERATURE = "temperature"
    POLICY = "policy"
    SHADOW = "shadow"
    ROUTER_ERROR = "router-error"
    COORDINATOR_ERROR = "coordinator-error"
    INTERNAL_ERROR = "internal-error"


class DiscardReason(StrEnum):
    """Why a response was not stored."""

    STATUS = "status"
    CONTENT_ENCODING = "content-encoding"
    CONTENT_TYPE = "content-type"
    VARY = "vary"
    TRAILERS = "trailers"
    TOO_LARGE = "too-large"
    CAPTURE_FULL = "capture-full"
    INCOMPLETE = "incomplete"
    ERROR_BODY = "error-body"
    FINISH_REASON = "finish-reason"
    TOOL_CALLS = "tool-calls"
    EMPTY = "empty"
    VETOED = "vetoed"
    MODE = "mode"
    NO_STORE = "no-store"
    DISABLED = "disabled"


class ResponseMode(StrEnum):
    """The wire form of an answer."""

    JSON = "json"
    STREAM = "stream"


@dataclass(frozen=True, slots=True)
class RoutingDecision:
    """Which model a router chose.

    Attributes:
        selected_model: The model to use.
        score: The router's own score, as returned: never rounded and never compared for equality.
        alternatives: ``(model, score)`` pairs, best first, for when ``selected_model`` may not be
            used.
        strategy: Which router or strategy decided.
        router_version: Version of the router's weights and configuration; a condition of
            invalidations.
        score_kind: What ``score`` is: ``win_rate``, ``cosine``, ``probability``, ``tier`` ...
        decide_ms: What the decision cost, milliseconds.
        detail: What else its maker wants to have back with it; the cache does not look into it.
        outcome: How this record came; not stored.
        age_s: Seconds since the decision was made; not stored.
    """

    selected_model: str
    score: float = 1.0
    alternatives: tuple[tuple[str, float], ...] = ()
    strategy: str = ""
    router_version: str = ""
    score_kind: str = ""
    decide_ms: float = 0.0
    detail: str = ""
    outcome: Outcome = field(default=Outcome.MISS, compare=False)
    age_s: float = field(default=0.0, compare=False)


@dataclass(frozen=True, slots=True)
class QueryResult:
    """A complete answer. Its ``repr`` shows neither body nor headers.

    Attributes:
        result_data: The body exactly as the upstream sent it.
        model_id: The model that made it.
        response_time_ms: How long the upstream took, milliseconds.
        content_type: Media type of ``result_data``.
        mode: Wire form of ``result_data``.
        has_usage: Whether ``result_data`` carries token usage.
        headers: Stored response headers (allow-list only), in order.
        outcome: How this record came; not stored.
        age_s: Seconds since the answer was stored; not stored.
    """

    result_data: bytes = field(repr=False)
    model_id: str
    response_time_ms: float = 0.0
    content_type: str = "application/json"
    mode: ResponseMode = ResponseMode.JSON
    has_usage: bool = False
    headers: tuple[tuple[bytes, bytes], ...] = field(default=(), repr=False)
    outcome: Outcome = field(default=Outcome.MISS, compare=False)
    age_s: float = field(default=0.0, compare=False)


@dataclass(frozen=True, slots=True)
class ModelMetadata:
    """What is known of a model.

    Attributes:
        model_id: The model.
        capabilities: What the model can do: name to a JSON value.
        current_load: Requests in flight when this was written.
        avg_response_time_ms: Moving average of the response time, milliseconds.
        is_observed: True when only live measurement made this record, so ``capabilities`` is empty
            and a loader still has to be asked.
        outcome: How this record came; not stored.
        age_s: Seconds since the record was written; not stored.
    """

    model_id: str
    capabilities: Mapping[str, object] = field(default_factory=dict)
    current_load: float = 0.0
    avg_response_time_ms: float = 0.0
    is_observed: bool = False
    outcome: Outcome = field(default=Outcome.MISS, compare=False)
    age_s: float = field(default=0.0, compare=False)


@dataclass(frozen=True, slots=True)
class LoadMetrics:
    """Live load of a model.

    Attributes:
        model_id: The model.
        in_flight: Upstream calls under way.
        requests_per_s: Upstream calls started per second, exponentially averaged.
        avg_response_time_ms: Response time, exponentially averaged, milliseconds.
        error_rate: Share of upstream calls that failed, exponentially averaged, 0..1.
        outcome: How this record came; not stored.
        age_s: Seconds since the record was written; not stored.
    """

    model_id: str
    in_flight: int = 0
    requests_per_s: float = 0.0
    avg_response_time_ms: float = 0.0
    error_rate: float = 0.0
    outcome: Outcome = field(default=Outcome.MISS, compare=False)
    age_s: float = field(default=0.0, compare=False)


class Entry(msgspec.Struct, frozen=True, gc=False):
    """What a coordinator keeps under a key.

    A struct, because one is made per stored answer and many are kept: it is built ten times faster
    than a frozen dataclass, and as it can be part of no reference cycle the garbage collector need
    not walk over all that a store holds. Its ``repr`` shows no answer, and no tenant.

    Attributes:
        layer: The layer it belongs to.
        body: For a result the upstream's own bytes; for the other layers the record as msgpack.
        created_s: When it was made, Unix seconds on the coordinator's clock.
        freshness_lifetime_s: How long it is fresh after ``created_s`` (RFC 9111 section 4.2.1).
        stale_while_revalidate_s: How long after that it may be served while it is refreshed
            (RFC 5861).
        stale_if_error_s: How long after that it may be served when the upstream fails (RFC 5861).
        cost_ms: What it cost to make, milliseconds.
        position: How far the maker had read the invalidation log when it looked this key up.
        scopes: What invalidates it, beyond ``all``, its layer and its key, which are implied.
        model_id: The model that made or was selected by it.
        router_version: For decisions: an invalidation condition.
        content_type: Media type of ``body``.
        mode: Wire form of ``body``.
        shape: The dialect's token for the exact wire form asked for when ``body`` was made, such as
            ``stream+usage``; a request of the same shape gets ``body`` verbatim.
        has_usage: Whether ``body`` carries token usage.
        headers: Stored response headers.
        origin: ``traceparent`` of the request that stored it, or empty when that was not sampled.
        input_tokens: What it cost to make, by its usage; 0: unknown.
        output_tokens: Likewise.
    """

    layer: Layer
    body: bytes
    created_s: float
    freshness_lifetime_s: float
    stale_while_revalidate_s: float = 0.0
    stale_if_error_s: float = 0.0
    cost_ms: float = 0.0
    position: Position = Position(0)
    scopes: tuple[Scope, ...] = ()
    model_id: str = ""
    router_version: str = ""
    content_type: str = ""
    mode: ResponseMode = ResponseMode.JSON
    shape: str = "json"
    has_usage: bool = False
    headers: tuple[tuple[bytes, bytes], ...] = ()
    origin: str = ""
    input_tokens: int = 0
    output_tokens: int = 0

    def __repr__(self) -> str:
        return (
            f"Entry({self.layer.value}, {len(self.body)} bytes of {self.shape}, "
            f"model_id={self.model_id!r}, created_s={self.created_s!r}, "
            f"freshness_lifetime_s={self.freshness_lifetime_s!r}, position={self.position})"
        )

    @property
    def expires_s(self) -> float:
        """When it stops being of any use, Unix seconds: all its windows are over."""
        window_s = max(self.stale_while_revalidate_s, self.stale_if_error_s)
        return self.created_s + self.freshness_lifetime_s + window_s
