"""Where the settings of a LiteLLM process stand, and which of several wins."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped]

from routecache_middleware.adapters.litellm.options import (
    Isolation,
    Options,
    Rival,
    configure,
    for_cache,
)
from routecache_middleware.core.choices import Mode
from routecache_middleware.core.policy import CachePolicy
from routecache_middleware.core.settings import Settings
from routecache_middleware.errors import ConfigurationError
from routecache_middleware.wiring.cache import RouteCache

CANARY = "canary-7f3a-canary"


def from_yaml(text: str, environ: Mapping[str, str] | None = None) -> Any:
    """As the proxy reads its config.yaml."""
    table = yaml.safe_load(text)["callback_settings"]["routecache"]
    return configure(table, environ=environ or {})


def test_with_nothing_given_everything_is_the_default() -> None:
    found = configure(environ={})
    assert found.url == "memory://"
    assert found.settings == Settings()
    assert found.policy == CachePolicy()
    assert found.options == Options()


def test_settings_policy_and_options_stand_side_by_side_in_the_proxys_file() -> None:
    found = from_yaml(
        """
        callback_settings:
          routecache:
            url: redis://cache:6379/0
            profile: high-traffic
            result_ttl_s: 900            # an int where a float is meant
            max_temperature: 1
            isolation: team
            rival: stand-back
            flight_timeout_s: 5
            cheap_router_ms: "2.5"
            fast_lane: true
            fast_lane_paths: /v1/chat/completions, /chat
            credential_headers: [x-tenant]
        """
    )
    assert found.url == "redis://cache:6379/0"
    assert found.settings.result_ttl_s == 900.0
    assert found.settings.routing_ttl_s == Settings.profile("high-traffic").routing_ttl_s
    assert found.settings.credential_headers == {"x-tenant"}
    assert found.policy.max_temperature == 1.0
    assert found.options.isolation is Isolation.TEAM
    assert found.options.rival is Rival.STAND_BACK
    assert found.options.flight_timeout_s == 5.0
    assert found.options.cheap_router_ms == 2.5
    assert found.options.fast_lane is True
    assert found.options.fast_lane_paths == {"/v1/chat/completions", "/chat"}


def test_they_may_also_be_nested_as_in_a_toml_file() -> None:
    found = from_yaml(
        """
        callback_settings:
          routecache:
            result_ttl_s: 9
            policy: {max_temperature: 0.5}
            litellm: {isolation: organization, decisions: false}
        """
    )
    assert found.settings.result_ttl_s == 9.0
    assert found.policy.max_temperature == 0.5
    assert found.options.isolation is Isolation.ORGANIZATION
    assert found.options.decisions is False


@pytest.mark.parametrize(("word", "mode"), [("off", Mode.OFF), ("on", Mode.ON)])
def test_a_bare_off_in_yaml_means_the_mode_and_not_a_boolean(word: str, mode: Mode) -> None:
    found = from_yaml(f"callback_settings: {{routecache: {{mode: {word}}}}}")
    assert found.settings.mode is mode


@pytest.mark.parametrize("table", [None, {}])
def test_an_empty_block_is_as_good_as_none(table: Any) -> None:
    assert configure(table, environ={}).options == Options()


def test_the_environment_wins_over_the_proxys_file_and_arguments_over_both() -> None:
    table = {"result_ttl_s": 1, "isolation": "team", "max_temperature": 0.1, "url": "memory://"}
    environ = {
        "ROUTECACHE_RESULT_TTL_S": "2",
        "ROUTECACHE_LITELLM_ISOLATION": "organization",
        "ROUTECACHE_LITELLM_PIN_DEPLOYMENTS": "true",
        "ROUTECACHE_POLICY_MAX_TEMPERATURE": "0.2",
        "ROUTECACHE_URL": "redis://from-the-environment:6379/0",
    }
    found = configure(table, environ=environ)
    assert found.settings.result_ttl_s == 2.0
    assert found.options.isolation is Isolation.ORGANIZATION
    assert found.options.pin_deployments is True
    assert found.policy.max_temperature == 0.2
    assert found.url == "redis://from-the-environment:6379/0"
    found = configure(
        table,
        environ=environ,
        url="memory://?max_bytes=1000000",
        result_ttl_s=3,
        isolation="key",
        max_temperature=0.3,
    )
    assert found.settings.result_ttl_s == 3
    assert found.options.isolation is Isolation.KEY
    assert found.policy.max_temperature == 0.3
    assert found.url == "memory://?max_bytes=1000000"


def test_the_proxys_file_wins_over_the_toml_file_setting_by_setting(tmp_path: Path) -> None:
    path = tmp_path / "routecache.toml"
    path.write_text(
        """
        [routecache]
        result_ttl_s = 1
        routing_ttl_s = 1
        url = "memory://?max_bytes=1"
        [routecache.policy]
        max_temperature = 0.1
        cache_tool_calls = false
        [routecache.litellm]
        isolation = "team"
        pin_deployments = true
        """,
        "utf-8",
    )
    environ = {"ROUTECACHE_CONFIG": str(path)}
    table = {"result_ttl_s": 2, "isolation": "organization", "max_temperature": 0.2}
    found = configure(table, environ=environ)
    assert (found.settings.result_ttl_s, found.settings.routing_ttl_s) == (2.0, 1.0)
    assert (found.policy.max_temperature, found.policy.cache_tool_calls) == (0.2, False)
    assert found.options.isolation is Isolation.ORGANIZATION
    assert found.options.pin_deployments is True
    assert found.url == "memory://?max_bytes=1"


def test_secrets_given_as_text_become_bytes() -> None:
    found = from_yaml(
        f"""
        callback_settings:
          routecache:
            secret: {CANARY}
            previous_secrets: [{CANARY}-old]
        """
    )
    assert found.settings.secret == CANARY.encode()
    assert found.settings.previous_secrets == (f"{CANARY}-old".encode(),)


@pytest.mark.parametrize(
    "table",
    [
        {"secret": CANARY[:9]},
        {"secret": 7, "previous_secrets": [CANARY]},
        {"secret": [CANARY]},
        {"previous_secrets": {CANARY: 1}},
        {"secrett": CANARY},
        {"url": ["redis://:" + CANARY + "@h"]},
        {"secret": CANARY, "result_ttl_s": "soon"},
    ],
)
def test_secrets_never_stand_in_an_error(table: dict[str, object]) -> None:
    with pytest.raises(ConfigurationError) as caught:
        configure(table, environ={})
    error: BaseException | None = caught.value
    while error is not None:
        assert CANARY[:9] not in str(error)
        error = error.__cause__ or error.__context__


@pytest.mark.parametrize(
    ("table", "text"),
    [
        (
            {"isolation": "tenant"},
            "isolation is 'tenant'; it has to be one of key, team, organization, none",
        ),
        ({"isolation": True}, "isolation is True; it has to be one of"),
        ({"rival": "fight"}, "rival is 'fight'; it has to be one of win, stand-back"),
        ({"fast_lane": "perhaps"}, "fast_lane is 'perhaps'; it has to be true or false"),
        ({"admin": 3}, "admin is 3; it has to be true or false"),
        ({"flight_timeout_s": -1}, "flight_timeout_s is -1.0; it has to be seconds, 0 or more"),
        ({"flight_timeout_s": "soon"}, "flight_timeout_s is 'soon'; it has to be a number"),
        ({"cheap_router_ms": float("nan")}, "cheap_router_ms is nan; it has to be milliseconds"),
        ({"fast_lane_paths": 3}, "fast_lane_paths is 3; it has to be a list"),
        ({"result_ttl_s": []}, r"result_ttl_s is \[\]; it has to be a number"),
        ({"isolatoin": "key"}, "no setting named 'isolatoin'; did you mean isolation"),
        ({"result_ttl": 1}, "no setting named 'result_ttl'; did you mean result_ttl_s"),
        ({"litellm": {"result_ttl_s": 1}}, "there is no setting named 'result_ttl_s'"),
        ({"litellm": [1]}, "callback_settings.routecache.litellm is not a mapping"),
        ({"policy": "x"}, "callback_settings.routecache.policy is not a mapping"),
        ("isolation: key", "callback_settings.routecache is not a mapping"),
        ({"profile": "fast"}, "profile is 'fast'; it has to be one of development, production"),
    ],
)
def test_a_wrong_value_is_an_error_that_names_setting_value_and_remedy(
    table: Any, text: str
) -> None:
    with pytest.raises(ConfigurationError, match=text):
        configure(table, environ={})


@pytest.mark.parametrize(
    "table",
    [
        {"isolation": "kay"},
        {"litellm": {"isolation": "kay"}},
        {"result_ttl_s": "soon"},
        {"max_temperature": "hot"},
        {"policy": {"max_temperature": "hot"}},
        {"profile": "fast"},
        {"url": 5},
    ],
)
def test_an_error_in_the_file_says_where_litellms_users_find_it(table: dict[str, Any]) -> None:
    """They have no ``[routecache.litellm]``, which is how a TOML file would have it."""
    with pytest.raises(ConfigurationError) as caught:
        configure(table, environ={})
    place = r"^\w+ in callback_settings\.routecache of LiteLLM's configuration: setting \w+ is "
    assert re.match(place, str(caught.value))
    assert "[" not in str(caught.value)


@pytest.mark.parametrize(
    ("variable", "text"),
    [
        ("ROUTECACHE_LITELLM_ISOLATION", "ROUTECACHE_LITELLM_ISOLATION.*isolation is 'wrong'"),
        ("ROUTECACHE_LITELLM_ADMIN", "ROUTECACHE_LITELLM_ADMIN.*admin is 'wrong'; .*true or false"),
        ("ROUTECACHE_LITELLM_ADMINS", "ROUTECACHE_LITELLM_ADMINS.*did you mean admin"),
    ],
)
def test_an_error_in_the_environment_names_the_variable(variable: str, text: str) -> None:
    with pytest.raises(ConfigurationError, match=text):
        configure(environ={variable: "wrong"})


@pytest.mark.parametrize(
    ("overrides", "text"),
    [
        ({"isolatio": "key"}, "argument isolatio: .*did you mean isolation"),
        ({"result_ttl": 1}, "argument result_ttl: .*did you mean result_ttl_s"),
        ({"max_temprature": 1}, "argument max_temprature: .*did you mean max_temperature"),
        ({"isolation": 3}, "isolation is 3; it has to be one of"),
        ({"flight_timeout_s": "3"}, "flight_timeout_s is '3'; it has to be seconds"),
    ],
)
def test_a_wrong_argument_is_an_error_that_names_the_nearest(
    overrides: dict[str, Any], text: str
) -> None:
    with pytest.raises(ConfigurationError, match=text):
        configure(environ={}, **overrides)


def test_options_are_frozen_and_read_as_members() -> None:
    options = Options(isolation="none", fast_lane_paths=frozenset({"/a"}))
    assert options.isolation is Isolation.NONE
    with pytest.raises(AttributeError):
        options.admin = False  # type: ignore[misc]


def test_a_cache_that_is_given_brings_its_own_settings_and_takes_options_alone() -> None:
    cache = RouteCache.from_url("memory://", settings=Settings(result_ttl_s=7))
    found = for_cache(cache, isolation="team")
    assert found.settings.result_ttl_s == 7
    assert found.url == "memory://"
    assert found.options.isolation is Isolation.TEAM
    for late in ({"result_ttl_s": 1}, {"max_temperature": 1}, {"profile": "production"}):
        with pytest.raises(ConfigurationError, match="together with cache=; give it to the cache"):
            for_cache(cache, **late)
