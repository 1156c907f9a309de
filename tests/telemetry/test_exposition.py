import pytest

from routecache_middleware.core.metrics import (
    BACKEND_ERRORS,
    BACKEND_UP,
    INVALIDATIONS,
    ITEM_SIZE,
    LOOKUPS,
    SAVED_COST,
)
from routecache_middleware.core.snapshot import NO_METRICS, MetricsSnapshot, Series
from routecache_middleware.telemetry.exposition import (
    render,
    render_openmetrics,
    wants_openmetrics,
)

SIZES = (1, 2, 0, 0, 0, 0, 0, 0, 0, 1)
SNAPSHOT = MetricsSnapshot(
    {
        LOOKUPS.name: (Series(("route", "miss", "none"), 2), Series(("result", "hit", "m"), 3)),
        ITEM_SIZE.name: (Series(("result",), 20_000_000.0, SIZES),),
        INVALIDATIONS.name: (Series((), 4),),
        BACKEND_UP.name: (Series(("memory",), 1),),
        SAVED_COST.name: (Series(('a"b\\c\nd',), 0.5),),
    }
)


def test_text_format() -> None:
    """Prometheus, exposition formats, text format 0.0.4."""
    assert render(SNAPSHOT).splitlines() == [
        (
            "# HELP routecache_lookups_total "
            "Lookups by how they ended, and for a hit where it was found."
        ),
        "# TYPE routecache_lookups_total counter",
        (
            'routecache_lookups_total{routecache_cache="result",routecache_outcome="hit",'
            'routecache_layer="m"} 3'
        ),
        (
            'routecache_lookups_total{routecache_cache="route",routecache_outcome="miss",'
            'routecache_layer="none"} 2'
        ),
        (
            "# HELP routecache_item_size_bytes "
            "Size of the values that were stored, before compression."
        ),
        "# TYPE routecache_item_size_bytes histogram",
        'routecache_item_size_bytes_bucket{routecache_cache="result",le="256.0"} 1',
        'routecache_item_size_bytes_bucket{routecache_cache="result",le="1024.0"} 3',
        'routecache_item_size_bytes_bucket{routecache_cache="result",le="4096.0"} 3',
        'routecache_item_size_bytes_bucket{routecache_cache="result",le="16384.0"} 3',
        'routecache_item_size_bytes_bucket{routecache_cache="result",le="65536.0"} 3',
        'routecache_item_size_bytes_bucket{routecache_cache="result",le="262144.0"} 3',
        'routecache_item_size_bytes_bucket{routecache_cache="result",le="1048576.0"} 3',
        'routecache_item_size_bytes_bucket{routecache_cache="result",le="4194304.0"} 3',
        'routecache_item_size_bytes_bucket{routecache_cache="result",le="16777216.0"} 3',
        'routecache_item_size_bytes_bucket{routecache_cache="result",le="+Inf"} 4',
        'routecache_item_size_bytes_count{routecache_cache="result"} 4',
        'routecache_item_size_bytes_sum{routecache_cache="result"} 20000000.0',
        (
            "# HELP routecache_backend_up 1 while reads and writes are let through to the "
            "coordinator, 0 while either is not."
        ),
        "# TYPE routecache_backend_up gauge",
        'routecache_backend_up{routecache_layer="memory"} 1',
        (
            "# HELP routecache_invalidations_total Invalidations made, whatever they covered, also "
            "those that could not be recorded at once."
        ),
        "# TYPE routecache_invalidations_total counter",
        "routecache_invalidations_total 4",
        "# HELP routecache_saved_cost_total What those answers would have cost, US dollars.",
        "# TYPE routecache_saved_cost_total counter",
        r'routecache_saved_cost_total{gen_ai_request_model="a\"b\\c\nd"} 0.5',
    ]


def test_openmetrics_names_families_without_the_suffix_and_ends_with_eof() -> None:
    """OpenMetrics 1.0.0: the MetricFamily of a counter has no ``_total``; EOF is mandatory."""
    lines = render_openmetrics(SNAPSHOT).splitlines()
    assert "# TYPE routecache_lookups counter" in lines
    assert "# TYPE routecache_item_size_bytes histogram" in lines
    assert "routecache_invalidations_total 4" in lines
    assert lines[-1] == "# EOF"


def test_nothing_counted_is_an_empty_page() -> None:
    assert render(NO_METRICS) == ""
    assert render_openmetrics(NO_METRICS) == "# EOF\n"
    assert BACKEND_ERRORS.prometheus not in render(SNAPSHOT)


@pytest.mark.parametrize(
    ("accept", "wanted"),
    [
        ("", False),
        ("*/*", False),
        ("text/plain;version=0.0.4", False),
        ("application/openmetrics-text;version=1.0.0,text/plain;q=0.5", True),
        ("text/plain;q=0.5, Application/OpenMetrics-Text; q=0.8", True),
        ("application/openmetrics-text;q=0", False),
    ],
)
def test_who_asks_for_openmetrics(accept: str, *, wanted: bool) -> None:
    assert wants_openmetrics(accept) is wanted
