"""What calls that are not async rely on in LiteLLM; each fails when a release changes it."""

import inspect
import threading
from collections.abc import Iterator
from typing import Any

import litellm
import openai
import pytest
from litellm.caching.caching import Cache
from litellm.integrations.custom_logger import CustomLogger

from routecache_middleware.adapters.litellm.sync.routers import holder
from tests.adapters.litellm.provider import Answer, Provider
from tests.adapters.litellm.threads import apart, tidy

# Of the HTTP clients that several threads make at once LiteLLM keeps one, and closes none.
pytestmark = [
    pytest.mark.filterwarnings(
        "ignore:Exception ignored in. <socket.socket:pytest.PytestUnraisableExceptionWarning"
    ),
    pytest.mark.filterwarnings("ignore:Router.cache_responses is deprecated:DeprecationWarning"),
]

Asked = list[dict[str, Any]]


class Recording(Cache):
    """Finds nothing, and remembers what it was asked."""

    def __init__(self) -> None:
        super().__init__(type="local")
        self.gets: Asked = []
        self.puts: Asked = []
        self.results: list[Any] = []

    def get_cache(self, **kwargs: Any) -> Any:
        self.gets.append(kwargs)
        self.thread = threading.current_thread()

    def add_cache(self, result: Any, **kwargs: Any) -> None:
        self.results.append(result)
        self.puts.append(kwargs)

    def get_cache_key(self, **kwargs: Any) -> str:
        return "ours"


@pytest.fixture
def cache() -> Iterator[Recording]:
    recording = Recording()
    litellm.cache = recording
    with tidy():
        yield recording


@pytest.fixture
def asked(provider: Provider) -> dict[str, Any]:
    return {
        "model": "openai/gpt-4o",
        "messages": [{"role": "user", "content": "hi"}],
        "api_base": provider.url,
        "api_key": "none",
        "max_retries": 0,
    }


def test_lookup_and_write_have_the_call_id_and_run_in_the_callers_thread(
    cache: Recording, asked: dict[str, Any]
) -> None:
    litellm.completion(**asked)
    [get], [put] = cache.gets, cache.puts
    assert get["litellm_call_id"] == put["litellm_call_id"] != ""
    assert get["litellm_logging_obj"].call_type == "completion"
    assert cache.thread is threading.current_thread()


def test_a_streams_answer_is_brought_with_the_key_that_was_asked_for_before(
    cache: Recording, asked: dict[str, Any]
) -> None:
    chunks = list(litellm.completion(**asked, stream=True))
    assert chunks
    [get], [put] = cache.gets, cache.puts
    assert get["cache_key"] == put["cache_key"] == "ours"
    assert get["litellm_call_id"] == put["litellm_call_id"]


@pytest.mark.parametrize(
    ("function", "subject"),
    [
        ("completion", "messages"),
        ("text_completion", "prompt"),
        ("embedding", "input"),
        ("responses", "input"),
    ],
)
def test_each_kind_of_call_has_its_subject_and_names_itself(
    cache: Recording, asked: dict[str, Any], function: str, subject: str
) -> None:
    messages = asked.pop("messages")
    value = messages if subject == "messages" else "hi"
    getattr(litellm, function)(**asked, **{subject: value})
    first = cache.gets[0]
    assert subject in first
    assert first["litellm_logging_obj"].call_type == function


def test_a_chat_inside_another_call_shares_its_id_but_not_its_subject(
    cache: Recording, asked: dict[str, Any]
) -> None:
    del asked["messages"]
    litellm.text_completion(**{**asked, "model": "deepseek/chat"}, prompt="hi")
    outer, inner = cache.gets
    assert outer["litellm_call_id"] == inner["litellm_call_id"]
    assert "prompt" in outer
    assert "messages" not in outer
    assert "messages" in inner
    assert "prompt" not in inner
    assert ["prompt" in put for put in cache.puts] == [False, True]


def test_arguments_given_by_position_stand_behind_the_logging_object(
    cache: Recording, asked: dict[str, Any]
) -> None:
    del asked["messages"]
    litellm.text_completion("hi", asked.pop("model"), **asked)
    names = list(cache.gets[0])
    assert names.index("prompt") > names.index("litellm_logging_obj")
    litellm.text_completion(prompt="hi", model="openai/gpt-4o", **asked)
    names = next(list(one) for one in cache.gets[2:] if "prompt" in one)
    assert names.index("prompt") < names.index("litellm_logging_obj")


@pytest.mark.parametrize("is_stream", [False, True])
def test_a_failure_is_told_with_the_call_id(
    cache: Recording, asked: dict[str, Any], provider: Provider, *, is_stream: bool
) -> None:
    told = threading.Event()

    class Failures(CustomLogger):
        ids: tuple[str, ...] = ()
        thread: threading.Thread | None = None

        def log_failure_event(
            self, kwargs: Any, response_obj: Any, start_time: Any, end_time: Any
        ) -> None:
            self.ids = (*self.ids, kwargs["litellm_call_id"])
            self.thread = threading.current_thread()
            told.set()

    failures = Failures()
    litellm.callbacks.append(failures)
    provider.script(Answer(abort_after=2) if is_stream else Answer(status=500))
    with pytest.raises(openai.APIError):
        list(litellm.completion(**asked, stream=is_stream))
    assert told.wait(10)
    assert failures.ids == (cache.gets[0]["litellm_call_id"],)
    if not is_stream:
        assert failures.thread is threading.current_thread()


def test_before_the_provider_is_asked_the_callback_learns_of_it(
    cache: Recording, asked: dict[str, Any]
) -> None:
    class Calls(CustomLogger):
        ids: tuple[str, ...] = ()

        def log_pre_api_call(self, model: Any, messages: Any, kwargs: Any) -> None:
            self.ids = (*self.ids, kwargs["litellm_call_id"])

    calls = Calls()
    litellm.callbacks.append(calls)
    litellm.completion(**asked, cache={"no-cache": True})
    assert not cache.gets
    assert calls.ids == (cache.puts[0]["litellm_call_id"],)


def test_a_router_passes_its_cache_responses_on(cache: Recording, asked: dict[str, Any]) -> None:
    messages = asked.pop("messages")
    router = litellm.Router(model_list=[{"model_name": "m", "litellm_params": asked}])
    kind, name = holder()
    assert vars(kind)[name] is False, "Routers keep their cache_responses elsewhere now"
    apart(router.completion, "m", messages)
    assert not cache.gets
    router.cache_responses = True
    apart(router.completion, "m", messages)
    assert cache.gets[0]["caching"] is True


def test_the_cache_is_asked_by_the_names_that_we_define() -> None:
    for name in ("get_cache", "add_cache", "get_cache_key"):
        assert inspect.isfunction(getattr(Cache, name)), f"Cache.{name} is gone"
