"""Answers come back as they were, for each API, and only those that may be kept are kept."""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Callable
from itertools import islice
from typing import Any

import anthropic
import litellm
import openai
import pytest
from litellm.caching.caching import Cache
from pydantic import BaseModel

from routecache_middleware import RouteCache
from routecache_middleware.coordinators.memory import MemoryCoordinator
from routecache_middleware.core.models import Outcome
from routecache_middleware.core.settings import Settings
from routecache_middleware.engine.clock import SystemClock
from routecache_middleware.testing.clock import FakeClock
from tests.adapters.litellm import answers
from tests.adapters.litellm import provider as provider_module
from tests.adapters.litellm.asking import Asking, answering, is_hit, networked, text_of, until
from tests.adapters.litellm.provider import Answer, Provider, ToolCall

Json = dict[str, Any]


@pytest.fixture
async def asking(provider: Provider) -> AsyncIterator[Asking]:
    async with answering(provider) as asking:
        yield asking


WEATHER = ToolCall(name="weather", arguments='{"place": "Rome"}')
TOOLS = [{"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}]
USAGE: Json = {"stream_options": {"include_usage": True}}


# Chat.


async def test_a_second_equal_call_is_answered_from_the_cache(asking: Asking) -> None:
    first = await asking.chat()
    await asking.kept(1)
    second = await asking.chat()
    assert asking.provider.count() == 1
    assert second.choices == first.choices
    assert second.usage == first.usage
    assert (second.id, second.model) == (first.id, first.model)
    assert is_hit(second)
    assert not is_hit(first)
    assert second._hidden_params["cache_key"].startswith("result:")


async def test_positional_arguments_count_as_others_do(asking: Asking) -> None:
    arguments = asking.arguments("hello", temperature=0.5)
    model, messages = arguments.pop("model"), arguments.pop("messages")
    await litellm.acompletion(model, messages, **arguments)
    await asking.kept(1)
    assert is_hit(await asking.chat("hello", temperature=0.5))
    assert is_hit(await litellm.acompletion(model, messages, **arguments))
    other = [{"role": "user", "content": "other"}]
    assert not is_hit(await litellm.acompletion(model, other, **arguments))


@pytest.mark.parametrize(
    ("call", "arguments"),
    [
        (litellm.aresponses, ("hello", "openai/r")),
        (litellm.aembedding, ("openai/e", ["hello"])),
    ],
    ids=["responses", "embeddings"],
)
async def test_a_positional_prompt_is_left_to_the_provider(
    asking: Asking, call: Callable[..., Any], arguments: tuple[object, ...]
) -> None:
    """On a hit LiteLLM takes the first argument for the model, or misses it, and fails the call."""
    for _ in range(2):
        await call(*arguments, api_base=asking.provider.url, api_key="k")
        await asyncio.sleep(0.05)
    assert asking.provider.count() == 2
    assert asking.stored == 0


async def test_tool_calls_come_back_whole(asking: Asking) -> None:
    asking.provider.always(Answer(tool_calls=(WEATHER,)))
    first = await asking.chat(tools=TOOLS, temperature=0)
    await asking.kept(1)
    second = await asking.chat(tools=TOOLS, temperature=0)
    assert is_hit(second)
    assert second.choices[0].message.tool_calls == first.choices[0].message.tool_calls
    assert second.choices[0].finish_reason == "tool_calls"
    streamed = await asking.stream(tools=TOOLS, temperature=0)
    calls = [call for chunk in streamed for call in chunk.choices[0].delta.tool_calls or ()]
    assert "".join(call.function.arguments or "" for call in calls) == WEATHER.arguments


async def test_several_choices_come_back_in_order(asking: Asking) -> None:
    first = await asking.chat(n=3)
    await asking.kept(1)
    second = await asking.chat(n=3)
    assert is_hit(second)
    assert [choice.index for choice in second.choices] == [0, 1, 2]
    assert second.choices == first.choices


async def test_a_stream_is_answered_by_an_answer_in_one_piece(asking: Asking) -> None:
    first = await asking.chat()
    await asking.kept(1)
    chunks = await asking.stream(**USAGE)
    assert asking.provider.count() == 1
    assert "".join(said(chunk) for chunk in chunks) == text_of(first)
    assert chunks[-1].usage.total_tokens == first.usage.total_tokens


async def test_an_answer_in_one_piece_is_made_of_a_stream_with_usage(asking: Asking) -> None:
    chunks = await asking.stream(**USAGE)
    await asking.kept(1)
    whole = await asking.chat()
    assert is_hit(whole)
    assert text_of(whole) == "".join(said(chunk) for chunk in chunks)
    assert whole.usage.total_tokens == chunks[-1].usage.total_tokens > 0


async def test_usage_that_a_stream_never_carried_is_not_invented(asking: Asking) -> None:
    await asking.stream()
    await asking.kept(1)
    assert len(await asking.stream()) > 1
    assert asking.provider.count() == 1
    whole = await asking.chat()
    assert not is_hit(whole)
    assert whole.usage.total_tokens > 0
    await asking.kept(2)  # and it takes the stream's place
    await asking.stream()
    assert is_hit(await asking.chat())
    assert asking.provider.count() == 2


async def test_a_conversation_of_many_messages_is_kept(asking: Asking) -> None:
    """LiteLLM's own cache stops at four."""
    turns = [{"role": "user" if n % 2 == 0 else "assistant", "content": str(n)} for n in range(9)]
    assert await asking.is_kept(messages=turns)


async def test_a_class_as_response_format_is_kept(asking: Asking) -> None:
    class Answered(BaseModel):
        text: str

    assert await asking.is_kept(response_format=Answered)


async def test_a_large_request_is_hashed_aside_and_kept(provider: Provider) -> None:
    async with answering(provider, hash_in_thread_bytes=100) as asking:
        assert await asking.is_kept("x" * 1000)
        assert not is_hit(await asking.chat("x" * 1001))


# What LiteLLM says of a hit.


async def test_a_hit_costs_nothing_and_says_what_it_saved(asking: Asking) -> None:
    logged = Logged()
    litellm.callbacks.append(logged)
    asking.provider.always(Answer(usage=(1000, 500)))
    for count in (1, 2):
        await asking.chat(model="openai/gpt-4o")
        await until(lambda count=count: len(logged.seen) == count)  # type: ignore[misc]
        await asking.kept(1)
    miss, hit = logged.seen
    assert miss["cache_hit"] is not True
    assert miss["response_cost"] > 0
    assert hit["cache_hit"] is True
    assert hit["response_cost"] == 0
    assert hit["saved_cache_cost"] == pytest.approx(miss["response_cost"])


class Logged(litellm.integrations.custom_logger.CustomLogger):
    def __init__(self) -> None:
        super().__init__()
        self.seen: list[Any] = []

    async def async_log_success_event(
        self, kwargs: Json, response_obj: Any, start_time: Any, end_time: Any
    ) -> None:
        self.seen.append(kwargs["standard_logging_object"])


# Other APIs.


async def complete(asking: Asking, **more: Any) -> Any:
    # A client of the test's own: LiteLLM leaves those that it makes for this API open.
    async with openai.AsyncOpenAI(base_url=asking.provider.url, api_key="none") as client:
        model, given = "text-completion-openai/m", {"prompt": "hello", "client": client, **more}
        answer = await litellm.atext_completion(model=model, api_base=asking.provider.url, **given)
        return [chunk async for chunk in answer] if more.get("stream") else answer


async def test_text_completions_are_kept(asking: Asking) -> None:
    first = await complete(asking)
    await asking.kept(1)
    assert (await complete(asking)).choices[0].text == first.choices[0].text
    await complete(asking, prompt=["hello", "there"])
    assert asking.provider.count() == 2


async def test_streamed_text_completions_are_left_alone(asking: Asking) -> None:
    """LiteLLM cannot replay them, and would fail the call."""
    await complete(asking)
    await asking.kept(1)
    for _ in range(2):
        chunks = await complete(asking, stream=True)
        assert "".join(chunk.choices[0].text or "" for chunk in chunks)
    assert asking.provider.count() == 3


async def embed(asking: Asking, *texts: str, **more: Any) -> Any:
    given = {"api_base": asking.provider.url, "api_key": "none", **more}
    return await litellm.aembedding(model="openai/e", input=list(texts), **given)


async def test_each_input_of_an_embedding_is_kept_for_itself(asking: Asking) -> None:
    first = await embed(asking, "a", "b")
    await asking.kept(2)
    again = await embed(asking, "b", "a")
    assert asking.provider.count() == 1
    assert again.data[0]["embedding"] == first.data[1]["embedding"]
    assert again.usage.total_tokens == first.usage.total_tokens
    mixed = await embed(asking, "a", "c", "b")
    assert asking.provider.calls[-1].body["input"] == ["c"]
    assert [item["index"] for item in mixed.data] == [0, 1, 2]
    assert mixed.data[0]["embedding"] == first.data[0]["embedding"]
    await asking.kept(3)
    await embed(asking, "c")
    assert asking.provider.count() == 2


async def test_the_same_input_twice_is_kept_once(asking: Asking) -> None:
    async with asyncio.timeout(10):
        await embed(asking, "a", "a")
    await asking.kept(1)
    assert (await embed(asking, "a", "a")).data[1]["index"] == 1
    assert asking.provider.count() == 1


async def respond(asking: Asking, **more: Any) -> Any:
    given = {"input": "hello", "api_base": asking.provider.url, "api_key": "none", **more}
    return await litellm.aresponses(model="openai/m", **given)


async def test_responses_are_kept(asking: Asking) -> None:
    first = await respond(asking)
    await asking.kept(1)
    second = await respond(asking)
    assert second.output == first.output
    assert second.usage == first.usage
    kinds = [event.type async for event in await respond(asking, stream=True)]
    assert kinds[0] == "response.created"
    assert kinds[-1] == "response.completed"
    assert asking.provider.count() == 1


async def test_streamed_responses_are_kept(asking: Asking) -> None:
    for _ in range(2):
        async for event in await respond(asking, stream=True):
            last = event
        await asking.kept(1)
    assert last.response.status == "completed"
    assert await respond(asking)
    assert asking.provider.count() == 1


@pytest.mark.parametrize(
    "stateful",
    [
        {"previous_response_id": "r"},
        {"store": True},
        {"background": True},
        {"tools": [{"type": "web_search_preview"}]},
        {
            "input": [
                {"role": "user", "content": [{"type": "input_image", "image_url": "http://x"}]}
            ]
        },
    ],
)
async def test_responses_that_depend_on_more_than_the_request_are_not(
    asking: Asking, stateful: Json
) -> None:
    for _ in range(2):
        await respond(asking, **stateful)
    assert asking.provider.count() == 2
    assert asking.stored == 0


async def message(asking: Asking, **more: Any) -> Any:
    given = {
        "messages": [{"role": "user", "content": "hello"}],
        "max_tokens": 9,
        "api_base": asking.provider.origin,
        "api_key": "none",
        **more,
    }
    return await litellm.anthropic_messages(model="anthropic/claude-sonnet-4-5", **given)


async def test_messages_are_kept(asking: Asking) -> None:
    first = await message(asking)
    await asking.kept(1)
    second = await message(asking)
    assert asking.provider.count() == 1
    assert second["content"] == first["content"]
    assert second["usage"] == first["usage"]


async def test_streamed_messages_come_back_byte_by_byte(asking: Asking) -> None:
    said = [b"".join([chunk async for chunk in await message(asking, stream=True)])]
    await asking.kept(1)
    said.append(b"".join([chunk async for chunk in await message(asking, stream=True)]))
    assert asking.provider.count() == 1
    assert said[0] == said[1]
    assert b"event: message_stop" in said[1]


async def test_messages_answered_by_another_api_are_kept(asking: Asking) -> None:
    for _ in range(2):
        given = {"messages": [{"role": "user", "content": "hello"}], "max_tokens": 9}
        given |= {"api_base": asking.provider.url, "api_key": "none"}
        answer = await litellm.anthropic_messages(model="openai/m", **given)
        await asking.kept(1)
    assert answer["content"][0]["text"]
    assert asking.provider.count() == 1


@pytest.mark.parametrize(
    "more",
    [
        {"tools": [{"type": "web_search_20250305", "name": "web_search"}]},
        {"mcp_servers": [{"type": "url", "url": "http://x", "name": "x"}]},
    ],
)
async def test_messages_with_tools_of_the_provider_are_not_kept(asking: Asking, more: Json) -> None:
    for _ in range(2):
        await message(asking, **more)
    assert asking.provider.count() == 2


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


async def passes(asking: Asking, **arguments: Any) -> bool:
    """Whether the second of two equal calls is answered from the cache."""
    await asking.chat(**arguments)
    await asyncio.sleep(0.05)
    return is_hit(await asking.chat(**arguments))


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
        assert "cache" not in litellm.success_callback
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


def said(chunk: Any) -> str:
    return (chunk.choices[0].delta.content or "") if chunk.choices else ""


def test_clients_of_providers_are_installed() -> None:
    """The proxy's tests speak through them."""
    assert openai.__version__
    assert anthropic.__version__
