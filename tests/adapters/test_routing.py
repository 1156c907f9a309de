"""With a router: decide, rewrite the model, look up under the chosen one (design 4)."""

import asyncio
import json
from typing import Any

import pytest

from routecache_middleware import LLMRequest, RoutingDecision
from routecache_middleware.testing.clock import FakeClock
from tests.adapters.conftest import Gateway
from tests.support.apps import ScriptedApp, sse_answer
from tests.support.asgi import KEY, Client, fetch, scope_of, settle
from tests.support.chat import ask, chunks


class Router:
    """Chooses by prompt length and notes what it was shown."""

    def __init__(self) -> None:
        self.asked: list[LLMRequest] = []

    async def __call__(self, request: LLMRequest) -> RoutingDecision:
        self.asked.append(request)
        model = "small" if len(request.prompt_text) < 20 else "large"
        return RoutingDecision(model, 0.7, alternatives=(("spare", 0.5), ("last", 0.1)))


async def test_the_whole_flow(gateway: Gateway) -> None:
    """Decision and answer: miss, then hit for both; the app is told the decision."""
    app, router = ScriptedApp(), Router()
    mw = gateway(app, router=router)
    first = await fetch(mw, ask(model="auto"))
    assert json.loads(app.call.body)["model"] == "small"
    assert first.get("x-routecache-model") == "small"
    assert first.get("x-routecache-decision") == "MISS"
    decision = app.call.scope["state"]["routecache"].decision
    assert (decision.selected_model, decision.score) == ("small", 0.7)
    assert decision.decide_ms >= 0
    second = await fetch(mw, ask(model="auto"))
    assert second.outcome == "HIT"
    assert second.get("x-routecache-decision") == "HIT"
    assert (len(app.calls), len(router.asked)) == (1, 1)
    (request,) = router.asked
    assert (request.model, request.dialect, request.path) == (
        "auto",
        "openai.chat",
        "/v1/chat/completions",
    )
    assert len(request.query_hash) == 32


async def test_only_the_top_level_model_changes(gateway: Gateway) -> None:
    """Not one other byte; the length is corrected; the server's own scope is not touched."""
    body = (
        b'{ "messages":[{"role":"user","content":"model \\u00e9","model":"x"}],'
        b'"metadata":{"model":"y"},\t"model" : "auto","seed":1.0}'
    )
    app = ScriptedApp()
    mw = gateway(app, router=Router())
    client = Client(mw, body, headers=[KEY, (b"content-length", b"%d" % len(body))])
    await client.start().end()
    expected = body.replace(b'"auto"', b'"small"')
    assert app.call.body == expected
    assert dict(app.call.scope["headers"])[b"content-length"] == b"%d" % len(expected)
    assert dict(client.scope["headers"])[b"content-length"] == b"%d" % len(body)
    assert app.call.received == [{"type": "http.request", "body": expected, "more_body": False}]


async def test_a_decision_for_the_requested_model_changes_nothing(gateway: Gateway) -> None:
    """The app then gets the very messages that came."""
    app = ScriptedApp()
    mw = gateway(app, router=Router())
    client = Client(mw, ask(model="small"))
    (message,) = client.to_receive
    await client.start().end()
    assert app.call.received[0] is message


async def test_sampling_does_not_change_a_decision(gateway: Gateway) -> None:
    """Design 5: decision hash and result hash differ."""
    app, router = ScriptedApp(), Router()
    mw = gateway(app, router=router)
    await fetch(mw, ask(model="auto"))
    got = await fetch(mw, ask(model="auto", temperature=0.1))
    assert (got.outcome, got.get("x-routecache-decision")) == ("MISS", "HIT")
    assert len(router.asked) == 1


async def test_only_configured_models_are_routed(gateway: Gateway) -> None:
    """``routed_models``; by default every model is."""
    app, router = ScriptedApp(), Router()
    mw = gateway(app, router=router, routed_models=frozenset({"auto"}))
    got = await fetch(mw, ask(model="gpt"))
    assert json.loads(app.call.body)["model"] == "gpt"
    assert got.get("x-routecache-model") is None
    assert router.asked == []


async def test_who_wants_only_what_is_stored_has_no_router_asked(gateway: Gateway) -> None:
    app, router, up = ScriptedApp(), Router(), {"small", "spare", "last"}
    mw = gateway(app, router=router, eligible=lambda model: model in up)
    only: dict[str, Any] = {"headers": [KEY, (b"cache-control", b"only-if-cached")]}
    got = await fetch(mw, ask(model="auto"), **only)
    assert (got.status, router.asked, app.calls) == (504, [], [])
    assert "be used for it (absent)" in json.loads(got.body)["error"]["message"]
    await fetch(mw, ask(model="auto"))
    got = await fetch(mw, ask(model="auto"), **only)
    assert (got.status, got.outcome, got.get("x-routecache-decision")) == (200, "HIT", "HIT")
    up.discard("small")
    got = await fetch(mw, ask(model="auto"), **only)  # the spare one has answered nothing yet
    assert (got.status, got.get("x-should-retry")) == (504, "false")
    up.clear()
    got = await fetch(mw, ask(model="auto"), **only)
    assert "(ineligible)" in json.loads(got.body)["error"]["message"]
    assert (len(router.asked), len(app.calls)) == (1, 1)


NOT_WRITTEN: dict[str, dict[str, Any]] = {
    "/v1/embeddings": {"input": "a"},
    "/v1/rerank": {"query": "q", "documents": ["a"]},
    "/v1/messages/count_tokens": {"messages": [{"role": "user", "content": "a"}]},
}


@pytest.mark.parametrize("path", NOT_WRITTEN)
async def test_what_no_model_writes_is_routed_only_by_name(gateway: Gateway, path: str) -> None:
    """A vector, a ranking or a count of another model than the client's is another thing."""
    body = json.dumps({"model": "auto", **NOT_WRITTEN[path]}).encode()
    app, router = ScriptedApp(), Router()
    await fetch(gateway(app, router=router), body, path=path)
    assert app.call.body == body
    assert router.asked == []
    await fetch(gateway(app, router=router, routed_models=frozenset({"auto"})), body, path=path)
    assert json.loads(app.call.body)["model"] == "small"


@pytest.mark.parametrize("kind", ["plain", "name", "object", "returns awaitable"])
async def test_routers_come_in_several_forms(gateway: Gateway, kind: str) -> None:
    """Async or plain, a decision or a name; plain ones run in a thread."""
    threads: list[object] = []

    def plain(request: LLMRequest) -> RoutingDecision | str:
        try:
            threads.append(asyncio.get_running_loop())
        except RuntimeError:
            threads.append("thread")
        return "small" if kind == "name" else RoutingDecision("small")

    router: object = plain
    if kind == "object":
        router = Router()
    elif kind == "returns awaitable":
        router = lambda request: Router()(request)  # noqa: E731, PLW0108 - not a coroutine function, which is the point
    app = ScriptedApp()
    await fetch(gateway(app, router=router), ask(model="auto"))
    assert json.loads(app.call.body)["model"] == "small"
    assert threads == (["thread"] if kind in ("plain", "name") else [])
    await asyncio.get_running_loop().shutdown_default_executor()


@pytest.mark.parametrize("answer", [ZeroDivisionError("secret"), None, "", 7, RoutingDecision("")])
async def test_a_broken_router_is_logged_once_and_bypassed(
    gateway: Gateway, caplog: pytest.LogCaptureFixture, answer: object
) -> None:
    """The request goes to the app as it came (issue 2)."""

    async def broken(request: LLMRequest) -> object:
        if isinstance(answer, Exception):
            raise answer
        return answer

    app = ScriptedApp()
    mw = gateway(app, router=broken)
    for _ in range(2):
        got = await fetch(mw, ask(model="auto"))
        assert got.status == 200
        assert got.get("cache-status") == "routecache; fwd=bypass; detail=router-error"
        assert got.get("x-routecache-model") is None
        assert app.call.body == ask(model="auto")
    (record,) = caplog.records
    assert "the router failed" in record.getMessage()
    assert "secret" not in record.getMessage()


@pytest.mark.parametrize("header", [b"content-digest", b"digest", b"signature", b"content-md5"])
async def test_signed_bodies_are_not_rewritten(gateway: Gateway, header: bytes) -> None:
    """Design 10: a header vouches for the bytes."""
    app, router = ScriptedApp(), Router()
    mw = gateway(app, router=router)
    got = await fetch(mw, ask(model="auto"), headers=[KEY, (header, b"x")])
    assert got.get("cache-status") == "routecache; fwd=bypass; detail=signed"
    assert app.call.body == ask(model="auto")
    assert router.asked == []


async def test_signed_bodies_are_cached_without_a_router(gateway: Gateway) -> None:
    """Nothing is rewritten then."""
    mw = gateway()
    headers = [KEY, (b"content-digest", b"x")]
    await fetch(mw, headers=headers)
    assert (await fetch(mw, headers=headers)).outcome == "HIT"


async def test_a_decision_falls_back_to_its_best_eligible_alternative(gateway: Gateway) -> None:
    """``eligible``: cached decisions too, and back again when the model is up."""
    down = {"small"}
    app, router = ScriptedApp(), Router()
    mw = gateway(app, router=router, eligible=lambda model: model not in down)
    assert (await fetch(mw, ask(model="auto"))).get("x-routecache-model") == "spare"
    assert json.loads(app.call.body)["model"] == "spare"
    down.add("spare")
    assert (await fetch(mw, ask(model="auto"))).get("x-routecache-model") == "last"
    down.clear()
    got = await fetch(mw, ask(model="auto"))
    assert got.get("x-routecache-model") == "small"
    assert got.get("x-routecache-decision") == "HIT"
    assert len(router.asked) == 1


async def test_a_broken_eligible_is_logged_once_and_ignored(
    gateway: Gateway, caplog: pytest.LogCaptureFixture
) -> None:
    """The decision is used as it is (issue 2)."""

    def broken(model: str) -> bool:
        raise ZeroDivisionError("secret")

    app = ScriptedApp()
    mw = gateway(app, router=Router(), eligible=broken)
    for n in range(3):
        got = await fetch(mw, ask(model="auto", seed=n))
        assert got.get("x-routecache-model") == "small"
    (record,) = caplog.records
    assert "eligible() raised ZeroDivisionError" in record.getMessage()


async def test_concurrent_requests_share_one_decision_and_one_call(gateway: Gateway) -> None:
    """Single flight for decisions; the answers are then one flight."""
    gate = asyncio.Event()
    asked: list[str] = []

    async def slow(request: LLMRequest) -> str:
        asked.append(request.model)
        await gate.wait()
        return "small"

    app = ScriptedApp(is_stepped=True)
    mw = gateway(app, router=slow)
    clients = [Client(mw, ask(model="auto")).start() for _ in range(20)]
    await settle()
    gate.set()
    await settle()
    assert (len(asked), len(app.calls)) == (1, 1)
    await app.call.step(2)
    decisions = [(await client.end()).get("x-routecache-decision") for client in clients]
    assert sorted(map(str, decisions)) == ["HIT"] * 19 + ["MISS"]


async def test_routing_goes_on_when_answers_are_not_cached(gateway: Gateway) -> None:
    """Mode off, no credential, result_caching=False: the router still chooses."""
    app, router = ScriptedApp(), Router()
    mw = gateway(app, router=router)
    got = await fetch(mw, ask(model="auto"), headers=[])
    assert got.get("cache-status") == "routecache; fwd=bypass; detail=no-principal"
    assert got.get("x-routecache-model") == "small"
    mw.cache.mode = "off"
    got = await fetch(mw, ask(model="auto"))
    assert got.get("cache-status") == "routecache; fwd=bypass; detail=disabled"
    assert json.loads(app.call.body)["model"] == "small"
    assert len(router.asked) == 2
    off = gateway(app, router=router, result_caching=False)
    for decision in ("MISS", "HIT"):
        got = await fetch(off, ask(model="auto"))
        assert got.outcome == "BYPASS"
        assert got.get("x-routecache-decision") == decision


async def test_no_store_keeps_the_decision_out_too(gateway: Gateway) -> None:
    """Nothing of the request stays."""
    router = Router()
    mw = gateway(router=router)
    for _ in range(2):
        await fetch(mw, ask(model="auto"), headers=[KEY, (b"cache-control", b"no-store")])
    assert len(router.asked) == 2


async def test_invalidating_a_model_drops_the_decisions_for_it(gateway: Gateway) -> None:
    """The cascade of design 4."""
    app, router = ScriptedApp(), Router()
    mw = gateway(app, router=router)
    await fetch(mw, ask(model="auto"))
    await mw.cache.invalidate_model("small")
    got = await fetch(mw, ask(model="auto"))
    assert (got.outcome, got.get("x-routecache-decision")) == ("MISS", "MISS")
    assert (len(router.asked), len(app.calls)) == (2, 2)


async def test_a_model_name_that_fits_no_header_is_left_out(gateway: Gateway) -> None:
    """Header values are ASCII; the body can carry anything."""

    async def odd(request: LLMRequest) -> str:
        return "modèle"

    app = ScriptedApp()
    got = await fetch(gateway(app, router=odd), ask(model="auto"))
    assert json.loads(app.call.body)["model"] == "modèle"
    assert got.get("x-routecache-model") is None
    assert got.get("x-routecache-decision") == "MISS"


async def test_live_traffic_fills_load_and_metadata(gateway: Gateway, clock: FakeClock) -> None:
    """In-flight, response time and error rate per model, with no work for the user (issue 2)."""
    app = ScriptedApp(sse_answer(chunks()), is_stepped=True)
    mw = gateway(app, router=Router())
    client = Client(mw, ask(model="auto", stream=True)).start()
    await settle()
    load = await mw.cache.get_load_metrics("small")
    assert load is not None
    assert load.in_flight == 1
    await app.call.step(7)
    await client.end()
    clock.advance(1)
    load = await mw.cache.get_load_metrics("small")
    metadata = await mw.cache.get_model_metadata("small")
    assert load is not None
    assert (load.in_flight, load.error_rate) == (0, 0.0)
    assert load.avg_response_time_ms > 0
    assert metadata is not None
    assert metadata.avg_response_time_ms > 0
    app.fails_at = 0
    failing = Client(mw, ask("else", model="auto")).start()
    await settle()
    await app.call.step()
    assert isinstance(await failing.error(), RuntimeError)
    clock.advance(1)
    load = await mw.cache.get_load_metrics("small")
    assert load is not None
    assert load.error_rate > 0


async def test_a_client_that_leaves_is_no_failure_of_the_model(gateway: Gateway) -> None:
    """A cancelled call says nothing about the upstream."""
    app = ScriptedApp(is_stepped=True)
    mw = gateway(app)
    client = Client(mw).start()
    await settle()
    client.cancel()
    await client.error()
    load = await mw.cache.get_load_metrics("m")
    assert load is not None
    assert (load.in_flight, load.error_rate) == (0, 0.0)


async def test_a_model_in_the_path_is_not_routed(gateway: Gateway) -> None:
    """The upstream would take no notice of another model in the body, so nobody is asked."""
    router, app = Router(), ScriptedApp()
    mw = gateway(app, router=router)
    path = "/openai/deployments/gpt-4o/chat/completions"
    body = json.dumps({"messages": [{"role": "user", "content": "hi"}]}).encode()
    for outcome in ("MISS", "HIT"):
        assert (await fetch(mw, body, scope=scope_of(path=path))).outcome == outcome
    assert router.asked == []
    assert app.call.body == body
    other = scope_of(path="/openai/deployments/gpt-5/chat/completions")
    assert (await fetch(mw, body, scope=other)).outcome == "MISS"
    await mw.cache.invalidate_model("gpt-4o")
    assert (await fetch(mw, body, scope=scope_of(path=path))).outcome == "MISS"
    assert (await fetch(mw, body, scope=other)).outcome == "HIT"


async def test_only_if_cached_gets_what_everybody_gets(gateway: Gateway, clock: FakeClock) -> None:
    """A decision in its stale window routes requests; so it does this one."""
    calls = 0

    async def router(_: object) -> str:
        nonlocal calls
        calls += 1
        return "small"

    mw = gateway(
        router=router,
        routing_ttl_s=10.0,
        routing_stale_while_revalidate_s=600.0,
        result_ttl_s=1000.0,
    )
    await fetch(mw, ask(model="auto"))
    clock.advance(20)
    got = await fetch(mw, ask(model="auto"), headers=[KEY, (b"cache-control", b"only-if-cached")])
    assert got.outcome == "HIT"
