"""Which keys get a lease: those that LiteLLM does nothing for but let them in."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from litellm.proxy._types import Member, UserAPIKeyAuth

from routecache_middleware.adapters.litellm.fastlane import eligibility
from routecache_middleware.adapters.litellm.fastlane.dialect import (
    CHAT,
    MESSAGES,
    RESPONSES,
    LaneDialect,
)
from routecache_middleware.adapters.litellm.fastlane.eligibility import accepted, objection

NOW_S = 1_800_000_000.0
TTL_S = 60.0


def key(**fields: Any) -> Any:
    return UserAPIKeyAuth(api_key="hash", **fields)


def why_not(principal: Any) -> str | None:
    return objection(principal, now_s=NOW_S, ttl_s=TTL_S)


def at(seconds: float) -> datetime:
    return datetime.fromtimestamp(NOW_S, UTC) + timedelta(seconds=seconds)


def test_a_key_without_limits_gets_a_lease() -> None:
    assert why_not(key()) is None
    assert why_not(key(team_id="t", user_id="u", user_role="proxy_admin", models=["m"])) is None
    assert why_not(key(spend=3.5, team_spend=7.0, key_alias="mine", team_blocked=False)) is None


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("rpm_limit", 10),
        ("rpm_limit", 0),  # zero is a limit, too
        ("tpm_limit", 10),
        ("max_parallel_requests", 1),
        ("team_rpm_limit", 10),
        ("user_tpm_limit", 10),
        ("end_user_rpm_limit", 10),
        ("rpm_limit_per_model", {"m": 1}),
        ("organization_rpm_limit", 10),
        ("max_budget", 5.0),
        ("max_budget", 0.0),
        ("soft_budget", 5.0),
        ("team_max_budget", 5.0),
        ("user_max_budget", 5.0),
        ("end_user_max_budget", 5.0),
        ("organization_max_budget", 5.0),
        ("model_max_budget", {"m": {"max_budget": 1}}),
        ("budget_limits", [{"max_budget": 1}]),
        ("budget_reservation", {"reserved": 1}),
        ("metadata", {"guardrails": ["g"]}),
        ("metadata", {"model_rpm_limit": {"m": 1}}),
        ("team_metadata", {"guardrails": ["g"]}),
        ("allowed_cache_controls", ["no-cache"]),
        ("blocked", True),
        ("team_blocked", True),
        ("permissions", {"x": True}),
        ("object_permission_id", "o"),
        ("aliases", {"a": "b"}),
        ("team_model_aliases", {"a": "b"}),
        ("team_member", Member(user_id="u", role="user")),
        ("config", {"x": 1}),
        ("router_settings", {"x": 1}),
        ("jwt_claims", {"sub": "x"}),
        ("allowed_model_region", "eu"),
        ("project_id", "p"),
        ("agent_id", "a"),
    ],
)
def test_a_key_for_which_litellm_does_more_gets_none(name: str, value: object) -> None:
    principal = key()
    setattr(principal, name, value)
    assert why_not(principal) == name


def test_every_field_that_is_not_known_to_be_harmless_stands_against_a_lease() -> None:
    """A limit that a later release of LiteLLM adds is on no list, so it counts."""
    for name in UserAPIKeyAuth.model_fields:
        if name == "api_key":
            continue
        principal = key()
        object.__setattr__(principal, "__dict__", {**principal.__dict__, name: "anything"})
        is_harmless = name in eligibility._HARMLESS and name != "expires"
        assert (why_not(principal) is None) is is_harmless, name


def test_what_is_called_harmless_is_no_limit_by_its_name() -> None:
    for name in eligibility._HARMLESS:
        assert not any(word in name for word in ("limit", "budget", "guardrail", "max", "polic"))


def test_a_key_that_ends_before_the_lease_would_gets_none() -> None:
    assert why_not(key(expires=at(TTL_S - 1))) == "expires"
    assert why_not(key(expires=at(TTL_S - 1).isoformat())) == "expires"
    assert why_not(key(expires=at(TTL_S - 1).replace(tzinfo=None).isoformat())) == "expires"
    assert why_not(key(expires="some day")) == "expires"
    assert why_not(key(expires=at(TTL_S + 1))) is None
    assert why_not(key(expires=at(TTL_S + 1).isoformat())) is None


def test_who_was_not_authenticated_gets_none() -> None:
    """A proxy without a master key lets everybody in."""
    assert why_not(UserAPIKeyAuth()) == "api_key"


@pytest.mark.parametrize(
    "data",
    [
        {"metadata": {"guardrails": ["g"]}},
        {"guardrails": ["g"]},
        {"metadata": {"applied_policies": ["p"]}},
        {"metadata": None},
    ],
)
def test_a_request_that_litellm_does_more_for_gets_none(data: dict[str, Any]) -> None:
    given = {"model": "m", "metadata": {}, **data}
    assert accepted(key(), given, CHAT, now_s=NOW_S, ttl_s=TTL_S) is None


@pytest.mark.parametrize("lane", [RESPONSES, MESSAGES], ids=lambda lane: lane.name)
def test_who_asks_is_read_where_litellm_has_written_it(lane: LaneDialect) -> None:
    """In these APIs ``metadata`` is the client's own."""
    mine, theirs = {"user_api_key": "hash"}, {"user_api_key": "forged"}
    data: dict[str, Any] = {"model": "m", "metadata": theirs, "litellm_metadata": mine}
    who = accepted(key(), data, lane, now_s=NOW_S, ttl_s=TTL_S)
    assert who is not None
    assert (who.key, who.metadata, who.lane) == ("hash", mine, lane)
    data["metadata"] = {"sensitive_data_routing_applied": True}  # a mark of a hook of LiteLLM's
    assert accepted(key(), data, lane, now_s=NOW_S, ttl_s=TTL_S) is None
    data["metadata"] = theirs
    data["litellm_metadata"] = {"guardrails": ["g"]}
    assert accepted(key(), data, lane, now_s=NOW_S, ttl_s=TTL_S) is None
    assert accepted(key(), {"metadata": mine}, lane, now_s=NOW_S, ttl_s=TTL_S) is None


def test_only_names_go_into_what_is_logged_later() -> None:
    data = {
        "model": "group",
        "messages": ["a prompt"],
        "metadata": {
            "user_api_key": "hash",
            "user_api_key_team_id": "t",
            "user_api_key_alias": None,
            "user_api_key_auth": key(),
            "headers": {"authorization": "secret"},
        },
    }
    who = accepted(key(end_user_id="u"), data, CHAT, now_s=NOW_S, ttl_s=TTL_S)
    assert who is not None
    assert (who.key, who.model, who.user) == ("hash", "group", "u")
    assert who.metadata == {"user_api_key": "hash", "user_api_key_team_id": "t"}
