"""Spans and metrics through the OTLP exporter (http/protobuf) to a scripted collector."""

import asyncio
import importlib
import logging
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor

from routecache_middleware import (
    RouteCache,
    RouteCacheMiddleware,
    RoutingDecision,
    Settings,
    __version__,
)
from routecache_middleware.adapters.asgi.types import ASGIApp
from routecache_middleware.telemetry import names
from routecache_middleware.telemetry.otel import OtelObserver
from routecache_middleware.telemetry.otel_metrics import OtelMetrics
from routecache_middleware.testing.clock import FakeClock
from tests.support.apps import ScriptedApp
from tests.support.asgi import KEY, Client, fetch, settle
from tests.support.chat import ask
from tests.support.otlp import Collector, attributes_of, link_type

CANARY = "canary-7f3a"
TRACE = "0af7651916cd43dd8448eb211c80319c"
PARENT = "b7ad6b7169203331"
TRACED = (b"traceparent", f"00-{TRACE}-{PARENT}-01".encode())


class Exporting:
    """An SDK as a user sets it up - batches, periods, OTLP - and a cache that is observed by it."""

    def __init__(self, collector: Collector, *, timeout_s: float = 10) -> None:
        resource = Resource.create({"service.name": "gateway"})
        self.tracing = TracerProvider(resource=resource, shutdown_on_exit=False)
        spans = OTLPSpanExporter(f"{collector.url}/v1/traces", timeout=timeout_s)
        self.tracing.add_span_processor(BatchSpanProcessor(spans, schedule_delay_millis=50))
        metrics = OTLPMetricExporter(f"{collector.url}/v1/metrics", timeout=timeout_s)
        self.metering = MeterProvider(
            [PeriodicExportingMetricReader(metrics)], resource=resource, shutdown_on_exit=False
        )
        self.clock = FakeClock()
        self.cache = RouteCache(
            url="memory://",
            settings=Settings(result_ttl_s=10, result_stale_while_revalidate_s=50),
            observers=[
                OtelObserver(tracer_provider=self.tracing, enabled=True),
                OtelMetrics(meter_provider=self.metering, enabled=True),
            ],
            clock=self.clock,
        )

    def flush(self) -> None:
        """Send what is waiting."""
        self.tracing.force_flush()
        self.metering.force_flush()

    def served(self, app: ASGIApp) -> Any:
        """Put the cache in front of an app, and ASGI instrumentation around both."""
        asgi: Any = importlib.import_module("opentelemetry.instrumentation.asgi")
        return asgi.OpenTelemetryMiddleware(
            RouteCacheMiddleware(app, cache=self.cache),
            tracer_provider=self.tracing,
            meter_provider=self.metering,
            exclude_spans=["send", "receive"],
        )


@pytest.fixture
def collector() -> Iterator[Collector]:
    with Collector() as collector:
        yield collector


@pytest.fixture
async def exporting(collector: Collector) -> AsyncIterator[Exporting]:
    exporting = Exporting(collector)
    async with exporting.cache:
        yield exporting
    exporting.tracing.shutdown()
    exporting.metering.shutdown()


async def decide() -> RoutingDecision:
    return RoutingDecision("m")


async def test_hits_links_and_counters_reach_the_collector(
    collector: Collector, exporting: Exporting
) -> None:
    for _ in range(2):
        await exporting.cache.route("q", decide, tenant=CANARY)
    await exporting.cache.invalidate_tenant(CANARY)
    exporting.flush()
    first, _, hit, _ = collector.spans()
    assert [span.name for span in collector.spans()] == [
        "cache.get route",
        "cache.put route",
        "cache.get route",
        "cache.remove tenant",
    ]
    assert [link.span_id for link in hit.links] == [first.span_id]
    assert attributes_of(hit)["cache.hit"] is True
    counted = collector.metrics()
    lookups = counted["routecache.lookups"].sum
    assert lookups.is_monotonic
    assert sum(point.as_int for point in lookups.data_points) == 2
    assert counted["routecache.lookup.duration"].histogram.data_points
    exported = b"".join(body for bodies in collector.bodies.values() for body in bodies)
    assert CANARY.encode() not in exported


async def test_a_miss_and_a_hit_of_a_traced_caller(
    collector: Collector, exporting: Exporting
) -> None:
    """Names, kinds, parents and attributes as the wire has them; the caller's trace goes on."""
    app = exporting.served(ScriptedApp())
    for _ in range(2):
        await fetch(app, ask(CANARY), headers=[KEY, TRACED])
        await settle()
    exporting.flush()
    missed, hit = collector.spans("cache.get result")
    first, second = (span for span in collector.spans() if span.kind == Span.SPAN_KIND_SERVER)
    (put,) = collector.spans("cache.put result")
    assert len(collector.spans()) == 5
    assert {span.trace_id.hex() for span in collector.spans()} == {TRACE}
    assert {span.parent_span_id.hex() for span in (first, second)} == {PARENT}
    assert [span.parent_span_id for span in (missed, put, hit)] == [
        first.span_id,
        first.span_id,
        second.span_id,
    ]
    for span in (missed, put, hit):
        assert span.kind == Span.SPAN_KIND_INTERNAL
        assert span.status.code == Status.STATUS_CODE_UNSET
    assert attributes_of(missed)["routecache.miss.reason"] == "absent"
    assert attributes_of(put)["routecache.stored"] is True
    assert attributes_of(second)["routecache.outcome"] == "hit"
    said = attributes_of(hit)
    assert {name: said[name] for name in ("cache.hit", "routecache.outcome")} == {
        "cache.hit": True,
        "routecache.outcome": "hit",
    }
    assert said["gen_ai.request.model"] == "m"
    assert said["routecache.saved.output_tokens"] == 2
    assert not [name for name in said if name.startswith("gen_ai.usage")]
    (link,) = hit.links
    assert (link.trace_id, link.span_id) == (missed.trace_id, missed.span_id)
    assert link_type(link) == "origin"
    assert not missed.links


async def test_who_shares_an_answer_links_to_who_fetched_it(
    collector: Collector, exporting: Exporting
) -> None:
    upstream = ScriptedApp(is_stepped=True)
    app = exporting.served(upstream)
    clients = [Client(app).start()]
    await settle()
    clients += [Client(app).start() for _ in range(3)]
    await settle()
    await upstream.call.step(2)
    for client in clients:
        await client.end()
    exporting.flush()
    waits = collector.spans("cache.wait result")
    (leader,) = {span.parent_span_id for span in collector.spans("cache.put result")}
    lookups = {span.span_id: span for span in collector.spans("cache.get result")}
    assert len(waits) == 3
    for wait in waits:
        (link,) = wait.links
        assert link_type(link) == "leader"
        assert lookups[link.span_id].parent_span_id == leader
        assert link.trace_id != wait.trace_id
        assert attributes_of(wait)["routecache.outcome"] == "coalesced"


async def test_what_is_made_anew_behind_a_stale_answer_is_a_trace_of_its_own(
    collector: Collector, exporting: Exporting
) -> None:
    app = exporting.served(ScriptedApp())
    await fetch(app)
    exporting.clock.advance(12)
    await fetch(app)
    await settle()
    exporting.flush()
    stale = collector.spans("cache.get result")[1]
    assert attributes_of(stale)["routecache.outcome"] == "stale"
    assert attributes_of(stale)["cache.ttl"] == -2
    refreshed = collector.span("cache.refresh result")
    assert not refreshed.parent_span_id
    (link,) = refreshed.links
    assert (link.trace_id, link.span_id) == (stale.trace_id, stale.parent_span_id)
    assert link_type(link) == "trigger"


async def test_a_bypass_is_told_on_the_servers_span(
    collector: Collector, exporting: Exporting
) -> None:
    await fetch(exporting.served(ScriptedApp()), b"{")
    exporting.flush()
    (server,) = collector.spans()
    said = attributes_of(server)
    assert said["routecache.outcome"] == "bypass"
    assert said["routecache.bypass.reason"] == "invalid-json"


async def test_scope_and_service_are_told_apart(collector: Collector, exporting: Exporting) -> None:
    await fetch(exporting.served(ScriptedApp()))
    exporting.flush()
    (export, *_) = collector.exports()
    assert "gateway" in [one.value.string_value for one in export.resource.attributes]
    ours = [one for one in export.scope_spans if one.scope.name == names.SCOPE_NAME]
    assert [one.scope.version for one in ours] == [__version__]
    assert [one.schema_url for one in ours] == [names.SCHEMA_URL]


async def test_no_prompt_answer_or_credential_is_exported(
    collector: Collector, exporting: Exporting
) -> None:
    app = exporting.served(ScriptedApp())
    headers = [(b"authorization", f"Bearer {CANARY}".encode())]
    for _ in range(2):
        await fetch(app, ask(CANARY, user=CANARY), headers=headers)
    exporting.flush()
    exported = b"".join(body for bodies in collector.bodies.values() for body in bodies)
    assert b"cache.get result" in exported
    assert CANARY.encode() not in exported
    assert b"hi there" not in exported


@pytest.mark.parametrize("trouble", [{"status": 400}, {"hangs": True}])
async def test_a_collector_in_trouble_harms_no_request(
    trouble: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    """The exporter has threads of its own: requests wait for none of them."""
    caplog.set_level(logging.CRITICAL)  # what the exporter says of it is its own
    with Collector(**trouble) as collector:
        exporting = Exporting(collector, timeout_s=1)
        app = exporting.served(ScriptedApp())
        async with exporting.cache:
            began_s = time.monotonic()
            for _ in range(3):
                assert (await fetch(app)).status == 200
                await asyncio.sleep(0.1)  # a batch or two are under way
            took_s = time.monotonic() - began_s
        assert collector.spans(), "it was asked"
        assert took_s < 5
    exporting.tracing.shutdown()
    exporting.metering.shutdown()
