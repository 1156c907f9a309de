"""Ids of Responses: a handle of what the provider keeps, encrypted by the proxy for its user."""

from typing import Any

import openai
import pytest

from tests.adapters.litellm.configs import CALLBACK, deployment, proxy_config
from tests.adapters.litellm.e2e.conftest import Keys
from tests.adapters.litellm.provider import Provider
from tests.adapters.litellm.proxy import Proxy, StartProxy


def _ask(proxy: Proxy, key: str, *, stream: bool, **fields: Any) -> tuple[str, str]:
    """Return how the answer came, and its id."""
    with proxy.openai(key) as client:
        raw = client.responses.with_raw_response.create(
            model="chat", input="what is kept?", stream=stream, **fields
        )
        how = raw.headers["x-routecache"]
        answer: Any = raw.parse()
        if not stream:
            return how, answer.id
        (only,) = {event.response.id for event in answer if hasattr(event, "response")}
        return how, only


def _continue(proxy: Proxy, key: str, response_id: str) -> None:
    with proxy.openai(key) as client:
        client.responses.create(model="chat", input="go on", previous_response_id=response_id)


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
def test_what_the_provider_keeps_is_made_anew_for_everybody(
    proxy: Proxy, provider: Provider, key: str, *, stream: bool
) -> None:
    """Each caller, and each call, has a Response of its own to continue and to delete."""
    asked = [_ask(proxy, key, stream=stream, **fields) for fields in ({}, {}, {"store": True})]
    assert [how for how, _ in asked] == ["BYPASS"] * 3
    assert provider.count() == 3
    made = ["resp_1", "resp_2", "resp_3"]
    for (_, response_id), known in zip(asked, made, strict=True):
        _continue(proxy, key, response_id)
        assert provider.calls[-1].body["previous_response_id"] == known


@pytest.mark.parametrize("is_open", [False, True], ids=["encrypted", "open"])
def test_where_they_are_cached_all_the_same_each_id_is_good_for_whom_it_was_sent_to(
    provider: Provider, start_proxy: StartProxy, *, is_open: bool
) -> None:
    """Shared by two teams; both may go on from it, and by the other's id LiteLLM refuses them."""
    config = proxy_config(
        deployment("chat", provider),
        callbacks=(CALLBACK,),
        cache={"isolation": "none", "allow_stored": True, "fast_lane": True},
        general={"disable_responses_id_security": is_open},
    )
    proxy = start_proxy(config)
    keys = Keys(proxy)
    ann = keys.new(user_id="ann", team_id="red")
    bob = keys.new(user_id="bob", team_id="blue")
    for stream in (False, True):
        provider.reset()
        asked: dict[str, Any] = {"stream": stream, "extra_body": {"seed": int(stream)}}
        if stream:
            asked["store"] = True
        live, mine, his = (_ask(proxy, key, **asked) for key in (ann, ann, bob))
        assert [live[0], mine[0], his[0]] == ["MISS", "HIT", "HIT"]
        assert provider.count() == 1
        for key, response_id in ((ann, live[1]), (ann, mine[1]), (bob, his[1])):
            _continue(proxy, key, response_id)
            assert provider.calls[-1].body["previous_response_id"] == "resp_1"
        if is_open:
            assert live[1] == mine[1] == his[1]
            continue
        for key, response_id in ((ann, his[1]), (bob, live[1]), (bob, mine[1])):
            with pytest.raises(openai.PermissionDeniedError, match="not associated"):
                _continue(proxy, key, response_id)
