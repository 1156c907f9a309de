"""Spans and metrics through the OTLP exporter over gRPC to a scripted collector."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module
from typing import Any

import pytest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
    ExportMetricsServiceResponse,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor

from routecache_middleware import RouteCache, RoutingDecision, Settings
from routecache_middleware.telemetry.otel import OtelObserver
from routecache_middleware.telemetry.otel_metrics import OtelMetrics
from tests.support.otlp import attributes_of, link_type

grpc = pytest.importorskip("grpc")
EXPORTERS = "opentelemetry.exporter.otlp.proto.grpc"
pytest.importorskip(EXPORTERS)


class Collector:
    """Serves the two services of a collector, and keeps what they are sent."""

    def __init__(self) -> None:
        self.traces: list[ExportTraceServiceRequest] = []
        self.metrics: list[ExportMetricsServiceRequest] = []
        self._server: Any = grpc.server(ThreadPoolExecutor(2))
        services: Any = import_module(
            "opentelemetry.proto.collector.trace.v1.trace_service_pb2_grpc"
        )
        services.add_TraceServiceServicer_to_server(_Traces(self), self._server)
        services = import_module(
            "opentelemetry.proto.collector.metrics.v1.metrics_service_pb2_grpc"
        )
        services.add_MetricsServiceServicer_to_server(_Metrics(self), self._server)
        self.url = f"http://127.0.0.1:{self._server.add_insecure_port('127.0.0.1:0')}"
        self._server.start()

    def close(self) -> None:
        self._server.stop(0).wait()


class _Traces:
    def __init__(self, collector: Collector) -> None:
        self._collector = collector

    def Export(self, request: ExportTraceServiceRequest, _: object) -> ExportTraceServiceResponse:  # noqa: N802 - the protocol's
        self._collector.traces.append(request)
        return ExportTraceServiceResponse()


class _Metrics:
    def __init__(self, collector: Collector) -> None:
        self._collector = collector

    def Export(  # noqa: N802 - the protocol's
        self, request: ExportMetricsServiceRequest, _: object
    ) -> ExportMetricsServiceResponse:
        self._collector.metrics.append(request)
        return ExportMetricsServiceResponse()


@pytest.fixture
def collector() -> Iterator[Collector]:
    collector = Collector()
    yield collector
    collector.close()


async def decide() -> RoutingDecision:
    return RoutingDecision("m")


async def test_hits_links_and_counters_reach_the_collector(collector: Collector) -> None:
    spans: Any = import_module(f"{EXPORTERS}.trace_exporter")
    metrics: Any = import_module(f"{EXPORTERS}.metric_exporter")
    tracing = TracerProvider(shutdown_on_exit=False)
    tracing.add_span_processor(BatchSpanProcessor(spans.OTLPSpanExporter(collector.url)))
    exporter = metrics.OTLPMetricExporter(collector.url)
    metering = MeterProvider([PeriodicExportingMetricReader(exporter)], shutdown_on_exit=False)
    spans_to = OtelObserver(tracer_provider=tracing, enabled=True)
    metrics_to = OtelMetrics(meter_provider=metering, enabled=True)
    async with RouteCache(
        url="memory://", settings=Settings(), observers=[spans_to, metrics_to]
    ) as cache:
        for _ in range(2):
            await cache.route("q", decide)
        tracing.force_flush()
        metering.force_flush()
    tracing.shutdown()
    metering.shutdown()
    told = [
        span
        for request in collector.traces
        for resource in request.resource_spans
        for scope in resource.scope_spans
        for span in scope.spans
    ]
    assert [span.name for span in told] == ["cache.get route", "cache.put route", "cache.get route"]
    first, _, hit = told
    assert attributes_of(hit)["routecache.outcome"] == "hit"
    assert [(link.span_id, link_type(link)) for link in hit.links] == [(first.span_id, "origin")]
    counted = {
        metric.name: metric
        for request in collector.metrics
        for resource in request.resource_metrics
        for scope in resource.scope_metrics
        for metric in scope.metrics
    }
    assert sum(point.as_int for point in counted["routecache.lookups"].sum.data_points) == 2
