"""Answers among Routers, rivals and coordinators in trouble."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from typing import Any

import anthropic
import litellm
import openai
import pytest
from litellm.caching.caching import Cache

from routecache_middleware.core.metrics import REQUESTS
from routecache_middleware.core.models import Outcome
from tests.adapters.litellm.asking import (
    Asking,
    answering,
    embed,
    is_hit,
    message,
    networked,
    respond,
    text_of,
    until,
)
from tests.adapters.litellm.provider import Answer, Provider, ToolCall

Json = dict[str, Any]


@pytest.fixture
async def asking(provider: Provider) -> AsyncIterator[Asking]:
    async with answering(provider) as asking:
        yield asking


WEATHER = ToolCall(name="weather", arguments='{"place": "Rome"}')
TOOLS = [{"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}]
USAGE: Json = {"stream_options": {"include_usage": True}}


# Routers.


async def test_a_router_hits_whatever_it_says_about_caching(asking: Asking) -> None:
    router = asking.router({"group": "g", "model": "openai/gpt-4o"})
    for _ in range(2):
        answer = await router.acompletion(model="g", messages=asking.arguments()["messages"])
        await asking.kept(1)
    assert is_hit(answer)


async def test_deployments_of_a_group_share_an_answer(asking: Asking) -> None:
    deployments = [{"group": "g", "model": f"openai/gpt-{n}", "api_key": f"{n}"} for n in range(4)]
    router = asking.router(*deployments)
    for _ in range(12):
        await router.acompletion(model="g", messages=asking.arguments()["messages"])
        await asking.kept(1)
    assert asking.provider.count() == 1


async def test_a_fallbacks_answer_is_kept_under_the_model_that_gave_it(asking: Asking) -> None:
    router = asking.router(
        {"group": "first", "model": "openai/broken"},
        {"group": "second", "model": "openai/works"},
        fallbacks=[{"first": ["second"]}],
        disable_cooldowns=True,
    )
    messages = asking.arguments()["messages"]
    asking.provider.always(Answer(status=500), model="broken")
    await router.acompletion(model="first", messages=messages)
    await asking.kept(1)
    assert is_hit(await router.acompletion(model="second", messages=messages))
    asking.provider.always("well again", model="broken")
    own = await router.acompletion(model="first", messages=messages)
    assert text_of(own) == "well again"


async def test_a_retry_of_the_router_is_kept(asking: Asking) -> None:
    router = asking.router({"group": "g", "model": "openai/m"}, num_retries=2, retry_after=0)
    asking.provider.script(Answer(status=500))
    messages = asking.arguments()["messages"]
    await router.acompletion(model="g", messages=messages)
    await asking.kept(1)
    assert is_hit(await router.acompletion(model="g", messages=messages))
    assert asking.provider.count() == 2


# Nothing of ours reaches the provider.

CALLS: list[Callable[[Asking], Any]] = [
    lambda asking: asking.chat(extra_body={"x": 1}, extra_headers={"X-A": "b"}, user="ann"),
    lambda asking: asking.stream(cache={"no-cache": True}),
    lambda asking: embed(asking, "a", "b"),
    respond,
    message,
]


@pytest.mark.parametrize("call", CALLS)
async def test_the_provider_is_sent_the_same_with_and_without_us(
    provider: Provider, call: Callable[[Asking], Any]
) -> None:
    async with answering(provider) as asking:
        await call(asking)
        litellm.callbacks.remove(asking.hub.callback)
        asking.hub.uninstall()
        await call(asking)
        litellm.callbacks.append(asking.hub.callback)
    ours, bare = provider.calls
    assert ours.body == bare.body
    mine = {name: value for name, value in ours.headers.items() if name != "x-stainless-raw"}
    assert mine.keys() == bare.headers.keys()


async def test_writing_the_same_answer_twice_stores_it_once(asking: Asking) -> None:
    seen: list[Any] = []
    add = asking.part.cache.async_add_cache

    async def twice(result: Any, **kwargs: Any) -> None:
        seen.append(kwargs["cache_key"])
        await add(result, **kwargs)
        await add(result, **kwargs)

    asking.part.cache.__dict__["async_add_cache"] = twice
    await asking.chat()
    await asking.kept(1)
    await asyncio.sleep(0.05)
    assert seen
    assert asking.hub.engine.recorder.result.writes == 1


# Rivals, and leaving.


@pytest.mark.parametrize("is_first", [True, False])
async def test_a_rival_is_replaced_and_named_once(
    provider: Provider, caplog: pytest.LogCaptureFixture, *, is_first: bool
) -> None:
    rival = Cache(type="local")
    if is_first:
        litellm.cache = rival
    with caplog.at_level(logging.WARNING, "routecache"):
        async with answering(provider) as asking:
            litellm.cache = asking.part.cache if is_first else rival
            assert await asking.is_kept()
            assert litellm.cache is asking.part.cache
    assert [record.message.count("rival: stand-back") for record in caplog.records] == [1]
    assert litellm.cache is rival


@pytest.mark.parametrize("is_first", [True, False])
async def test_we_stand_back_when_told_to(
    provider: Provider, caplog: pytest.LogCaptureFixture, *, is_first: bool
) -> None:
    rival = Cache(type="local")
    if is_first:
        litellm.cache = rival
    with caplog.at_level(logging.WARNING, "routecache"):
        async with answering(provider, rival="stand-back") as asking:
            litellm.cache = rival
            await asking.chat()
            await until(lambda: bool(rival.cache.cache_dict))
            assert is_hit(await asking.chat())
            assert asking.stored == 0
            assert asking.hub.cache.stats().bypasses == {"disabled": 2}
    assert [record.message.count("rival: win") for record in caplog.records] == [1]
    assert litellm.cache is rival


async def test_a_cache_that_was_switched_off_stays_off(asking: Asking) -> None:
    litellm.cache = None
    await asking.chat()
    await asking.chat()
    assert asking.provider.count() == 2


async def test_nothing_is_left_behind(provider: Provider) -> None:
    lists = ("input_callback", "success_callback", "_async_success_callback", "callbacks")
    before = {name: list(getattr(litellm, name)) for name in lists}
    async with answering(provider):
        assert "cache" not in litellm._async_success_callback
        assert litellm.cache is not None
    assert litellm.cache is None
    assert {name: list(getattr(litellm, name)) for name in lists} == before


@pytest.mark.parametrize("is_proxy", [False, True])
async def test_the_cache_is_closed_with_the_proxy(provider: Provider, *, is_proxy: bool) -> None:
    """LiteLLM disconnects its cache when the proxy shuts down, and tells nobody else."""
    async with answering(provider, is_proxy=is_proxy) as asking:
        await asking.hub.cache.open()
        await litellm.cache.disconnect()
        assert asking.hub.engine.is_open() is not is_proxy


# A coordinator in trouble.


@pytest.mark.parametrize("way", ["hangs", "refuses", "raises"])
async def test_a_coordinator_in_trouble_delays_calls_no_longer_than_it_may(
    provider: Provider, way: str
) -> None:
    async with networked() as (faulty, cache), answering(provider, cache=cache) as asking:
        assert await asking.is_kept()
        if way == "hangs":
            faulty.hang()
        else:
            faulty.fail(error=RuntimeError("?") if way == "raises" else None)
        async with asyncio.timeout(5):
            for n in range(4):
                assert text_of(await asking.chat()), n
        assert provider.count() == 5
        assert asking.hub.engine.recorder.result.errors == 4


async def test_a_coordinator_that_cannot_be_opened_is_no_trouble(provider: Provider) -> None:
    async with networked() as (faulty, cache), answering(provider, cache=cache) as asking:
        faulty.hang()
        async with asyncio.timeout(5):
            assert text_of(await asking.chat())


async def test_a_lagging_write_holds_up_nobody(provider: Provider) -> None:
    async with networked() as (faulty, cache), answering(provider, cache=cache) as asking:
        await asking.chat("first")
        await asking.kept(1)
        faulty.hang("store")
        async with asyncio.timeout(5):
            assert text_of(await asking.chat())
            assert text_of(await asking.chat())


async def test_a_fault_of_ours_fails_no_call(
    provider: Provider, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with answering(provider) as asking:

        def broken(*_: Any, **__: Any) -> Any:
            raise ZeroDivisionError("the prompt")

        monkeypatch.setattr(type(asking.part.keyer), "identify", broken)
        with caplog.at_level(logging.WARNING, "routecache"):
            for _ in range(2):
                assert text_of(await asking.chat())
        assert len(caplog.records) == 1
        assert "the prompt" not in caplog.text
        asking.part.cache._told.clear()


# What others read.


async def test_what_became_of_a_call_is_told(asking: Asking) -> None:
    for _ in range(2):
        answer = await asking.chat(litellm_call_id=f"call-{asking.stored}")
        await asking.kept(1)
    assert is_hit(answer)
    miss = asking.hub.outcomes.peek("call-0")
    hit = asking.hub.outcomes.peek("call-1")
    assert miss is not None
    assert hit is not None
    assert (miss.outcome, miss.reason, miss.model) == (Outcome.MISS, "absent", "openai/gpt-4o")
    assert hit.outcome is Outcome.HIT
    assert 0 < hit.ttl_s <= 600


async def test_calls_are_counted_once(asking: Asking) -> None:
    for _ in range(3):
        await asking.chat()
        await asking.kept(1)
    stats = asking.hub.cache.stats().result
    assert (stats.hits, stats.misses, stats.writes, stats.entries) == (2, 1, 1, 1)
    counted = asking.hub.cache.metrics()
    assert counted.value(REQUESTS, "openai/gpt-4o", "chat", "hit") == 2
    assert counted.value(REQUESTS, "openai/gpt-4o", "chat", "miss") == 1
    await asking.chat(cache={"no-cache": True, "no-store": True})
    await embed(asking, "one", "two")
    counted = asking.hub.cache.metrics()
    assert counted.value(REQUESTS, "openai/gpt-4o", "chat", "bypass") == 1
    assert counted.value(REQUESTS, "openai/e", "embeddings") == 1  # of two inputs
    assert counted.value(REQUESTS) == 5


def test_clients_of_providers_are_installed() -> None:
    """The proxy's tests speak through them."""
    assert openai.__version__
    assert anthropic.__version__
