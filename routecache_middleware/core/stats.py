"""CacheStats: what was counted since the cache was made, in this process.

When each counter moves, for one lookup of a layer:

* ``hits``: a fresh, current entry was found and could be used. In shadow mode it is not served and
  counts under ``CacheStats.shadow_hits`` instead.
* ``stale``: an entry past its freshness lifetime was served on purpose: while it was made anew,
  or (``stale_if_error``) because the upstream failed.
* ``refreshes``: an entry that was served stale was made anew in the background. The upstream call
  behind it counts nowhere else.
* ``misses``: nothing usable was found and this caller went on to make the value, or would have. A
  request that told us not to look (``no-cache``, ``refresh=True``) is a miss too: it wanted an
  answer and got a new one.
* ``coalesced``: nothing was found, but somebody else was already making the same value and this
  caller got a share of it. Not a hit: an upstream call was under way. Who gave up waiting before
  that counts nowhere; whose leader failed counts for what it did next.
* ``bypasses``: nothing was looked up at all, because of the request or the mode. Outside every
  rate.
* ``errors``: the coordinator failed during the lookup; the request went on as if without us.
* ``writes``: an entry was stored. ``write_errors``: storing failed.
  ``discards``: an answer was looked at and rightly not stored (incomplete, an error, too large,
  invalidated while it was made ...).

A hit rate is ``(hits + stale) / (hits + stale + misses + coalesced + errors)``, and 0.0 when
nothing was counted.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import assert_never

from routecache_middleware.core.keys import Layer

__all__ = ["CacheStats", "LayerStats"]


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerStats:
    """Counters of one layer; the module says when each moves.

    Attributes:
        hits: Fresh entries used.
        stale: Stale entries served on purpose.
        stale_if_error: Those of them that were served because the upstream failed.
        refreshes: Stale entries made anew in the background, also in vain.
        misses: Lookups that found nothing usable.
        coalesced: Callers that shared somebody else's upstream call.
        bypasses: Requests for which nothing was looked up.
        errors: Lookups during which the coordinator failed.
        writes: Entries stored.
        write_errors: Entries that could not be stored because the coordinator failed.
        discards: Answers rightly not stored.
        evictions: Entries dropped to make room.
        entries: Entries held now, expired ones that were not yet swept included.
        bytes: Bytes they take, bookkeeping included.
    """

    hits: int = 0
    stale: int = 0
    stale_if_error: int = 0
    refreshes: int = 0
    misses: int = 0
    coalesced: int = 0
    bypasses: int = 0
    errors: int = 0
    writes: int = 0
    write_errors: int = 0
    discards: int = 0
    evictions: int = 0
    entries: int = 0
    bytes: int = 0

    @property
    def lookups(self) -> int:
        """Lookups that count towards the hit rate."""
        return self.hits + self.stale + self.misses + self.coalesced + self.errors

    def hit_rate(self) -> float:
        """Share of lookups answered from the cache, 0..1."""
        return _rate(self.hits + self.stale, self.lookups)


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheStats:
    """A snapshot of all counters.

    Attributes:
        routing: The routing decisions.
        result: The answers.
        metadata: The model metadata.
        load: The load metrics.
        invalidations: Invalidations made through this process, whatever they covered; also those
            that could not be recorded at once.
        warm_operations: Models warmed by ``warm()``, successfully.
        shadow_hits: Decisions and answers that shadow mode would have served from the cache.
        total_keys: Entries in the coordinator, all layers.
        total_keys_age_s: How old that figure is; 0 when exact.
        cluster_nodes: Nodes of the coordinator in use.
        corrupt_entries: Stored values that this process could not read and took for misses.
        discards: Why answers were not stored: reason to count, where there is one.
        bypasses: Why requests were bypassed: reason to count.
    """

    routing: LayerStats = field(default_factory=LayerStats)
    result: LayerStats = field(default_factory=LayerStats)
    metadata: LayerStats = field(default_factory=LayerStats)
    load: LayerStats = field(default_factory=LayerStats)
    invalidations: int = 0
    warm_operations: int = 0
    shadow_hits: int = 0
    total_keys: int = 0
    total_keys_age_s: float = 0.0
    cluster_nodes: int = 1
    corrupt_entries: int = 0
    discards: Mapping[str, int] = field(default_factory=dict)
    bypasses: Mapping[str, int] = field(default_factory=dict)

    def layer(self, layer: Layer) -> LayerStats:
        """Counters of one layer."""
        match layer:
            case Layer.ROUTING:
                return self.routing
            case Layer.RESULT:
                return self.result
            case Layer.METADATA:
                return self.metadata
            case Layer.LOAD:
                return self.load
            case _:
                assert_never(layer)

    def routing_hit_rate(self) -> float:
        """Hit rate of routing decisions, 0..1."""
        return self.routing.hit_rate()

    def result_hit_rate(self) -> float:
        """Hit rate of answers, 0..1."""
        return self.result.hit_rate()

    def metadata_hit_rate(self) -> float:
        """Hit rate of model metadata, 0..1."""
        return self.metadata.hit_rate()

    def load_hit_rate(self) -> float:
        """Hit rate of load metrics, 0..1."""
        return self.load.hit_rate()

    def overall_hit_rate(self) -> float:
        """Hit rate over all four layers, 0..1."""
        layers = [self.layer(layer) for layer in Layer]
        served = sum(layer.hits + layer.stale for layer in layers)
        return _rate(served, sum(layer.lookups for layer in layers))


def _rate(part: int, whole: int) -> float:
    return part / whole if whole else 0.0
