import inspect
from collections.abc import Callable
from dataclasses import FrozenInstanceError, asdict, fields
from typing import Any

import pytest

from routecache_middleware.core.choices import (
    Compression,
    DecisionScope,
    Eviction,
    Mode,
    Replay,
    Tenancy,
    Word,
)
from routecache_middleware.core.keys import Layer
from routecache_middleware.core.policy import CachePolicy
from routecache_middleware.core.settings import PROFILES, Settings
from routecache_middleware.errors import ConfigurationError

CANARY = b"canary-7f3a"

DURATIONS = [field.name for field in fields(Settings) if field.name.endswith("_s")]
SIZES = [field.name for field in fields(Settings) if field.name.endswith("_bytes")]


@pytest.mark.parametrize(
    ("profile", "ttls"),
    [
        ("development", (60.0, 300.0, 30.0, 5.0)),
        ("production", (300.0, 600.0, 60.0, 5.0)),
        ("high-traffic", (900.0, 1800.0, 300.0, 3.0)),
    ],
)
def test_a_profile_sets_the_four_ttls(profile: str, ttls: tuple[float, ...]) -> None:
    settings = Settings.profile(profile)
    assert tuple(settings.ttl_s(layer) for layer in Layer) == ttls
    assert settings.mode is Mode.ON


def test_there_are_three_profiles() -> None:
    assert list(PROFILES) == ["development", "production", "high-traffic"]


def test_the_defaults_are_those_of_production() -> None:
    assert Settings() == Settings.profile("production")


def test_an_override_wins_over_its_profile() -> None:
    settings = Settings.profile("development", result_ttl_s=1.0, mode="shadow")
    assert settings.result_ttl_s == 1.0
    assert settings.mode is Mode.SHADOW
    assert settings.routing_ttl_s == 60.0


def test_each_layer_has_its_own_ttl() -> None:
    settings = Settings(routing_ttl_s=1, result_ttl_s=2, metadata_ttl_s=3, load_ttl_s=4)
    assert [settings.ttl_s(layer) for layer in Layer] == [1, 2, 3, 4]


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("mode", Mode),
        ("decision_scope", DecisionScope),
        ("tenancy", Tenancy),
        ("eviction", Eviction),
        ("compression", Compression),
        ("replay", Replay),
    ],
)
def test_plain_words_are_accepted_for_enums(
    name: str, kind: type[Mode | DecisionScope | Tenancy | Eviction | Compression | Replay]
) -> None:
    for member in kind:
        assert getattr(Settings.profile("production", **{name: member.value}), name) is member


@pytest.mark.parametrize(
    "name", ["mode", "decision_scope", "tenancy", "eviction", "compression", "replay"]
)
@pytest.mark.parametrize("value", ["sideways", 3, None])
def test_a_word_that_is_none_of_the_choices_is_named_with_the_choices(
    name: str, value: object
) -> None:
    with pytest.raises(ConfigurationError) as caught:
        Settings.profile("production", **{name: value})
    text = str(caught.value)
    assert text.startswith(f"setting {name} is {value!r}; it has to be one of ")
    assert getattr(Settings(), name).value in text


@pytest.mark.parametrize("name", DURATIONS)
@pytest.mark.parametrize(
    "value", [-1, -0.001, float("nan"), float("inf"), 10**400, "60", True, None]
)
def test_a_duration_is_a_finite_number_of_seconds(name: str, value: object) -> None:
    with pytest.raises(ConfigurationError) as caught:
        Settings.profile("production", **{name: value})
    expected = f"setting {name} is {value!r}; it has to be a finite number of seconds, 0 or more"
    assert str(caught.value) == expected


@pytest.mark.parametrize("name", SIZES)
@pytest.mark.parametrize("value", [-1, 1.5, "1MiB", True, None])
def test_a_size_is_a_whole_number_of_bytes(name: str, value: object) -> None:
    with pytest.raises(ConfigurationError) as caught:
        Settings.profile("production", **{name: value})
    expected = f"setting {name} is {value!r}; it has to be a whole number of bytes, 0 or more"
    assert str(caught.value) == expected


@pytest.mark.parametrize("value", [-1, 1.5, "many", True, None])
def test_a_number_is_a_whole_one(value: object) -> None:
    with pytest.raises(ConfigurationError, match="a whole number, 0 or more"):
        Settings.profile("production", otel_max_lookups=value)


@pytest.mark.parametrize("name", sorted({*DURATIONS, *SIZES} - {"lease_ttl_s"}))
def test_zero_is_allowed(name: str) -> None:
    assert getattr(Settings.profile("production", **{name: 0}), name) == 0


@pytest.mark.parametrize(
    ("build", "name", "value", "remedy"),
    [
        (
            lambda: Settings(credential_headers=frozenset({"X-Key", "x-ok", "A-Key"})),
            "credential_headers",
            "['A-Key', 'X-Key']",
            "header names in lower case",
        ),
        (
            lambda: Settings(secret=b"x" * 15),
            "secret",
            "'<15 bytes>'",
            "at least 16 bytes, or none",
        ),
        (lambda: Settings(secret=b"x" * 65), "secret", "'<65 bytes>'", "at most 64 bytes"),
        (
            lambda: Settings(secret="canary-7f3a-canary"),  # type: ignore[arg-type]
            "secret",
            "'<str>'",
            "bytes",
        ),
        (
            lambda: Settings(router_version=2),  # type: ignore[arg-type]
            "router_version",
            "2",
            "text",
        ),
        (
            lambda: Settings.profile("fast"),
            "profile",
            "'fast'",
            "one of development, production, high-traffic",
        ),
        (
            lambda: CachePolicy(max_temperature=-0.1),
            "max_temperature",
            "-0.1",
            "a number of at least 0, or None for no limit",
        ),
        (
            lambda: CachePolicy(max_temperature=float("nan")),
            "max_temperature",
            "nan",
            "a number of at least 0, or None for no limit",
        ),
        (
            lambda: CachePolicy(max_temperature="1"),  # type: ignore[arg-type]
            "max_temperature",
            "'1'",
            "a number of at least 0, or None for no limit",
        ),
        (
            lambda: CachePolicy(max_temperature=True),
            "max_temperature",
            "True",
            "a number of at least 0, or None for no limit",
        ),
        (
            lambda: CachePolicy(cache_tool_calls=1),  # type: ignore[arg-type]
            "cache_tool_calls",
            "1",
            '"auto", True or False',
        ),
        (
            lambda: CachePolicy(cache_tool_calls="always"),  # type: ignore[arg-type]
            "cache_tool_calls",
            "'always'",
            '"auto", True or False',
        ),
        (
            lambda: CachePolicy(key_headers=frozenset({"X-Tier"})),
            "key_headers",
            "['X-Tier']",
            "header names in lower case",
        ),
        (
            lambda: CachePolicy(stored_headers=frozenset({"Content-Type"})),
            "stored_headers",
            "['Content-Type']",
            "header names in lower case",
        ),
        (
            lambda: CachePolicy(stored_headers=frozenset({"content-type", "set-cookie"})),
            "stored_headers",
            "'set-cookie'",
            "no set-cookie: a cookie belongs to one client",
        ),
    ],
)
def test_an_error_names_setting_value_and_remedy(
    build: Callable[[], object], name: str, value: str, remedy: str
) -> None:
    with pytest.raises(ConfigurationError) as caught:
        build()
    assert str(caught.value) == f"setting {name} is {value}; it has to be {remedy}"


SETS = [
    (Settings, "routed_models"),
    (Settings, "credential_headers"),
    (CachePolicy, "finish_reasons"),
    (CachePolicy, "ignored_fields"),
    (CachePolicy, "key_headers"),
    (CachePolicy, "stored_headers"),
]


@pytest.mark.parametrize(("kind", "name"), SETS)
@pytest.mark.parametrize("value", ["x-key", b"x-key", 3, {"a": 1}.items(), [b"x-key"]])
def test_a_set_is_never_one_string_or_of_anything_but_strings(
    kind: type[Settings | CachePolicy], name: str, value: Any
) -> None:
    with pytest.raises(ConfigurationError) as caught:
        kind(**{name: value})
    assert str(caught.value) == f"setting {name} is {value!r}; it has to be a set of strings"


@pytest.mark.parametrize(("kind", "name"), SETS)
@pytest.mark.parametrize("value", [{"a", "b"}, ["a", "b"], ("a", "b"), frozenset({"a", "b"})])
def test_any_collection_of_strings_becomes_an_immutable_set(
    kind: type[Settings | CachePolicy], name: str, value: Any
) -> None:
    assert getattr(kind(**{name: value}), name) == frozenset({"a", "b"})
    assert isinstance(getattr(kind(**{name: value}), name), frozenset)


@pytest.mark.parametrize(
    "name",
    [name for name, value in asdict(Settings()).items() if isinstance(value, bool)],
)
@pytest.mark.parametrize("value", [1, 0, "false", None])
def test_a_flag_is_true_or_false(name: str, value: object) -> None:
    with pytest.raises(ConfigurationError) as caught:
        Settings.profile("production", **{name: value})
    assert str(caught.value) == f"setting {name} is {value!r}; it has to be True or False"


def test_a_plain_word_type_checks_and_reads_as_the_member() -> None:
    settings = Settings(
        mode="shadow", tenancy="shared", eviction="lru", decision_scope="conversation"
    )
    mode: Mode = settings.mode
    assert mode is Mode.SHADOW
    assert settings.tenancy is Tenancy.SHARED
    assert settings.eviction is Eviction.LRU
    assert settings.decision_scope is DecisionScope.CONVERSATION


def test_a_word_is_for_type_checkers_and_takes_no_part_at_run_time() -> None:
    assert not isinstance(vars(Settings)["mode"], Word)
    with pytest.raises(NotImplementedError):
        Word(Mode.ON).__set__(None, Mode.OFF)


def test_a_setting_that_does_not_exist_is_named_with_those_that_do() -> None:
    with pytest.raises(ConfigurationError, match="no setting named 'reslt_ttl_s'") as caught:
        Settings.profile("production", reslt_ttl_s=1)
    assert "result_ttl_s" in str(caught.value)


@pytest.mark.parametrize("secret", [CANARY, CANARY * 6])
def test_an_error_never_shows_the_secret(secret: bytes) -> None:
    with pytest.raises(ConfigurationError) as caught:
        Settings(secret=secret)
    assert "canary" not in str(caught.value)
    assert caught.value.__context__ is None


@pytest.mark.parametrize("length", [0, 16, 64])
def test_a_secret_is_absent_or_as_long_as_a_blake2b_key(length: int) -> None:
    """RFC 7693 section 2.1: at most 64 bytes."""
    assert len(Settings(secret=b"x" * length).secret) == length


@pytest.mark.parametrize("limit", [None, 0, 0.7])
def test_a_temperature_limit_is_optional(limit: float | None) -> None:
    assert CachePolicy(max_temperature=limit).max_temperature == limit


def test_both_records_are_frozen() -> None:
    with pytest.raises(FrozenInstanceError):
        Settings().mode = Mode.OFF  # type: ignore[misc]
    with pytest.raises(FrozenInstanceError):
        CachePolicy().max_temperature = 1.0  # type: ignore[misc]


@pytest.mark.parametrize("kind", [Settings, CachePolicy])
def test_every_setting_is_documented(kind: type[Settings | CachePolicy]) -> None:
    documentation = inspect.cleandoc(kind.__doc__ or "")  # Python 3.13 strips it, others do not
    for field in fields(kind):
        assert f"\n    {field.name}: " in documentation


def test_a_lease_lasts_long_enough_to_be_renewed() -> None:
    with pytest.raises(ConfigurationError, match=r"lease_ttl_s is 0\.1; it has to be at least 0"):
        Settings(lease_ttl_s=0.1)


@pytest.mark.parametrize(
    ("secrets", "shown"),
    [(b"only-one-secret-", "<bytes>"), (["text-of-16-bytes"], "<str>"), ([b"short"], "<5 bytes>")],
)
def test_previous_secrets_are_a_list_of_secrets(secrets: Any, shown: str) -> None:
    with pytest.raises(ConfigurationError, match=f"previous_secrets is '{shown}'"):
        Settings(previous_secrets=secrets)
    assert Settings(previous_secrets=[b"x" * 16]).previous_secrets == (b"x" * 16,)  # type: ignore[arg-type]


def test_secrets_are_in_no_representation() -> None:
    settings = Settings(secret=b"a" * 20, previous_secrets=(b"b" * 20,))
    assert "aaaa" not in repr(settings)
    assert "bbbb" not in repr(settings)


def test_stale_windows_are_those_of_the_layer() -> None:
    settings = Settings(
        routing_stale_while_revalidate_s=1.0,
        routing_stale_if_error_s=2.0,
        result_stale_while_revalidate_s=3.0,
        result_stale_if_error_s=4.0,
    )
    windows = {layer: settings.stale_windows_s(layer) for layer in Layer}
    assert windows == {
        Layer.ROUTING: (1.0, 2.0),
        Layer.RESULT: (3.0, 4.0),
        Layer.METADATA: (0.0, 0.0),
        Layer.LOAD: (0.0, 0.0),
    }
