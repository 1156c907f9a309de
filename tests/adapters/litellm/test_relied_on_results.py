"""What of LiteLLM's insides the cache of answers builds on.

Each test here fails, and says so, when a release changes one of them. Nothing of ours is tested.
"""

import asyncio
import inspect
import weakref
from typing import Any

import litellm
import pytest
from litellm.caching import caching_handler
from litellm.caching.base_cache import BaseCache
from litellm.caching.caching import Cache
from litellm.integrations.custom_logger import CustomLogger
from litellm.litellm_core_utils.litellm_logging import Logging
from litellm.litellm_core_utils.llm_response_utils import convert_dict_to_response
from litellm.litellm_core_utils.model_param_helper import ModelParamHelper
from litellm.types.utils import is_litellm_owned_kwarg

from routecache_middleware.adapters.litellm.results.apis import CALL_TYPES
from routecache_middleware.adapters.litellm.results.messages import EVENTS
from tests.adapters.litellm.asking import until
from tests.adapters.litellm.provider import Answer, Provider

Json = dict[str, Any]


class Backend(BaseCache):
    async def async_set_cache_pipeline(self, cache_list: Any, **kwargs: Any) -> None: ...


class Watching(Cache):
    """Notes what LiteLLM asks its cache."""

    def __init__(self) -> None:
        super().__init__(type="local", max_messages=None, _backend=Backend())
        self.asked: list[Json] = []
        self.added: list[tuple[Any, Json]] = []

    async def async_get_cache(self, dynamic_cache_object: Any = None, **kwargs: Any) -> Any:
        self.asked.append(kwargs)

    async def async_add_cache(
        self, result: Any, dynamic_cache_object: Any = None, **kwargs: Any
    ) -> None:
        self.added.append((result, kwargs))

    async def async_add_cache_pipeline(
        self, result: Any, dynamic_cache_object: Any = None, **kwargs: Any
    ) -> None:
        self.added.append((result, kwargs))


class Key(str):
    __slots__ = ()


class Marking(CustomLogger):
    """Gives each call a key before LiteLLM asks its cache, as our hook does."""

    def __init__(self) -> None:
        super().__init__()
        self.given = Key("")
        self.seen: list[Json] = []
        self.failed: list[Any] = []

    async def async_pre_call_deployment_hook(self, kwargs: Json, call_type: Any) -> Json:
        self.seen.append(kwargs)
        return {**kwargs, "cache_key": self.given, "caching": True}

    async def async_post_call_failure_deployment_hook(
        self, request_data: Any, exception: Any, call_type: Any
    ) -> None:
        self.failed.append(request_data)


@pytest.fixture
def cache() -> Watching:
    litellm.cache = made = Watching()
    return made


@pytest.fixture
def marking() -> Marking:
    made = Marking()
    litellm.callbacks.append(made)
    return made


def arguments(provider: Provider, **more: Any) -> Json:
    messages = [{"role": "user", "content": "hello"}]
    base = {"model": "openai/m", "messages": messages, "api_base": provider.url, "api_key": "none"}
    return {**base, **more}


async def test_the_hook_comes_before_the_lookup_and_its_key_goes_to_the_write(
    provider: Provider, cache: Watching, marking: Marking
) -> None:
    await litellm.acompletion(**arguments(provider, caching=False))
    assert len(cache.asked) == 1, "caching=True of the hook no longer wins"
    assert "litellm_logging_obj" in cache.asked[0]
    await until(lambda: bool(cache.added))
    result, kwargs = cache.added[0]
    assert isinstance(result, str), "an answer is no longer handed over as JSON"
    assert kwargs["cache_key"] is marking.given, "the write no longer has the very key of the hook"


async def test_an_empty_key_is_asked_for_with_all_arguments(
    provider: Provider, cache: Watching, marking: Marking, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Positional ones included: that is how the whole request is seen."""
    seen: list[Json] = []

    def get_cache_key(**kwargs: Any) -> str:
        seen.append(kwargs)
        return Key("known")

    monkeypatch.setattr(cache, "get_cache_key", get_cache_key)
    given = arguments(provider)
    await litellm.acompletion(given.pop("model"), given.pop("messages"), None, **given)
    assert {"model", "messages", "functions", "litellm_call_id"} <= seen[0].keys()
    assert type(cache.asked[0]["cache_key"]) is Key, "the lookup no longer has the very key"


async def test_the_hook_runs_in_the_context_of_the_lookup(
    provider: Provider, cache: Watching, marking: Marking, monkeypatch: pytest.MonkeyPatch
) -> None:
    tasks: list[Any] = []

    async def note(kwargs: Json, call_type: Any) -> Json:
        tasks.append(asyncio.current_task())
        return {**kwargs, "caching": True}

    async def get(**_: Any) -> None:
        tasks.append(asyncio.current_task())

    monkeypatch.setattr(marking, "async_pre_call_deployment_hook", note)
    monkeypatch.setattr(cache, "async_get_cache", get)
    await litellm.acompletion(**arguments(provider))
    assert tasks[0] is tasks[1]


@pytest.mark.parametrize("more", [{}, {"stream_options": {"include_usage": True}}])
async def test_a_streams_write_has_the_key_of_the_hook(
    provider: Provider, cache: Watching, marking: Marking, more: Json
) -> None:
    async for _ in await litellm.acompletion(**arguments(provider, stream=True, **more)):
        pass
    await until(lambda: bool(cache.added))
    assert cache.added[0][1]["cache_key"] is marking.given


async def test_without_a_lookup_a_streams_write_has_no_key(
    provider: Provider, cache: Watching, marking: Marking
) -> None:
    """Why ``no-cache`` is taken out before LiteLLM sees it. If this fails it need not be."""
    async for _ in await litellm.acompletion(
        **arguments(provider, stream=True, cache={"no-cache": True})
    ):
        pass
    await until(lambda: bool(cache.added))
    assert "cache_key" not in cache.added[0][1]


async def test_embeddings_ask_per_input_with_the_key_alone(
    provider: Provider, cache: Watching, marking: Marking
) -> None:
    given = {"model": "openai/e", "input": ["a", "b"], "api_base": provider.url, "api_key": "none"}
    await litellm.aembedding(**given)
    assert [set(asked) for asked in cache.asked] == [{"cache_key"}] * 2
    await until(lambda: bool(cache.added))
    result, kwargs = cache.added[0]
    assert kwargs["cache_key"] is marking.given
    assert len(result.data) == 2


async def test_litellm_reads_back_its_own_form_of_an_embedding(
    provider: Provider, cache: Watching, marking: Marking
) -> None:
    given = {"model": "openai/e", "input": ["a"], "api_base": provider.url, "api_key": "none"}
    await litellm.aembedding(**given)
    await until(lambda: bool(cache.added))
    result, kwargs = cache.added[0]
    made = cache.add_embedding_response_to_cache(result, "a", dict(kwargs), 0)
    assert len(made) == 3
    assert made[1]["response"]["embedding"] == result.data[0]["embedding"]
    assert caching_handler._current_format_embedding_entry(made[1]["response"]) is not None


async def test_the_failure_hook_gets_the_arguments_with_the_key(
    provider: Provider, cache: Watching, marking: Marking
) -> None:
    provider.script(Answer(status=500))
    with pytest.raises(litellm.InternalServerError):
        await litellm.acompletion(**arguments(provider, max_retries=0))
    assert marking.failed[0]["cache_key"] is marking.given


@pytest.mark.parametrize("is_stream", [False, True])
async def test_messages_and_responses_hand_the_key_on_too(
    provider: Provider, cache: Watching, marking: Marking, *, is_stream: bool
) -> None:
    base = {"api_key": "none", "stream": is_stream}
    messages = [{"role": "user", "content": "hello"}]
    answers = [
        await litellm.anthropic_messages(
            model="anthropic/claude-sonnet-4-5",
            messages=messages,
            max_tokens=9,
            api_base=provider.origin,
            **base,
        ),
        await litellm.aresponses(model="openai/m", input="x", api_base=provider.url, **base),
    ]
    if is_stream:
        for answer in answers:
            async for _ in answer:
                pass
    await until(lambda: len(cache.added) == 2)
    for _, kwargs in cache.added:  # a stream is written under what the lookup was given
        assert (type(kwargs["cache_key"]) is Key) is not is_stream
    if is_stream:
        assert any(EVENTS in result for result, _ in cache.added)


async def test_a_router_says_which_deployment_it_has_picked(
    provider: Provider, marking: Marking
) -> None:
    """Where, and that its ``caching=False`` can be told from nothing else."""
    params = {"model": "openai/m", "api_base": provider.url, "api_key": "none"}
    router = litellm.Router(
        model_list=[{"model_name": "g", "litellm_params": params, "model_info": {"id": "d"}}]
    )
    messages = [{"role": "user", "content": "hello"}]
    await router.acompletion(model="g", messages=messages)
    await router.aresponses(model="g", input="hello")
    chat, responses = marking.seen
    for kwargs, name in ((chat, "metadata"), (responses, "litellm_metadata")):
        assert kwargs[name]["deployment_model_name"] == "g"
        assert kwargs[name]["model_info"]["id"] == "d"
        assert kwargs[name]["api_base"] == provider.url
        assert kwargs["model"].endswith("m")
    assert chat["caching"] is False


async def test_credentials_of_the_caller_are_marked(provider: Provider, marking: Marking) -> None:
    params = {"model": "openai/m", "api_base": provider.url, "api_key": "none"}
    router = litellm.Router(model_list=[{"model_name": "g", "litellm_params": params}])
    messages = [{"role": "user", "content": "hello"}]
    await router.acompletion(model="g", messages=messages, api_key="mine")
    info = marking.seen[0]["metadata"]["model_info"]
    assert info.get("original_model_id") is not None


async def test_text_completions_cannot_be_replayed_as_a_stream(provider: Provider) -> None:
    """Why streamed ones are left alone. If this fails they need not be."""
    choice = {"text": "x", "index": 0, "finish_reason": "stop"}
    stored = {"id": "1", "object": "text_completion", "choices": [choice], "model": "m"}
    replayed = convert_dict_to_response.convert_to_streaming_response_async(stored)
    with pytest.raises(KeyError, match="message"):
        await anext(replayed)


def test_the_cache_takes_a_backend_and_no_limit_of_messages() -> None:
    parameters = inspect.signature(Cache.__init__).parameters
    assert {"_backend", "max_messages", "supported_call_types", "type"} <= parameters.keys()


def test_the_call_types_that_we_name_are_litellms() -> None:
    known = {"atext_completion", "aembedding", "aresponses", "anthropic_messages", "acompletion"}
    assert known < set(CALL_TYPES)
    assert {one.value for one in litellm.types.utils.CallTypes} >= known


def test_parameters_of_apis_and_of_litellm_can_be_told_apart() -> None:
    params = ModelParamHelper.get_all_llm_api_params()
    assert {"messages", "tools", "seed", "thinking", "input", "system"} <= params
    assert is_litellm_owned_kwarg("litellm_call_id")
    assert is_litellm_owned_kwarg("cache_key")
    assert not is_litellm_owned_kwarg("extra_body")
    assert not is_litellm_owned_kwarg("a_parameter_of_next_year")


def test_the_events_of_a_stream_stand_where_we_look() -> None:
    assert EVENTS == caching_handler.CACHED_STREAM_EVENTS_KEY


async def test_a_stream_wrapper_knows_whether_there_was_a_finish_reason(
    provider: Provider, cache: Watching, marking: Marking
) -> None:
    stream = await litellm.acompletion(**arguments(provider, stream=True))
    assert (stream.received_finish_reason, stream.intermittent_finish_reason) == (None, None)
    handler = stream.logging_obj.llm_caching_handler
    assert handler.request_kwargs["cache_key"] is marking.given
    assert handler.preset_cache_key
    async for _ in stream:
        pass
    assert stream.received_finish_reason == "stop"
    assert "finish_reason_handler" in vars(type(stream))


def test_a_call_can_be_watched_until_nobody_holds_it() -> None:
    assert weakref.ref(Logging.__new__(Logging)) is not None
