"""The fast lane before the real proxy, started by LiteLLM's own command, then by ours."""

import contextlib
import http.client
import json
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.adapters.litellm.configs import (
    CALLBACK,
    GUARD,
    LOGGER,
    MASTER_KEY,
    deployment,
    proxy_config,
)
from tests.adapters.litellm.e2e.conftest import Keys
from tests.adapters.litellm.fastlane.posting import LEASE_S, Got, ask, post
from tests.adapters.litellm.provider import Answer, Provider
from tests.adapters.litellm.proxy import Proxy, start_proxy
from tests.support.child import wait_until


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
