"""Counts: plain integers, read by ``stats()`` and by whoever exports metrics.

A synchronous counter of a tracing SDK costs 10 µs; these cost 0.1.
"""

from collections import Counter
from typing import assert_never

from routecache_middleware.core.keys import Layer
from routecache_middleware.core.models import BypassReason, DiscardReason, Outcome
from routecache_middleware.core.ports import CoordinatorStats, LayerUsage
from routecache_middleware.core.prices import NO_PRICES, Prices
from routecache_middleware.core.savings import CacheTime, Ledger, SavingsReport, report
from routecache_middleware.core.shadow import ShadowCounts
from routecache_middleware.core.stats import CacheStats, LayerStats

__all__ = ["LayerCounters", "Recorder"]


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
        "write_errors",
        "writes",
    )

    def __init__(self) -> None:
        self.hits = self.stale = self.misses = self.coalesced = 0
        self.bypasses = self.errors = 0
        self.stale_if_error = self.refreshes = 0
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
    """All counters of one cache."""

    __slots__ = (
        "_bypasses",
        "_discards",
        "invalidations",
        "layers",
        "result",
        "saved",
        "saved_results",
        "shadow",
        "shadow_hits",
        "time",
        "warm_operations",
    )

    def __init__(self) -> None:
        self.layers = {layer: LayerCounters() for layer in Layer}
        self.result = self.layers[Layer.RESULT]  # asked for on every hit
        self.saved = {layer: Ledger() for layer in Layer}
        self.saved_results = self.saved[Layer.RESULT]
        self.time = CacheTime()
        self.shadow = ShadowCounts()
        self.invalidations = 0
        self.warm_operations = 0
        self.shadow_hits = 0
        self._discards: Counter[str] = Counter()
        self._bypasses: Counter[str] = Counter()

    def bypassed(self, reason: BypassReason) -> None:
        """A request was forwarded without a lookup."""
        self.layers[Layer.RESULT].bypasses += 1
        self._bypasses[reason.value] += 1

    def discarded(self, reason: DiscardReason) -> None:
        """An answer was rightly not stored."""
        self.layers[Layer.RESULT].discards += 1
        self._discards[reason.value] += 1

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
            discards=dict(self._discards),
            bypasses=dict(self._bypasses),
        )
