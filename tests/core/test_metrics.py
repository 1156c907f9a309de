from routecache_middleware.core import metrics
from routecache_middleware.core.metrics import BY_NAME, METRICS, Kind


def test_every_metric_of_the_module_is_in_the_table_once() -> None:
    defined = [value for value in vars(metrics).values() if isinstance(value, metrics.Metric)]
    assert {metric.name for metric in defined} == set(BY_NAME)
    assert len(METRICS) == len(BY_NAME) == len({metric.prometheus for metric in METRICS})


def test_names_follow_the_conventions() -> None:
    """docs/general/naming.md: no ``total``, no unit in the name, up-down counters singular."""
    for metric in METRICS:
        assert metric.name.startswith("routecache.")
        assert not {"total", "seconds", "bytes"} & set(metric.name.split("."))
        assert metric.meaning.endswith(".")
        assert (metric.kind is Kind.HISTOGRAM) == bool(metric.bounds)
        assert list(metric.bounds) == sorted(set(metric.bounds))


def test_nobody_and_nothing_of_a_request_but_its_model_is_on_a_metric() -> None:
    attributes = {name for metric in METRICS for name in metric.attributes}
    assert {name for name in attributes if not name.startswith("routecache.")} == {
        "error.type",
        "gen_ai.operation.name",
        "gen_ai.request.model",
        "gen_ai.token.type",
    }
    words = {word for name in attributes for word in name.split(".")}
    assert not words & {"key", "tenant", "user", "prompt", "path", "hash"}


def test_the_buckets_are_those_of_the_conventions() -> None:
    assert metrics.WAIT_DURATION.bounds[:3] == (0.01, 0.02, 0.04)
    assert metrics.WAIT_DURATION.bounds[-1] == 81.92
    assert metrics.ITEM_SIZE.bounds[0] == 256
    assert metrics.ITEM_SIZE.bounds[-1] == 16_777_216
    assert metrics.LOOKUP_DURATION.bounds[0] == 1e-5
    assert metrics.LOOKUP_DURATION.bounds[-1] == 1


def test_prometheus_names_are_the_ones_that_were_measured() -> None:
    assert metrics.LOOKUPS.prometheus == "routecache_lookups_total"
    assert metrics.LOOKUP_DURATION.prometheus == "routecache_lookup_duration_seconds"
    assert metrics.STORAGE_USAGE.prometheus == "routecache_storage_usage_bytes"
    assert metrics.SAVED_COST.prometheus == "routecache_saved_cost_total"
    assert metrics.SAVED_TIME.prometheus == "routecache_saved_time_seconds_total"
    assert metrics.BACKEND_UP.prometheus == "routecache_backend_up"


def test_the_table_has_a_row_for_each() -> None:
    lines = metrics.metric_table().splitlines()
    assert len(lines) == 2 + len(METRICS)
    assert all(line.count("|") == 6 for line in lines)
