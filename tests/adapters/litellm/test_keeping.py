"""Only what may be kept is kept, and callers have their say."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from itertools import islice
from typing import Any

import litellm
import pytest

from routecache_middleware import RouteCache
from routecache_middleware.coordinators.memory import MemoryCoordinator
from routecache_middleware.core.settings import Settings
from routecache_middleware.engine.clock import SystemClock
from routecache_middleware.testing.clock import FakeClock
from tests.adapters.litellm import answers
from tests.adapters.litellm import provider as provider_module
from tests.adapters.litellm.asking import (
    Asking,
    answering,
    is_hit,
    passes,
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


# What is kept.


@pytest.mark.parametrize(
    ("answer", "is_kept"),
    [
        (Answer(finish_reason="stop"), True),
        (Answer(finish_reason="length"), True),
        (Answer(finish_reason="content_filter"), False),
        (Answer(text=""), False),
        (Answer(tool_calls=(WEATHER,)), False),
        (Answer(tool_calls=(ToolCall(name="weather", arguments='{"place'),)), False),
    ],
)
async def test_only_complete_and_reusable_answers_are_kept(
    asking: Asking, answer: Answer, *, is_kept: bool
) -> None:
    """Tool calls only of requests that ask for a reproducible answer."""
    asking.provider.always(answer)
    await asking.chat(tools=TOOLS)
    await asking.kept(1)
    await asking.chat(tools=TOOLS)
    assert asking.provider.count() == (1 if is_kept else 2)


@pytest.mark.parametrize(
    "asked",
    [
        {"web_search_options": {}},
        {"store": True},
        {"modalities": ["audio"], "audio": {"voice": "alloy", "format": "wav"}},
        {
            "messages": [
                {
                    "role": "user",
                    "content": [{"type": "image_url", "image_url": {"url": "https://x/y.png"}}],
                }
            ]
        },
    ],
)
async def test_requests_that_a_cache_must_not_answer_are_not_kept(
    asking: Asking, asked: Json
) -> None:
    for _ in range(2):
        await asking.chat(**asked)
    assert asking.provider.count() == 2
    assert asking.stored == 0
    assert sum(asking.hub.cache.stats().bypasses.values()) == 2


async def test_too_hot_requests_are_not_kept(provider: Provider) -> None:
    async with answering(provider, max_temperature=0.5) as asking:
        assert not await passes(asking, temperature=1)
        assert await asking.is_kept(temperature=0.2)


async def test_too_large_answers_are_not_kept(provider: Provider) -> None:
    async with answering(provider, max_result_bytes=200) as asking:
        assert not await asking.is_kept()
        assert asking.hub.cache.stats().discards == {"too-large": 1}


async def test_a_failure_is_not_kept(asking: Asking) -> None:
    asking.provider.script(Answer(status=500))
    with pytest.raises(litellm.InternalServerError):
        await asking.chat(max_retries=0)
    assert not is_hit(await asking.chat(max_retries=0))


async def test_half_a_stream_is_not_kept(asking: Asking) -> None:
    asking.provider.script(Answer(text="one two three four", abort_after=3))
    with pytest.raises(Exception):  # noqa: B017, PT011 - LiteLLM has several
        await asking.stream()
    await asking.stream()
    assert asking.provider.count() == 2


@pytest.mark.parametrize("options", [{}, USAGE])
async def test_a_stream_that_just_stops_is_not_kept(
    asking: Asking, monkeypatch: pytest.MonkeyPatch, options: Json
) -> None:
    """LiteLLM ends it with a ``stop`` of its own, or fails the call, depending on its version."""

    def first_three(*arguments: Any) -> Any:
        return islice(answers.events(*arguments), 3)

    monkeypatch.setattr(provider_module, "events", first_three)
    for _ in range(2):
        with contextlib.suppress(Exception):
            await asking.stream(**options)
    await asyncio.sleep(0.2)
    assert asking.provider.count() == 2
    assert asking.hub.engine.recorder.result.writes == 0
    assert set(asking.hub.cache.stats().discards) <= {"incomplete"}


async def test_former_secrets_still_find_what_was_stored_under_them(provider: Provider) -> None:
    coordinator = MemoryCoordinator(max_bytes=2**20, clock=SystemClock())

    def kept_with(secret: bytes, *former: bytes) -> RouteCache:
        chosen = Settings(secret=secret, previous_secrets=former)
        return RouteCache(coordinator=coordinator, settings=chosen, observers=[])

    old, new = b"o" * 16, b"n" * 16
    async with answering(provider, cache=kept_with(old)) as asking:
        await asking.chat()
        await asking.kept(1)
    async with answering(provider, cache=kept_with(new, old)) as asking:
        assert is_hit(await asking.chat())
    async with answering(provider, cache=kept_with(new)) as asking:
        assert not is_hit(await asking.chat())


async def test_a_stream_that_the_client_leaves_is_not_kept(asking: Asking) -> None:
    stream = await asking.chat("hello", stream=True)
    async for _ in stream:
        break
    await stream.aclose()
    await asking.stream()
    assert asking.provider.count() == 2


async def test_an_invalidation_while_the_answer_is_made_wins(asking: Asking) -> None:
    with asking.provider.held():
        call = asyncio.create_task(asking.chat())
        await asking.provider.called(1)
        await asking.hub.cache.invalidate_model("gpt-4o")
        await asking.hub.cache.invalidate_model("openai/gpt-4o")
    await call
    await asking.kept(1)
    assert not is_hit(await asking.chat())


@pytest.mark.parametrize("name", ["openai/gpt-4o", "gpt-4o"])
async def test_each_name_of_a_model_invalidates(asking: Asking, name: str) -> None:
    """The one that was asked for, and the one that the answer names."""
    await asking.chat()
    await asking.kept(1)
    await asking.hub.cache.invalidate_model(name)
    assert not is_hit(await asking.chat())


# What a caller asks of the cache.


async def test_no_store_stores_nothing(asking: Asking) -> None:
    assert not await passes(asking, cache={"no-store": True})


@pytest.mark.parametrize("is_stream", [False, True])
async def test_no_cache_asks_anew_and_stores(asking: Asking, *, is_stream: bool) -> None:
    async def ask(**more: Any) -> None:
        if is_stream:
            await asking.stream(**more)
        else:
            await asking.chat(**more)

    await ask()
    await asking.kept(1)
    await ask(cache={"no-cache": True})
    await asking.kept(2)
    asking.provider.always("never")
    await ask()
    assert asking.provider.count() == 2
    assert asking.hub.engine.recorder.result.writes == 2


async def test_no_cache_holds_for_a_retry_too(asking: Asking) -> None:
    """LiteLLM's own retry hands on what the first attempt was given."""
    await asking.chat()
    await asking.kept(1)
    asking.provider.script(Answer(status=500))
    answer = await asking.chat(cache={"no-cache": True}, num_retries=1, max_retries=0)
    assert not is_hit(answer)
    assert asking.provider.count() == 3


async def test_the_age_that_is_asked_for_is_respected(provider: Provider) -> None:
    clock = FakeClock()
    cache = RouteCache(url="memory://", clock=clock)
    async with answering(provider, cache=cache) as asking:
        await asking.chat()
        await asking.kept(1)
        clock.advance(10)
        assert is_hit(await asking.chat(cache={"s-maxage": 20}))
        assert not is_hit(await asking.chat(cache={"s-maxage": 5}))


async def test_the_lifetime_that_is_asked_for_is_respected_up_to_the_setting(
    provider: Provider,
) -> None:
    clock = FakeClock()
    cache = RouteCache(url="memory://", clock=clock)
    async with answering(provider, cache=cache) as asking:
        await asking.chat("short", cache={"ttl": 5})
        await asking.chat("long", cache={"ttl": 1e9})
        await asking.kept(2)
        clock.advance(6)
        assert not is_hit(await asking.chat("short", cache={"no-store": True}))
        assert is_hit(await asking.chat("long"))
        clock.advance(601)
        assert not is_hit(await asking.chat("long"))


async def test_a_caller_who_wants_no_caching_gets_none(asking: Asking) -> None:
    assert not await passes(asking, caching=False)
    assert asking.stored == 0


async def test_a_callers_own_cache_key_does_not_bring_two_prompts_together(asking: Asking) -> None:
    await asking.chat("one", cache_key="mine")
    await asking.kept(1)
    assert not is_hit(await asking.chat("two", cache_key="mine"))
    assert is_hit(await asking.chat("one", cache_key="mine"))
    assert not is_hit(await asking.chat("one"))


# Modes.


@pytest.mark.parametrize(
    ("mode", "is_hit_second", "writes"),
    [("on", True, 1), ("off", False, 0), ("write_only", False, 2), ("shadow", False, 1)],
)
async def test_modes(provider: Provider, mode: str, writes: int, *, is_hit_second: bool) -> None:
    async with answering(provider, mode=mode) as asking:
        assert await passes(asking) is is_hit_second
        await until(lambda: asking.hub.engine.recorder.result.writes == writes)
        assert asking.hub.cache.stats().shadow_hits == (1 if mode == "shadow" else 0)


async def test_read_only_serves_and_does_not_store(asking: Asking) -> None:
    await asking.chat()
    await asking.kept(1)
    asking.hub.cache.mode = "read_only"
    assert is_hit(await asking.chat())
    assert not await passes(asking, text="other")
