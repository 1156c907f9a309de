"""Calls that are not async: answered from the cache, whatever it stands on."""

import asyncio
import contextlib
import os
import signal
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import litellm
import pytest
from litellm.integrations.custom_logger import CustomLogger

from routecache_middleware import RouteCache, Settings
from routecache_middleware.adapters.litellm import hub as hubs
from routecache_middleware.adapters.litellm.options import configure
from routecache_middleware.errors import CoordinatorError
from routecache_middleware.testing.clock import FakeClock
from tests.adapters.litellm import answers
from tests.adapters.litellm import provider as provider_module
from tests.adapters.litellm.provider import Answer, Provider
from tests.adapters.litellm.threads import Callers, apart, tidy
from tests.support.faulty import FaultyCoordinator
from tests.support.fixtures import StartValkey

# Of the HTTP clients that several threads make at once LiteLLM keeps one, and closes none.
pytestmark = [
    pytest.mark.filterwarnings(
        "ignore:Exception ignored in. <socket.socket:pytest.PytestUnraisableExceptionWarning"
    ),
    pytest.mark.filterwarnings("ignore:Router.cache_responses is deprecated:DeprecationWarning"),
]

Install = Callable[..., Callers]


@pytest.fixture(autouse=True)
def answers_alone(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Only what keeps answers is at work."""
    monkeypatch.setattr(hubs, "_PARTS", ("sync", "results"))
    with tidy():
        yield


@pytest.fixture
def install(provider: Provider) -> Install:
    def put_in(**settings: Any) -> Callers:
        return Callers(provider, hubs.install(**{"url": "memory://", **settings}))

    return put_in


@pytest.fixture
async def install_here(install: Install) -> AsyncIterator[Install]:
    """As ``install``, for a test that opens the cache in its own event loop."""
    yield install
    hub = hubs.current()
    hubs.uninstall()
    if hub is not None:
        await hub.aclose()


@pytest.fixture(params=["memory", "lmdb", "redis"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "redis":
        return str(request.getfixturevalue("valkey_url"))
    return "memory://" if request.param == "memory" else f"lmdb://{tmp_path}/cache"


@pytest.fixture
def callers(install: Install, url: str) -> Callers:
    return install(url=url)


def is_hit(response: Any) -> bool:
    return response._hidden_params.get("cache_hit") is True


# -- answers


def test_the_second_of_two_equal_calls_does_not_reach_the_provider(callers: Callers) -> None:
    first = callers.chat()
    callers.stored(1)
    second = callers.chat()
    assert callers.count == 1
    assert not is_hit(first)
    assert is_hit(second)
    assert second.choices[0].message.content == first.choices[0].message.content
    assert second.usage == first.usage
    assert second.id == first.id
    assert second._hidden_params["cache_key"].startswith("result:")
    found = callers.cache.stats().result
    assert (found.hits, found.misses, found.writes) == (1, 1, 1)
    ((_, times),) = callers.cache.engine.recorder.popular.top()
    assert times == 1


@pytest.mark.parametrize("is_first_streamed", [True, False])
def test_streams_and_others_share_an_answer(callers: Callers, *, is_first_streamed: bool) -> None:
    options: dict[str, Any] = {"stream_options": {"include_usage": True}}
    if is_first_streamed:
        text = "".join(c.choices[0].delta.content or "" for c in callers.stream(**options)[:-1])
        callers.stored(1)
        assert callers.say() == text
    else:
        text = callers.say()
        callers.stored(1)
        chunks = callers.stream()
        assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == text
    assert callers.count == 1


def test_a_stream_without_usage_does_not_answer_who_is_owed_it(callers: Callers) -> None:
    callers.stream()
    callers.stored(1)
    callers.stream()
    assert callers.count == 1
    assert callers.chat().usage.total_tokens > 0
    assert callers.count == 2


def calls_of_each_kind(callers: Callers) -> dict[str, Callable[[], Any]]:
    asked = callers.arguments()
    replies = {**asked, "store": False}
    return {
        "text": lambda: litellm.text_completion(prompt="hello", **asked).choices[0].text,
        "text stream": lambda: [
            chunk.choices[0].text
            for chunk in litellm.text_completion(prompt="hi", stream=True, **asked)
        ],
        "embedding": lambda: litellm.embedding(input=["a", "b"], **asked).data[1]["embedding"],
        "one embedding": lambda: litellm.embedding(input="a", **asked).data[0]["embedding"],
        "responses": lambda: litellm.responses(input="hello", **replies).output[0].content[0].text,
        "responses stream": lambda: [
            event.type for event in litellm.responses(input="hi", stream=True, **replies)
        ][-1],
    }


@pytest.mark.parametrize(
    "kind",
    ["text", "text stream", "embedding", "one embedding", "responses", "responses stream"],
)
def test_every_kind_of_call_hits(install: Install, kind: str) -> None:
    callers = install()
    call = calls_of_each_kind(callers)[kind]
    first = call()
    callers.stored(1)
    second = call()
    assert callers.count == 1
    if isinstance(first, list) and kind not in {"embedding", "one embedding"}:
        first, second = "".join(map(str, first)), "".join(map(str, second))
    assert second == first


async def test_async_calls_and_others_share_their_answers(install_here: Install, url: str) -> None:
    callers = install_here(url=url)
    asked = callers.arguments(messages=[{"role": "user", "content": "one"}])
    before = await litellm.acompletion(**asked)
    await asyncio.to_thread(callers.stored, 1)
    after = await asyncio.to_thread(litellm.completion, **asked)
    assert after.choices[0].message.content == before.choices[0].message.content
    said = await asyncio.to_thread(callers.say, "two")
    await asyncio.to_thread(callers.stored, 2)
    asked["messages"] = [{"role": "user", "content": "two"}]
    assert (await litellm.acompletion(**asked)).choices[0].message.content == said
    assert callers.count == 2


async def test_embeddings_asked_for_in_both_ways_do_not_take_each_others_form(
    install_here: Install,
) -> None:
    callers = install_here()
    asked = callers.arguments(input="a")
    for _ in range(2):
        whole = await asyncio.to_thread(litellm.embedding, **asked)
        each = await litellm.aembedding(**asked)
        assert whole.data[0]["embedding"] == each.data[0]["embedding"]
        await asyncio.to_thread(callers.stored, 2)
    assert callers.count == 2


def test_a_call_in_the_thread_of_an_event_loop_does_not_hang_it(callers: Callers) -> None:
    """A mistake that people make: ``litellm.completion`` in an async function."""

    async def ask() -> bool:
        first = callers.say()
        await asyncio.to_thread(callers.stored, 1)
        return callers.say() == first

    assert apart(asyncio.run, ask())
    assert callers.count == 1


@pytest.mark.parametrize("function", ["text_completion", "responses"])
def test_a_prompt_given_by_position_is_not_cached_but_answered(
    install: Install, function: str
) -> None:
    """On a hit LiteLLM takes the first argument for the model, and raises."""
    callers = install()
    asked = callers.arguments()
    model = asked.pop("model")
    for _ in range(2):
        assert getattr(litellm, function)("hello", model, **asked) is not None
    assert callers.count == 2


def test_a_text_that_litellm_asks_for_as_a_chat_is_kept_as_what_it_is(install: Install) -> None:
    """The chat has the same call id: neither may be taken for the other."""
    callers = install()
    asked = callers.arguments(model="deepseek/chat", prompt="hello")
    answers = [litellm.text_completion(**asked) for _ in range(2)]
    assert callers.count == 1
    assert answers[1].choices[0].text == answers[0].choices[0].text
    assert callers.cache.stats().result.writes == 1
    callers.chat(model="deepseek/chat")
    assert callers.count == 2


@pytest.mark.parametrize("is_stream", [False, True])
def test_responses_that_litellm_asks_for_as_a_chat_do_not_fail_the_second_time(
    install: Install, *, is_stream: bool
) -> None:
    """On a hit LiteLLM would take them for a chat, and raise; of streams it keeps the chat."""
    callers = install()
    asked = callers.arguments(model="deepseek/chat", input="hello", stream=is_stream)
    for _ in range(2):
        answer = litellm.responses(**asked)
        assert not is_stream or [event.type for event in answer][-1] == "response.completed"
        time.sleep(0.3)
    assert callers.count == (1 if is_stream else 2)


def test_arguments_in_another_order_are_the_same_call(install: Install) -> None:
    callers = install()
    asked = callers.arguments(
        messages=[{"role": "user", "content": "a"}], temperature=1, user="somebody"
    )
    litellm.completion(**asked)
    litellm.completion(**dict(reversed({**asked, "temperature": 1.0, "user": "else"}.items())))
    messages = asked.pop("messages")
    litellm.completion(asked.pop("model"), [{"content": "a", "role": "user"}], **asked)
    assert messages
    assert callers.count == 1
    callers.chat("a", temperature=0.5)
    assert callers.count == 2


def test_routers_hit_though_they_say_caching_false(install: Install) -> None:
    callers = install()
    router = callers.router("small")
    before, asked = router.cache_responses, [{"role": "user", "content": "hi"}]
    first = apart(router.completion, "small", asked)
    assert before is True
    assert is_hit(apart(router.completion, "small", asked))
    assert not is_hit(first)
    apart(router.embedding, "small", input=["a"])
    apart(router.embedding, "small", input=["a"])
    apart(router.responses, model="small", input="hi", store=False)
    apart(router.responses, model="small", input="hi", store=False)
    assert callers.count == 3


def test_a_fallbacks_answer_is_kept_under_the_model_that_gave_it(install: Install) -> None:
    callers = install()
    router = callers.router("first", "second", fallbacks=[{"first": ["second"]}])
    callers.provider.always(Answer(status=500), model="first-model")
    asked = [{"role": "user", "content": "hi"}]
    apart(router.completion, "first", asked)
    assert callers.provider.count(model="second-model") == 1
    apart(router.completion, "second", asked)
    assert callers.provider.count(model="second-model") == 1
    callers.provider.reset()
    apart(router.completion, "first", asked)
    assert callers.provider.count(model="first-model") == 1


def test_retries_of_a_router_are_answers_like_any_other(install: Install) -> None:
    callers = install()
    router = callers.router("small", num_retries=1, retry_after=0)
    callers.provider.script(Answer(status=500))
    asked = [{"role": "user", "content": "hi"}]
    first = apart(router.completion, "small", asked)
    assert callers.count == 2
    assert apart(router.completion, "small", asked).id == first.id
    assert callers.count == 2


# -- what a caller asks of the cache


def test_caching_false_neither_reads_nor_writes(install: Install) -> None:
    callers = install()
    router = callers.router("small")
    asked = [{"role": "user", "content": "hi"}]
    for _ in range(2):
        callers.chat(caching=False)
        apart(router.completion, "small", asked, caching=False)
    assert callers.count == 4
    assert callers.cache.stats().result.writes == 0


def test_no_cache_makes_a_new_answer_and_keeps_it(callers: Callers) -> None:
    callers.provider.script("old", "new")
    assert callers.say() == "old"
    callers.stored(1)
    assert callers.say(cache={"no-cache": True}) == "new"
    callers.stored(2)
    assert callers.say() == "new"
    assert callers.count == 2


def test_what_was_invalidated_while_a_new_answer_was_made_is_not_kept(install: Install) -> None:
    callers = install()

    def invalidate(_: object) -> Answer:
        apart(asyncio.run, callers.cache.invalidate_model("openai/gpt-4o"))
        return Answer()

    callers.provider.script(invalidate)
    callers.chat(cache={"no-cache": True})
    callers.chat()
    assert callers.count == 2


def test_no_store_keeps_nothing(install: Install) -> None:
    callers = install()
    for _ in range(2):
        callers.chat(cache={"no-store": True})
    assert callers.count == 2


def test_a_lifetime_and_an_age_are_honoured(install: Install) -> None:
    callers = install()
    callers.chat("short", cache={"ttl": 0.05})
    callers.chat("long")
    time.sleep(0.1)
    callers.chat("short")
    callers.chat("long", cache={"s-maxage": 0})
    assert callers.count == 4
    callers.chat("long", cache={"s-maxage": 100})
    assert callers.count == 4


@pytest.mark.parametrize(("mode", "calls"), [("off", 2), ("shadow", 2), ("read_only", 2)])
def test_modes_hold_for_these_calls_as_well(install: Install, mode: str, calls: int) -> None:
    callers = install(mode=mode)
    callers.chat()
    callers.chat()
    assert callers.count == calls
    stats = callers.cache.stats()
    assert stats.result.hits == 0
    assert stats.shadow_hits == (mode == "shadow")
    callers.cache.mode = "on"
    callers.chat()
    assert is_hit(callers.chat())


def test_answers_that_were_filtered_are_not_kept(install: Install) -> None:
    callers = install()
    callers.provider.always(Answer(finish_reason="content_filter"))
    callers.chat()
    callers.chat()
    assert callers.count == 2
    assert callers.cache.stats().result.discards == 2


def test_two_keys_behind_the_proxy_do_not_share(provider: Provider) -> None:
    hub = hubs.start(hubs.Hub(configure(url="memory://"), is_proxy=True))
    callers = Callers(provider, hub.cache)
    for key in ("one", "two", "one", "two"):
        callers.chat(metadata={"user_api_key": key})
    assert callers.count == 2


# -- invalidation


async def test_an_invalidation_counts_at_the_next_lookup(install_here: Install, url: str) -> None:
    callers = install_here(url=url)
    for round_ in range(3):
        await asyncio.to_thread(callers.say)
        await asyncio.to_thread(callers.stored, round_ + 1)
        await callers.cache.invalidate_model("openai/gpt-4o")
        await asyncio.to_thread(callers.say)
        assert callers.count == 2 * (round_ + 1)
        await callers.cache.invalidate_all()


async def test_an_invalidation_that_cannot_be_recorded_counts_all_the_same(
    install_here: Install, start_valkey: StartValkey
) -> None:
    server = start_valkey()
    callers = install_here(url=server.url)
    await callers.cache.open()
    await asyncio.to_thread(callers.say)
    await asyncio.to_thread(callers.stored, 1)
    await asyncio.to_thread(callers.say)
    server.pause()
    with pytest.raises(CoordinatorError):
        await callers.cache.invalidate_model("openai/gpt-4o")
    server.resume()
    await asyncio.to_thread(callers.say)
    assert callers.count == 2


# -- a coordinator that fails


@pytest.mark.parametrize("fault", ["pause", "kill"])
def test_without_its_coordinator_calls_go_on_as_if_there_were_no_cache(
    install: Install, start_valkey: StartValkey, fault: str
) -> None:
    server = start_valkey()
    callers = install(url=server.url)
    callers.chat()
    callers.stored(1)
    getattr(server, fault)()
    for number in range(5):
        began_s = time.monotonic()
        callers.chat(f"other {number}")
        assert time.monotonic() - began_s < 5
    assert callers.count == 6
    if fault == "pause":
        server.resume()
    else:
        server.restart()
    deadline_s = time.monotonic() + 30
    while not is_hit(callers.chat("after")):
        assert time.monotonic() < deadline_s, "it does not come back"
        time.sleep(0.1)


def test_a_server_that_was_never_there_costs_no_call(install: Install) -> None:
    callers = install(url="redis://127.0.0.1:9/0")
    began_s = time.monotonic()
    assert [callers.say() for _ in range(3)]
    assert callers.count == 3
    assert time.monotonic() - began_s < 10


def test_an_lmdb_file_that_its_cache_has_closed_is_opened_again(
    install: Install, tmp_path: Path
) -> None:
    callers = install(url=f"lmdb://{tmp_path}/cache")
    callers.chat()
    callers.stored(1)
    apart(asyncio.run, callers.cache.aclose())
    callers.chat()  # finds it closed
    deadline_s = time.monotonic() + 10
    while not is_hit(callers.chat()):
        assert time.monotonic() < deadline_s
        time.sleep(0.05)


def test_a_coordinator_of_somebody_elses_is_left_to_its_event_loop(
    install: Install, caplog: pytest.LogCaptureFixture
) -> None:
    cache = RouteCache(coordinator=FaultyCoordinator(FakeClock()), settings=Settings())
    callers = install(url=None, cache=cache)
    callers.chat()
    callers.chat()
    assert callers.count == 2
    assert "Name it by url= instead" in caplog.text


# -- forks


def _in_child(run: Callable[[], bool]) -> int:
    """Fork, run something in the child, and return how it ended."""
    child = os.fork()
    if child == 0:  # pragma: no cover - in the child
        code = 3
        try:
            signal.alarm(30)
            code = 0 if run() else 1
        finally:
            os._exit(code)
    _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status)


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_a_forked_child_has_the_cache_without_waiting_for_its_parents_threads(
    callers: Callers,
) -> None:
    callers.chat("known")
    callers.stored(1)
    ending = threading.Event()

    def keep_busy() -> None:
        number = 0
        while not ending.is_set():
            callers.chat(f"busy {number % 3}")
            number += 1

    busy = threading.Thread(target=keep_busy, daemon=True)
    busy.start()
    try:
        for _ in range(5):
            assert _in_child(lambda: _is_found(callers, "known")) == 0
    finally:
        ending.set()
        busy.join(30)


def _is_found(callers: Callers, text: str) -> bool:
    """Whether the cache has an answer, soon; LiteLLM's own client would not survive a fork."""

    class Logging:
        call_type = "completion"

    asked = callers.arguments(messages=[{"role": "user", "content": text}])
    door, deadline_s = callers.hub.door, time.monotonic() + 10
    while door is not None and time.monotonic() < deadline_s:
        call = {"litellm_call_id": str(time.monotonic()), "litellm_logging_obj": Logging()}
        if door.get({**asked, **call}) is not None:
            return True
        time.sleep(0.05)
    return False


class Listener(CustomLogger):
    """Keeps what LiteLLM tells of each call."""

    def __init__(self) -> None:
        super().__init__()
        self.heard: list[tuple[object, object]] = []

    def log_success_event(
        self, kwargs: dict[str, Any], response_obj: Any, start_time: Any, end_time: Any
    ) -> None:
        told = kwargs["standard_logging_object"]
        self.heard.append((bool(told["cache_hit"]), told["response_cost"] == 0.0))


def test_loggers_hear_of_hits(install: Install) -> None:
    """LiteLLM tells them only while its list of sync callbacks names a cache."""
    callers, listener = install(), Listener()
    litellm.callbacks.append(listener)
    for _ in range(2):
        callers.chat("logged", model="openai/gpt-4o")
        time.sleep(0.3)
    deadline_s = time.monotonic() + 10
    while len(listener.heard) < 2 and time.monotonic() < deadline_s:
        time.sleep(0.05)
    assert listener.heard == [(False, False), (True, True)]


def test_a_stream_that_just_stops_is_not_kept(
    install: Install, monkeypatch: pytest.MonkeyPatch
) -> None:
    """LiteLLM ends it with a ``stop`` of its own, or fails the call, depending on its version."""

    def first_three(*arguments: Any) -> Any:
        return islice(answers.events(*arguments), 3)

    monkeypatch.setattr(provider_module, "events", first_three)
    callers = install()
    for _ in range(2):
        with contextlib.suppress(Exception):
            callers.stream("stops")
        time.sleep(0.5)  # the write comes later, from a thread of LiteLLM's
    assert callers.count == 2
    assert callers.cache.stats().result.entries == 0
    assert set(callers.cache.stats().discards) <= {"incomplete"}
