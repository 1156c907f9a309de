"""Counts: plain integers, read by ``stats()`` and by whoever exports metrics.

A synchronous counter of a tracing SDK costs 10 µs; these cost 0.1.
"""

from bisect import bisect_left
from collections import Counter, OrderedDict
from enum import StrEnum
from typing import TYPE_CHECKING, Final, assert_never

from routecache_middleware.core.keys import CacheKey, Layer
from routecache_middleware.core.metrics import (
    ENTRY_AGE,
    LOOKUP_DURATION,
    OTHER,
    WAIT_DURATION,
    WRITE_DURATION,
)
from routecache_middleware.core.models import BypassReason, DiscardReason, MissReason, Outcome
from routecache_middleware.core.plan import Serve
from routecache_middleware.core.ports import (
    Coordinator,
    CoordinatorStats,
    LayerUsage,
    MetricSink,
)
from routecache_middleware.core.prices import NO_PRICES, Prices
from routecache_middleware.core.savings import CacheTime, LayerSavings, SavingsReport, report
from routecache_middleware.core.shadow import ShadowCounts
from routecache_middleware.core.stats import CacheStats, LayerStats
from routecache_middleware.engine.measures import LayerMeasures, Models
from routecache_middleware.engine.popularity import Popularity

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["LayerCounters", "Recorder", "Waited"]

# Members of an Enum are slow to read from their class in Python 3.11: 75 ns each, measured.
_RESULT = Layer.RESULT
_LOOKUP_S: Final = LOOKUP_DURATION.bounds
_AGE_S: Final = ENTRY_AGE.bounds
_MOST_ERRORS: Final = 100  # kinds; their names are class names, also of third parties


def _no_prices() -> Prices:
    return NO_PRICES


class Waited(StrEnum):
    """How waiting for what somebody else is making ended."""

    SHARED = "shared"
    TIMEOUT = "timeout"
    LEADER_FAILED = "leader_failed"
    """There was nothing to share after all, or whoever waited left."""


_REMEMBERED = 1024  # keys whose last answer was not stored
_MAX_KEY = 512  # characters: there may be names in a key that clients choose


class LayerCounters:
    """The moving counters of one layer; :mod:`routecache_middleware.core.stats` defines them."""

    __slots__ = (
        "bypasses",
        "coalesced",
        "discards",
        "errors",
        "hits",
        "misses",
        "refreshes",
        "stale",
        "stale_if_error",
        "stale_max",
        "write_errors",
        "writes",
    )

    def __init__(self) -> None:
        self.hits = self.stale = self.misses = self.coalesced = 0
        self.bypasses = self.errors = 0
        self.stale_if_error = self.stale_max = self.refreshes = 0
        self.writes = self.write_errors = self.discards = 0

    def count(self, outcome: Outcome) -> None:
        """Count one lookup by how it ended."""
        match outcome:
            case Outcome.HIT:
                self.hits += 1
            case Outcome.MISS:
                self.misses += 1
            case Outcome.COALESCED:
                self.coalesced += 1
            case Outcome.BYPASS:
                self.bypasses += 1
            case Outcome.STALE:
                self.stale += 1
            case Outcome.ERROR:
                self.errors += 1
            case _:
                assert_never(outcome)

    def snapshot(self, usage: LayerUsage) -> LayerStats:
        """Freeze the counters together with what the coordinator holds."""
        return LayerStats(
            hits=self.hits,
            stale=self.stale,
            stale_if_error=self.stale_if_error,
            refreshes=self.refreshes,
            misses=self.misses,
            coalesced=self.coalesced,
            bypasses=self.bypasses,
            errors=self.errors,
            writes=self.writes,
            write_errors=self.write_errors,
            discards=self.discards,
            evictions=usage.evictions,
            entries=usage.entries,
            bytes=usage.bytes,
        )


class Recorder:
    """All counters of one cache.

    Attributes:
        layers: The counters of each layer; ``result`` are those of answers.
        measures: What is measured of each layer.
        bypass_reasons: Why requests were bypassed; ``discard_reasons``: why answers were not kept.
        backend_errors: Operation and class of the error, to how often that happened.
        miss_reasons: Layer and why nothing of use was found, to how often that was.
        models: Requests by model.
        popular: Which answers are served how often, about.
        saved: What was not spent again, by layer; ``time``: what the cache itself took.
        prices: What models cost, as far as is known by now.
        shadow: How what would have been served compares with what was.
        sink: Who is told each duration, or None.
    """

    __slots__ = (
        "_last_discards",
        "backend_errors",
        "bypass_reasons",
        "discard_reasons",
        "invalidations",
        "layers",
        "measures",
        "miss_reasons",
        "models",
        "popular",
        "prices",
        "result",
        "result_measures",
        "saved",
        "saved_results",
        "shadow",
        "shadow_hits",
        "sink",
        "time",
        "warm_operations",
    )

    def __init__(self) -> None:
        self.layers = {layer: LayerCounters() for layer in Layer}
        self.result = self.layers[Layer.RESULT]  # asked for on every hit
        self.measures = {layer: LayerMeasures() for layer in Layer}
        self.result_measures = self.measures[Layer.RESULT]  # so are these
        self.saved = {layer: LayerSavings() for layer in Layer}
        self.saved_results = self.saved[Layer.RESULT]
        self.time = CacheTime()
        self.shadow = ShadowCounts()
        self.invalidations = 0
        self.warm_operations = 0
        self.shadow_hits = 0
        self.discard_reasons: Counter[str] = Counter()
        self.bypass_reasons: Counter[str] = Counter()
        self.backend_errors: Counter[tuple[str, str]] = Counter()
        self.miss_reasons: Counter[tuple[str, str]] = Counter()
        self.popular = Popularity()
        self.models = Models()
        self.prices: Callable[[], Prices] = _no_prices
        self.sink: MetricSink | None = None
        self._last_discards: OrderedDict[CacheKey, DiscardReason] = OrderedDict()

    def bypassed(self, reason: BypassReason) -> None:
        """A request was forwarded without a lookup."""
        self.layers[Layer.RESULT].bypasses += 1
        self.bypass_reasons[reason.value] += 1

    def discarded(self, reason: DiscardReason, key: CacheKey | None = None) -> None:
        """An answer was rightly not stored; ``key``: under which it would have been."""
        self.layers[Layer.RESULT].discards += 1
        self.discard_reasons[reason.value] += 1
        if key:
            self.remember(reason, key)

    def remember(self, reason: DiscardReason, key: CacheKey) -> None:
        """Keep in mind, for explanations only, why the last answer under a key was not stored."""
        last = self._last_discards
        last.pop(key, None)
        if len(key) <= _MAX_KEY:
            if len(last) >= _REMEMBERED:
                last.popitem(last=False)
            last[key] = reason

    def stored(self, key: CacheKey) -> None:
        """An answer was stored, so there is nothing left to explain."""
        self._last_discards.pop(key, None)

    def last_discard(self, key: CacheKey) -> DiscardReason | None:
        """Why the last answer under a key was not stored; None: it was, or that was long ago."""
        return self._last_discards.get(key)

    def found(self, layer: Layer, where: Coordinator, plan: Serve, took_s: float) -> None:
        """A lookup has found something of use. On the way of every hit, so all of it is here."""
        measures = self.result_measures if layer is _RESULT else self.measures[layer]
        is_stale, age_s = plan.is_stale, plan.age_s
        durations, ages = measures.stale_s if is_stale else measures.hit_s, measures.age_s
        durations.counts[bisect_left(_LOOKUP_S, took_s)] += 1
        durations.total += took_s
        ages.counts[bisect_left(_AGE_S, age_s)] += 1
        ages.total += age_s
        if self.sink is not None:
            outcome = Outcome.STALE if is_stale else Outcome.HIT
            labels = (layer.value, where.name, outcome.value)
            self.sink.record(LOOKUP_DURATION.name, took_s, labels)

    def missed(self, layer: Layer, reason: MissReason) -> None:
        """Nothing of use was found, or none was wanted."""
        self.miss_reasons[layer.value, reason.value] += 1

    def looked_up(self, layer: Layer, where: str, outcome: Outcome, took_s: float) -> None:
        """A lookup has found nothing of use, or failed."""
        measures = self.measures[layer]
        (measures.error_s if outcome is Outcome.ERROR else measures.miss_s).record(took_s)
        if self.sink is not None:
            self.sink.record(LOOKUP_DURATION.name, took_s, (layer.value, where, outcome.value))

    def waited(self, layer: Layer, how: Waited, took_s: float) -> None:
        """A request has waited for what somebody else was making."""
        measures = self.measures[layer]
        match how:
            case Waited.SHARED:
                measures.shared_s.record(took_s)
            case Waited.TIMEOUT:
                measures.timeout_s.record(took_s)
            case Waited.LEADER_FAILED:
                measures.failed_s.record(took_s)
            case _:
                assert_never(how)
        if self.sink is not None:
            self.sink.record(WAIT_DURATION.name, took_s, (layer.value, how.value))

    def wrote(self, layer: Layer, where: str, took_s: float, size_bytes: int) -> None:
        """The coordinator has stored a value, or failed or refused to: then the size is 0."""
        measures = self.measures[layer]
        measures.write_s.record(took_s)
        if size_bytes:
            measures.size_bytes.record(size_bytes)
        if self.sink is not None:
            self.sink.record(WRITE_DURATION.name, took_s, (layer.value, where))

    def backend_failed(self, operation: str, error: BaseException) -> None:
        """An operation of the coordinator has failed: ``get``, ``put`` or ``remove``."""
        name = type(error.__cause__ or error).__name__
        if (
            len(self.backend_errors) >= _MOST_ERRORS
            and (operation, name) not in self.backend_errors
        ):
            name = OTHER
        self.backend_errors[operation, name] += 1

    def savings(self, prices: Prices = NO_PRICES) -> SavingsReport:
        """Report what was saved, less what the cache took."""
        hits = self.result.hits + self.result.stale
        return report(self.saved.items(), self.time, hits=hits, prices=prices)

    def snapshot(self, held: CoordinatorStats) -> CacheStats:
        """Freeze everything."""
        usage = {layer: held.layers.get(layer, LayerUsage()) for layer in Layer}
        frozen = {layer: self.layers[layer].snapshot(usage[layer]) for layer in Layer}
        return CacheStats(
            routing=frozen[Layer.ROUTING],
            result=frozen[Layer.RESULT],
            metadata=frozen[Layer.METADATA],
            load=frozen[Layer.LOAD],
            invalidations=self.invalidations,
            warm_operations=self.warm_operations,
            shadow_hits=self.shadow_hits,
            total_keys=sum(layer.entries for layer in usage.values()),
            total_keys_age_s=held.age_s,
            cluster_nodes=held.nodes,
            corrupt_entries=held.corrupt_entries,
            discards=dict(self.discard_reasons),
            bypasses=dict(self.bypass_reasons),
        )
