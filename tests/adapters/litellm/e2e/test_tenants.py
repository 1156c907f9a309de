"""Who shares with whom, and who is refused although the answer is there."""

from functools import partial

import openai
import pytest

from tests.adapters.litellm.configs import (
    FORBIDDEN,
)
from tests.adapters.litellm.e2e.asking import APIS, Api, outcome
from tests.adapters.litellm.e2e.conftest import Keys, at_once
from tests.adapters.litellm.provider import Answer, Provider
from tests.adapters.litellm.proxy import Proxy

_CHAT = APIS["chat"]


@pytest.mark.parametrize("api", APIS.values(), ids=lambda api: api.name)
def test_two_keys_share_nothing(api: Api, proxy: Proxy, provider: Provider, keys: Keys) -> None:
    red, blue = keys.new(team_id="red"), keys.new(team_id="blue")
    colleague = keys.new(team_id="red")
    for one in (red, blue, colleague):
        assert outcome(api.ask(proxy, "whose is it", key=one)) == "MISS"
    assert provider.count() == 3


def test_two_keys_that_ask_at_the_same_time_share_no_call(
    proxy: Proxy, provider: Provider, keys: Keys
) -> None:
    provider.always(Answer(delay_s=0.5))
    mine = [keys.new(team_id=team) for team in ("red", "blue")]
    told = at_once([partial(_CHAT.ask, proxy, "who was first", key=key) for key in mine * 5])
    answers = [one.plain["choices"][0]["message"]["content"] for one in told]
    assert provider.count() == 2
    assert len(set(answers[::2])) == len(set(answers[1::2])) == 1
    assert answers[0] != answers[1]


def test_a_revoked_key_is_refused_although_its_answer_is_fresh(
    proxy: Proxy, provider: Provider, keys: Keys
) -> None:
    key = keys.new()
    _CHAT.ask(proxy, "am I still welcome", key=key)
    keys.revoke(key)
    with pytest.raises(openai.AuthenticationError):
        _CHAT.ask(proxy, "am I still welcome", key=key)


def test_a_key_that_lost_the_model_is_refused(proxy: Proxy, provider: Provider, keys: Keys) -> None:
    key = keys.new(models=["chat"])
    _CHAT.ask(proxy, "may I still", key=key)
    keys.change(key, models=["secondary"])
    with pytest.raises(openai.APIStatusError) as caught:
        _CHAT.ask(proxy, "may I still", key=key)
    assert caught.value.status_code in {401, 403}


def test_hits_use_up_no_budget_and_a_key_over_its_budget_gets_none(
    proxy: Proxy, provider: Provider, keys: Keys
) -> None:
    provider.always(Answer(usage=(10, 10)))  # costs 0.03
    key = keys.new(model_max_budget={"chat": {"budget_limit": 0.05, "time_period": "1d"}})
    proxy.logged(_CHAT.ask(proxy, "can I afford it", key=key).call_id)
    for _ in range(3):
        hit = _CHAT.ask(proxy, "can I afford it", key=key)
        assert outcome(hit) == "HIT"
        proxy.logged(hit.call_id)
    proxy.logged(_CHAT.ask(proxy, "one more", key=key).call_id)
    with pytest.raises(openai.APIStatusError, match=r"(?i)budget"):
        _CHAT.ask(proxy, "can I afford it", key=key)


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
def test_guardrails_in_the_chain_see_hits(
    proxy: Proxy, provider: Provider, key: str, *, stream: bool
) -> None:
    after = "guard-stream" if stream else "guard-after"
    for expected in ("MISS", "HIT"):
        told = _CHAT.ask(proxy, "guard me", key=key, stream=stream)
        assert outcome(told) == expected
        seen = [e["event"] for e in proxy.events() if e.get("call_id") == told.call_id]
        assert "guard-before" in seen
        assert after in seen


def test_a_guardrail_refuses_before_the_cache_is_asked(
    proxy: Proxy, provider: Provider, key: str
) -> None:
    with pytest.raises(openai.BadRequestError, match="forbidden"):
        _CHAT.ask(proxy, FORBIDDEN, key=key)
    assert provider.count() == 0
