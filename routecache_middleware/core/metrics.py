"""Every metric, as data: what OpenTelemetry, Prometheus, the dashboard and the README make of it.

Names follow OpenTelemetry's general conventions (no ``total``, seconds, ``By``, ``usage`` beside
``limit``). Everything a metric is split by is one of a few words, or a model's name, of which there
are at most 50 (:data:`OTHER` stands for the rest). Never a key, tenant, user, prompt or path.

What cannot be measured truthfully is not here:

- Where an entry that a near cache holds was found (``routecache.layer.lookups``): a coordinator
  does not say it of each read. ``routecache.layer`` is the coordinator that holds the entry.
- Why an entry left other than to make room: expired and invalidated ones are freed when somebody
  comes by, which says nothing about when they went. So ``capacity`` is the only eviction reason.
- Failures to take a lease or to listen for events: whoever asks cannot tell them from being too
  late. ``routecache.operation`` is ``get``, ``put`` or ``remove``.
- ``server.address`` of a backend that is down: a cluster has many, and one of them may be.
- ``gen_ai.operation.name`` of a lookup: the library's callers have none. ``routecache.requests``
  has it, and the model.

A hit rate is ``(hit + stale) / (hit + stale + miss + coalesced + error)``: a bypass is outside, and
a request that shared somebody else's call is not a hit.
"""

from enum import StrEnum
from typing import Final

import msgspec

__all__ = [
    "BACKEND_ERRORS",
    "BACKEND_UP",
    "BYPASSES",
    "BY_NAME",
    "ENTRY_AGE",
    "ENTRY_COUNT",
    "EVICTIONS",
    "FLIGHTS",
    "INVALIDATIONS",
    "ITEM_SIZE",
    "LOOKUPS",
    "LOOKUP_DURATION",
    "METRICS",
    "MISSES",
    "NODES",
    "OTHER",
    "REQUESTS",
    "SAVED_COST",
    "SAVED_TIME",
    "SAVED_TOKENS",
    "SAVED_VALUES",
    "STALE_RESPONSES",
    "STORAGE_LIMIT",
    "STORAGE_USAGE",
    "WAIT_DURATION",
    "WRITES",
    "WRITE_DURATION",
    "Kind",
    "Metric",
    "metric_table",
]

OTHER: Final = "_OTHER"
"""Value of an attribute whose own value may not be shown: there are too many, or it is no name."""

_FAST_S: Final = (
    *(1e-5, 2.5e-5, 5e-5, 1e-4, 2.5e-4, 5e-4, 1e-3, 2.5e-3),
    *(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0),
)
# The GenAI conventions' advice for durations of model calls: a wait is for one of those.
_SLOW_S: Final = tuple(0.01 * 2**power for power in range(14))
_AGE_S: Final = (1.0, 10.0, 60.0, 300.0, 900.0, 3600.0, 14_400.0, 86_400.0, 604_800.0)
_SIZE_BYTES: Final = tuple(float(4**power) for power in range(4, 13))


class Kind(StrEnum):
    """What a metric's numbers are."""

    COUNTER = "counter"
    """Only ever grows."""
    UP_DOWN = "up-down counter"
    """How much there is now; over processes it adds up."""
    GAUGE = "gauge"
    """What is the case now; over processes the least counts."""
    HISTOGRAM = "histogram"
    """How many fell into which bucket, and their sum. Each bound is the largest of its bucket."""


_UNIT_SUFFIXES: Final = {"s": "_seconds", "By": "_bytes"}


class Metric(msgspec.Struct, frozen=True):
    """One metric.

    Attributes:
        name: Its name in OpenTelemetry.
        kind: What its numbers are.
        unit: UCUM, as OpenTelemetry writes it.
        attributes: What it is split by, in the order in which series have the values.
        meaning: One sentence.
        bounds: Of a histogram: the upper bounds of its buckets, in its unit.
        is_recorded: Of a histogram: whether OpenTelemetry gets each value. One record costs a
            request 10 us with an SDK, so a hit makes no more than one.
    """

    name: str
    kind: Kind
    unit: str
    attributes: tuple[str, ...]
    meaning: str
    bounds: tuple[float, ...] = ()
    is_recorded: bool = True

    @property
    def prometheus(self) -> str:
        """Its name in Prometheus, as OpenTelemetry's exporter makes it."""
        total = "_total" if self.kind is Kind.COUNTER else ""
        return self.name.replace(".", "_") + _UNIT_SUFFIXES.get(self.unit, "") + total


_CACHE: Final = "routecache.cache"
_LAYER: Final = "routecache.layer"
_OUTCOME: Final = "routecache.outcome"
_MODEL: Final = "gen_ai.request.model"

LOOKUPS: Final = Metric(
    "routecache.lookups",
    Kind.COUNTER,
    "{lookup}",
    (_CACHE, _OUTCOME, _LAYER),
    "Lookups by how they ended, and for a hit where it was found.",
)
REQUESTS: Final = Metric(
    "routecache.requests",
    Kind.COUNTER,
    "{request}",
    (_MODEL, "gen_ai.operation.name", _OUTCOME),
    "Requests by model (the router's choice, if there is one) and how they were answered.",
)
LOOKUP_DURATION: Final = Metric(
    "routecache.lookup.duration",
    Kind.HISTOGRAM,
    "s",
    (_CACHE, _LAYER, _OUTCOME),
    "How long a lookup took, by what it found; waiting for another request's answer excluded.",
    _FAST_S,
)
WAIT_DURATION: Final = Metric(
    "routecache.wait.duration",
    Kind.HISTOGRAM,
    "s",
    (_CACHE, "routecache.wait.outcome"),
    "How long a request waited for the answer that another one was making, until it began to come.",
    _SLOW_S,
)
FLIGHTS: Final = Metric(
    "routecache.flight.active",
    Kind.UP_DOWN,
    "{flight}",
    (_CACHE,),
    "Calls of the gateway under way that other requests may share.",
)
STALE_RESPONSES: Final = Metric(
    "routecache.stale.responses",
    Kind.COUNTER,
    "{response}",
    (_CACHE, "routecache.stale.reason"),
    "Answers served past their lifetime, by why that was allowed.",
)
BYPASSES: Final = Metric(
    "routecache.bypasses",
    Kind.COUNTER,
    "{request}",
    ("routecache.bypass.reason",),
    "Requests for which nothing was looked up, by why.",
)
MISSES: Final = Metric(
    "routecache.misses",
    Kind.COUNTER,
    "{lookup}",
    (_CACHE, "routecache.miss.reason"),
    "Lookups that found nothing of use, and requests that were not looked up at their own wish, by "
    "why; those that then shared somebody else's answer included.",
)
WRITES: Final = Metric(
    "routecache.writes",
    Kind.COUNTER,
    "{write}",
    (_CACHE, _LAYER, _OUTCOME),
    "Values that were to be stored, by what became of them.",
)
WRITE_DURATION: Final = Metric(
    "routecache.write.duration",
    Kind.HISTOGRAM,
    "s",
    (_CACHE, _LAYER),
    "How long the coordinator took to store a value or to fail.",
    _FAST_S,
)
ITEM_SIZE: Final = Metric(
    "routecache.item.size",
    Kind.HISTOGRAM,
    "By",
    (_CACHE,),
    "Size of the values that were stored, before compression.",
    _SIZE_BYTES,
    is_recorded=False,
)
ENTRY_AGE: Final = Metric(
    "routecache.entry.age",
    Kind.HISTOGRAM,
    "s",
    (_CACHE,),
    "How old the entries were that lookups found to be of use.",
    _AGE_S,
    is_recorded=False,
)
BACKEND_ERRORS: Final = Metric(
    "routecache.backend.errors",
    Kind.COUNTER,
    "{error}",
    (_LAYER, "routecache.operation", "error.type"),
    "Operations of the coordinator that failed; the requests behind them went on without it.",
)
BACKEND_UP: Final = Metric(
    "routecache.backend.up",
    Kind.GAUGE,
    "1",
    (_LAYER,),
    "1 while reads and writes are let through to the coordinator, 0 while either is not.",
)
NODES: Final = Metric(
    "routecache.nodes",
    Kind.GAUGE,
    "{node}",
    (_LAYER,),
    "Nodes that the coordinator uses; a ring leaves out those that are down.",
)
ENTRY_COUNT: Final = Metric(
    "routecache.entry.count",
    Kind.UP_DOWN,
    "{entry}",
    (_CACHE, _LAYER),
    "Entries held, expired ones that were not yet swept included.",
)
STORAGE_USAGE: Final = Metric(
    "routecache.storage.usage",
    Kind.UP_DOWN,
    "By",
    (_CACHE, _LAYER),
    "Bytes that the entries take, bookkeeping included; on servers an estimate from some, without.",
)
STORAGE_LIMIT: Final = Metric(
    "routecache.storage.limit",
    Kind.UP_DOWN,
    "By",
    (_CACHE, _LAYER),
    "Bytes that the entries may take; absent where there is no limit of ours.",
)
EVICTIONS: Final = Metric(
    "routecache.evictions",
    Kind.COUNTER,
    "{entry}",
    (_CACHE, _LAYER, "routecache.eviction.reason"),
    "Entries dropped to make room.",
)
INVALIDATIONS: Final = Metric(
    "routecache.invalidations",
    Kind.COUNTER,
    "{invalidation}",
    (),
    "Invalidations made, whatever they covered, also those that could not be recorded at once.",
)
SAVED_TOKENS: Final = Metric(
    "routecache.saved.tokens",
    Kind.COUNTER,
    "{token}",
    ("gen_ai.token.type", _MODEL),
    "Tokens of answers that no model had to make again.",
)
SAVED_COST: Final = Metric(
    "routecache.saved.cost",
    Kind.COUNTER,
    "{USD}",
    (_MODEL,),
    "What those answers would have cost, US dollars.",
)
SAVED_TIME: Final = Metric(
    "routecache.saved.time",
    Kind.COUNTER,
    "s",
    (_CACHE,),
    "How long making the values once took that were then served again.",
)
SAVED_VALUES: Final = Metric(
    "routecache.saved.values",
    Kind.COUNTER,
    "{value}",
    (_CACHE,),
    "Values that were served again; making them once took `routecache.saved.time`.",
)

METRICS: Final = (
    *(LOOKUPS, REQUESTS, LOOKUP_DURATION, WAIT_DURATION, FLIGHTS, STALE_RESPONSES, BYPASSES),
    *(MISSES, WRITES, WRITE_DURATION, ITEM_SIZE, ENTRY_AGE, BACKEND_ERRORS, BACKEND_UP, NODES),
    *(ENTRY_COUNT, STORAGE_USAGE, STORAGE_LIMIT, EVICTIONS, INVALIDATIONS),
    *(SAVED_TOKENS, SAVED_COST, SAVED_TIME, SAVED_VALUES),
)
"""All of them, in the order in which people want to read of them."""

BY_NAME: Final = {metric.name: metric for metric in METRICS}


def metric_table() -> str:
    """Return the Markdown table of all metrics."""
    rows = ["| name | Prometheus | kind, unit | split by | meaning |", "|---|---|---|---|---|"]
    for metric in METRICS:
        split = ", ".join(f"`{name}`" for name in metric.attributes) or "-"
        rows.append(
            f"| `{metric.name}` | `{metric.prometheus}` | {metric.kind}, `{metric.unit}` "
            f"| {split} | {metric.meaning} |"
        )
    return "\n".join(rows)
