"""Answers come back as they were, for each API."""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import litellm
import pytest
from pydantic import BaseModel

from tests.adapters.litellm.asking import (
    Asking,
    answering,
    complete,
    embed,
    is_hit,
    message,
    respond,
    said,
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


async def test_embeddings_that_may_depend_on_one_another_are_left_to_the_provider(
    asking: Asking,
) -> None:
    """With a field of one provider alone; LiteLLM would ask for the rest of a list."""
    for texts in (("a", "b"), ("a", "b"), ("a", "c")):
        await embed(asking, *texts, extra_body={"late_chunking": True})
        await asyncio.sleep(0.05)
    assert [call.body["input"] for call in asking.provider.calls] == [
        ["a", "b"],
        ["a", "b"],
        ["a", "c"],
    ]
    assert asking.stored == 0
    await embed(asking, "a", extra_body={"late_chunking": True})
    await asking.kept(1)
    assert is_hit(await embed(asking, "a", extra_body={"late_chunking": True}))


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
        {"store": None},
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


async def test_a_deployment_may_say_that_its_provider_keeps_no_responses(asking: Asking) -> None:
    router = asking.router({"group": "g", "model": "openai/m", "store": False})
    first = await router.aresponses(model="g", input="hello")
    await asking.kept(1)
    assert (await router.aresponses(model="g", input="hello")).output == first.output
    assert asking.provider.calls[0].body["store"] is False
    assert asking.provider.count() == 1


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
