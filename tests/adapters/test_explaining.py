"""What would become of a request, and why: said without doing it (issue 5.3)."""

import json
from typing import Any

import pytest

from routecache_middleware import CachePolicy, LLMRequest, RouteCacheMiddleware
from routecache_middleware.adapters.asgi import RequestExplanation
from routecache_middleware.core.choices import Mode
from routecache_middleware.core.models import Outcome
from routecache_middleware.core.override import Override
from routecache_middleware.testing.clock import FakeClock
from tests.adapters.conftest import Gateway
from tests.support.apps import ScriptedApp, json_answer, sse_answer
from tests.support.asgi import KEY, PATH, Client, Pair, fetch, settle
from tests.support.chat import ask, chunks, completion

OTHER = (b"authorization", b"Bearer key-2")
PLAIN = ask()


async def why(mw: RouteCacheMiddleware, body: bytes = PLAIN, **more: Any) -> RequestExplanation:
    """Explain a request of the usual caller."""
    return await mw.explain(body=body, **{"path": PATH, "headers": [KEY], **more})


# What it says is what happens.

Case = tuple[bytes, list[Pair]]

CASES: dict[str, Case] = {
    "plain": (ask(), [KEY]),
    "again": (ask(), [KEY]),
    "other caller": (ask(), [OTHER]),
    "nobody": (ask(), []),
    "stream": (ask(stream=True), [KEY]),
    "stream with usage": (ask(stream=True, stream_options={"include_usage": True}), [KEY]),
    "hot": (ask(temperature=1.5), [KEY]),
    "store": (ask(store=True), [KEY]),
    "no-cache": (ask(), [KEY, (b"cache-control", b"no-cache")]),
    "no-store": (ask(), [KEY, (b"cache-control", b"no-store")]),
    "both": (ask(), [KEY, (b"cache-control", b"no-cache, no-store")]),
    "young": (ask(), [KEY, (b"cache-control", b"max-age=0")]),
    "younger": (ask(), [KEY, (b"cache-control", b"max-age=5")]),
    "only if there": (ask(), [KEY, (b"cache-control", b"only-if-cached")]),
    "only if there, but is not": (ask("never"), [KEY, (b"cache-control", b"only-if-cached")]),
    "only if there, but never is": (b"{", [KEY, (b"cache-control", b"only-if-cached")]),
    "invalid": (b"{", [KEY]),
    "no form": (b"{}", [KEY]),
    "twice": (b'{"model":"m","model":"n","messages":[]}', [KEY]),
    "large": (ask("x" * 3000), [KEY]),
    "encoded": (ask(), [KEY, (b"content-encoding", b"gzip")]),
    "signed": (ask(), [KEY, (b"content-digest", b"x")]),
    "invalid of nobody": (b"{", []),
    "stale will do": (ask(), [KEY, (b"cache-control", b"max-stale")]),
    "fresh for long": (ask(), [KEY, (b"cache-control", b"min-fresh=595")]),
    "as it was": (ask(stream=True), [KEY, (b"cache-control", b"no-transform")]),
    "for a minute": (ask(), [KEY, (b"routecache-ttl", b"60")]),
    "asked in the body": (ask(cache={"use-cache": True}), [KEY]),
    "not wanted in the body": (ask(cache={"use-cache": False}), [KEY]),
    "young in the body": (ask(cache={"s-maxage": 5}), [KEY]),
    "another namespace": (ask(cache={"namespace": "a"}), [KEY]),
    "forbidden": (ask("forbidden"), [KEY]),
    "troublesome": (ask("troublesome"), [KEY]),
    "another model": (ask(model="live"), [KEY]),
}


def decide(request: LLMRequest) -> bool | None:
    """Forbid one prompt, and fail at another."""
    if request.prompt_text == "troublesome":
        raise RuntimeError("no")
    return False if request.prompt_text == "forbidden" else None


SETUPS: dict[str, dict[str, Any]] = {
    "on": {},
    "off": {"mode": "off"},
    "read_only": {"mode": "read_only"},
    "write_only": {"mode": "write_only"},
    "shadow": {"mode": "shadow"},
    "no results": {"result_caching": False},
    "shared": {"tenancy": "shared"},
    "stale": {"result_stale_while_revalidate_s": 100.0, "result_stale_if_error_s": 100.0},
    "alone": {"coalescing": False, "allow_anonymous": True},
    "opt in": {"policy": CachePolicy(opt_in=True)},
    "kept elsewhere": {"policy": CachePolicy(allow_stored=True)},
    "asked": {"policy": CachePolicy(decide=decide)},
    "different": {
        "policy": CachePolicy(
            max_temperature=1.0,
            overrides=(
                Override(models=frozenset({"live"}), is_cached=False),
                Override(ttl_s=5.0, max_temperature=2.0),
            ),
        )
    },
}


@pytest.mark.parametrize("has_router", [False, True])
@pytest.mark.parametrize("setup", SETUPS)
@pytest.mark.parametrize("elapsed_s", [0.0, 10.0, 650.0, 5000.0])
async def test_what_it_says_is_what_happens(
    gateway: Gateway, clock: FakeClock, setup: str, elapsed_s: float, *, has_router: bool
) -> None:
    """Outcome and reason of every request, after the same history, as its response has them."""

    async def router(_: object) -> str:
        return "small"

    app = ScriptedApp()
    mw = gateway(
        app,
        router=router if has_router else None,
        max_request_bytes=2000,
        **SETUPS[setup],
    )
    mw.cache.mode = Mode.ON
    await fetch(mw)
    mw.cache.mode = mw.cache.settings.mode
    clock.advance(elapsed_s)
    for name, (body, headers) in CASES.items():
        before = mw.cache.stats()
        said = await mw.explain(path=PATH, body=body, headers=headers)
        assert mw.cache.stats() == before
        got = await fetch(mw, body, headers=headers)
        await settle()
        if got.outcome is None:  # off: it passed through untouched
            assert (setup, has_router, said.reason) == ("off", False, "disabled")
            continue
        assert ("gets status 504" in said.because) == (got.status == 504), name
        if got.status == 504:
            assert (said.outcome, got.outcome) == ("miss", "MISS")
            continue
        if "router is asked first" in said.because:  # nobody knows what it will say
            assert got.get("x-routecache-decision") == "MISS"
            continue
        assert said.outcome.upper() == got.outcome, (name, said)
        status = got.get("cache-status") or ""
        if said.outcome is Outcome.BYPASS:
            assert f"fwd=bypass; detail={said.reason}" in status, name
        elif said.outcome is Outcome.MISS:
            forward = {"absent": "miss", "expired": "stale", "request": "request"}
            assert f"fwd={forward.get(said.reason, 'miss')}" in status, (name, said)
        else:
            assert "; hit; " in status


async def test_nothing_is_made_counted_or_traced(gateway: Gateway) -> None:
    app = ScriptedApp()
    asked: list[object] = []

    async def router(request: object) -> str:
        asked.append(request)
        return "small"

    mw = gateway(app, router=router)
    before = mw.cache.stats()
    for _ in range(2):
        said = await why(mw)
        assert (said.outcome, said.reason) == ("miss", "absent")
        assert "router is asked first" in said.because
    assert (app.calls, asked, mw.cache.stats()) == ([], [], before)
    assert len(mw._parts.identifier._memo) == 0  # what is explained is not taken for seen


async def test_what_counts_is_named(gateway: Gateway) -> None:
    mw = gateway(result_ttl_s=90.0)
    headers = {"Authorization": "Bearer key-1", "OpenAI-Beta": "x", "Cache-Control": "max-age=7"}
    body = ask(temperature=0.5, user="u", something_new=1, stream=True)
    said = await why(mw, body, headers=headers, query_string=b"api_key=sk-query")
    assert (said.dialect, said.model, said.mode, said.shape) == (
        "openai.chat",
        "m",
        "stream",
        "stream",
    )
    assert said.counted == ("model", "messages", "something_new")
    assert said.sampling == ("temperature",)
    assert said.ignored == ("user", "stream")
    assert said.context == ("dialect", "path", "query", "openai-beta")
    assert said.asked == ("max-age=7",)
    flags = (said.looks_up, said.serves, said.stores, said.shares, said.converts)
    assert flags == (True, True, True, True, True)
    assert said.ttl_s == 90.0


async def test_what_is_stored_is_described(gateway: Gateway, clock: FakeClock) -> None:
    mw = gateway(result_stale_while_revalidate_s=10.0)
    await fetch(mw)
    clock.advance(100.0)
    said = await why(mw)
    assert (said.outcome, said.reason, said.because) == ("hit", "", "The stored answer is served.")
    assert said.answer is not None
    assert (said.answer.state, said.answer.age_s, said.answer.ttl_s) == ("fresh", 100.0, 500.0)
    assert said.answer.size_bytes == len(completion())
    assert (said.answer.shape, said.answer.model) == ("json", "m")
    clock.advance(505.0)
    said = await why(mw)
    assert said.outcome is Outcome.STALE
    assert said.answer is not None
    assert said.answer.ttl_s == -5.0
    await mw.cache.invalidate_all()
    said = await why(mw)
    assert (said.outcome, said.reason) == ("miss", "invalidated")
    assert said.answer is not None
    assert said.answer.state == "invalidated"


async def test_an_answer_of_another_form_is_a_hit_if_it_can_be_made_of_it(gateway: Gateway) -> None:
    """In a thread, too, when it is large; and not when the client forbids it."""
    for limit in (65_536, 0):
        mw = gateway(ScriptedApp(sse_answer(chunks())), hash_in_thread_bytes=limit)
        await fetch(mw, ask(stream=True))
        assert (await why(mw, ask(stream=True))).outcome is Outcome.HIT
        said = await why(mw)
        assert (said.outcome, said.reason) == ("miss", "conversion")  # it carries no usage
        json_first = gateway(ScriptedApp(json_answer()), hash_in_thread_bytes=limit)
        await fetch(json_first)
        assert (await why(json_first, ask(stream=True))).outcome is Outcome.HIT
        kept = [KEY, (b"cache-control", b"no-transform")]
        said = await why(json_first, ask(stream=True), headers=kept)
        assert (said.outcome, said.reason, said.converts) == ("miss", "conversion", False)


async def test_a_call_under_way_would_be_shared(gateway: Gateway, clock: FakeClock) -> None:
    app = ScriptedApp(is_stepped=True)
    mw = gateway(app)
    leader = Client(mw).start()
    await settle()
    said = await why(mw)
    assert (said.outcome, said.is_under_way) == ("coalesced", True)
    said = await why(mw, headers=[KEY, (b"cache-control", b"no-store")])
    assert (said.outcome, said.is_under_way) == ("miss", True)
    assert not (await why(mw, ask("else"))).is_under_way
    await mw.cache.invalidate_model("m")
    assert (await why(mw)).outcome is Outcome.MISS  # its answer is invalidated already
    await app.call.step(2)
    await leader.end()
    assert not (await why(mw)).is_under_way


async def test_explain_knows_the_path_that_overrides_are_for(gateway: Gateway) -> None:
    policy = CachePolicy(
        overrides=(Override(paths=frozenset({"*:streamGenerateContent"}), is_cached=False),)
    )
    mw = gateway(policy=policy)
    body = json.dumps({"contents": [{"parts": [{"text": "q"}]}]}).encode()
    path = "/v1beta/models/g:streamGenerateContent"
    got = await fetch(mw, body, path=path, query_string=b"alt=sse")
    assert got.get("cache-status") == "routecache; fwd=bypass; detail=policy"
    said = await mw.explain(path=path, body=body, query_string=b"alt=sse", headers=dict([KEY]))
    assert (said.outcome, said.reason) == ("bypass", "policy")


@pytest.mark.parametrize(
    "path", ["/x/openai/deployments/d/chat/completions", "/v1/chat/completions"]
)
async def test_a_callable_is_shown_the_same_when_a_request_is_explained(
    gateway: Gateway, path: str
) -> None:
    shown: list[LLMRequest] = []
    mw = gateway(policy=CachePolicy(decide=shown.append))
    body = ask(cache={"ttl": 5})
    await fetch(mw, body, path=path)
    await mw.explain(path=path, body=body, headers=[KEY])
    assert [request.path for request in shown] == [path, path]
    assert shown[0] == shown[1]


async def test_for_only_if_cached_the_router_is_not_asked(gateway: Gateway) -> None:
    asked: list[LLMRequest] = []

    async def router(request: LLMRequest) -> str:
        asked.append(request)
        return "small"

    mw = gateway(router=router)
    headers = [KEY, (b"cache-control", b"only-if-cached")]
    said = await why(mw, headers=headers)
    assert (await fetch(mw, headers=headers)).status == 504
    assert asked == []
    assert "the router is not asked where only" in said.because
    assert "the router is asked first" in (await why(mw)).because
