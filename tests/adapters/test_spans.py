"""What tracing shows of hits, misses and shared answers (design 12), through the SDK's exporter."""

from collections.abc import Sequence

import pytest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind

from routecache_middleware import RouteCache, RouteCacheMiddleware, Settings
from routecache_middleware.adapters.asgi.types import ASGIApp, Receive, Scope, Send
from routecache_middleware.core.prices import Price, Prices
from routecache_middleware.telemetry import names
from routecache_middleware.telemetry.otel import OtelObserver
from tests.adapters.conftest import Gateway
from tests.support.apps import ScriptedApp, json_answer
from tests.support.asgi import KEY, Client, Options, fetch, settle
from tests.support.chat import ask


class Traced:
    """A gateway whose requests run in server spans, as an instrumented server makes them."""

    def __init__(
        self, gateway: Gateway, app: ASGIApp, settings: Settings | None = None, **options: object
    ) -> None:
        self.exporter = InMemorySpanExporter()
        provider = TracerProvider()
        provider.add_span_processor(SimpleSpanProcessor(self.exporter))
        self.tracer = provider.get_tracer("server")
        cache = RouteCache(
            url="memory://",
            settings=settings or Settings(),
            observers=[OtelObserver(tracer_provider=provider)],
            clock=gateway.clock,
        )
        gateway.caches.append(cache)
        self.mw = RouteCacheMiddleware(app, cache=cache, **options)  # type: ignore[arg-type]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        name = dict(scope["headers"]).get(b"x-span", b"server").decode()
        with self.tracer.start_as_current_span(name, kind=SpanKind.SERVER):
            await self.mw(scope, receive, send)

    def spans(self, name: str) -> Sequence[ReadableSpan]:
        return [span for span in self.exporter.get_finished_spans() if span.name == name]

    def span(self, name: str) -> ReadableSpan:
        (span,) = self.spans(name)
        return span


def named(name: bytes) -> Options:
    return {"headers": [KEY, (b"x-span", name)]}


def of(span: ReadableSpan) -> dict[str, object]:
    return dict(span.attributes or {})


async def test_a_miss_then_a_hit(gateway: Gateway) -> None:
    """Names, parents, the outcome on the server span, and the hit's link to the one that stored."""
    traced = Traced(gateway, ScriptedApp())
    await fetch(traced, **named(b"first"))
    missed = traced.span("cache.get result")
    first = traced.span("first")
    assert of(first)["routecache.outcome"] == "miss"
    assert of(first)["cache.hit"] is False
    assert of(missed)["routecache.outcome"] == "miss"
    assert missed.parent is not None
    assert missed.parent.span_id == first.context.span_id
    put = traced.span("cache.put result")
    assert put.context.trace_id == first.context.trace_id
    traced.exporter.clear()
    await fetch(traced, **named(b"second"))
    second, hit = traced.span("second"), traced.span("cache.get result")
    assert of(second)["routecache.outcome"] == "hit"
    assert of(second)["cache.hit"] is True
    assert of(second)["routecache.layer"] == "memory"
    assert of(hit)["cache.hit"] is True
    (link,) = hit.links
    assert link.context.span_id == missed.context.span_id
    assert link.context.trace_id == first.context.trace_id
    assert not traced.spans("cache.put result")


async def test_a_hit_says_what_it_saved(gateway: Gateway) -> None:
    traced = Traced(gateway, ScriptedApp())
    traced.mw.cache.engine.recorder.prices = lambda: Prices({"m": Price(1, 2)})
    for _ in range(2):
        await fetch(traced)
    hit = of(traced.spans("cache.get result")[1])
    assert (hit["routecache.saved.input_tokens"], hit["routecache.saved.output_tokens"]) == (1, 2)
    assert hit["routecache.saved.cost"] == pytest.approx(5e-6)
    assert "routecache.stale.reason" not in hit
    assert not any(name.startswith("gen_ai.usage") for name in hit), "backends would price it"


@pytest.mark.parametrize(
    ("directive", "window", "reason"),
    [
        (b"x", "result_stale_while_revalidate_s", "while_revalidate"),
        (b"max-stale=100", "result_stale_if_error_s", "max_stale"),
    ],
)
async def test_what_is_stale_says_why_it_may_be(
    gateway: Gateway, directive: bytes, window: str, reason: str
) -> None:
    settings = Settings(result_ttl_s=10.0, **{window: 50.0})  # type: ignore[arg-type]
    traced = Traced(gateway, ScriptedApp(), settings)
    await fetch(traced)
    gateway.clock.advance(12)
    traced.exporter.clear()
    await fetch(traced, headers=[KEY, (b"cache-control", directive)])
    assert of(traced.spans("cache.get result")[0])["routecache.stale.reason"] == reason
    assert of(traced.span("server"))["routecache.stale.reason"] == reason


async def test_what_is_made_anew_is_a_trace_of_its_own(gateway: Gateway) -> None:
    """With what the app does for it; and later hits link to it, as the one that stored."""
    upstream = ScriptedApp()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        with traced.tracer.start_as_current_span("chat m", kind=SpanKind.CLIENT):
            await upstream(scope, receive, send)

    settings = Settings(result_ttl_s=10.0, result_stale_while_revalidate_s=50.0)
    traced = Traced(gateway, app, settings)
    await fetch(traced)
    gateway.clock.advance(12)
    traced.exporter.clear()
    await fetch(traced, **named(b"stale"))
    await settle()
    refresh, stale = traced.span("cache.refresh result"), traced.span("stale")
    assert refresh.parent is None
    (link,) = refresh.links
    assert link.context.span_id == stale.context.span_id
    assert refresh.context.trace_id != stale.context.trace_id
    assert traced.span("chat m").parent == refresh.context
    assert traced.span("cache.put result").context.trace_id == refresh.context.trace_id
    await fetch(traced, **named(b"hit"))
    assert of(traced.span("hit"))["routecache.outcome"] == "hit"
    (link,) = traced.spans("cache.get result")[1].links
    assert link.context.span_id == refresh.context.span_id


async def test_a_decision_is_made_anew_in_a_trace_of_its_own(gateway: Gateway) -> None:
    async def router(request: object) -> str:
        with traced.tracer.start_as_current_span("route"):
            return "small"

    settings = Settings(routing_ttl_s=10.0, routing_stale_while_revalidate_s=50.0)
    traced = Traced(gateway, ScriptedApp(), settings, router=router)
    await fetch(traced, ask(model="auto"))
    gateway.clock.advance(12)
    traced.exporter.clear()
    await fetch(traced, ask(model="auto"))
    await settle()
    refresh = traced.span("cache.refresh route")
    for name in ("route", "cache.put route"):
        assert traced.span(name).parent == refresh.context
    await fetch(traced, ask(model="auto"))
    (link,) = traced.spans("cache.get route")[1].links
    assert link.context.span_id == refresh.context.span_id


async def test_a_stand_in_for_a_failure_says_so(gateway: Gateway) -> None:
    settings = Settings(result_ttl_s=10.0, result_stale_if_error_s=50.0)
    traced = Traced(gateway, ScriptedApp(json_answer(), json_answer(b"{}", status=500)), settings)
    await fetch(traced)
    gateway.clock.advance(12)
    traced.exporter.clear()
    await fetch(traced)
    assert of(traced.span("server"))["routecache.stale.reason"] == "if_error"


async def test_what_a_refresh_stored_has_no_link(gateway: Gateway) -> None:
    """``no-cache`` looks nothing up, so there is no span of ours to link to."""
    traced = Traced(gateway, ScriptedApp())
    await fetch(traced, headers=[KEY, (b"cache-control", b"no-cache"), (b"x-span", b"refresh")])
    await fetch(traced, **named(b"hit"))
    assert of(traced.span("hit"))["routecache.outcome"] == "hit"
    assert not traced.span("cache.get result").links


async def test_followers_link_to_their_leader(gateway: Gateway) -> None:
    """``cache.wait result``: one per follower, linked to the lookup of the leader's request."""
    app = ScriptedApp(is_stepped=True)
    traced = Traced(gateway, app)
    clients = [Client(traced, **named(b"leader")).start()]
    await settle()
    clients += [Client(traced, **named(b"follower")).start() for _ in range(3)]
    await settle()
    await app.call.step(2)
    for client in clients:
        await client.end()
    leader = traced.span("leader")
    lookups = {span.context.span_id: span for span in traced.spans("cache.get result")}
    assert of(leader)["routecache.outcome"] == "miss"
    for follower in traced.spans("follower"):
        assert of(follower)["routecache.outcome"] == "coalesced"
        assert of(follower)["cache.hit"] is False
    waits = traced.spans("cache.wait result")
    assert len(waits) == 3
    for wait in waits:
        assert of(wait)["routecache.outcome"] == "coalesced"
        (link,) = wait.links
        assert link.context.trace_id == leader.context.trace_id
        lookup = lookups[link.context.span_id]
        assert lookup.parent is not None
        assert lookup.parent.span_id == leader.context.span_id
    assert len(traced.spans("cache.put result")) == 1


async def test_a_follower_whose_leader_fails_waited_in_vain(gateway: Gateway) -> None:
    """The wait ends in an error; the request itself is a miss."""
    app = ScriptedApp(is_stepped=True, fails_at=0)
    traced = Traced(gateway, app)
    leader = Client(traced, **named(b"leader")).start()
    await settle()
    follower = Client(traced, **named(b"follower")).start()
    await settle()
    await app.call.step()
    app.fails_at = None
    await app.call.step(2)
    await leader.error()
    await follower.end()
    assert of(traced.span("cache.wait result"))["routecache.outcome"] == "error"
    assert of(traced.span("follower"))["routecache.outcome"] == "miss"


async def test_a_bypass_says_why(gateway: Gateway) -> None:
    """On the server span alone: nothing was looked up."""
    traced = Traced(gateway, ScriptedApp())
    await fetch(traced, b"{", **named(b"bad"))
    assert of(traced.span("bad"))["routecache.outcome"] == "bypass"
    assert of(traced.span("bad"))[names.REASON_BYPASS] == "invalid-json"
    assert len(traced.exporter.get_finished_spans()) == 1


async def test_routed_requests_show_both_layers(gateway: Gateway) -> None:
    """``cache.get route`` and ``cache.get result``."""

    async def router(request: object) -> str:
        return "small"

    traced = Traced(gateway, ScriptedApp(), router=router)
    for _ in range(2):
        await fetch(traced, ask(model="auto"))
    assert [of(span)["cache.hit"] for span in traced.spans("cache.get route")] == [False, True]
    assert [of(span)["cache.hit"] for span in traced.spans("cache.get result")] == [False, True]


async def test_no_span_holds_a_prompt_a_completion_or_a_credential(gateway: Gateway) -> None:
    """Design 10."""
    traced = Traced(gateway, ScriptedApp(json_answer()))
    for _ in range(2):
        await fetch(traced, ask("the secret prompt"))
    text = " ".join(span.to_json() for span in traced.exporter.get_finished_spans())
    for secret in ("secret prompt", "hi there", "key-1"):
        assert secret not in text


async def test_a_broken_observer_is_logged_once_and_ignored(
    gateway: Gateway, caplog: pytest.LogCaptureFixture
) -> None:
    """Issue 2: telemetry may never fail a request."""

    class Broken:
        def begin(self, *_: object, **__: object) -> object:
            raise ZeroDivisionError

        def request(self, *_: object) -> None:
            raise ZeroDivisionError

    cache = RouteCache(
        url="memory://",
        settings=Settings(),
        observers=[Broken()],  # type: ignore[list-item]
        clock=gateway.clock,
    )
    gateway.caches.append(cache)
    mw = RouteCacheMiddleware(ScriptedApp(), cache=cache)
    assert [(await fetch(mw)).outcome for _ in range(3)] == ["MISS", "HIT", "HIT"]
    assert len(caplog.records) == 1
