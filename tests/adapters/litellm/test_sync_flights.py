"""Equal calls from several threads at once: one provider call, and nobody waits for nothing."""

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any
from unittest import mock

import litellm
import pytest

from routecache_middleware.adapters.litellm import hub as hubs
from routecache_middleware.adapters.litellm.options import configure
from routecache_middleware.core.metrics import REQUESTS
from routecache_middleware.core.prices import NO_PRICES
from tests.adapters.litellm.provider import Answer, Provider
from tests.adapters.litellm.threads import Callers, apart, at_once, in_thread, tidy

# Of the HTTP clients that several threads make at once LiteLLM keeps one, and closes none.
pytestmark = pytest.mark.filterwarnings(
    "ignore:Exception ignored in. <socket.socket:pytest.PytestUnraisableExceptionWarning"
)

Install = Callable[..., Callers]

SOON_S = 10.0


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


def waiting(callers: Callers) -> int:
    """How many threads wait for the one flight."""
    door = callers.hub.door
    assert door is not None
    return sum(flight.followers for flight in door._board._all)


def until(check: Callable[[], bool]) -> None:
    deadline_s = time.monotonic() + SOON_S
    while not check():
        assert time.monotonic() < deadline_s, "it does not come to that"
        time.sleep(0.005)


@pytest.mark.parametrize("url", ["memory", "redis"])
def test_twenty_equal_calls_make_one_provider_call(
    install: Install, request: pytest.FixtureRequest, url: str
) -> None:
    callers = install(url=request.getfixturevalue("valkey_url") if url == "redis" else None)
    callers.provider.always(Answer(delay_s=0.3))
    said = at_once(20, callers.say)
    assert callers.count == 1
    assert len(set(said)) == 1
    callers.stored(1)
    found = callers.cache.stats().result
    assert (found.misses, found.coalesced + found.hits) == (1, 19)
    assert found.writes == 1
    counted = callers.cache.metrics()
    assert counted.value(REQUESTS) == 20
    assert counted.value(REQUESTS, "openai/gpt-4o", "chat", "coalesced") == found.coalesced
    assert callers.cache.savings(NO_PRICES).requests == 19  # what was shared, as well


def test_calls_through_a_router_share_as_well(install: Install) -> None:
    """A Router makes them in an event loop of its own, one per call."""
    callers = install()
    router = callers.router("small")
    callers.provider.always(Answer(delay_s=0.5))
    asked = [{"role": "user", "content": "hi"}]
    found = at_once(5, lambda: router.completion("small", asked).id)
    assert len(set(found)) == 1
    assert callers.count == 1


def test_streams_share_the_finished_answer(install: Install) -> None:
    callers = install()
    callers.provider.always(Answer(delay_s=0.2, chunk_delay_s=0.02, text="a b c d e f"))

    def read() -> str:
        return "".join(chunk.choices[0].delta.content or "" for chunk in callers.stream())

    assert set(at_once(20, read)) == {"a b c d e f"}
    assert callers.count == 1


def test_different_calls_do_not_wait_for_each_other(install: Install) -> None:
    callers = install()
    with callers.provider.held():
        waits = [in_thread(partial(callers.say, f"question {n}")) for n in range(4)]
        callers.provider.wait_for(4)
    assert len({wait() for wait in waits}) == 4


def test_two_tenants_do_not_wait_for_each_other(provider: Provider) -> None:
    hub = hubs.start(hubs.Hub(configure(url="memory://"), is_proxy=True))
    callers = Callers(provider, hub.cache)
    with provider.held():
        waits = [
            in_thread(partial(callers.say, metadata={"user_api_key": key}))
            for key in ("one", "two")
        ]
        provider.wait_for(2)
    assert [wait() for wait in waits]


def test_after_a_failure_one_of_those_who_waited_tries_again(install: Install) -> None:
    callers = install()
    ending = threading.Event()
    callers.provider.script(Answer(status=500, hold=ending))
    leader = in_thread(callers.say)
    callers.provider.wait_for(1)
    others = [in_thread(callers.say) for _ in range(5)]
    until(lambda: waiting(callers) == 5)
    ending.set()
    with pytest.raises(litellm.InternalServerError):
        leader()
    assert len({wait() for wait in others}) == 1
    assert callers.count == 2


def test_when_that_fails_too_everybody_goes_alone(install: Install) -> None:
    callers = install()
    callers.provider.always(Answer(status=500, delay_s=0.2))
    began_s = time.monotonic()
    found = at_once(6, callers.say)
    assert all(isinstance(one, litellm.InternalServerError) for one in found)
    assert callers.count == 6
    assert time.monotonic() - began_s < SOON_S


def test_an_answer_that_nobody_else_may_have_releases_them_at_once(install: Install) -> None:
    callers = install()
    ending = threading.Event()
    callers.provider.always(Answer(finish_reason="content_filter"))
    callers.provider.script(Answer(finish_reason="content_filter", hold=ending))
    leader = in_thread(callers.say)
    callers.provider.wait_for(1)
    others = [in_thread(callers.say) for _ in range(3)]
    until(lambda: waiting(callers) == 3)
    ending.set()
    leader()
    assert [wait() for wait in others]
    assert callers.count == 4
    with callers.provider.held():  # and for a while nobody waits under that key
        later = [in_thread(callers.say) for _ in range(2)]
        callers.provider.wait_for(6)
    assert [wait() for wait in later]


def test_nobody_waits_longer_than_the_option_says(install: Install) -> None:
    callers = install(flight_timeout_s=0.3)
    with callers.provider.held():
        waits = [in_thread(callers.say) for _ in range(2)]
        callers.provider.wait_for(2)
    assert [wait() for wait in waits]


@pytest.mark.parametrize("settings", [{"flight_timeout_s": 0}, {"coalescing": False}])
def test_waiting_can_be_turned_off(install: Install, settings: dict[str, Any]) -> None:
    callers = install(**settings)
    with callers.provider.held():
        waits = [in_thread(callers.say) for _ in range(3)]
        callers.provider.wait_for(3)
    assert [wait() for wait in waits]


def test_calls_that_may_not_be_stored_do_not_wait(install: Install) -> None:
    callers = install()
    with callers.provider.held():
        waits = [in_thread(lambda: callers.say(cache={"no-store": True})) for _ in range(2)]
        callers.provider.wait_for(2)
    assert [wait() for wait in waits]


def test_a_thread_does_not_wait_for_a_stream_that_it_has_not_read_yet(install: Install) -> None:
    callers = install()
    stream = callers.chat(stream=True)
    began_s = time.monotonic()
    callers.stream()
    assert time.monotonic() - began_s < SOON_S
    assert callers.count == 2
    assert list(stream)


def test_a_thread_that_runs_an_event_loop_does_not_wait(install: Install) -> None:
    """What the leader waits for may need that very loop."""
    callers = install()
    ending = threading.Event()
    callers.provider.script(Answer(hold=ending))
    leader = in_thread(callers.say)
    callers.provider.wait_for(1)

    async def ask() -> str:
        return callers.say()

    assert apart(asyncio.run, ask())
    ending.set()
    leader()
    assert callers.count == 2


def test_a_dropped_stream_does_not_hold_the_others_up_for_ever(install: Install) -> None:
    """LiteLLM holds on to it, so nothing shows that it was dropped."""
    callers = install(flight_timeout_s=0.5)
    callers.provider.always(Answer(text="a b c d e f"))
    # Kept: collected in the midst of a call it would wait for that call's own lock in httpcore.
    dropped: list[Any] = []

    def drop() -> None:
        dropped.append(callers.chat(stream=True))
        next(iter(dropped[0]))

    in_thread(drop)()
    began_s = time.monotonic()
    assert callers.stream()
    assert time.monotonic() - began_s < SOON_S
    assert callers.count == 2
    assert list(dropped.pop())  # its connection is free


def test_an_interrupted_call_does_not_hold_the_others_up(install: Install) -> None:
    """No event says so: LiteLLM lets what is no ``Exception`` pass."""
    callers = install()
    begun, ending = threading.Event(), threading.Event()

    def interrupt(*_: object, **__: object) -> None:
        begun.set()
        assert ending.wait(SOON_S)
        raise KeyboardInterrupt

    def leads() -> None:
        with mock.patch("litellm.main.openai_chat_completions.completion", interrupt):
            callers.say()

    leader = in_thread(leads)
    assert begun.wait(SOON_S)
    follower = in_thread(callers.say)
    until(lambda: waiting(callers) == 1)
    ending.set()
    with pytest.raises(KeyboardInterrupt):
        leader()
    began_s = time.monotonic()
    assert follower()
    assert time.monotonic() - began_s < SOON_S


def test_an_answer_that_was_invalidated_on_its_way_is_not_shared(install: Install) -> None:
    callers = install()
    ending = threading.Event()
    callers.provider.script(Answer(text="old", hold=ending), "new")
    leader = in_thread(callers.say)
    callers.provider.wait_for(1)
    follower = in_thread(callers.say)
    until(lambda: waiting(callers) == 1)
    apart(asyncio.run, callers.cache.invalidate_model("openai/gpt-4o"))
    ending.set()
    assert leader() == "old"  # its own call, begun before
    assert follower() == "new"
    assert callers.say() == "new"
    assert callers.count == 2


def test_who_comes_after_an_invalidation_does_not_wait_for_what_came_before(
    install: Install,
) -> None:
    callers = install()
    ending = threading.Event()
    callers.provider.script(Answer(text="old", hold=ending), "new")
    leader = in_thread(callers.say)
    callers.provider.wait_for(1)
    apart(asyncio.run, callers.cache.invalidate_model("openai/gpt-4o"))
    assert callers.say() == "new"
    ending.set()
    leader()
    assert callers.say() == "new"


def test_uninstalling_lets_everybody_go(install: Install) -> None:
    callers = install()
    with callers.provider.held():
        leader = in_thread(callers.say)
        callers.provider.wait_for(1)
        follower = in_thread(callers.say)
        until(lambda: waiting(callers) == 1)
        hubs.uninstall()
        callers.provider.wait_for(2)
    assert leader()
    assert follower()


def test_nothing_is_left_of_calls_that_are_over(install: Install) -> None:
    callers = install()
    callers.provider.script(Answer(status=500), Answer(finish_reason="content_filter"))
    for text in ("fails", "is cut off", "is kept", "is kept"):
        at_once(2, partial(callers.say, text))
    callers.stream("streamed")
    door = callers.hub.door
    assert door is not None
    until(lambda: not door._board._all)
    assert not len(door._board._flights)
    assert not door._tickets._tickets
