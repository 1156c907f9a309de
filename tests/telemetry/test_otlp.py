"""Spans and metrics through the OTLP exporter (http/protobuf) to a scripted collector."""

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
from opentelemetry.exporter.otlp.proto.http import Compression
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
)
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor

from routecache_middleware import RouteCache, RoutingDecision, Settings
from routecache_middleware.telemetry.otel import OtelObserver
from routecache_middleware.telemetry.otel_metrics import OtelMetrics

CANARY = "canary-7f3a"


class Collector:
    """Takes what is exported, and keeps the bodies by path."""

    def __init__(self) -> None:
        self.bodies: dict[str, list[bytes]] = {}
        bodies = self.bodies

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                bodies.setdefault(self.path, []).append(body)
                self.send_response(200)
                self.send_header("content-type", "application/x-protobuf")
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, *args: object) -> None:
                """Say nothing."""

        self.server = HTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        self._thread = threading.Thread(target=self.server.serve_forever)
        self._thread.start()

    def close(self) -> None:
        self.server.shutdown()
        self._thread.join()
        self.server.server_close()


@pytest.fixture
def collector() -> Iterator[Collector]:
    collector = Collector()
    yield collector
    collector.close()


async def decide() -> RoutingDecision:
    return RoutingDecision("m")


async def test_hits_links_and_counters_reach_the_collector(collector: Collector) -> None:
    plain = Compression.NoCompression
    tracing = TracerProvider(shutdown_on_exit=False)
    tracing.add_span_processor(
        BatchSpanProcessor(OTLPSpanExporter(f"{collector.url}/v1/traces", compression=plain))
    )
    exporter = OTLPMetricExporter(f"{collector.url}/v1/metrics", compression=plain)
    metering = MeterProvider([PeriodicExportingMetricReader(exporter)], shutdown_on_exit=False)
    spans_to = OtelObserver(tracer_provider=tracing, enabled=True)
    metrics_to = OtelMetrics(meter_provider=metering, enabled=True)
    async with RouteCache(
        url="memory://", settings=Settings(), observers=[spans_to, metrics_to]
    ) as cache:
        for _ in range(2):
            await cache.route("q", decide, tenant=CANARY)
        await cache.invalidate_tenant(CANARY)
        tracing.force_flush()
        metering.force_flush()
    tracing.shutdown()
    metering.shutdown()
    spans = [
        span
        for body in collector.bodies["/v1/traces"]
        for resource in ExportTraceServiceRequest.FromString(body).resource_spans
        for scope in resource.scope_spans
        for span in scope.spans
    ]
    assert [span.name for span in spans] == [
        "cache.get route",
        "cache.put route",
        "cache.get route",
        "cache.remove tenant",
    ]
    first, _, hit, _ = spans
    assert [link.span_id for link in hit.links] == [first.span_id]
    assert {one.key: one.value.bool_value for one in hit.attributes}["cache.hit"] is True
    counted = {
        metric.name: metric
        for body in collector.bodies["/v1/metrics"]
        for resource in ExportMetricsServiceRequest.FromString(body).resource_metrics
        for scope in resource.scope_metrics
        for metric in scope.metrics
    }
    lookups = counted["routecache.lookups"].sum
    assert lookups.is_monotonic
    assert sum(point.as_int for point in lookups.data_points) == 2
    assert counted["routecache.lookup.duration"].histogram.data_points
    exported = b"".join(body for bodies in collector.bodies.values() for body in bodies)
    assert CANARY.encode() not in exported
