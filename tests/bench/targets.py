"""The ASGI apps that are measured, and the bodies they exchange. Each factory is a server's app.

All of them end in the same bare app: it reads the request's body and sends fixed bytes.
"""

import json
from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from typing import Any

from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import (
    MetricExporter,
    MetricExportResult,
    MetricsData,
    PeriodicExportingMetricReader,
)
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.sampling import ALWAYS_ON, Sampler, TraceIdRatioBased

from routecache_middleware import (
    LLMRequest,
    RouteCache,
    RouteCacheMiddleware,
    RoutingDecision,
    Settings,
)
from routecache_middleware.core.ports import Observer
from routecache_middleware.telemetry.otel import OtelObserver
from routecache_middleware.telemetry.otel_metrics import OtelMetrics

CHAT_PATH = "/v1/chat/completions"
OTHER_PATH = "/v1/files"
MODEL = "bench-model"
CREDENTIAL = "Bearer bench"
ANSWER_BYTES = 2048
REQUEST_BYTES = 1024

Message = MutableMapping[str, Any]
App = Callable[
    [Message, Callable[[], Awaitable[Message]], Callable[[Message], Awaitable[None]]],
    Awaitable[None],
]


def request_body(size: int = REQUEST_BYTES, *, model: str = MODEL, stream: bool = False) -> bytes:
    """Return a chat request of ``size`` bytes; its text starts with ``@``, a place for a nonce."""

    def render(text: str) -> bytes:
        payload = {
            "model": model,
            "temperature": 0,
            "max_tokens": 256,
            "stream": stream,
            "messages": [
                {"role": "system", "content": "Answer in one sentence."},
                {"role": "user", "content": f"@ {text}"},
            ],
        }
        return json.dumps(payload).encode()

    return render(("why " * size)[: size - len(render(""))])


def answer_body(size: int = ANSWER_BYTES) -> bytes:
    """Return a complete chat answer of ``size`` bytes."""

    def render(text: str) -> bytes:
        message = {"role": "assistant", "content": text}
        payload = {
            "id": "chatcmpl-1",
            "object": "chat.completion",
            "created": 1,
            "model": MODEL,
            "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
            "usage": {"prompt_tokens": 250, "completion_tokens": 400, "total_tokens": 650},
        }
        return json.dumps(payload).encode()

    return render("x" * (size - len(render(""))))


def streamed_answer_body(chunks: int = 10) -> bytes:
    """Return a complete event stream of about 2 KB."""
    events = [_event({"content": "because "}, None) for _ in range(chunks)]
    return b"".join([*events, _event({}, "stop"), b"data: [DONE]\n\n"])


def _event(delta: dict[str, str], finish_reason: str | None) -> bytes:
    payload = {
        "id": "chatcmpl-1",
        "object": "chat.completion.chunk",
        "created": 1,
        "model": MODEL,
        "choices": [{"index": 0, "delta": delta, "finish_reason": finish_reason}],
    }
    return b"data: " + json.dumps(payload).encode() + b"\n\n"


def fixed_app(content_type: bytes, body: bytes) -> App:
    """Return the app that reads the request and sends ``body``."""
    start = {
        "type": "http.response.start",
        "status": 200,
        "headers": [(b"content-type", content_type), (b"content-length", b"%d" % len(body))],
    }
    end = {"type": "http.response.body", "body": body}

    async def app(
        scope: Message,
        receive: Callable[[], Awaitable[Message]],
        send: Callable[[Message], Awaitable[None]],
    ) -> None:
        while (await receive()).get("more_body"):
            pass
        await send(dict(start))
        await send(dict(end))

    return app


def new_cache() -> RouteCache:
    """Return the cache that is measured: in memory, with the production profile."""
    return RouteCache.from_url("memory://", settings=Settings.profile("production"))


async def choose_model(request: LLMRequest) -> RoutingDecision:
    """Choose the one model there is."""
    return RoutingDecision(selected_model=MODEL, score=0.7)


def bare() -> App:
    """Return the bare app."""
    return fixed_app(b"application/json", answer_body())


def cached() -> App:
    """Return the bare app behind the cache."""
    return RouteCacheMiddleware(bare(), cache=new_cache())


def routed() -> App:
    """Return the bare app behind the cache with a router."""
    return RouteCacheMiddleware(bare(), cache=new_cache(), router=choose_model)


def streamed() -> App:
    """Return an app that sends an event stream, behind the cache."""
    app = fixed_app(b"text/event-stream", streamed_answer_body())
    return RouteCacheMiddleware(app, cache=new_cache())


def untold() -> App:
    """Return the bare app behind a cache that nobody watches."""
    return watched_by([])


def exported() -> App:
    """Return the bare app behind a cache whose every span and metric goes to a batch exporter."""
    return watched_by(exporting(ALWAYS_ON))


def sampled() -> App:
    """Return the same where one trace in ten is kept."""
    return watched_by(exporting(TraceIdRatioBased(0.1)))


def watched_by(observers: Sequence[Observer]) -> App:
    """Return the bare app behind a cache that these watch."""
    settings = Settings.profile("production")
    cache = RouteCache(url="memory://", settings=settings, observers=observers)
    return RouteCacheMiddleware(bare(), cache=cache)


def exporting(sampler: Sampler) -> list[Observer]:
    """Return observers for OpenTelemetry's SDK, whose exporters throw away what they get."""
    provider = TracerProvider(sampler=sampler)
    provider.add_span_processor(BatchSpanProcessor(_NoExport()))
    reader = PeriodicExportingMetricReader(_NoMetrics(), export_interval_millis=10_000)
    meters = MeterProvider([reader])
    return [
        OtelObserver(
            tracer_provider=provider,
            enabled=True,
            lookups_per_s=Settings().otel_max_lookups,
        ),
        OtelMetrics(meter_provider=meters, enabled=True, lookups_per_s=Settings().otel_max_lookups),
    ]


class _NoExport(SpanExporter):
    """Takes what it gets."""

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        del spans
        return SpanExportResult.SUCCESS


class _NoMetrics(MetricExporter):
    """Takes what it gets."""

    def export(
        self, metrics_data: MetricsData, timeout_millis: float = 10_000, **kwargs: Any
    ) -> MetricExportResult:
        del metrics_data, timeout_millis, kwargs
        return MetricExportResult.SUCCESS

    def force_flush(self, timeout_millis: float = 10_000) -> bool:
        del timeout_millis
        return True

    def shutdown(self, timeout_millis: float = 30_000, **kwargs: Any) -> None:
        """Nothing to do."""
