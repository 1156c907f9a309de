"""The fast lane before the real proxy, started by LiteLLM's own command, then by ours."""

import contextlib
import http.client
import json
import time
from collections.abc import Iterator, Mapping
from typing import Any

import anthropic
import openai
import pytest

from tests.adapters.litellm.configs import (
    CALLBACK,
    GUARD,
    LOGGER,
    MASTER_KEY,
    deployment,
    proxy_config,
)
from tests.adapters.litellm.e2e.asking import APIS, Api, Told, outcome
from tests.adapters.litellm.e2e.conftest import Keys
from tests.adapters.litellm.provider import Answer, Provider
from tests.adapters.litellm.proxy import Proxy, start_proxy
from tests.support.child import wait_until

LEASE_S = 2.0
FIELDS: dict[str, dict[str, Any]] = {"responses": {"store": False}}
"""What an API's requests have to say besides to take the lane."""


class Got:
    """A response as it came over the wire."""

    def __init__(self, response: http.client.HTTPResponse) -> None:
        self.status = response.status
        self.headers = {name.lower(): value for name, value in response.getheaders()}
        self.count = [name.lower() for name, _ in response.getheaders()].count("x-routecache")
        self.body = response.read()

    @property
    def is_from_the_lane(self) -> bool:
        """LiteLLM names each call that it has seen."""
        return "x-litellm-call-id" not in self.headers and self.outcome == "HIT"

    @property
    def outcome(self) -> str:
        return self.headers.get("x-routecache", "")


def post(
    proxy: Proxy, path: str, body: Mapping[str, Any], *, key: str | None, method: str = "POST"
) -> Got:
    connection = http.client.HTTPConnection("127.0.0.1", proxy.port, timeout=30)
    headers = {"content-type": "application/json"}
    if key is not None:
        headers["authorization"] = f"Bearer {key}"
    try:
        connection.request(method, path, json.dumps(body), headers)
        return Got(connection.getresponse())
    finally:
        connection.close()


def ask(proxy: Proxy, prompt: str, *, key: str | None = MASTER_KEY, **fields: Any) -> Got:
    body = {"model": "chat", "messages": [{"role": "user", "content": prompt}], **fields}
    return post(proxy, "/v1/chat/completions", body, key=key)


@pytest.fixture(scope="module")
def lane_proxy(_provider: Provider, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxy]:
    prices: dict[str, Any] = {"input_cost_per_token": 0.001, "output_cost_per_token": 0.002}
    config = proxy_config(
        deployment("chat", _provider, **prices),
        deployment("text", _provider, model="text-completion-openai/text", **prices),
        deployment("claude", _provider, model="anthropic/claude-test", **prices),
        deployment("embed", _provider, **prices),
        deployment("broken", _provider),
        callbacks=(CALLBACK, LOGGER),
        cache={"fast_lane": True, "auth_ttl_s": LEASE_S},
        router={
            "num_retries": 0,
            "disable_cooldowns": True,
            "fallbacks": [{"broken": ["embed"]}],
        },
    )
    with start_proxy(config, tmp_path_factory.mktemp("lane")) as proxy:
        yield proxy


@pytest.fixture
def proxy(lane_proxy: Proxy, provider: Provider) -> Proxy:
    assert lane_proxy.is_running, lane_proxy.log[-4000:]
    return lane_proxy


@pytest.fixture
def keys(proxy: Proxy) -> Keys:
    return Keys(proxy)


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
    """Its id could be continued, and LiteLLM says by whom."""
    key = keys.new()
    for _ in range(3):
        assert not is_from_the_lane(APIS["responses"].ask(proxy, "continue me", key=key))


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


def test_a_repeat_is_answered_before_litellm(proxy: Proxy, provider: Provider, keys: Keys) -> None:
    key = keys.new()
    first, second = ask(proxy, "repeat", key=key), ask(proxy, "repeat", key=key)
    assert not first.is_from_the_lane
    assert second.is_from_the_lane
    assert second.body == first.body
    assert (first.count, second.count) == (1, 1)
    assert second.headers["x-litellm-model-group"] == "chat"
    assert provider.count() == 1


def test_an_answer_that_a_client_had_made_anew_is_the_only_one(
    proxy: Proxy, provider: Provider, keys: Keys
) -> None:
    """The request that says so passes the lane, and what the lane keeps is of no use after it."""
    key = keys.new()
    old = ask(proxy, "anew", key=key)
    assert ask(proxy, "anew", key=key).is_from_the_lane
    new = ask(proxy, "anew", key=key, cache={"no-cache": True})
    assert new.body != old.body
    time.sleep(0.3)  # LiteLLM writes to its cache after the response
    for _ in range(2):
        assert ask(proxy, "anew", key=key).body == new.body
    assert ask(proxy, "anew", key=key).is_from_the_lane
    assert provider.count() == 2


def test_the_master_key_gets_a_lease(proxy: Proxy) -> None:
    ask(proxy, "by the master")
    assert ask(proxy, "by the master").is_from_the_lane


def test_another_key_gets_its_own_answer(proxy: Proxy, provider: Provider, keys: Keys) -> None:
    one, other = keys.new(), keys.new()
    ask(proxy, "whose", key=one)
    first = ask(proxy, "whose", key=other)
    assert (first.outcome, provider.count()) == ("MISS", 2)
    assert ask(proxy, "whose", key=other).is_from_the_lane


def test_a_revoked_key_is_refused_within_the_time_of_a_lease(proxy: Proxy, keys: Keys) -> None:
    key = keys.new()
    ask(proxy, "revoked", key=key)
    assert ask(proxy, "revoked", key=key).is_from_the_lane
    keys.revoke(key)
    began_s = time.monotonic()
    wait_until(lambda: ask(proxy, "revoked", key=key).status == 401, "the key is refused")
    assert time.monotonic() - began_s < LEASE_S + 2
    assert ask(proxy, "revoked", key=key).status == 401


def test_a_refusal_of_one_request_ends_the_lease_for_all(proxy: Proxy, keys: Keys) -> None:
    key = keys.new()
    ask(proxy, "one", key=key)
    assert ask(proxy, "one", key=key).is_from_the_lane
    keys.revoke(key)
    assert ask(proxy, "one", key=key, metadata={"a": "b"}).status == 401  # passes the lane by
    assert ask(proxy, "another", key=key).status == 401
    assert ask(proxy, "one", key=key).status == 401


@pytest.mark.parametrize(
    "fields",
    [
        {"rpm_limit": 100},
        {"tpm_limit": 100_000},
        {"max_parallel_requests": 10},
        {"max_budget": 100.0},
        {"team_id": "t", "team_rpm_limit": 100},
        {"metadata": {"model_rpm_limit": {"chat": 100}}},
        {"allowed_cache_controls": ["no-cache"]},
    ],
    ids="+".join,
)
def test_a_key_with_limits_always_passes_litellm(
    proxy: Proxy, provider: Provider, keys: Keys, fields: dict[str, Any]
) -> None:
    key = keys.new(**fields)
    answers = [ask(proxy, "limited", key=key) for _ in range(3)]
    assert [answer.status for answer in answers] == [200] * 3
    assert not any(answer.is_from_the_lane for answer in answers)
    assert answers[2].outcome == "HIT"  # of the cache inside LiteLLM
    assert answers[2].count == 1
    assert provider.count() == 1


def test_another_user_needs_a_lease_of_its_own(proxy: Proxy, keys: Keys) -> None:
    key = keys.new()
    ask(proxy, "for whom", key=key, user="a")
    assert ask(proxy, "for whom", key=key, user="a").is_from_the_lane
    assert not ask(proxy, "for whom", key=key, user="b").is_from_the_lane


@pytest.mark.parametrize(
    "fields", [{"metadata": {"tags": ["a"]}}, {"cache": {"no-cache": True}}, {"num_retries": 1}]
)
def test_a_field_of_litellms_own_passes_the_lane_by(
    proxy: Proxy, keys: Keys, fields: dict[str, Any]
) -> None:
    key = keys.new()
    for _ in range(2):
        ask(proxy, "more than an answer", key=key)
        assert "x-litellm-call-id" in ask(proxy, "more than an answer", key=key, **fields).headers


def test_a_stream_is_replayed_byte_for_byte(proxy: Proxy, provider: Provider, keys: Keys) -> None:
    key = keys.new()
    fields: dict[str, Any] = {"stream": True, "stream_options": {"include_usage": True}}
    live = ask(proxy, "stream", key=key, **fields)
    stored: list[Got] = []

    def is_stored() -> bool:
        stored.append(ask(proxy, "stream", key=key, **fields))
        return stored[-1].is_from_the_lane

    wait_until(is_stored, "the stream is stored")
    assert stored[-1].body == live.body
    assert live.body.endswith(b"data: [DONE]\n\n")
    assert provider.count() == 1


def test_a_client_that_leaves_leaves_nothing_behind(
    proxy: Proxy, provider: Provider, keys: Keys
) -> None:
    key = keys.new()
    ask(proxy, "a lease", key=key)
    provider.script(Answer(text="slowly " * 50, chunk_delay_s=0.02))
    body = {"model": "chat", "stream": True, "messages": [{"role": "user", "content": "leaving"}]}
    connection = http.client.HTTPConnection("127.0.0.1", proxy.port, timeout=30)
    headers = {"content-type": "application/json", "authorization": f"Bearer {key}"}
    connection.request("POST", "/v1/chat/completions", json.dumps(body), headers)
    connection.getresponse().read(20)
    connection.close()
    assert not ask(proxy, "leaving", key=key, stream=True).is_from_the_lane


def test_provider_errors_are_passed_on_and_not_kept(
    proxy: Proxy, provider: Provider, keys: Keys
) -> None:
    key = keys.new()
    provider.script(Answer(status=500))
    assert ask(proxy, "error", key=key).status == 500
    assert ask(proxy, "error", key=key).status == 200
    assert provider.count() == 2


def test_hits_reach_litellms_logs_in_sums(proxy: Proxy, keys: Keys) -> None:
    key = keys.new(user_id=f"user-{keys.new()}")
    first = ask(proxy, "logged", key=key)
    whose = proxy.logged(first.headers["x-litellm-call-id"])["metadata"]["user_api_key_hash"]
    for _ in range(5):
        assert ask(proxy, "logged", key=key).is_from_the_lane
    sums: list[dict[str, Any]] = []

    def are_all_logged() -> bool:
        sums[:] = [
            event
            for event in proxy.events("success")
            if event["cache_hit"] and event["metadata"]["user_api_key_hash"] == whose
        ]
        counts: list[int] = [
            event["metadata"]["spend_logs_metadata"]["routecache_hits"] for event in sums
        ]
        return sum(counts) == 5

    wait_until(are_all_logged, "five hits are logged", timeout_s=15)
    assert len(sums) <= 3
    assert sum(event["response_cost"] for event in sums) == 0
    assert sum(event["saved_cache_cost"] for event in sums) > 0
    assert {event["model_group"] for event in sums} == {"chat"}


class TestAdministration:
    """``/routecache`` of the proxy."""

    def test_nobody_without_a_key_nor_with_any_key(self, proxy: Proxy, keys: Keys) -> None:
        for method, path in (("GET", "/routecache/stats"), ("POST", "/routecache/invalidate")):
            assert post(proxy, path, {}, key=None, method=method).status == 401
            assert post(proxy, path, {}, key="sk-unknown", method=method).status == 401
            assert post(proxy, path, {}, key=keys.new(), method=method).status == 403

    def test_the_master_key_sees_statistics(self, proxy: Proxy) -> None:
        ask(proxy, "counted")
        ask(proxy, "counted")
        got = post(proxy, "/routecache/stats", {}, key=MASTER_KEY, method="GET")
        assert got.status == 200
        stats = json.loads(got.body)
        assert stats["layers"]["result"]["hits"] >= 1
        assert 0 < stats["hit_rates"]["result"] <= 1
        assert stats["fastlane"]["leases"] >= 1
        assert stats["fastlane"]["stands_aside_for"] is None
        cluster = post(proxy, "/routecache/cluster", {}, key=MASTER_KEY, method="GET")
        assert cluster.status == 200

    def test_an_invalidation_makes_the_next_call_a_miss_in_both_caches(
        self, proxy: Proxy, provider: Provider, keys: Keys
    ) -> None:
        key = keys.new()
        ask(proxy, "invalidated", key=key)
        assert ask(proxy, "invalidated", key=key).is_from_the_lane
        asked = post(proxy, "/routecache/invalidate", {"model": "chat"}, key=MASTER_KEY)
        assert json.loads(asked.body)["dry_run"] is True
        assert ask(proxy, "invalidated", key=key).is_from_the_lane
        body = {"model": "chat", "dry_run": False}
        assert post(proxy, "/routecache/invalidate", body, key=MASTER_KEY).status == 200
        assert ask(proxy, "invalidated", key=key).outcome == "MISS"
        assert provider.count() == 2


@contextlib.contextmanager
def running(
    provider: Provider, folder: Any, *, command: str = "litellm", **options: Any
) -> Iterator[Proxy]:
    """A proxy of the test's own."""
    workers = options.pop("workers", 1)
    config = proxy_config(deployment("chat", provider), **options)
    with start_proxy(config, folder, command=command, workers=workers) as proxy:
        yield proxy


def test_a_guardrail_in_the_chain_keeps_the_lane_closed(provider: Provider, tmp_path: Any) -> None:
    callbacks = (CALLBACK, LOGGER, GUARD)
    with running(provider, tmp_path, callbacks=callbacks, cache={"fast_lane": True}) as proxy:
        for _ in range(3):
            assert not ask(proxy, "guarded").is_from_the_lane
        assert len(proxy.events("guard-before")) == 3
        assert proxy.log.count("the fast lane stands aside") == 1


def test_our_command_needs_no_line_in_the_configuration(provider: Provider, tmp_path: Any) -> None:
    settings = {"fast_lane": True}
    with running(provider, tmp_path, command="routecache", callbacks=(), cache=settings) as proxy:
        ask(proxy, "unnamed")
        assert ask(proxy, "unnamed").is_from_the_lane
        assert provider.count() == 1


def test_several_workers_each_give_leases_of_their_own_and_share_answers(
    provider: Provider, tmp_path: Any, valkey_url: str
) -> None:
    cache = {"fast_lane": True, "url": valkey_url}
    with running(
        provider, tmp_path, command="routecache", workers=2, callbacks=(CALLBACK,), cache=cache
    ) as proxy:
        answers = [ask(proxy, "shared by workers") for _ in range(40)]
        assert [answer.status for answer in answers] == [200] * 40
        assert len({answer.body for answer in answers}) == 1
        assert sum(answer.is_from_the_lane for answer in answers) >= 30
        assert provider.count() == 1


@pytest.mark.slow
def test_a_wrong_setting_keeps_the_proxy_from_starting(provider: Provider, tmp_path: Any) -> None:
    wrong = {"fast_lane": True, "fast_lane_paths": ["/v1/rerank"]}
    config = proxy_config(deployment("chat", provider), cache=wrong)
    with start_proxy(config, tmp_path, command="routecache", is_waited_for=False) as proxy:
        assert proxy.wait_until_ended() != 0
        assert "/v1/rerank" in proxy.log
