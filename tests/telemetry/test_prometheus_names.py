"""What we render for Prometheus is what OpenTelemetry's own exporter makes of the same metrics."""

import importlib
import importlib.util
from typing import Any

import pytest
from opentelemetry.sdk.metrics import MeterProvider

from routecache_middleware import RouteCache, RoutingDecision, Settings
from routecache_middleware.core.keys import Layer
from routecache_middleware.core.metrics import METRICS
from routecache_middleware.core.models import Entry
from routecache_middleware.core.prices import Price, Prices
from routecache_middleware.engine.measures import Histogram
from routecache_middleware.telemetry.exposition import render, render_openmetrics
from routecache_middleware.telemetry.otel_metrics import OtelMetrics

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("prometheus_client") is None,
    reason="opentelemetry-exporter-prometheus is not installed",
)

Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]


async def decide() -> RoutingDecision:
    return RoutingDecision("m")


async def used_cache(provider: MeterProvider) -> RouteCache:
    """A cache with something in every metric that OpenTelemetry gets."""
    metrics = OtelMetrics(meter_provider=provider, enabled=True)
    cache = RouteCache(url="memory://", settings=Settings(), observers=[metrics])
    await cache.route("q", decide)
    await cache.route("q", decide)
    recorder = cache.engine.recorder
    awkward = 'a"b\\c\n'
    recorder.models.allowed = frozenset({"m", awkward})
    recorder.prices = lambda: Prices({"m": Price(250_000.0)})
    for model in ("m", awkward):
        made = Entry(Layer.RESULT, b"{}", 0.0, 1.0, model_id=model, cost_ms=1500.0, input_tokens=1)
        recorder.saved_results.served(made, "")
    recorder.result.stale = 1
    recorder.backend_failed("get", TimeoutError())
    recorder.bypass_reasons["no-store"] += 1
    recorder.models.tally("m", "chat").hits += 1
    return cache


def exported(provider_of: Any) -> tuple[Samples, dict[str, tuple[str, str]]]:
    """Samples without the labels of the scope, and families with type and help."""
    parser = importlib.import_module("prometheus_client.parser")
    exposition = importlib.import_module("prometheus_client.exposition")
    return parsed(exposition.generate_latest(provider_of).decode(), parser)


def parsed(text: str, parser: Any) -> tuple[Samples, dict[str, tuple[str, str]]]:
    samples: Samples = {}
    families: dict[str, tuple[str, str]] = {}
    for family in parser.text_string_to_metric_families(text):
        if not family.name.startswith("routecache"):
            continue
        families[family.name] = (family.type, family.documentation)
        for sample in family.samples:
            labels = {k: v for k, v in sample.labels.items() if not k.startswith("otel_scope_")}
            samples[sample.name, tuple(sorted(labels.items()))] = sample.value
    return samples, families


async def test_names_labels_types_and_numbers_are_the_same() -> None:
    prometheus: Any = importlib.import_module("opentelemetry.exporter.prometheus")
    registry = importlib.import_module("prometheus_client").CollectorRegistry()
    reader = prometheus.PrometheusMetricReader(registry=registry)
    provider = MeterProvider([reader], shutdown_on_exit=False)
    cache = await used_cache(provider)
    parser = importlib.import_module("prometheus_client.parser")
    theirs, their_families = exported(registry)
    ours, our_families = parsed(render(cache.metrics()), parser)
    unrecorded = {
        metric.prometheus for metric in METRICS if metric.bounds and not metric.is_recorded
    }
    ours = {
        place: value
        for place, value in ours.items()
        if not any(place[0].startswith(name) for name in unrecorded)
    }
    assert set(ours) == set(theirs)
    for place, value in theirs.items():
        assert ours[place] == pytest.approx(value, rel=1e-9)
    for name, said in their_families.items():
        assert our_families[name] == said
    assert len({name for name, _ in theirs}) > 15
    await cache.aclose()
    provider.shutdown()


async def test_openmetrics_is_understood_by_the_strict_parser() -> None:
    parser: Any = importlib.import_module("prometheus_client.openmetrics.parser")
    provider = MeterProvider(shutdown_on_exit=False)
    cache = await used_cache(provider)
    families = list(parser.text_string_to_metric_families(render_openmetrics(cache.metrics())))
    assert {family.type for family in families} == {"counter", "gauge", "histogram"}
    assert all(family.documentation for family in families)
    await cache.aclose()


def test_every_bucket_bound_is_written_alike() -> None:
    """The label ``le`` is text: 5e-05 and 0.00005 would be two series."""
    histogram = Histogram((1e-5, 0.25, 16_777_216.0))
    assert [repr(bound) for bound in histogram.bounds] == ["1e-05", "0.25", "16777216.0"]
