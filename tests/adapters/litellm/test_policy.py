"""The whole policy holds behind LiteLLM: overrides, a callable, who asked for it, for how long."""

import asyncio
import json
import logging
from collections.abc import Callable
from typing import Any

import pytest

from routecache_middleware import CachePolicy, LLMRequest, RouteCache, Settings
from routecache_middleware.adapters.litellm import hub as hubs
from routecache_middleware.adapters.litellm.options import Options, configure
from routecache_middleware.adapters.litellm.results.apis import api_of
from routecache_middleware.adapters.litellm.results.controls import NO_CONTROLS, read_controls
from routecache_middleware.adapters.litellm.results.keying import Identified, Keyer
from routecache_middleware.adapters.litellm.results.part import Results
from routecache_middleware.core.directives import Directives
from routecache_middleware.core.models import BypassReason, ResponseMode
from routecache_middleware.core.override import Override
from routecache_middleware.core.plan import Bypass
from routecache_middleware.testing.clock import FakeClock
from tests.adapters.litellm.asking import (
    Asking,
    answering,
    complete,
    embed,
    is_hit,
    message,
    passes,
    respond,
    until,
)
from tests.adapters.litellm.provider import Answer, Provider, ToolCall

Json = dict[str, Any]
ROUTE = "user_api_key_request_route"
NOTES: Json = {"user_api_key": "hash", ROUTE: "/v1/chat/completions"}
CALL = ToolCall(name="weather", arguments="{}")
TOOLS = [{"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}]


def only(**values: Any) -> Json:
    return {"overrides": (Override(**values),)}


def bypasses(asking: Asking) -> Json:
    return dict(asking.hub.cache.stats().bypasses)


class Decider:
    """Keeps what it was asked, and says what it is told to say."""

    def __init__(self, verdict: Any = None) -> None:
        self.verdict = verdict
        self.asked: list[LLMRequest] = []

    def __call__(self, request: LLMRequest) -> Any:
        self.asked.append(request)
        return self.verdict


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def timed(clock: FakeClock) -> Callable[..., RouteCache]:
    """A cache with a clock of the test's."""

    def build(policy: Json, **settings: Any) -> RouteCache:
        return RouteCache(
            url="memory://",
            clock=clock,
            settings=Settings(**settings),
            policy=CachePolicy(**policy),
            observers=[],
        )

    return build


# Overrides.


async def test_a_model_is_not_cached(provider: Provider) -> None:
    async with answering(provider, **only(models={"openai/live-*"}, is_cached=False)) as asking:
        assert not await passes(asking, model="openai/live-1")
        assert bypasses(asking) == {"policy": 2}
        assert asking.stored == 0
        assert await asking.is_kept()


@pytest.mark.parametrize(
    ("call_type", "asked"),
    [
        ("embed", lambda asking: embed(asking, "a", "b")),
        ("respond", respond),
        ("message", message),
        ("complete", complete),
    ],
)
async def test_no_api_is_forgotten(
    provider: Provider, call_type: str, asked: Callable[[Asking], Any]
) -> None:
    async with answering(provider, **only(is_cached=False)) as asking:
        for _ in range(2):
            await asked(asking)
        assert provider.count() == 2, call_type
        assert bypasses(asking) == {"policy": 2}, call_type
        assert asking.stored == 0


@pytest.mark.parametrize(("model", "is_kept"), [("alias", False), ("group", True)])
async def test_behind_a_router_the_name_that_the_caller_used_counts(
    provider: Provider, model: str, *, is_kept: bool
) -> None:
    async with answering(provider, **only(models={"alias"}, is_cached=False)) as asking:
        router = asking.router(
            {"group": "group", "model": "openai/gpt-4o"}, model_group_alias={"alias": "group"}
        )
        asked = {"model": model, "messages": [{"role": "user", "content": "hello"}]}
        await router.acompletion(**asked)
        if is_kept:
            await asking.kept(1)
        assert is_hit(await router.acompletion(**asked)) is is_kept


@pytest.mark.parametrize(("forbidden", "is_kept"), [("first", False), ("second", True)])
async def test_after_a_fallback_it_is_still_the_model_that_was_asked_for(
    provider: Provider, forbidden: str, *, is_kept: bool
) -> None:
    async with answering(provider, **only(models={forbidden}, is_cached=False)) as asking:
        router = asking.router(
            {"group": "first", "model": "openai/one", "api_base": "http://127.0.0.1:9/v1"},
            {"group": "second", "model": "openai/two"},
            fallbacks=[{"first": ["second"]}],
        )
        asked = {"model": "first", "messages": [{"role": "user", "content": "hello"}]}
        await router.acompletion(**asked, max_retries=0)
        if is_kept:
            await asking.kept(1)
        assert is_hit(await router.acompletion(**asked, max_retries=0)) is is_kept


async def test_a_caller_cannot_pass_for_having_asked_for_another_model(provider: Provider) -> None:
    """The Router's notes stand among those that a caller may make."""
    forged = dict.fromkeys(("model_group", "original_model_group", "model_group_alias"), "other")
    async with answering(provider, **only(models={"live"}, is_cached=False)) as asking:
        router = asking.router({"group": "live", "model": "openai/m"})
        talk = [{"role": "user", "content": "hello"}]
        for place in ("metadata", "litellm_metadata"):
            await router.acompletion(model="live", messages=talk, **{place: dict(forged)})
            await router.aresponses(model="live", input="hello", **{place: dict(forged)})
        assert bypasses(asking) == {"policy": 4}


@pytest.mark.parametrize(("route", "is_kept"), [("/v1/chat/completions", False), ("/other", True)])
async def test_behind_the_proxy_a_path_counts(
    provider: Provider, route: str, *, is_kept: bool
) -> None:
    policy = only(paths={"/v1/*"}, is_cached=False)
    async with answering(provider, is_proxy=True, **policy) as asking:
        assert await passes(asking, metadata={**NOTES, ROUTE: route}) is is_kept


async def test_a_call_of_the_sdk_has_no_path(provider: Provider) -> None:
    async with answering(provider, **only(paths={"*chat*"}, is_cached=False)) as asking:
        assert await asking.is_kept(metadata=NOTES)


async def test_a_model_has_its_own_lifetime(
    provider: Provider, clock: FakeClock, timed: Callable[..., RouteCache]
) -> None:
    cache = timed(only(models={"openai/gpt-*"}, ttl_s=1_000))
    async with answering(provider, cache=cache) as asking:
        for model in ("openai/gpt-4o", "openai/other"):
            await asking.chat(model=model)
        await asking.chat("less", cache={"ttl": 900})
        await asking.kept(3)
        clock.advance(899)
        assert is_hit(await asking.chat("less"))
        assert not is_hit(await asking.chat(model="openai/other"))
        clock.advance(1)
        assert is_hit(await asking.chat())
        assert not is_hit(await asking.chat("less"))


async def test_temperature_by_model(provider: Provider) -> None:
    async with answering(provider, **only(models={"openai/s*"}, max_temperature=0.5)) as asking:
        assert not await passes(asking, model="openai/strict", temperature=0.9)
        assert bypasses(asking) == {"temperature": 2}
        assert await asking.is_kept(temperature=0.9)


async def test_tool_calls_by_model(provider: Provider) -> None:
    provider.always(Answer(tool_calls=(CALL,)))
    async with answering(provider, **only(models={"openai/t*"}, cache_tool_calls=True)) as asking:
        assert await asking.is_kept(model="openai/tools", tools=TOOLS)
        assert not await asking.is_kept(tools=TOOLS)


async def test_finish_reasons_by_model_of_a_large_answer_too(
    provider: Provider, timed: Callable[..., RouteCache]
) -> None:
    provider.always(Answer(finish_reason="length"))
    cache = timed(only(models={"openai/s*"}, finish_reasons={"stop"}), hash_in_thread_bytes=10)
    async with answering(provider, cache=cache) as asking:
        assert not await asking.is_kept(model="openai/strict")
        await until(lambda: asking.hub.cache.stats().discards == {"finish-reason": 2})
        assert await asking.is_kept()


# A callable.


@pytest.mark.parametrize(
    ("verdict", "is_second_hit"),
    [(None, True), (True, True), (30, True), (False, False), (0, False), (5, False)],
)
async def test_a_callable_has_the_last_word(
    provider: Provider,
    clock: FakeClock,
    timed: Callable[..., RouteCache],
    verdict: object,
    *,
    is_second_hit: bool,
) -> None:
    decide = Decider(verdict)
    async with answering(provider, cache=timed({"decide": decide})) as asking:
        await asking.chat()
        if verdict is not False:
            await until(lambda: asking.stored == 1)
        clock.advance(10)
        assert is_hit(await asking.chat()) is is_second_hit
        assert len(decide.asked) == 2
        assert bypasses(asking) == ({"policy": 2} if verdict is False else {})


async def test_it_sees_the_request(provider: Provider) -> None:
    decide = Decider()
    async with answering(provider, is_proxy=True, decide=decide) as asking:
        await asking.stream("why?", user="u", temperature=0.5, metadata=NOTES, x_odd=[1])
    (seen,) = decide.asked
    assert (seen.model, seen.dialect, seen.mode) == (
        "openai/gpt-4o",
        "openai.chat",
        ResponseMode.STREAM,
    )
    assert (seen.path, seen.prompt_text) == ("/v1/chat/completions", "why?")
    assert len(seen.tenant) == len(seen.query_hash) == 32
    assert seen.payload == {
        "model": "openai/gpt-4o",
        "messages": [{"role": "user", "content": "why?"}],
        "stream": True,
        "temperature": 0.5,
        "user": "u",
        "x_odd": [1],
    }
    assert "why?" not in repr(seen)


async def test_a_call_of_several_inputs_is_one_request(provider: Provider) -> None:
    decide = Decider(verdict=False)
    async with answering(provider, decide=decide) as asking:
        await embed(asking, "a", "b", "c")
        assert bypasses(asking) == {"policy": 1}
    (seen,) = decide.asked
    assert (seen.dialect, seen.payload["input"]) == ("openai.embeddings", ["a", "b", "c"])


@pytest.mark.parametrize(
    ("ask", "dialect"),
    [
        (complete, "openai.completions"),
        (respond, "openai.responses"),
        (message, "anthropic.messages"),
    ],
)
async def test_it_hears_of_each_api_by_its_usual_name(
    provider: Provider, ask: Callable[[Asking], Any], dialect: str
) -> None:
    decide = Decider()
    async with answering(provider, decide=decide) as asking:
        await ask(asking)
    assert [one.dialect for one in decide.asked] == [dialect]
    assert decide.asked[0].path == ""


def raises(_: LLMRequest) -> bool:
    raise RuntimeError("sk-secret why?")


def lies(_: LLMRequest) -> Any:
    return "yes"


@pytest.mark.parametrize("decide", [raises, lies])
async def test_a_callable_that_fails_costs_the_cache_only(
    provider: Provider, caplog: pytest.LogCaptureFixture, decide: Callable[[LLMRequest], Any]
) -> None:
    async with answering(provider, decide=decide) as asking:
        with caplog.at_level(logging.WARNING, "routecache"):
            for _ in range(3):
                assert not is_hit(await asking.chat())
        assert bypasses(asking) == {"policy": 3}
    said = [record.getMessage() for record in caplog.records if record.name == "routecache"]
    assert len(said) == 1
    assert "decide" in said[0]
    assert "secret" not in caplog.text


async def test_a_hit_is_judged_as_well(provider: Provider) -> None:
    """What a callable forbids from now on is not served from now on."""
    decide = Decider()
    async with answering(provider, decide=decide) as asking:
        assert await asking.is_kept()
        decide.verdict = False
        assert not is_hit(await asking.chat())


@pytest.mark.parametrize("verdict", [None, False])
@pytest.mark.parametrize("is_stream", [False, True])
async def test_with_all_parts_at_work_it_is_asked_once_per_call(
    provider: Provider, verdict: object, *, is_stream: bool
) -> None:
    """LiteLLM's logs ask for keys as well."""
    decide = Decider(verdict)
    hubs.install(url="memory://", decide=decide)
    hub = hubs.current()
    assert hub is not None
    try:
        asking = Asking(provider, hub, next(one for one in hub.parts if isinstance(one, Results)))
        for count in (1, 2):
            await (asking.stream() if is_stream else asking.chat())
            if verdict is None:
                await asking.kept(1)
            await asyncio.sleep(0.1)
            assert len(decide.asked) == count
    finally:
        hubs.uninstall()
        await hub.aclose()
    assert provider.count() == (1 if verdict is None else 2)


async def test_switched_off_nobody_is_asked(provider: Provider) -> None:
    decide = Decider()
    async with answering(provider, decide=decide, mode="off") as asking:
        await asking.chat()
        assert bypasses(asking) == {"disabled": 1}
    assert decide.asked == []


async def test_what_was_not_asked_about_is_not_cached_once_it_is_switched_on(
    provider: Provider,
) -> None:
    """Nor is what of one call's inputs comes later than the first."""
    async with answering(provider, decide=Decider(), mode="off") as asking:
        heeding = asking.part.cache._lookups._heeding
        chat = api_of("completion")
        assert chat is not None
        found = asking.part.keyer.identify(chat, asking.arguments(), NO_CONTROLS)
        assert isinstance(found, Identified)
        held = heeding.held(found, NO_CONTROLS)
        assert heeding.plan(found, NO_CONTROLS, held) == Bypass(BypassReason.DISABLED)
        asking.hub.cache.mode = "on"
        assert heeding.plan(found, NO_CONTROLS, held) == Bypass(BypassReason.POLICY)


async def test_a_request_that_cannot_be_shown_is_not_cached(provider: Provider) -> None:
    """What never changes an answer is not looked at otherwise."""
    decide = Decider()
    by = Keyer(Settings(), CachePolicy(decide=decide), Options(), is_proxy=False)
    chat = api_of("completion")
    assert chat is not None
    asked = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}
    for odd in ("\ud800", object(), float("nan")):
        found = by.identify(chat, {**asked, "user": odd}, NO_CONTROLS)
        assert found is BypassReason.INVALID_JSON


def test_what_a_router_would_not_look_at_makes_no_other_query() -> None:
    by = Keyer(Settings(), CachePolicy(decide=Decider()), Options(), is_proxy=False)
    chat = api_of("completion")
    assert chat is not None

    def hashed(**more: Any) -> str:
        asked = {"model": "m", "messages": [{"role": "user", "content": "hi"}], **more}
        found = by.identify(chat, asked, NO_CONTROLS)
        assert isinstance(found, Identified)
        assert found.request is not None
        return found.request.query_hash

    assert hashed(temperature=0.5, stream=True, user="u") == hashed()
    assert len({hashed(), hashed(model="n"), hashed(x=1), hashed(tools=TOOLS)}) == 4


def test_without_a_callable_nothing_is_made_for_it() -> None:
    by = Keyer(Settings(), CachePolicy(), Options(), is_proxy=True)
    chat = api_of("completion")
    assert chat is not None
    asked = {"model": "m", "messages": [{"role": "user", "content": "hi"}], "metadata": NOTES}
    found = by.identify(chat, asked, NO_CONTROLS)
    assert isinstance(found, Identified)
    assert (found.request, found.requested, found.path) == (None, "m", "/v1/chat/completions")
    asked["metadata"] = {"user_api_key": "hash", ROUTE: 5}
    found = by.identify(chat, asked, NO_CONTROLS)
    assert isinstance(found, Identified)
    assert found.path == ""


# What callers ask for.


@pytest.mark.parametrize("controls", [{"use-cache": True}, {"ttl": 60}])
async def test_with_opt_in_only_what_asks_for_it_is_cached(
    provider: Provider, controls: Json
) -> None:
    async with answering(provider, opt_in=True) as asking:
        assert not await passes(asking)
        assert not await passes(asking, cache={"namespace": "n"})
        assert bypasses(asking) == {"policy": 4}
        assert await asking.is_kept(cache=controls)
        assert not is_hit(await asking.chat())


async def test_how_long_an_answer_will_last_is_told_to_whoever_keeps_a_copy(
    provider: Provider,
) -> None:
    async with answering(provider, **only(models={"openai/x"}, ttl_s=70)) as asking:
        asked: dict[str, Json] = {"a": {}, "b": {"model": "openai/x"}, "c": {"cache": {"ttl": 5}}}
        for name, more in asked.items():
            await asking.chat(name, litellm_call_id=name, **more)
        records = [asking.hub.outcomes.of(name) for name in asked]
        assert [record.granted_s for record in records] == [600.0, 70.0, 5.0]


async def test_who_does_not_want_the_cache_gets_none(provider: Provider) -> None:
    async with answering(provider) as asking:
        await asking.chat()
        await asking.kept(1)
        assert not is_hit(await asking.chat(cache={"use-cache": False}))
        assert not await passes(asking, text="other", cache={"use-cache": False})
        assert bypasses(asking) == {"no-store": 3}
        assert asking.stored == 1


def test_the_words_of_the_cache_argument() -> None:
    assert read_controls({"use-cache": True}).is_opted_in is True
    assert read_controls({"use-cache": "yes"}).is_opted_in is None
    none = read_controls({"use-cache": False, "s-maxage": 5}).directives
    assert none == Directives(no_cache=True, no_store=True, max_age_s=5)


async def test_a_caller_may_ask_for_longer_up_to_the_operators_limit(
    provider: Provider, clock: FakeClock, timed: Callable[..., RouteCache]
) -> None:
    cache = timed({}, result_ttl_s=100.0, max_client_ttl_s=200.0)
    async with answering(provider, cache=cache) as asking:
        await asking.chat("long", cache={"ttl": 150})
        await asking.chat("longer", cache={"ttl": 1e9})
        await asking.chat("usual")
        await asking.kept(3)
        clock.advance(149)
        assert not is_hit(await asking.chat("usual", cache={"no-store": True}))
        assert is_hit(await asking.chat("long"))
        clock.advance(50)
        assert not is_hit(await asking.chat("long"))
        assert is_hit(await asking.chat("longer"))
        clock.advance(1)
        assert not is_hit(await asking.chat("longer"))


async def test_what_the_provider_keeps_is_cached_if_the_operator_says_so(
    provider: Provider,
) -> None:
    async with answering(provider, allow_stored=True) as asking:
        assert await asking.is_kept(store=True)
        assert not await passes(asking, store=True, web_search_options={})
        await respond(asking, store=True)
        await asking.kept(2)
        before = provider.count()
        await respond(asking, store=True)
        assert provider.count() == before
        assert bypasses(asking) == {"web-search": 2}


def test_nothing_else_is_allowed_along_with_it() -> None:
    """Why a request is not cached may hide behind ``store``."""
    responses = api_of("responses")
    assert responses is not None
    picture = {"type": "input_image", "image_url": "https://x/y.png"}
    asked = {"model": "m", "input": [{"role": "user", "content": [picture]}], "store": True}
    parsed = responses.parse(asked)
    assert parsed is not None
    assert parsed.bypass is BypassReason.REMOTE_MEDIA


def test_all_of_it_can_be_configured_beside_the_rest() -> None:
    table = {
        "opt_in": True,
        "max_client_ttl_s": 900,
        "overrides": [{"models": ["a*"], "ttl_s": 5}, {"paths": ["/v1/x"], "is_cached": False}],
    }
    found = configure(table, environ={})
    assert found.policy.opt_in
    assert found.settings.max_client_ttl_s == 900
    assert [one.ttl_s for one in found.policy.overrides] == [5, None]
    assert json.dumps(sorted(found.policy.overrides[0].models)) == '["a*"]'
    assert configure({}, environ={}, decide=raises).policy.decide is raises
