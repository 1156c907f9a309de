"""Every API, streamed or not: a hit says what the live answer said, and the provider is not asked.

``callbacks: ["routecache_middleware.adapters.litellm.callback"]`` is all that the configuration
says about the cache.
"""

from typing import Any

import pytest

from tests.adapters.litellm.e2e.asking import APIS, TOOLS, Api, outcome
from tests.adapters.litellm.provider import Answer, Provider, ToolCall
from tests.adapters.litellm.proxy import Proxy

_STREAMS = [APIS[name] for name in ("chat", "responses", "messages")]
_CLOCK = ToolCall(name="clock", arguments='{"zone": "Europe/Tallinn"}', id="call_7")
_CLOCK_TOOL = {"name": "clock", "parameters": TOOLS[0]["function"]["parameters"]}


def _tools(api: Api) -> list[dict[str, Any]]:
    if api.name == "messages":
        return [{"name": "clock", "input_schema": _CLOCK_TOOL["parameters"]}]
    if api.name == "responses":
        return [{"type": "function", **_CLOCK_TOOL}]
    return TOOLS


@pytest.fixture(params=list(APIS.values()), ids=lambda api: api.name)
def api(request: pytest.FixtureRequest) -> Api:
    found: Api = request.param
    return found


def test_a_repeated_question_is_answered_from_the_cache(
    api: Api, proxy: Proxy, provider: Provider, key: str
) -> None:
    live = api.ask(proxy, "why is the sky blue", key=key)
    hit = api.ask(proxy, "why is the sky blue", key=key)
    assert provider.count() == 1
    assert hit.plain == live.plain
    assert (outcome(live), outcome(hit)) == ("MISS", "HIT")


@pytest.mark.parametrize("api", _STREAMS, ids=lambda api: api.name)
def test_a_repeated_stream_is_answered_from_the_cache(
    api: Api, proxy: Proxy, provider: Provider, key: str
) -> None:
    live = api.ask(proxy, "count to ten", key=key, stream=True)
    hit = api.ask(proxy, "count to ten", key=key, stream=True)
    assert provider.count() == 1
    assert hit.plain == live.plain
    assert hit.pieces > 2, "a stream stays a stream"
    assert (outcome(live), outcome(hit)) == ("MISS", "HIT")


def test_a_stream_of_text_completions_is_passed_on(
    proxy: Proxy, provider: Provider, key: str
) -> None:
    """LiteLLM would replay it without its text: it takes the answer for a chat completion."""
    api = APIS["text"]
    for number in (1, 2):
        told = api.ask(proxy, "once upon a time", key=key, stream=True)
        assert told.plain["text"].startswith(f"answer {number}")
        assert outcome(told) == "BYPASS"


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize("name", ["chat", "responses", "messages"])
def test_tool_calls_and_usage_are_the_same_on_a_hit(
    name: str, proxy: Proxy, provider: Provider, key: str, *, stream: bool
) -> None:
    api = APIS[name]
    provider.always(Answer(tool_calls=(_CLOCK,), usage=(31, 17)))
    # Tool calls are kept where the request is deterministic: see CachePolicy.cache_tool_calls.
    asked: dict[str, Any] = {"key": key, "stream": stream, "tools": _tools(api)}
    asked["extra_body"] = {"temperature": 0}
    live = api.ask(proxy, "what is the time", **asked)
    hit = api.ask(proxy, "what is the time", **asked)
    assert provider.count() == 1
    assert hit.plain == live.plain
    assert "Europe/Tallinn" in str(hit.plain)
    assert "31" in str(hit.plain)


@pytest.mark.parametrize("is_stream_first", [False, True], ids=["whole-first", "stream-first"])
def test_a_chat_and_its_stream_share_what_was_answered(
    proxy: Proxy, provider: Provider, key: str, *, is_stream_first: bool
) -> None:
    """An answer of one kind serves the other, or each is stored: no third call in any case."""
    api = APIS["chat"]
    for stream in (is_stream_first, not is_stream_first):
        api.ask(proxy, "who shares with whom", key=key, stream=stream)
    calls = provider.count()
    for stream in (is_stream_first, not is_stream_first):
        told = api.ask(proxy, "who shares with whom", key=key, stream=stream)
        assert outcome(told) == "HIT"
    assert provider.count() == calls <= 2


def test_several_choices_come_back(proxy: Proxy, provider: Provider, key: str) -> None:
    api = APIS["chat"]
    live = api.ask(proxy, "three ways to say no", key=key, n=3)
    hit = api.ask(proxy, "three ways to say no", key=key, n=3)
    assert hit.plain == live.plain
    assert len(hit.plain["choices"]) == 3
    assert provider.count() == 1


def test_of_several_texts_only_new_ones_are_embedded(
    proxy: Proxy, provider: Provider, key: str
) -> None:
    api = APIS["embeddings"]
    with proxy.openai(key) as client:
        client.embeddings.create(model="embed", input=["one", "two"])
        live = client.embeddings.create(model="embed", input=["two", "three", "one"])
    assert provider.calls[1].body["input"] == ["three"]
    again = [
        api.ask(proxy, text, key=key).plain["data"][0]["embedding"]
        for text in ("two", "three", "one")
    ]
    assert provider.count() == 2
    assert [item.embedding for item in live.data] == again


def test_the_provider_gets_what_it_would_get_without_a_cache(
    proxy: Proxy, provider: Provider, key: str
) -> None:
    APIS["chat"].ask(proxy, "exactly this", key=key, temperature=0.5, seed=7)
    body = provider.calls[0].body
    assert body == {
        "model": "chat",
        "messages": [{"role": "user", "content": "exactly this"}],
        "temperature": 0.5,
        "seed": 7,
    }


@pytest.mark.parametrize(
    ("one", "other", "is_shared"),
    [
        ({"temperature": 1, "seed": 3}, {"seed": 3.0, "temperature": 1.0}, True),
        ({"user": "ann"}, {"user": "bob"}, True),
        ({"seed": 1}, {"seed": 2}, False),
        ({"extra_body": {"top_k": 1}}, {"extra_body": {"top_k": 2}}, False),
        ({"extra_body": {"unheard_of": 1}}, {"extra_body": {"unheard_of": 2}}, False),
    ],
    ids=["order-and-numbers", "user", "seed", "top-k", "unknown"],
)
def test_what_makes_a_difference(
    one: dict[str, Any],
    other: dict[str, Any],
    proxy: Proxy,
    provider: Provider,
    key: str,
    *,
    is_shared: bool,
) -> None:
    APIS["chat"].ask(proxy, "same or not", key=key, **one)
    APIS["chat"].ask(proxy, "same or not", key=key, **other)
    assert provider.count() == (1 if is_shared else 2)
