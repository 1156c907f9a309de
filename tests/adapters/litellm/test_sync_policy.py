"""The policy holds for calls that are not async as well."""

import logging
from collections.abc import Callable, Iterator
from typing import Any

import litellm
import pytest

from routecache_middleware import CachePolicy, LLMRequest, RouteCache, Settings
from routecache_middleware.adapters.litellm import hub as hubs
from routecache_middleware.core.metrics import REQUESTS
from routecache_middleware.core.override import Override
from routecache_middleware.testing.clock import FakeClock
from tests.adapters.litellm.provider import Answer, Provider, ToolCall
from tests.adapters.litellm.threads import Callers, tidy

pytestmark = [
    pytest.mark.filterwarnings(
        "ignore:Exception ignored in. <socket.socket:pytest.PytestUnraisableExceptionWarning"
    ),
    pytest.mark.filterwarnings("ignore:Router.cache_responses is deprecated:DeprecationWarning"),
]

Json = dict[str, Any]
Install = Callable[..., Callers]
CALL = ToolCall(name="weather", arguments="{}")
TOOLS = [{"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}]


@pytest.fixture(autouse=True)
def answers_alone(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Only what keeps answers is at work."""
    monkeypatch.setattr(hubs, "_PARTS", ("sync", "results"))
    with tidy():
        yield


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def install(provider: Provider, clock: FakeClock) -> Install:
    def put_in(**policy: Any) -> Callers:
        settings = Settings(max_client_ttl_s=policy.pop("max_client_ttl_s", 0.0))
        kept = CachePolicy(**policy)
        # Made elsewhere, and by its URL: so that calls which are not async can use it as well.
        cache = RouteCache(
            url="memory://", settings=settings, policy=kept, clock=clock, observers=[]
        )
        return Callers(provider, hubs.install(cache=cache))

    return put_in


def only(**values: Any) -> Json:
    return {"overrides": (Override(**values),)}


def is_hit(response: Any) -> bool:
    return response._hidden_params.get("cache_hit") is True


def test_a_model_is_not_cached(install: Install) -> None:
    callers = install(**only(models={"openai/live"}, is_cached=False))
    for _ in range(2):
        assert not is_hit(callers.chat(model="openai/live"))
    assert callers.cache.stats().bypasses == {"policy": 2}
    callers.chat()
    callers.stored(1)
    assert is_hit(callers.chat())
    found = callers.cache.metrics()
    assert found.value(REQUESTS, "openai/live", "chat", "bypass") == 2
    assert found.value(REQUESTS, "openai/gpt-4o", "chat", "miss") == 1
    assert found.value(REQUESTS, "openai/gpt-4o", "chat", "hit") == 1
    assert found.value(REQUESTS) == 4


def test_behind_a_router_the_name_that_the_caller_used_counts(install: Install) -> None:
    callers = install(**only(models={"alias"}, is_cached=False))
    router = callers.router("group", model_group_alias={"alias": "group"})
    asked: Json = {"messages": [{"role": "user", "content": "hello"}]}
    for _ in range(2):
        assert not is_hit(router.completion(model="alias", **asked))
    router.completion(model="group", **asked)
    callers.stored(1)
    assert is_hit(router.completion(model="group", **asked))


def test_a_model_has_its_own_lifetime_tools_and_limits(
    install: Install, provider: Provider, clock: FakeClock
) -> None:
    callers = install(
        **only(models={"openai/gpt-4o"}, ttl_s=1_000, max_temperature=0.5, cache_tool_calls=True)
    )
    provider.always(Answer(tool_calls=(CALL,)))
    callers.chat(tools=TOOLS, temperature=0.1)
    callers.stored(1)
    clock.advance(999)
    assert is_hit(callers.chat(tools=TOOLS, temperature=0.1))
    assert not is_hit(callers.chat(tools=TOOLS, temperature=0.9))
    assert callers.cache.stats().bypasses == {"temperature": 1}
    callers.chat(tools=TOOLS, temperature=0.1, model="openai/other")
    assert callers.cache.stats().discards == {"tool-calls": 1}


@pytest.mark.parametrize("is_stream", [False, True])
@pytest.mark.parametrize(
    ("verdict", "count"), [(None, 1), (30, 1), (False, 2), (5, 2), ("odd", 2), (ValueError("x"), 2)]
)
def test_a_callable_has_the_last_word_and_is_asked_once_each(
    install: Install,
    clock: FakeClock,
    caplog: pytest.LogCaptureFixture,
    verdict: Any,
    count: int,
    *,
    is_stream: bool,
) -> None:
    asked: list[LLMRequest] = []

    def decide(request: LLMRequest) -> Any:
        asked.append(request)
        if isinstance(verdict, Exception):
            raise verdict
        return verdict

    callers = install(decide=decide)
    ask = callers.stream if is_stream else callers.chat
    with caplog.at_level(logging.WARNING, "routecache"):
        ask("why?")
        if count == 1 or verdict == 5:
            callers.stored(1)
        clock.advance(10)
        ask("why?")
    assert callers.count == count
    seen = [(one.model, one.dialect, one.path, one.prompt_text, one.mode) for one in asked]
    mode = "stream" if is_stream else "json"
    assert seen == [("openai/gpt-4o", "openai.chat", "", "why?", mode)] * 2
    is_told = isinstance(verdict, str | Exception)
    assert caplog.text.count("decide failed") == is_told
    is_forbidden = is_told or verdict is False
    assert callers.cache.stats().bypasses == ({"policy": 2} if is_forbidden else {})


def test_embeddings_are_shown_whole(install: Install) -> None:
    asked: list[LLMRequest] = []
    callers = install(decide=asked.append)
    litellm.embedding(input=["a", "b"], **callers.arguments())
    (seen,) = asked
    assert (seen.dialect, seen.payload["input"]) == ("openai.embeddings", ["a", "b"])


def test_with_opt_in_only_what_asks_for_it_is_cached(install: Install) -> None:
    callers = install(opt_in=True)
    for _ in range(2):
        callers.chat()
    assert callers.cache.stats().bypasses == {"policy": 2}
    for count, controls in enumerate(({"use-cache": True}, {"ttl": 60}), 1):
        callers.chat(str(count), cache=controls)
        callers.stored(count)
        assert is_hit(callers.chat(str(count), cache=controls))
    assert not is_hit(callers.chat("1", cache={"use-cache": False}))


def test_a_caller_may_ask_for_longer_up_to_the_operators_limit(
    install: Install, clock: FakeClock
) -> None:
    callers = install(max_client_ttl_s=700.0)
    callers.chat(cache={"ttl": 1e9})
    callers.stored(1)
    clock.advance(699)
    assert is_hit(callers.chat())
    clock.advance(1)
    assert not is_hit(callers.chat())
