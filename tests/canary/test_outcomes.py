"""What can become of a request: each way to bypass, failures of all callables, clients that leave.

Where an error is raised, it is one with a canary in its text.
"""

import json
from dataclasses import replace
from typing import Any

import pytest

from routecache_middleware import CachePolicy, LLMRequest, RoutingDecision
from routecache_middleware.core.choices import Mode
from routecache_middleware.core.models import BypassReason
from routecache_middleware.core.override import Override
from tests.canary.bodies import APIS, Json, chat, completion
from tests.canary.ears import Ears
from tests.canary.house import House
from tests.canary.planted import planted, prose
from tests.support.apps import Call, ScriptedApp, json_answer, sse_answer
from tests.support.asgi import Client, settle

CHAT = chat()
BODY = json.dumps(CHAT).encode()
STREAM = json.dumps({**CHAT, "stream": True}).encode()
ANSWER = json_answer(completion())
PIECES = APIS["openai.chat"].answers["said.sse"]
STREAMED = sse_answer([PIECES[at : at + 120] for at in range(0, len(PIECES), 120)])


class RaisedError(Exception):
    """An error of somebody else's that says too much."""


def fail(*_: object, **__: object) -> Any:
    """Raise something that quotes what it was given, with more of it in what it came from."""
    cause = KeyError(planted("raised"), prose("prompt"))
    raise RaisedError(prose("raised"), planted("authorization")) from cause


async def fail_later(*_: object, **__: object) -> Any:
    fail()


class Failing:
    """An app that fails, before its answer begins or in the middle of it."""

    def __init__(self, after: int = 0, answer: Any = ANSWER) -> None:
        self.after, self.answer, self.calls = after, answer, 0

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            return
        self.calls += 1
        await receive()
        for message in self.answer[: self.after]:
            await send(message)
        fail()


# Bypasses.

Case = tuple[Json, dict[str, Any]]
TOOLS = [{"type": "web_search", "user_location": planted("metadata")}]
AUDIO = {"modalities": ["audio"], "audio": {"voice": planted("document")}}
REMOTE = [{"type": "image_url", "image_url": {"url": f"https://x/{planted('image url')}"}}]
RESPONSES = APIS["openai.responses"].asks[0]
R: Any = BypassReason

BYPASSES: dict[BypassReason, tuple[str, Json, dict[str, Any]]] = {
    R.NO_PRINCIPAL: ("openai.chat", CHAT, {"headers": None}),
    R.STORE: ("openai.chat", {**CHAT, "store": True}, {}),
    R.WEB_SEARCH: (
        "openai.chat",
        {**CHAT, "web_search_options": {"x": planted("metadata")}},
        {},
    ),
    R.SERVER_TOOLS: ("openai.responses", {**RESPONSES, "tools": TOOLS}, {}),
    R.AUDIO: ("openai.chat", {**CHAT, **AUDIO}, {}),
    R.REMOTE_MEDIA: (
        "openai.chat",
        {**CHAT, "messages": [{"role": "user", "content": REMOTE}]},
        {},
    ),
    R.STATEFUL: (
        "openai.responses",
        {**RESPONSES, "previous_response_id": planted("answered id")},
        {},
    ),
    R.BACKGROUND: ("openai.responses", {**RESPONSES, "background": True}, {}),
    R.MUTABLE_PROMPT: ("openai.responses", {**RESPONSES, "prompt": {"id": planted("file id")}}, {}),
    R.PREWARM: ("anthropic.messages", {**APIS["anthropic.messages"].asks[0], "max_tokens": 0}, {}),
    R.TEMPERATURE: ("openai.chat", {**CHAT, "temperature": 2}, {"overrides": 1.0}),
    R.NO_STORE: ("openai.chat", CHAT, {"control": b"no-cache, no-store"}),
    R.CONTENT_TYPE: ("openai.chat", CHAT, {"content_type": b"text/plain"}),
    R.CONTENT_ENCODING: ("openai.chat", CHAT, {"encoding": b"gzip"}),
    R.INVALID_JSON: ("openai.chat", {"model": planted("broken json")}, {}),
    R.BODY_TOO_LARGE: ("openai.chat", CHAT, {"max_request_bytes": 100}),
    R.TENANT_ERROR: ("openai.chat", CHAT, {"tenant": fail}),
    R.SIGNED: ("openai.chat", CHAT, {"router": fail_later, "digest": True}),
    R.ROUTER_ERROR: ("openai.chat", CHAT, {"router": fail_later}),
    R.POLICY: ("openai.chat", CHAT, {"decide": fail}),
    R.DISABLED: ("openai.chat", CHAT, {"result_caching": False}),
    R.SHADOW: ("openai.chat", CHAT, {"mode": "shadow"}),
    R.INTERNAL_ERROR: ("openai.chat", CHAT, {"breaks": True}),
}


def test_every_reason_has_a_case_here_or_among_the_coordinators() -> None:
    assert set(BYPASSES) | {BypassReason.COORDINATOR_ERROR} == set(BypassReason)


@pytest.mark.parametrize("reason", BYPASSES)
async def test_bypassed(reason: BypassReason, ears: Ears, monkeypatch: pytest.MonkeyPatch) -> None:
    dialect, ask, how = BYPASSES[reason]
    body = json.dumps(ask).encode()
    policy = CachePolicy(decide=how.get("decide"), max_temperature=how.get("overrides"))
    parts: dict[str, Any] = {name: how[name] for name in ("tenant", "router") if name in how}
    named = {name: how[name] for name in ("max_request_bytes", "result_caching", "mode")
             if name in how}  # fmt: skip
    headers = [
        *([(b"cache-control", how["control"])] if "control" in how else []),
        *([(b"content-encoding", how["encoding"])] if "encoding" in how else []),
        *([(b"content-digest", planted("bytes").encode())] if "digest" in how else []),
    ]
    scoped: dict[str, Any] = {"path": APIS[dialect].path}
    if "content_type" in how:
        scoped["content_type"] = how["content_type"]
    app = ScriptedApp(ANSWER)
    async with House(ears, app, policy=policy, parts=parts, **named) as house:
        if "breaks" in how:
            monkeypatch.setattr(house.cache.engine, "lookup", fail_later)
        for _ in range(2):
            if how.get("headers", ()) is None:
                client = Client(house.middleware, body, headers=(), **scoped).start()
                house.hear(await client.end())
            else:
                await house.ask(body, headers=headers, **scoped)
        assert house.outcomes == ["BYPASS"] * 2
        assert house.cache.stats().bypasses.get(reason, 0) == 2
        told: dict[str, Any] = {"headers": house.client(b"", headers=headers).scope["headers"]}
        told["path"] = scoped["path"]
        ears.hear("explanation", await house.middleware.explain(body=body, **told))


# Failures of what the operator has written.


@pytest.mark.parametrize("is_async", [False, True])
async def test_routers_that_fail_or_return_what_is_no_model(ears: Ears, *, is_async: bool) -> None:
    def returns(_: LLMRequest) -> Any:
        return {planted("raised"): prose("prompt")}

    async def returns_later(_: LLMRequest) -> Any:
        return [prose("prompt")]

    for router in (fail_later, returns_later) if is_async else (fail, returns):
        async with House(ears, ScriptedApp(ANSWER), parts={"router": router}) as house:
            await house.ask(BODY)
            assert house.outcomes == ["BYPASS"]


async def test_decisions_with_all_that_a_router_may_say(ears: Ears) -> None:
    async def router(request: LLMRequest) -> RoutingDecision:
        ears.hear("repr of a request", request)
        return RoutingDecision("small", 0.5, alternatives=(("spare", 0.25),), strategy="rules")

    async with House(
        ears, ScriptedApp(ANSWER), parts={"router": router, "eligible": fail}
    ) as house:
        for _ in range(2):
            await house.ask(BODY)
        assert house.outcomes == ["MISS", "HIT"]
        await house.cache.invalidate_model("small")
        await house.ask(BODY, headers=[(b"cache-control", b"only-if-cached")])


@pytest.mark.parametrize("verdict", ["text", [1], {}, -1, float("nan")])
async def test_verdicts_that_mean_nothing(verdict: Any, ears: Ears) -> None:
    said = {"text": prose("prompt"), "[1]": [planted("prompt")], "{}": {planted("prompt"): 1}}
    policy = CachePolicy(decide=lambda _: said.get(str(verdict), verdict))
    async with House(ears, ScriptedApp(ANSWER), policy=policy) as house:
        await house.ask(BODY)
        assert house.outcomes == ["BYPASS"]


async def test_what_an_app_says_of_its_answer(ears: Ears) -> None:
    """Tags, tenants and further models are the app's; tags and tenants may be names of clients."""

    def mark(call: Call) -> None:
        state = call.scope["state"]["routecache"]
        ears.hear("repr of the state", state)
        state.add_tags(planted("tag"))
        state.owned_by(planted("tenant"))
        for wrong in (state.set_ttl, state.made_before):
            with pytest.raises(ValueError, match="finite") as said:
                wrong(float("nan"))
            ears.hear("an error", said.value)

    app = ScriptedApp(ANSWER, on_call=mark)
    async with House(ears, app, parts={"tenant": lambda _: planted("tenant")}) as house:
        for _ in range(2):
            await house.ask(BODY)
        assert house.outcomes == ["MISS", "HIT"]
        await house.cache.invalidate_tag(planted("tag"))
        await house.ask(BODY)
        await house.cache.invalidate_tenant(planted("tenant"), older_than=1.0)
        assert house.outcomes == ["MISS", "HIT", "MISS"]


# Failures of the app, stale answers and what is made anew behind a request.


@pytest.mark.parametrize("after", range(3))
async def test_apps_that_fail(after: int, ears: Ears) -> None:
    """The app's error is the server's to see; nobody else says a word of it."""
    async with House(ears, Failing(after)) as house:
        for body in (BODY, STREAM):
            assert isinstance(await house.client(body).start().error(), RaisedError)
            await house.cache.invalidate_all()


@pytest.mark.parametrize("after", range(3))
async def test_a_refresh_that_fails(after: int, ears: Ears) -> None:
    app = ScriptedApp(ANSWER)
    apps: dict[str, Any] = {"app": app}

    async def either(scope: Any, receive: Any, send: Any) -> None:
        await apps["app"](scope, receive, send)

    async with House(ears, either) as house:
        await house.ask(BODY)
        apps["app"] = failing = Failing(after)
        house.clock.advance(12)
        await house.ask(BODY)
        await settle()
        assert house.outcomes == ["MISS", "STALE"]
        assert failing.calls == 1


async def test_a_stale_answer_instead_of_an_error(ears: Ears) -> None:
    failed = json_answer(json.dumps({"error": prose("error text")}).encode(), status=500)
    async with House(ears, ScriptedApp(ANSWER, failed)) as house:
        await house.ask(BODY)
        house.clock.advance(35)
        await house.ask(BODY)
        assert house.outcomes == ["MISS", "STALE"]


async def test_work_behind_requests_that_fails(ears: Ears, monkeypatch: pytest.MonkeyPatch) -> None:
    """A fault of ours after the answer has left: said once, without what it quotes."""
    async with House(ears, ScriptedApp(ANSWER)) as house:
        monkeypatch.setattr(house.cache.engine, "put", fail_later)
        house.cache.engine.background.run(fail_later())
        house.cache.engine.background.run(fail_later(), is_urgent=False)
        for _ in range(2):
            await house.ask(BODY)
            await settle()
    assert [r for r in ears.records if "background" in r.getMessage()]


async def test_a_dialect_that_fails_at_an_answer(
    ears: Ears, monkeypatch: pytest.MonkeyPatch
) -> None:
    from routecache_middleware.dialects.openai_chat import OpenAIChat  # noqa: PLC0415 - patched

    for name in ("judge", "to_stream", "to_json"):
        async with House(ears, ScriptedApp(ANSWER)) as house:
            if hasattr(OpenAIChat, name):
                monkeypatch.setattr(OpenAIChat, name, fail)
            await house.ask(BODY)
            await settle()
            await house.ask(STREAM)
        monkeypatch.undo()


# Clients that share, leave, or refuse what is not there.


@pytest.mark.parametrize("leave_at", [None, 0, 1, 2])
@pytest.mark.parametrize("is_stream", [False, True], ids=["json", "stream"])
async def test_clients_that_share_an_answer_and_leave(
    leave_at: int | None,
    is_stream: bool,  # noqa: FBT001 - a parameter of the table
    ears: Ears,
) -> None:
    answer, body = (STREAMED, STREAM) if is_stream else (ANSWER, BODY)
    app = ScriptedApp(answer, is_stepped=True)
    async with House(ears, app) as house:
        clients = [house.client(body).start() for _ in range(3)]
        await settle()
        if leave_at is not None:
            await app.call.step(leave_at)
            clients[0].disconnect()
            clients[1].cancel()
        await app.call.step(len(answer))
        for client in clients:
            await client.error()
            house.hear(client.response)
    assert len(app.calls) == 1


async def test_a_leader_that_fails_and_its_followers(ears: Ears) -> None:
    for fails_at in (0, 1, 2):
        app = ScriptedApp(STREAMED, is_stepped=True, fails_at=fails_at)
        async with House(ears, app) as house:
            clients = [house.client(STREAM).start() for _ in range(3)]
            for _ in range(20):
                await settle()
                await app.call.step(len(STREAMED))
            for client in clients:
                error = await client.error()
                ears.hear("what a client's request raises", f"{error} {error!r}")
                house.hear(client.response)


@pytest.mark.parametrize("dialect", APIS)
async def test_only_if_cached(dialect: str, ears: Ears) -> None:
    """The answer is of our own making, and so it is heard whole."""
    api = APIS[dialect]
    async with House(ears, ScriptedApp(ANSWER)) as house:
        wanted = [(b"cache-control", b"only-if-cached")]
        for body in (json.dumps(api.asks[0]).encode(), planted("broken json").encode()):
            got = await house.ask(body, headers=wanted, path=api.path)
            assert got.status == 504
            ears.hear("our own answer", got.body)


@pytest.mark.parametrize("mode", Mode)
async def test_modes(mode: Mode, ears: Ears) -> None:
    answers = [ANSWER, json_answer(completion(content=prose("refusal")))]
    async with House(ears, ScriptedApp(*answers), mode=mode) as house:
        for _ in range(3):
            await house.ask(BODY)
            await house.ask(STREAM)


async def test_overrides_and_namespaces(ears: Ears) -> None:
    """What a body says to the cache is the caller's, too."""
    policy = CachePolicy(overrides=(Override(models=frozenset({"gpt-*"}), ttl_s=5.0),))
    asked = {**CHAT, "cache": {"namespace": planted("tenant"), "ttl": 5, "x": prose("prompt")}}
    async with House(ears, ScriptedApp(ANSWER), policy=policy) as house:
        for _ in range(2):
            await house.ask(json.dumps(asked).encode())
            plain = {name: value for name, value in asked["cache"].items() if name != "x"}
            await house.ask(json.dumps({**asked, "cache": plain}).encode())


# The library.


async def test_the_library(ears: Ears) -> None:
    tenant, tag, query = planted("tenant"), planted("tag"), planted("prompt")
    async with House(ears, ScriptedApp(ANSWER)) as house:
        cache = house.cache
        for call in (cache.route, cache.result, cache.metadata):
            names = ("m", fail_later) if call == cache.metadata else (query, "m", fail_later)
            names = (query, fail_later) if call == cache.route else names
            with pytest.raises(RaisedError):
                await call(*names, tenant=tenant, tags=(tag,))
        await cache.cache_query_result(query, "m", prose("completion").encode(), 1.0, tenant=tenant)
        found = await cache.get_query_result(query, "m", tenant=tenant)
        await cache.cache_routing_decision(query, "m", 1.0, tenant=tenant)
        await cache.cache_model_metadata("m", {"x": prose("capabilities")}, 0, 1.0)
        ears.hear("warming", await cache.warm(["m", "n"], load=fail_later))
        assert found is not None
        ears.hear("repr of a result", replace(found, age_s=0.0))
        for wrong in (
            lambda: cache.result(query, "m", fail_later, tags=tag),
            lambda: cache.result(query, "m", fail_later, ttl_s=float("nan")),
            lambda: cache.result(query, "m", returns_text),
            lambda: cache.warm("m", load=fail_later),
            lambda: cache.warm([], load=fail_later, concurrency=0),
            lambda: cache.invalidate_tenant(tenant, older_than=float("nan")),
        ):
            with pytest.raises((TypeError, ValueError)) as said:
                await wrong()
            ears.hear("an error of the library", said.value)
        await cache.invalidate_query_result(query, "m", tenant=tenant)


async def returns_text() -> Any:
    return prose("completion")
