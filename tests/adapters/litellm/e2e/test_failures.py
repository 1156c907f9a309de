"""Errors, retries, fallbacks, clients that leave: whole answers are kept, where they belong."""

import contextlib
import threading
import time

import openai
import pytest

from tests.adapters.litellm.e2e.asking import APIS, Told, outcome
from tests.adapters.litellm.e2e.conftest import at_once
from tests.adapters.litellm.provider import Answer, Provider
from tests.adapters.litellm.proxy import Proxy

_CHAT = APIS["chat"]


def test_a_retried_call_is_answered_and_kept(proxy: Proxy, provider: Provider, key: str) -> None:
    provider.script(Answer(status=500), Answer(text="second try"))
    live = _CHAT.ask(proxy, "try again", key=key, model="flaky")
    hit = _CHAT.ask(proxy, "try again", key=key, model="flaky")
    assert provider.count() == 2
    assert hit.plain == live.plain
    assert outcome(hit) == "HIT"


def test_a_failure_is_not_kept(proxy: Proxy, provider: Provider, key: str) -> None:
    provider.script(Answer(status=400))
    with pytest.raises(openai.BadRequestError):
        _CHAT.ask(proxy, "fail once", key=key)
    assert outcome(_CHAT.ask(proxy, "fail once", key=key)) == "MISS"
    assert outcome(_CHAT.ask(proxy, "fail once", key=key)) == "HIT"


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
def test_a_fallbacks_answer_is_kept_under_the_model_that_gave_it(
    proxy: Proxy, provider: Provider, key: str, *, stream: bool
) -> None:
    provider.always(Answer(status=500), model="primary")
    fallen = _CHAT.ask(proxy, "who answers", key=key, model="primary", stream=stream)
    assert fallen.headers.get("x-routecache-model", "secondary") == "secondary"
    asked = provider.count(model="secondary")
    direct = _CHAT.ask(proxy, "who answers", key=key, model="secondary", stream=stream)
    assert outcome(direct) == "HIT"
    assert provider.count(model="secondary") == asked == 1
    provider.always("primary is back", model="primary")
    healed = _CHAT.ask(proxy, "who answers", key=key, model="primary", stream=stream)
    assert "primary is back" in str(healed.plain)


def test_a_stream_that_the_client_left_is_not_kept(
    proxy: Proxy, provider: Provider, key: str
) -> None:
    provider.script(Answer(text="one two three four five six", chunk_delay_s=0.1))
    with proxy.openai(key) as client:
        stream = client.chat.completions.create(
            model="chat", messages=[{"role": "user", "content": "leave early"}], stream=True
        )
        next(iter(stream))
        stream.close()
    time.sleep(1.0)  # LiteLLM may read on to the end: then it has a whole answer
    whole = _CHAT.ask(proxy, "leave early", key=key, stream=True)
    assert whole.plain["finish_reason"] == "stop"
    assert whole.plain["content"].startswith(("answer", "one two three four five six"))


def test_a_stream_that_the_provider_broke_is_not_kept(
    proxy: Proxy, provider: Provider, key: str
) -> None:
    provider.script(Answer(text="half an answer", abort_after=2))
    with pytest.raises(Exception):  # noqa: B017, PT011 - which one is LiteLLM's business
        _CHAT.ask(proxy, "break it", key=key, stream=True, model="chat")
    again = _CHAT.ask(proxy, "break it", key=key, stream=True)
    assert outcome(again) == "MISS"
    assert again.plain["content"].startswith("answer")


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
def test_identical_questions_at_once_are_one_call(
    proxy: Proxy, provider: Provider, key: str, *, stream: bool
) -> None:
    provider.always(Answer(delay_s=0.5))
    ask = lambda: _CHAT.ask(proxy, "all at once", key=key, stream=stream)  # noqa: E731
    told = at_once([ask] * 20)
    assert provider.count() == 1
    assert len({str(one.plain) for one in told}) == 1


def test_when_the_first_of_many_fails_the_others_are_still_answered(
    proxy: Proxy, provider: Provider, key: str
) -> None:
    provider.script(Answer(status=400, delay_s=0.5))
    ask = lambda: _CHAT.ask(proxy, "first one fails", key=key)  # noqa: E731
    told = at_once([ask] * 10)
    assert sum(isinstance(one, Exception) for one in told) <= 1
    assert provider.count() <= 3


def test_a_leader_whose_client_leaves_leaves_nobody_waiting(
    proxy: Proxy, provider: Provider, key: str
) -> None:
    leader = threading.Thread(target=_ask_and_leave, args=(proxy, key))
    with provider.held():
        leader.start()
        provider.wait_for(1)
        told: list[Told] = []
        follower = threading.Thread(
            target=lambda: told.append(_CHAT.ask(proxy, "who stays", key=key))
        )
        follower.start()
        leader.join(20)
        time.sleep(0.3)
    follower.join(20)
    assert len(told) == 1
    assert told[0].plain["choices"][0]["message"]["content"].startswith("answer")
    assert provider.count() <= 2


def _ask_and_leave(proxy: Proxy, key: str) -> None:
    with proxy.openai(key, timeout=1.0) as client, contextlib.suppress(openai.APITimeoutError):
        client.chat.completions.create(
            model="chat", messages=[{"role": "user", "content": "who stays"}]
        )
