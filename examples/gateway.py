"""A small LLM gateway with a cache in front: copy it, and put your own gateway in its place.

Run it with ``UPSTREAM_BASE_URL=http://.../v1 uvicorn examples.gateway:app``. What belongs to the
cache are the lines between ``cache = `` and ``app.add_middleware``, one in ``lifespan``, and the
three admin routes; the rest is a plain proxy.

Configuration comes from the environment: ``UPSTREAM_BASE_URL``, ``UPSTREAM_API_KEY``,
``SMALL_MODEL`` and ``LARGE_MODEL`` (what the upstream calls them), ``SPANS_FILE`` (default:
stderr), and ``ROUTECACHE_URL``: where the cache keeps things (default: ``memory://``, in this
process). Gateways with the same shared coordinator there, such as ``redis+cluster://...``, are a
fleet: see ``examples/fleet/``.
"""

import contextlib
import dataclasses
import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, ConsoleSpanExporter
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from routecache_middleware import (
    LLMRequest,
    RouteCache,
    RouteCacheError,
    RouteCacheMiddleware,
    RoutingDecision,
    Settings,
)

UPSTREAM_BASE_URL = os.environ.get("UPSTREAM_BASE_URL", "http://127.0.0.1:8080/v1")
UPSTREAM_API_KEY = os.environ.get("UPSTREAM_API_KEY", "none")
MODELS = {  # the gateway's names -> what they mean upstream
    "small": {
        "model": os.environ.get("SMALL_MODEL", "gemma-3-270m"),
        "max_tokens": 24,
        "temperature": 0.0,
    },
    "large": {
        "model": os.environ.get("LARGE_MODEL", "gemma-3-270m"),
        "max_tokens": 64,
        "temperature": 0.2,
    },
}
HARD_WORDS = {"why", "how", "explain", "compare", "describe", "prove"}


# Tracing: the cache reports to whatever OpenTelemetry SDK your process has set up. Here every span
# becomes one line of text.
def one_line(span: ReadableSpan) -> str:
    """Return a span as a line: name, duration, outcome, model, and what it links to."""
    found = span.attributes or {}
    took_ms = ((span.end_time or 0) - (span.start_time or 0)) / 1e6
    words = [f"{span.name:<18}", f"{took_ms:9.3f} ms", f"span={span.context.span_id:016x}"]
    for label, name in (("outcome", "routecache.outcome"), ("model", "gen_ai.request.model")):
        if name in found:
            words.append(f"{label}={found[name]!s}")
    for link in span.links:  # from a hit to its origin, from a follower to its leader
        kind = (link.attributes or {}).get("routecache.link.type", "link")
        words.append(f"{kind}={link.context.span_id:016x}")
    return " ".join(words) + "\n"


spans_file = os.environ.get("SPANS_FILE")
spans_out = Path(spans_file).open("a", encoding="utf-8") if spans_file else sys.stderr  # noqa: SIM115
provider = TracerProvider()
exporter = ConsoleSpanExporter(out=spans_out, formatter=one_line)
provider.add_span_processor(BatchSpanProcessor(exporter, schedule_delay_millis=100))
trace.set_tracer_provider(provider)
tracer = trace.get_tracer("gateway")


async def choose_model(request: LLMRequest) -> RoutingDecision:
    """Score a prompt: short questions of fact go to the small model, others to the large one."""
    words = request.prompt_text.lower().split()
    score = min(1.0, len(words) / 50 + 0.6 * bool(HARD_WORDS & set(words)))
    ranked = [("large", score), ("small", 1 - score)]
    best, other = sorted(ranked, key=lambda pair: pair[1], reverse=True)
    return RoutingDecision(
        selected_model=best[0], score=best[1], alternatives=(other,), strategy="words"
    )


async def chat(request: Request) -> Response:
    """POST /v1/chat/completions: pass the request on, and the answer back as it arrives."""
    payload = await request.json()
    name = payload["model"]  # already what the router chose
    if name not in MODELS:
        return _error(404, f"there is no model {name!r}; there are {', '.join(MODELS)}")
    request.app.state.upstream_calls += 1
    client: httpx.AsyncClient = request.app.state.client
    call = client.build_request("POST", "/chat/completions", json={**payload, **MODELS[name]})
    with tracer.start_as_current_span(f"chat {name}", kind=trace.SpanKind.CLIENT):
        try:
            upstream = await client.send(call, stream=True)
        except httpx.HTTPError as error:
            return _error(502, f"the upstream did not answer: {error!r}")
    media_type = upstream.headers.get("content-type")
    return StreamingResponse(_relay(upstream), upstream.status_code, media_type=media_type)


async def _relay(upstream: httpx.Response) -> AsyncIterator[bytes]:
    try:
        async for chunk in upstream.aiter_bytes():
            yield chunk
    finally:  # also when the client has gone
        await upstream.aclose()


def _error(status: int, message: str) -> JSONResponse:
    return JSONResponse({"error": {"message": message, "type": "gateway_error"}}, status)


async def stats(_request: Request) -> JSONResponse:
    """GET /stats: what the cache has counted so far."""
    counted = cache.stats()
    hit_rates = {
        "routing": counted.routing_hit_rate(),
        "result": counted.result_hit_rate(),
        "metadata": counted.metadata_hit_rate(),
        "load": counted.load_hit_rate(),
        "overall": counted.overall_hit_rate(),
    }
    return JSONResponse({"hit_rates": hit_rates, **dataclasses.asdict(counted)})


async def invalidate(request: Request) -> JSONResponse:
    """POST /invalidate/{model}: forget the model's answers, and the decisions that chose it."""
    report = await cache.invalidate_model(request.path_params["model"])
    return JSONResponse({"scope": str(report.scope), "position": report.position})


async def cluster(_request: Request) -> JSONResponse:
    """GET /cluster: the nodes that keep the cache, and the gateways that use it."""
    try:
        found = await cache.cluster_stats()
    except RouteCacheError as error:
        return _error(503, str(error))
    return JSONResponse(dataclasses.asdict(found))


async def upstream_calls(request: Request) -> JSONResponse:
    """GET /upstream-calls: how often this gateway has really asked a model."""
    return JSONResponse({"upstream_calls": request.app.state.upstream_calls})


@contextlib.asynccontextmanager
async def lifespan(app: Starlette) -> AsyncIterator[None]:
    """Keep the cache and one connection pool to the upstream open while the gateway runs."""
    headers = {"authorization": f"Bearer {UPSTREAM_API_KEY}"}
    app.state.upstream_calls = 0
    async with (
        cache,  # or the first request would wait for it to connect; and whoever made it closes it
        httpx.AsyncClient(
            base_url=UPSTREAM_BASE_URL, headers=headers, timeout=60
        ) as app.state.client,
    ):
        yield


app = Starlette(
    routes=[
        Route("/v1/chat/completions", chat, methods=["POST"]),
        Route("/stats", stats),
        Route("/invalidate/{model}", invalidate, methods=["POST"]),
        Route("/cluster", cluster),
        Route("/upstream-calls", upstream_calls),
    ],
    lifespan=lifespan,
)
cache = RouteCache(settings=Settings.profile("production", server_timing=True))
app.add_middleware(RouteCacheMiddleware, cache=cache, router=choose_model)
