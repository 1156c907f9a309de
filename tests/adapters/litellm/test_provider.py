"""The scripted provider speaks what the SDKs understand, and LiteLLM is left as it was."""

import time
from typing import Any

import anthropic
import httpx
import litellm
import openai
import pytest

from tests.adapters.litellm.provider import Answer, Provider, ToolCall
from tests.adapters.litellm.vectors import embed

_ASK: Any = [{"role": "user", "content": "what is the time"}]
_TOOL = ToolCall(name="clock", arguments='{"zone": "UTC"}')


def _openai(provider: Provider) -> openai.OpenAI:
    return openai.OpenAI(base_url=provider.url, api_key="k", max_retries=0)


def test_starts_at_once() -> None:
    begun_s = time.monotonic()
    with Provider() as provider:
        assert provider.url.endswith("/v1")
    assert time.monotonic() - begun_s < 0.5


def test_two_answers_never_look_alike(provider: Provider) -> None:
    with _openai(provider) as client:
        texts = [
            client.chat.completions.create(model="m", messages=_ASK).choices[0].message.content
            for _ in range(2)
        ]
    assert texts[0] != texts[1]
    assert provider.count("/chat/completions") == 2


def test_streams_chat_with_tool_calls_and_usage(provider: Provider) -> None:
    provider.script(Answer(tool_calls=(_TOOL,), usage=(5, 7)))
    with _openai(provider) as client:
        chunks = list(
            client.chat.completions.create(
                model="m",
                messages=_ASK,
                stream=True,
                stream_options={"include_usage": True},
            )
        )
    calls = [c.choices[0].delta.tool_calls for c in chunks if c.choices]
    arguments = "".join(c[0].function.arguments or "" for c in calls if c and c[0].function)
    assert arguments == _TOOL.arguments
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.total_tokens == 12


def test_speaks_responses(provider: Provider) -> None:
    with _openai(provider) as client:
        whole = client.responses.create(model="m", input="hi")
        with client.responses.stream(model="m", input="hi") as stream:
            streamed = stream.get_final_response()
    assert whole.output_text.startswith("answer 1")
    assert streamed.output_text.startswith("answer 2")


def test_speaks_anthropic(provider: Provider) -> None:
    provider.always(Answer(text="well then", tool_calls=(_TOOL,)))
    with anthropic.Anthropic(base_url=provider.origin, api_key="k", max_retries=0) as client:
        whole = client.messages.create(model="m", messages=_ASK, max_tokens=9)
        with client.messages.stream(model="m", messages=_ASK, max_tokens=9) as stream:
            streamed = stream.get_final_message()
    assert [block.type for block in whole.content] == ["text", "tool_use"]
    assert streamed.content[1].input == {"zone": "UTC"}  # type: ignore[union-attr]
    assert streamed.stop_reason == "tool_use"


def test_texts_that_look_alike_have_near_vectors(provider: Provider) -> None:
    with _openai(provider) as client:
        answer = client.embeddings.create(model="m", input=["the red cat", "the red cats", "tax"])
    one, near, far = (item.embedding for item in answer.data)
    assert one == pytest.approx(embed("the red cat"), abs=1e-6)
    assert _dot(one, near) > 0.7 > _dot(one, far) + 0.3


def test_failures_delays_and_holds_are_scripted(provider: Provider) -> None:
    provider.script(Answer(status=500), model="broken")
    with _openai(provider) as client:
        with pytest.raises(openai.InternalServerError):
            client.chat.completions.create(model="broken", messages=_ASK)
        provider.script(Answer(abort_after=2))
        with pytest.raises(httpx.RemoteProtocolError):
            list(client.chat.completions.create(model="m", messages=_ASK, stream=True))


async def test_litellm_reaches_it_and_is_left_clean(provider: Provider) -> None:
    litellm.success_callback.append("left over")
    answer = await litellm.acompletion(
        model="openai/m", messages=_ASK, api_base=provider.url, api_key="k"
    )
    assert answer.choices[0].message.content.startswith("answer 1")


def test_nothing_of_the_test_before_is_left() -> None:
    assert "left over" not in litellm.success_callback
    assert litellm.cache is None


def _dot(one: list[float], two: list[float]) -> float:
    return sum(a * b for a, b in zip(one, two, strict=True))
