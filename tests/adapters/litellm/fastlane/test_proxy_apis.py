"""The fast lane before the real proxy, by every API, asked with the official SDKs."""

import contextlib
import time
from typing import Any

import anthropic
import openai
import pytest

from tests.adapters.litellm.e2e.asking import APIS, Api, Told, outcome
from tests.adapters.litellm.e2e.conftest import Keys
from tests.adapters.litellm.fastlane.posting import LEASE_S, ask, post
from tests.adapters.litellm.provider import Answer, Provider
from tests.adapters.litellm.proxy import Proxy
from tests.support.child import wait_until

FIELDS: dict[str, dict[str, Any]] = {"responses": {"store": False}}
"""What an API's requests have to say besides to take the lane."""


def is_from_the_lane(told: Told) -> bool:
    return "x-litellm-call-id" not in told.headers and outcome(told) == "HIT"


def ask_until_stored(api: Api, proxy: Proxy, text: str, **asked: Any) -> Told:
    """Ask again until the lane answers: a stream is stored after its last byte."""
    told: list[Told] = []

    def is_stored() -> bool:
        told.append(api.ask(proxy, text, **asked))
        return is_from_the_lane(told[-1])

    wait_until(is_stored, f"the lane answers {api.name}")
    return told[-1]


_FORMS = [
    pytest.param(name, stream, id=f"{name}{'-stream' if stream else ''}")
    for name in APIS
    for stream in (False, True)
    if not (stream and name in {"text", "embeddings"})
]


class TestEveryAPI:
    """The same promises by every API, asked with the official SDKs."""

    @pytest.mark.parametrize(("name", "stream"), _FORMS)
    def test_a_client_cannot_tell_a_hit_from_a_live_answer(
        self, proxy: Proxy, provider: Provider, keys: Keys, name: str, *, stream: bool
    ) -> None:
        api, text = APIS[name], f"who is who in {name}, {stream}"
        asked = {**FIELDS.get(name, {}), "key": keys.new(), "stream": stream}
        live = api.ask(proxy, text, **asked)
        hit = ask_until_stored(api, proxy, text, **asked)
        assert hit.plain == live.plain
        assert hit.pieces == live.pieces
        assert hit.headers["content-type"] == live.headers["content-type"]
        assert hit.headers["x-litellm-model-group"] == api.group
        assert provider.count() == 1

    @pytest.mark.parametrize("name", APIS)
    def test_a_second_key_never_gets_it(
        self, proxy: Proxy, provider: Provider, keys: Keys, name: str
    ) -> None:
        api, fields = APIS[name], FIELDS.get(name, {})
        one, other = keys.new(), keys.new()
        api.ask(proxy, "whose is it", key=one, **fields)
        assert is_from_the_lane(api.ask(proxy, "whose is it", key=one, **fields))
        assert outcome(api.ask(proxy, "whose is it", key=other, **fields)) == "MISS"
        assert provider.count() == 2

    @pytest.mark.parametrize("name", APIS)
    def test_a_revoked_key_is_refused_within_the_time_of_a_lease(
        self, proxy: Proxy, keys: Keys, name: str
    ) -> None:
        api, key, fields = APIS[name], keys.new(), FIELDS.get(name, {})
        api.ask(proxy, "revoked here", key=key, **fields)
        assert is_from_the_lane(api.ask(proxy, "revoked here", key=key, **fields))
        keys.revoke(key)
        began_s = time.monotonic()

        def is_refused() -> bool:
            with contextlib.suppress(openai.AuthenticationError, anthropic.AuthenticationError):
                api.ask(proxy, "revoked here", key=key, **fields)
                return False
            return True

        wait_until(is_refused, "the key is refused")
        assert time.monotonic() - began_s < LEASE_S + 2
        assert is_refused()

    @pytest.mark.parametrize("name", APIS)
    def test_a_key_with_limits_always_passes_litellm(
        self, proxy: Proxy, keys: Keys, name: str
    ) -> None:
        api, key = APIS[name], keys.new(rpm_limit=100)
        for _ in range(3):
            told = api.ask(proxy, "limited here", key=key, **FIELDS.get(name, {}))
            assert not is_from_the_lane(told)

    @pytest.mark.parametrize("name", ["text", "responses", "messages"])
    def test_what_was_cut_off_or_refused_is_not_kept(
        self, proxy: Proxy, provider: Provider, keys: Keys, name: str
    ) -> None:
        api, key, fields = APIS[name], keys.new(), FIELDS.get(name, {})
        provider.always(Answer(finish_reason="content_filter", text="half an"))
        if name == "responses":
            provider.always(Answer(finish_reason="length", text="half an"))
        for count in (1, 2):
            assert not is_from_the_lane(api.ask(proxy, "cut off here", key=key, **fields))
            assert provider.count() == count

    def test_hits_are_logged_as_what_they_are(self, proxy: Proxy, keys: Keys) -> None:
        asked: dict[str, str] = {}
        for name, api in APIS.items():
            key, fields = keys.new(), FIELDS.get(name, {})
            live = api.ask(proxy, "logged here", key=key, **fields)
            ask_until_stored(api, proxy, "logged here", key=key, **fields)
            logged = proxy.logged(live.call_id)
            asked[logged["metadata"]["user_api_key_hash"]] = name

        sums: dict[str, dict[str, Any]] = {}

        def are_all_logged() -> bool:
            for event in proxy.events("success"):
                whose = event["metadata"]["user_api_key_hash"]
                is_sum = "routecache_hits" in (event["metadata"]["spend_logs_metadata"] or {})
                if event["cache_hit"] and is_sum and whose in asked:
                    sums[asked[whose]] = event
            return sums.keys() == APIS.keys()

        wait_until(are_all_logged, "a hit by each API is logged", timeout_s=15)
        assert {name: event["call_type"] for name, event in sums.items()} == {
            "chat": "acompletion",
            "text": "atext_completion",
            "responses": "aresponses",
            "messages": "anthropic_messages",
            "embeddings": "aembedding",
        }
        for name, event in sums.items():
            assert event["response_cost"] == 0, name
            assert event["saved_cache_cost"] > 0, name
            assert event["prompt_tokens"] > 0, name


def test_text_streams_are_passed_on(proxy: Proxy, provider: Provider, keys: Keys) -> None:
    key = keys.new()
    for count in (1, 2):
        told = APIS["text"].ask(proxy, "once upon a time", key=key, stream=True)
        assert not is_from_the_lane(told)
        assert provider.count() == count


def test_a_response_that_the_provider_stores_is_litellms_matter(proxy: Proxy, keys: Keys) -> None:
    """Its id could be continued and deleted, and LiteLLM says by whom."""
    key = keys.new()
    for _ in range(3):
        told = APIS["responses"].ask(proxy, "continue me", key=key, store=openai.omit)
        assert not is_from_the_lane(told)
        assert outcome(told) == "BYPASS"


def test_vectors_are_one_answer_only_when_they_are_of_one_age(
    proxy: Proxy, provider: Provider, keys: Keys
) -> None:
    key = keys.new()
    body = {"model": "embed", "input": ["first"]}
    assert post(proxy, "/v1/embeddings", body, key=key).status == 200
    time.sleep(0.3)  # LiteLLM writes to its cache after the response
    body["input"] = ["first", "second"]
    assert post(proxy, "/v1/embeddings", body, key=key).status == 200  # half of it was known
    assert provider.calls[-1].body["input"] == ["second"]
    assert not post(proxy, "/v1/embeddings", body, key=key).is_from_the_lane
    assert post(proxy, "/v1/embeddings", body, key=key).is_from_the_lane
    assert provider.count() == 2


def test_a_vector_made_anew_takes_the_place_of_those_that_the_lane_has(
    proxy: Proxy, provider: Provider, keys: Keys
) -> None:
    key, body = keys.new(), {"model": "embed", "input": ["one", "two"]}
    for _ in range(2):
        got = post(proxy, "/v1/embeddings", body, key=key)
    assert got.is_from_the_lane
    anew = {"model": "embed", "input": "one", "cache": {"no-cache": True}}
    assert post(proxy, "/v1/embeddings", anew, key=key).status == 200
    assert not post(proxy, "/v1/embeddings", body, key=key).is_from_the_lane
    assert provider.count() == 2


def test_a_fallbacks_vector_is_not_kept_under_the_model_that_failed(
    proxy: Proxy, provider: Provider, keys: Keys
) -> None:
    provider.always(Answer(status=500), model="broken")
    key, body = keys.new(), {"model": "broken", "input": "fallen back"}
    for _ in range(3):
        assert not post(proxy, "/v1/embeddings", body, key=key).is_from_the_lane


@pytest.mark.parametrize(
    "path", ["/engines/chat/chat/completions", "/openai/deployments/chat/chat/completions"]
)
def test_a_path_that_names_the_model(
    proxy: Proxy, provider: Provider, keys: Keys, path: str
) -> None:
    key = keys.new()
    body = {"model": "chat", "messages": [{"role": "user", "content": "by path"}]}
    path += "?api-version=2024-10-21"
    live, hit = (post(proxy, path, body, key=key) for _ in range(2))
    assert (live.status, live.is_from_the_lane, hit.is_from_the_lane) == (200, False, True)
    assert hit.body == live.body
    assert not post(proxy, path, {**body, "model": "embed"}, key=key).is_from_the_lane
    assert provider.count() == 1


def test_a_stream_without_an_end_of_its_own_is_not_kept(
    proxy: Proxy, provider: Provider, keys: Keys
) -> None:
    """LiteLLM 1.106 ends it with an invented reason; later ones with an error after the text."""
    key = keys.new()
    provider.always(Answer(text="half of", finish_reason=""))
    for count in (1, 2):
        got = ask(proxy, "without an end", key=key, stream=True)
        assert got.body.count(b"data:") > 2
        assert not got.is_from_the_lane
        assert provider.count() == count


@pytest.mark.parametrize("cache", [None, "no-store", [], {}, {"no-store": True, "unheard-of": 1}])
def test_a_cache_object_of_any_kind_fails_nothing_and_is_left_to_litellm(
    proxy: Proxy, provider: Provider, keys: Keys, cache: object
) -> None:
    """LiteLLM fails a call whose ``cache`` is no object as soon as it has a cache."""
    key = keys.new()
    body = {"model": "chat", "messages": [{"role": "user", "content": f"cached {cache}"}]}
    for _ in range(2):
        got = post(proxy, "/v1/chat/completions", {**body, "cache": cache}, key=key)
        assert (got.status, got.is_from_the_lane) == (200, False)
    is_forbidden = isinstance(cache, dict) and "no-store" in cache
    assert provider.count() == (2 if is_forbidden else 1)
    assert "cache" not in provider.calls[0].body
