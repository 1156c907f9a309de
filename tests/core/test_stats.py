import inspect

import pytest

from routecache_middleware.core.keys import Layer
from routecache_middleware.core.stats import CacheStats, LayerStats


@pytest.mark.parametrize(
    ("layer", "lookups", "rate"),
    [
        (LayerStats(), 0, 0.0),
        (LayerStats(hits=3, misses=1), 4, 0.75),
        (LayerStats(stale=1, misses=1), 2, 0.5),
        (LayerStats(hits=1, coalesced=3), 4, 0.25),
        (LayerStats(hits=1, errors=1), 2, 0.5),
        (LayerStats(hits=1, bypasses=99, writes=9, write_errors=9, discards=9), 1, 1.0),
        (LayerStats(bypasses=5), 0, 0.0),
    ],
)
def test_a_hit_rate_leaves_bypasses_out_and_counts_errors_and_coalesced_in(
    layer: LayerStats, lookups: int, rate: float
) -> None:
    assert layer.lookups == lookups
    assert layer.hit_rate() == rate


def test_each_layer_has_its_rate_and_the_overall_rate_weighs_them_by_lookups() -> None:
    stats = CacheStats(
        routing=LayerStats(hits=1, misses=1),
        result=LayerStats(hits=1, misses=3),
        metadata=LayerStats(hits=4, misses=1),
        load=LayerStats(stale=9),
    )
    assert stats.routing_hit_rate() == 0.5
    assert stats.result_hit_rate() == 0.25
    assert stats.metadata_hit_rate() == 0.8
    assert stats.load_hit_rate() == 1.0
    assert stats.overall_hit_rate() == 15 / 20


def test_nothing_counted_is_a_rate_of_zero() -> None:
    assert CacheStats().overall_hit_rate() == 0.0


def test_a_layer_is_found_by_its_name() -> None:
    stats = CacheStats(
        routing=LayerStats(hits=1),
        result=LayerStats(hits=2),
        metadata=LayerStats(hits=3),
        load=LayerStats(hits=4),
    )
    assert [stats.layer(layer).hits for layer in Layer] == [1, 2, 3, 4]


def test_counters_are_defined_in_prose() -> None:
    documentation = inspect.cleandoc(CacheStats.__doc__ or "")
    for name in CacheStats.__dataclass_fields__:
        assert f"\n    {name}: " in documentation
