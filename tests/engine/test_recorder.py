import pytest

from routecache_middleware.core.keys import Layer
from routecache_middleware.core.models import BypassReason, DiscardReason, Outcome
from routecache_middleware.core.ports import CoordinatorStats, LayerUsage
from routecache_middleware.core.stats import LayerStats
from routecache_middleware.engine.recorder import LayerCounters, Recorder


@pytest.mark.parametrize(
    ("outcome", "expected"),
    [
        (Outcome.HIT, LayerStats(hits=1)),
        (Outcome.STALE, LayerStats(stale=1)),
        (Outcome.MISS, LayerStats(misses=1)),
        (Outcome.COALESCED, LayerStats(coalesced=1)),
        (Outcome.BYPASS, LayerStats(bypasses=1)),
        (Outcome.ERROR, LayerStats(errors=1)),
    ],
)
def test_each_outcome_has_its_counter(outcome: Outcome, expected: LayerStats) -> None:
    counters = LayerCounters()
    counters.count(outcome)
    assert counters.snapshot(LayerUsage()) == expected


def test_reasons_are_counted_with_their_names() -> None:
    recorder = Recorder()
    recorder.bypassed(BypassReason.NO_STORE)
    recorder.bypassed(BypassReason.NO_STORE)
    recorder.discarded(DiscardReason.TOO_LARGE)
    stats = recorder.snapshot(CoordinatorStats())
    assert stats.bypasses == {"no-store": 2}
    assert stats.discards == {"too-large": 1}
    assert (stats.result.bypasses, stats.result.discards) == (2, 1)


def test_a_snapshot_adds_what_the_coordinator_holds_and_stays_as_it_is() -> None:
    recorder = Recorder()
    recorder.layers[Layer.ROUTING].hits = 3
    recorder.invalidations, recorder.warm_operations, recorder.shadow_hits = 4, 5, 6
    usage = {Layer.ROUTING: LayerUsage(7, 800, 9000, 1), Layer.LOAD: LayerUsage(2, 20)}
    stats = recorder.snapshot(CoordinatorStats(usage, nodes=3, age_s=1.5, corrupt_entries=8))
    assert stats.routing == LayerStats(hits=3, evictions=1, entries=7, bytes=800)
    assert stats.load == LayerStats(entries=2, bytes=20)
    assert (stats.invalidations, stats.warm_operations, stats.shadow_hits) == (4, 5, 6)
    assert (stats.total_keys, stats.total_keys_age_s, stats.cluster_nodes) == (9, 1.5, 3)
    assert stats.corrupt_entries == 8
    recorder.layers[Layer.ROUTING].hits = 99
    assert stats.routing.hits == 3
