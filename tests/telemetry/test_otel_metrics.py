import asyncio
import gc
import subprocess
import sys
import threading
from collections.abc import Iterator
from math import inf
from pathlib import Path

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import (
    Gauge,
    Histogram,
    InMemoryMetricReader,
    Metric,
    NumberDataPoint,
    Sum,
)

from routecache_middleware import RouteCache, RoutingDecision, Settings, __version__
from routecache_middleware.core.metrics import BY_NAME, METRICS, Kind
from routecache_middleware.core.snapshot import MetricsSnapshot
from routecache_middleware.engine.metering import take_snapshot_anywhere
from routecache_middleware.telemetry.otel import ENABLED_VARIABLE
from routecache_middleware.telemetry.otel_metrics import OtelMetrics, Told

ROOT = Path(__file__).parents[2]


class Metering:
    """A provider of its own, and what it collects."""

    def __init__(self) -> None:
        self.reader = InMemoryMetricReader()
        self.provider = MeterProvider([self.reader], shutdown_on_exit=False)

    def cache(
        self, *, histograms: bool = True, enabled: bool | None = True, lookups_per_s: float = inf
    ) -> RouteCache:
        metrics = OtelMetrics(
            meter_provider=self.provider,
            enabled=enabled,
            histograms=histograms,
            lookups_per_s=lookups_per_s,
        )
        return RouteCache(url="memory://", settings=Settings(), observers=[metrics])

    def collect(self) -> dict[str, Metric]:
        data = self.reader.get_metrics_data()
        if data is None:
            return {}
        (resource,) = data.resource_metrics
        (scope,) = resource.scope_metrics
        assert scope.scope.name == "routecache_middleware"
        assert scope.scope.version == __version__
        assert not scope.schema_url  # Prometheus would have it on every series
        return {metric.name: metric for metric in scope.metrics}

    def value(self, name: str, **labels: str) -> float:
        found = self.collect()[name].data
        assert isinstance(found, Sum | Gauge)
        return sum(
            point.value
            for point in found.data_points
            if isinstance(point, NumberDataPoint)
            and labels.items()
            <= {_last(key): at for key, at in (point.attributes or {}).items()}.items()
        )


def _last(key: str) -> str:
    return key.rpartition(".")[2]


@pytest.fixture
def metering() -> Iterator[Metering]:
    metering = Metering()
    yield metering
    metering.provider.shutdown()


async def decide() -> RoutingDecision:
    return RoutingDecision("m")


async def test_what_was_counted_is_collected(metering: Metering) -> None:
    async with metering.cache() as cache:
        for _ in range(3):
            await cache.route("q", decide)
        assert metering.value("routecache.lookups", outcome="hit") == 2
        assert metering.value("routecache.lookups", outcome="miss") == 1
        await cache.route("q", decide)
        assert metering.value("routecache.lookups", outcome="hit") == 3
        assert metering.value("routecache.backend.up") == 1
        durations = metering.collect()["routecache.lookup.duration"].data
        assert isinstance(durations, Histogram)
        found = {
            (point.attributes or {})["routecache.outcome"]: point for point in durations.data_points
        }
        assert found["hit"].count == 3
        assert found["hit"].explicit_bounds == BY_NAME["routecache.lookup.duration"].bounds
        assert found["miss"].count == 1


async def test_every_collected_metric_is_as_the_table_has_it(metering: Metering) -> None:
    async with metering.cache() as cache:
        await cache.route("q", decide)
        await cache.route("q", decide)
        collected = metering.collect()
    for name, metric in collected.items():
        row = BY_NAME[name]
        assert (metric.unit, metric.description) == (row.unit, row.meaning)
        kinds = {Kind.COUNTER: Sum, Kind.UP_DOWN: Sum, Kind.GAUGE: Gauge, Kind.HISTOGRAM: Histogram}
        assert isinstance(metric.data, kinds[row.kind])
        if isinstance(metric.data, Sum):
            assert metric.data.is_monotonic == (row.kind is Kind.COUNTER)
        for point in metric.data.data_points:
            assert set(point.attributes or {}) == set(row.attributes)
    assert not any(
        metric.name in collected
        for metric in METRICS
        if metric.kind is Kind.HISTOGRAM and not metric.is_recorded
    )


async def test_two_caches_of_a_process_are_added_up(metering: Metering) -> None:
    """An SDK keeps the first instrument of a name, so theirs must be the same one."""
    async with metering.cache() as one, metering.cache() as other:
        await one.route("q", decide)
        await other.route("q", decide)
        assert metering.value("routecache.lookups") == 2


async def test_what_a_cache_that_is_gone_has_counted_stays(metering: Metering) -> None:
    cache = metering.cache()
    await cache.route("q", decide)
    assert metering.value("routecache.lookups") == 1
    assert metering.value("routecache.entry.count") == 1
    await cache.aclose()
    del cache
    gc.collect()
    for _ in range(2):
        assert metering.value("routecache.lookups") == 1
        assert "routecache.entry.count" not in metering.collect()


async def test_of_lookups_only_so_many_durations_are_recorded(metering: Metering) -> None:
    async with metering.cache(lookups_per_s=4) as cache:
        cache.engine.recorder.sink.record("routecache.wait.duration", 1.0, ("result", "shared"))  # type: ignore[union-attr]
        for _ in range(50):
            await cache.get_routing_decision("q")
        found = metering.collect()
        (durations,) = found["routecache.lookup.duration"].data.data_points
        (waits,) = found["routecache.wait.duration"].data.data_points
        assert 4 <= durations.count <= 8  # type: ignore[union-attr]
        assert waits.count == 1  # type: ignore[union-attr]
        assert metering.value("routecache.lookups") == 50


async def test_durations_can_be_left_out(metering: Metering) -> None:
    async with metering.cache(histograms=False) as cache:
        await cache.route("q", decide)
        collected = metering.collect()
    assert "routecache.lookups" in collected
    assert "routecache.lookup.duration" not in collected


@pytest.mark.parametrize(
    ("value", "enabled", "is_exported"),
    [(None, None, True), ("false", None, False), ("false", True, True), ("true", False, False)],
)
async def test_the_switch_is_the_one_of_the_spans(
    metering: Metering,
    monkeypatch: pytest.MonkeyPatch,
    *,
    value: str | None,
    enabled: bool | None,
    is_exported: bool,
) -> None:
    if value is None:
        monkeypatch.delenv(ENABLED_VARIABLE, raising=False)
    else:
        monkeypatch.setenv(ENABLED_VARIABLE, value)
    async with metering.cache(enabled=enabled) as cache:
        await cache.route("q", decide)
        assert ("routecache.lookups" in metering.collect()) is is_exported


async def test_collecting_from_another_thread_asks_the_event_loop(metering: Metering) -> None:
    """A coordinator may be asked for its figures by its own event loop only."""
    async with metering.cache() as cache:
        await cache.route("q", decide)
        threads: list[int] = []
        stats = cache.engine.coordinator.stats

        def noted() -> object:
            threads.append(threading.get_ident())
            return stats()

        cache.engine.coordinator.stats = noted  # type: ignore[method-assign, assignment]
        assert await asyncio.to_thread(metering.value, "routecache.lookups") == 1
        assert set(threads) == {threading.get_ident()}


def test_a_busy_or_closed_loop_delays_no_exporter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("routecache_middleware.engine.metering._PATIENCE_S", 0.05)
    cache = RouteCache(url="memory://", settings=Settings(), observers=[])

    async def serve() -> list[MetricsSnapshot | None]:
        await cache.open()
        taken: list[MetricsSnapshot | None] = []
        thread = threading.Thread(target=lambda: taken.append(take_snapshot_anywhere(cache.engine)))
        thread.start()
        thread.join(5)  # the loop stands still
        await asyncio.sleep(0)
        return taken

    assert asyncio.run(serve()) == [None]
    assert take_snapshot_anywhere(cache.engine) is not None  # its loop is gone


async def test_a_coordinator_that_raises_is_the_exporters_to_hear_of() -> None:
    cache = RouteCache(url="memory://", settings=Settings(), observers=[])

    def fail() -> object:
        raise RuntimeError("canary")

    async with cache:
        cache.engine.coordinator.stats = fail  # type: ignore[method-assign, assignment]
        assert await asyncio.to_thread(take_snapshot_anywhere, cache.engine) is None


async def test_while_a_cache_cannot_answer_what_it_said_before_stands() -> None:
    metering = Metering()
    answers: list[MetricsSnapshot | Exception | None] = [MetricsSnapshot(), None, KeyError("x")]

    class Owner:
        pass

    owner = Owner()
    begun: list[Told] = []
    metrics = OtelMetrics(meter_provider=metering.provider, enabled=True)

    def take(_: Owner) -> MetricsSnapshot | None:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    metrics.watch(owner, take, lambda _, durations: begun.append(durations))
    assert len(begun) == 1
    for _ in range(3):
        metering.collect()
    assert answers == []
    begun[0].record("routecache.unheard.of", 1.0, ())  # a fault of ours is no request's
    metering.provider.shutdown()


LATER = """
import asyncio
from opentelemetry import metrics
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from routecache_middleware import RouteCache, RoutingDecision, Settings

async def decide():
    return RoutingDecision("m")

async def main():
    cache = RouteCache(url="memory://", settings=Settings())
    await cache.route("q", decide)
    assert cache.engine.recorder.sink is None
    reader = InMemoryMetricReader()
    metrics.set_meter_provider(MeterProvider([reader]))
    await cache.route("q", decide)
    found = [m.name for r in reader.get_metrics_data().resource_metrics
             for s in r.scope_metrics for m in s.metrics]
    assert "routecache.lookups" in found, found
    await cache.route("q", decide)
    found = [m.name for r in reader.get_metrics_data().resource_metrics
             for s in r.scope_metrics for m in s.metrics]
    assert "routecache.lookup.duration" in found, found
    other = RouteCache(url="memory://", settings=Settings())
    assert other.engine.recorder.sink is not None

asyncio.run(main())
"""


def test_a_provider_that_is_set_later_is_found() -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", LATER],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")


async def test_a_cache_without_further_ado_waits_for_a_provider() -> None:
    async with RouteCache(url="memory://", settings=Settings()) as cache:
        await cache.route("q", decide)
        assert cache.engine.recorder.sink is None
