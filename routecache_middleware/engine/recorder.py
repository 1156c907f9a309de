"""Counts: plain integers, read by ``stats()`` and by whoever exports metrics.

A synchronous counter of a tracing SDK costs 10 µs; these cost 0.1.
"""

from collections import Counter, OrderedDict
from typing import assert_never

from routecache_middleware.core.keys import CacheKey, Layer
from routecache_middleware.core.models import BypassReason, DiscardReason, Outcome
from routecache_middleware.core.ports import CoordinatorStats, LayerUsage
from routecache_middleware.core.stats import CacheStats, LayerStats

__all__ = ["LayerCounters", "Recorder"]

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
        "_last_discards",
        "invalidations",
        "layers",
        "result",
        "shadow_hits",
        "warm_operations",
    )

    def __init__(self) -> None:
        self.layers = {layer: LayerCounters() for layer in Layer}
        self.result = self.layers[Layer.RESULT]  # asked for on every hit
        self.invalidations = 0
        self.warm_operations = 0
        self.shadow_hits = 0
        self._discards: Counter[str] = Counter()
        self._bypasses: Counter[str] = Counter()
        self._last_discards: OrderedDict[CacheKey, DiscardReason] = OrderedDict()

    def bypassed(self, reason: BypassReason) -> None:
        """A request was forwarded without a lookup."""
        self.layers[Layer.RESULT].bypasses += 1
        self._bypasses[reason.value] += 1

    def discarded(self, reason: DiscardReason, key: CacheKey | None = None) -> None:
        """An answer was rightly not stored; ``key``: under which it would have been."""
        self.layers[Layer.RESULT].discards += 1
        self._discards[reason.value] += 1
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
