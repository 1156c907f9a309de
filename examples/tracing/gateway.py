"""A small gateway that is traced with OpenTelemetry, with a cache in front: copy what you need.

``OTEL_EXPORTER_OTLP_ENDPOINT=http://host:6006 uvicorn examples.tracing.gateway:app``, with
``UPSTREAM_BASE_URL`` and ``UPSTREAM_API_KEY`` of the API behind it. The cache needs nothing to be
traced but an SDK that is set up.

The SDK reads its own variables: ``OTEL_SERVICE_NAME``, ``OTEL_EXPORTER_OTLP_HEADERS``,
``OTEL_TRACES_SAMPLER`` and so on. Phoenix takes no metrics; ``OTEL_METRICS_EXPORTER=otlp`` sends
them where a collector does.
"""

import contextlib
import os
from collections.abc import AsyncIterator

import httpx
from opentelemetry import metrics, trace
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.instrumentation.asgi import OpenTelemetryMiddleware
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from routecache_middleware import RouteCache, RouteCacheMiddleware

UPSTREAM_BASE_URL = os.environ.get("UPSTREAM_BASE_URL", "http://127.0.0.1:8080/v1")
UPSTREAM_API_KEY = os.environ.get("UPSTREAM_API_KEY", "none")

spans = TracerProvider()
spans.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
trace.set_tracer_provider(spans)
if os.environ.get("OTEL_METRICS_EXPORTER") == "otlp":
    metrics.set_meter_provider(MeterProvider([PeriodicExportingMetricReader(OTLPMetricExporter())]))
tracer = trace.get_tracer("gateway")


async def chat(request: Request) -> Response:
    """POST /v1/chat/completions: ask the upstream, in a span as the GenAI conventions have it.

    Only this one has ``gen_ai.usage``, by which Phoenix and others reckon costs. When the cache
    answers, nobody comes here.
    """
    payload = await request.json()
    asked = {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "openai",
        "gen_ai.request.model": str(payload["model"]),
    }
    with tracer.start_as_current_span(
        f"chat {payload['model']}", kind=trace.SpanKind.CLIENT, attributes=asked
    ) as span:
        answer: httpx.Response = await request.app.state.client.post(
            "/chat/completions", json=payload
        )
        if answer.is_success and not payload.get("stream"):
            completion = answer.json()
            usage = completion.get("usage") or {}
            span.set_attribute("gen_ai.response.model", completion["model"])
            span.set_attribute("gen_ai.usage.input_tokens", usage.get("prompt_tokens", 0))
            span.set_attribute("gen_ai.usage.output_tokens", usage.get("completion_tokens", 0))
    return Response(
        answer.content, answer.status_code, media_type=answer.headers.get("content-type")
    )


@contextlib.asynccontextmanager
async def lifespan(app: Starlette) -> AsyncIterator[None]:
    """Keep the cache and one connection pool to the upstream open; in the end, send the last spans.

    The cache closes first: an answer that it is having made anew is still fetched, and traced.
    """
    headers = {"authorization": f"Bearer {UPSTREAM_API_KEY}"}
    async with (
        httpx.AsyncClient(
            base_url=UPSTREAM_BASE_URL, headers=headers, timeout=60
        ) as app.state.client,
        cache,
    ):
        yield
    spans.shutdown()


gateway = Starlette(
    routes=[Route("/v1/chat/completions", chat, methods=["POST"])], lifespan=lifespan
)
cache = RouteCache()
gateway.add_middleware(RouteCacheMiddleware, cache=cache)
# Outermost, so that a request that the cache answers has a server span too; and without a span for
# each message that is sent and received, of which a stream has hundreds.
app = OpenTelemetryMiddleware(gateway, exclude_spans=["send", "receive"])
