"""The caller's trace when no server span is there, and other instrumentations outside of us."""

import importlib.util
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
from opentelemetry import context, trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from routecache_middleware import RouteCache, RouteCacheMiddleware, Settings
from routecache_middleware.adapters.asgi.types import Receive, Scope, Send
from routecache_middleware.telemetry.fanout import SafeObserver
from routecache_middleware.telemetry.null import NullObserver
from routecache_middleware.telemetry.otel import OtelObserver
from tests.adapters.conftest import Gateway
from tests.support.apps import ScriptedApp
from tests.support.asgi import KEY, Options, fetch

TRACE_ID = "0af7651916cd43dd8448eb211c80319c"
SPAN_ID = "b7ad6b7169203331"
PARENT = (b"Traceparent", f"00-{TRACE_ID}-{SPAN_ID}-01".encode())


class Tracing:
    """A provider of its own, and a gateway that is traced with it."""

    def __init__(self, gateway: Gateway, *more: NullObserver) -> None:
        self.exporter = InMemorySpanExporter()
        self.provider = TracerProvider(shutdown_on_exit=False)
        self.provider.add_span_processor(SimpleSpanProcessor(self.exporter))
        self.app = ScriptedApp()
        spans = OtelObserver(tracer_provider=self.provider, enabled=True)
        cache = RouteCache(url="memory://", settings=Settings(), observers=[spans, *more])
        gateway.caches.append(cache)
        self.seen: list[trace.SpanContext] = []
        self.mw = RouteCacheMiddleware(self._seeing, cache=cache)

    async def _seeing(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.seen.append(trace.get_current_span().get_span_context())
        await self.app(scope, receive, send)

    def spans(self, name: str) -> Sequence[ReadableSpan]:
        return [span for span in self.exporter.get_finished_spans() if span.name == name]


def asking(*headers: tuple[bytes, bytes]) -> Options:
    return {"headers": [KEY, *headers]}


async def test_without_a_server_span_ours_join_the_callers_trace(gateway: Gateway) -> None:
    tracing = Tracing(gateway)
    await fetch(tracing.mw, **asking(PARENT, (b"baggage", b"tenant=canary")))
    await fetch(tracing.mw, **asking(PARENT))
    for span in tracing.spans("cache.get result"):
        assert span.parent is not None
        assert span.parent.is_remote
        assert f"{span.parent.trace_id:032x}" == TRACE_ID
        assert f"{span.parent.span_id:016x}" == SPAN_ID
    assert len(tracing.spans("cache.get result")) == 2
    assert [f"{seen.trace_id:032x}" for seen in tracing.seen] == [TRACE_ID]  # the app's join too
    assert trace.get_current_span() is trace.INVALID_SPAN  # and nothing is left behind


@pytest.mark.parametrize(
    "header", [(b"x-other", b"1"), (b"traceparent", b"nonsense"), (b"traceparent", b"\xff\xfe")]
)
async def test_what_names_no_trace_changes_nothing(
    gateway: Gateway, header: tuple[bytes, bytes]
) -> None:
    tracing = Tracing(gateway)
    assert (await fetch(tracing.mw, **asking(header))).status == 200
    (span,) = tracing.spans("cache.get result")
    assert span.parent is None


async def test_a_server_span_comes_first(gateway: Gateway) -> None:
    tracing = Tracing(gateway)
    with tracing.provider.get_tracer("server").start_as_current_span("server") as server:
        await fetch(tracing.mw, **asking(PARENT))
    (span,) = tracing.spans("cache.get result")
    assert span.parent == server.get_span_context()


async def test_the_trace_is_left_when_the_app_raises(gateway: Gateway) -> None:
    tracing = Tracing(gateway)
    tracing.app.fails_at = 0
    before = context.get_current()
    with pytest.raises(RuntimeError, match="the upstream failed"):
        await fetch(tracing.mw, **asking(PARENT))
    assert context.get_current() == before


class Entering(NullObserver):
    """Knows callers' traces, and fails where told to."""

    def __init__(self, fails_at: str = "") -> None:
        self.fails_at = fails_at
        self.left: list[object] = []

    def enter(self, headers: object) -> object | None:
        if self.fails_at == "enter":
            raise RuntimeError("canary")
        return "token"

    def leave(self, token: object) -> None:
        self.left.append(token)
        if self.fails_at == "leave":
            raise RuntimeError("canary")


@pytest.mark.parametrize("fails_at", ["", "enter", "leave"])
async def test_several_observers_enter_and_none_fails_a_request(
    gateway: Gateway, fails_at: str, caplog: pytest.LogCaptureFixture
) -> None:
    entering = Entering(fails_at)
    tracing = Tracing(gateway, entering, NullObserver())
    assert (await fetch(tracing.mw, **asking(PARENT))).status == 200
    assert entering.left == ([] if fails_at == "enter" else ["token"])
    assert len(caplog.records) == (1 if fails_at else 0)
    (span,) = tracing.spans("cache.get result")
    assert span.parent is not None


def test_who_does_not_know_traces_enters_none() -> None:
    assert SafeObserver(NullObserver()).enter([PARENT]) is None
    assert OtelObserver(enabled=False).enter([PARENT]) is None
    assert OtelObserver(enabled=True).enter([PARENT]) is None  # no SDK: nobody could see it


instrumented = pytest.mark.skipif(
    importlib.util.find_spec("opentelemetry.instrumentation") is None
    or importlib.util.find_spec("opentelemetry.instrumentation.asgi") is None,
    reason="opentelemetry-instrumentation-asgi is not installed",
)


@pytest.fixture
def tracing(gateway: Gateway) -> Iterator[Tracing]:
    tracing = Tracing(gateway)
    yield tracing
    tracing.provider.shutdown()


@instrumented
async def test_the_server_span_of_asgi_instrumentation_is_marked(tracing: Tracing) -> None:
    asgi: Any = importlib.import_module("opentelemetry.instrumentation.asgi")
    app = asgi.OpenTelemetryMiddleware(
        tracing.mw, tracer_provider=tracing.provider, exclude_spans=["send", "receive"]
    )
    await fetch(app, **asking(PARENT))
    tracing.exporter.clear()
    await fetch(app, **asking(PARENT))
    spans = {span.name: span for span in tracing.exporter.get_finished_spans()}
    lookup = spans.pop("cache.get result")
    (server,) = spans.values()
    assert server.kind is trace.SpanKind.SERVER
    assert (server.attributes or {})["routecache.outcome"] == "hit"
    assert (server.attributes or {})["cache.hit"] is True
    assert lookup.parent == server.context
    assert server.parent is not None
    assert f"{server.parent.trace_id:032x}" == TRACE_ID


@instrumented
async def test_fastapi_instrumentation_wraps_us_and_is_marked(
    gateway: Gateway, tracing: Tracing
) -> None:
    """``FastAPIInstrumentor`` puts itself outermost, outside of the user's middleware."""
    fastapi: Any = importlib.import_module("fastapi")
    instrumentation: Any = importlib.import_module("opentelemetry.instrumentation.fastapi")
    app = fastapi.FastAPI()
    app.mount("/", ScriptedApp())
    observers = [OtelObserver(tracer_provider=tracing.provider, enabled=True)]
    cache = RouteCache(url="memory://", settings=Settings(), observers=observers)
    gateway.caches.append(cache)
    app.add_middleware(RouteCacheMiddleware, cache=cache)
    instrumentation.FastAPIInstrumentor.instrument_app(
        app, tracer_provider=tracing.provider, exclude_spans=["send", "receive"]
    )
    await fetch(app, **asking(PARENT))
    tracing.exporter.clear()
    await fetch(app, **asking(PARENT))
    spans = {span.kind: span for span in tracing.exporter.get_finished_spans()}
    server, lookup = spans[trace.SpanKind.SERVER], spans[trace.SpanKind.INTERNAL]
    assert len(spans) == 2
    assert (server.attributes or {})["routecache.outcome"] == "hit"
    assert lookup.name == "cache.get result"
    assert lookup.parent == server.context
    assert f"{server.context.trace_id:032x}" == TRACE_ID
