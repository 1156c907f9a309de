import math
from collections.abc import Callable
from dataclasses import dataclass, fields
from functools import partial
from pathlib import Path
from typing import get_origin, get_type_hints

import pytest

from routecache_middleware.core.choices import Eviction, Mode, Word
from routecache_middleware.core.override import Override
from routecache_middleware.core.policy import CachePolicy
from routecache_middleware.core.settings import Settings
from routecache_middleware.errors import ConfigurationError
from routecache_middleware.gateway.settings import GatewaySettings, ModelSettings, RouteSettings
from routecache_middleware.wiring.config import (
    configured_url,
    load_policy,
    load_settings,
    load_table,
)
from routecache_middleware.wiring.conversion import EXPECTED

CANARY = "canary-7f3a-canary"


@pytest.fixture
def toml(tmp_path: Path) -> Path:
    path = tmp_path / "routecache.toml"
    path.write_text(
        """
        [routecache]
        url = "redis://file:6379/0"
        profile = "high-traffic"
        result_ttl_s = 11
        mode = "shadow"
        credential_headers = ["x-file"]

        [routecache.policy]
        max_temperature = 0.5
        key_headers = ["x-tier"]

        [routecache.admin]
        token = "not ours to read"

        [another.program]
        mode = "irrelevant"
        """,
        "utf-8",
    )
    return path


def test_with_nothing_given_everything_is_the_default() -> None:
    assert load_settings(environ={}) == Settings()
    assert load_policy(environ={}) == CachePolicy()
    assert configured_url(environ={}) == "memory://"


def test_argument_over_environment_over_file_over_profile_over_default(toml: Path) -> None:
    environ = {"ROUTECACHE_RESULT_TTL_S": "22", "ROUTECACHE_MODE": "off"}
    settings = load_settings(toml_path=toml, environ=environ, mode="read_only")
    assert settings.mode is Mode.READ_ONLY  # argument
    assert settings.result_ttl_s == 22.0  # environment
    assert settings.credential_headers == {"x-file"}  # file
    assert settings.routing_ttl_s == 900.0  # profile
    assert settings.auth_ttl_s == 60.0  # default
    assert load_settings(toml_path=toml, environ={}).result_ttl_s == 11.0


def test_previous_secrets_are_a_list_wherever_they_are_set(tmp_path: Path) -> None:
    expected = (b"former-secret-16", b"older-secret-16b")
    variable = {"ROUTECACHE_PREVIOUS_SECRETS": "former-secret-16,older-secret-16b"}
    assert load_settings(environ=variable).previous_secrets == expected
    path = tmp_path / "routecache.toml"
    path.write_text(
        '[routecache]\nprevious_secrets = ["former-secret-16", "older-secret-16b"]', "utf-8"
    )
    assert load_settings(toml_path=path, environ={}).previous_secrets == expected
    path.write_text("[routecache]\nprevious_secrets = [1]", "utf-8")
    with pytest.raises(ConfigurationError, match=r"previous_secrets is <hidden>; it has to be a"):
        load_settings(toml_path=path, environ={})


@pytest.mark.parametrize(
    ("profile", "environ", "routing_ttl_s"),
    [
        ("development", {"ROUTECACHE_PROFILE": "production"}, 60.0),
        (None, {"ROUTECACHE_PROFILE": "production"}, 300.0),
        (None, {"ROUTECACHE_PROFILE": ""}, 900.0),
        (None, {}, 900.0),
    ],
)
def test_the_profile_has_the_same_precedence(
    toml: Path, profile: str | None, environ: dict[str, str], routing_ttl_s: float
) -> None:
    settings = load_settings(profile=profile, toml_path=toml, environ=environ)
    assert settings.routing_ttl_s == routing_ttl_s


@pytest.mark.parametrize(
    ("url", "environ", "expected"),
    [
        ("lmdb:///a", {"ROUTECACHE_URL": "redis://env"}, "lmdb:///a"),
        (None, {"ROUTECACHE_URL": "redis://env"}, "redis://env"),
        (None, {"ROUTECACHE_URL": ""}, "redis://file:6379/0"),
    ],
)
def test_the_url_has_the_same_precedence(
    toml: Path, url: str | None, environ: dict[str, str], expected: str
) -> None:
    assert configured_url(url, toml_path=toml, environ=environ) == expected


def test_the_environment_may_name_the_file_and_the_argument_wins(
    toml: Path, tmp_path: Path
) -> None:
    environ = {"ROUTECACHE_CONFIG": str(toml)}
    assert load_settings(environ=environ).mode is Mode.SHADOW
    assert load_policy(environ=environ).max_temperature == 0.5
    assert configured_url(environ=environ) == "redis://file:6379/0"
    other = tmp_path / "other.toml"
    other.write_text("[routecache]\n")
    assert load_settings(toml_path=str(other), environ=environ) == Settings()


def test_the_environment_is_that_of_the_process_unless_given(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("ROUTECACHE_EVICTION", "lru")
    monkeypatch.setenv("ROUTECACHE_POLICY_MAX_TEMPERATURE", "0")
    monkeypatch.setenv("ROUTECACHE_URL", "lmdb:///a")
    assert load_settings().eviction is Eviction.LRU
    assert load_policy().max_temperature == 0.0
    assert configured_url() == "lmdb:///a"


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("result_ttl_s", "0.5", 0.5),
        ("max_result_bytes", "2048", 2048),
        ("coalescing", "false", False),
        ("coalescing", "0", False),
        ("server_timing", "TRUE", True),
        ("server_timing", "1", True),
        ("mode", "write_only", Mode.WRITE_ONLY),
        ("router_version", "v7", "v7"),
        ("router_version", "none", "none"),
        ("routed_models", "none", None),
        ("routed_models", "None", None),
        ("routed_models", "auto, smart ,", {"auto", "smart"}),
        ("credential_headers", "x-key", {"x-key"}),
        ("secret", CANARY, CANARY.encode()),
        ("secret", "\udcff" * 16, b"\xff" * 16),
        ("result_ttl_s", "", 600.0),
    ],
)
def test_an_environment_variable_is_text_for_any_kind_of_setting(
    name: str, text: str, expected: object
) -> None:
    settings = load_settings(environ={f"ROUTECACHE_{name.upper()}": text})
    assert getattr(settings, name) == expected


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("max_temperature", "none", None),
        ("max_temperature", "1", 1.0),
        ("cache_tool_calls", "auto", "auto"),
        ("cache_tool_calls", "true", True),
        ("cache_tool_calls", "0", False),
        ("finish_reasons", "stop,length", {"stop", "length"}),
    ],
)
def test_the_policy_has_a_prefix_of_its_own(name: str, text: str, expected: object) -> None:
    environ = {f"ROUTECACHE_POLICY_{name.upper()}": text}
    assert getattr(load_policy(environ=environ), name) == expected
    assert load_settings(environ=environ) == Settings()


def test_no_setting_could_be_taken_for_one_of_the_policy_or_the_admin_app() -> None:
    for field in fields(Settings):
        assert not field.name.startswith(("policy_", "admin_"))
        assert field.name not in {"admin", "config", "policy", "profile", "url"}


def test_every_kind_of_setting_has_words_for_what_it_should_be() -> None:
    of_the_gateway = (GatewaySettings, ModelSettings, RouteSettings)
    records = (Settings, CachePolicy, Override, *of_the_gateway)
    held = {hint for one in records for hint in get_type_hints(one).values()}
    held -= {tuple[Override, ...], tuple[ModelSettings, ...], tuple[RouteSettings, ...]}
    held -= {get_type_hints(CachePolicy)["decide"]}
    assert {hint for hint in held if get_origin(hint) is not Word} == EXPECTED.keys()


@pytest.mark.parametrize(
    ("variable", "value", "remedy"),
    [
        ("ROUTECACHE_RESULT_TTL_S", "soon", "a number"),
        ("ROUTECACHE_RESULT_TTL_S", "-1", "a finite number of seconds, 0 or more"),
        ("ROUTECACHE_RESULT_TTL_S", "nan", "a finite number of seconds, 0 or more"),
        ("ROUTECACHE_MAX_RESULT_BYTES", "1MiB", "a whole number"),
        ("ROUTECACHE_MAX_RESULT_BYTES", "-1", "a whole number of bytes, 0 or more"),
        ("ROUTECACHE_COALESCING", "maybe", "true or false"),
        ("ROUTECACHE_COALESCING", "none", "true or false"),
        ("ROUTECACHE_MODE", "sideways", "one of on, off, read_only, write_only, shadow"),
        ("ROUTECACHE_PROFILE", "fast", "one of development, production, high-traffic"),
        ("ROUTECACHE_CREDENTIAL_HEADERS", "X-Key", "header names in lower case"),
    ],
)
def test_a_wrong_variable_is_named_with_value_and_remedy(
    variable: str, value: str, remedy: str
) -> None:
    name = variable.removeprefix("ROUTECACHE_").lower()
    with pytest.raises(ConfigurationError) as caught:
        load_settings(environ={variable: value})
    text = str(caught.value)
    assert text.startswith(f"environment variable {variable}: setting {name} is ")
    assert value in text
    assert text.endswith(f"; it has to be {remedy}")


def test_a_wrong_policy_variable_is_named_with_value_and_remedy() -> None:
    with pytest.raises(ConfigurationError) as caught:
        load_policy(environ={"ROUTECACHE_POLICY_CACHE_TOOL_CALLS": "always"})
    assert str(caught.value) == (
        "environment variable ROUTECACHE_POLICY_CACHE_TOOL_CALLS: setting cache_tool_calls is"
        """ 'always'; it has to be "auto", true or false"""
    )


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("result_ttl_s = true", "setting result_ttl_s is True; it has to be a number"),
        ("mode = 3", "setting mode is 3; it has to be one of on, off"),
        ("credential_headers = [1]", "setting credential_headers is [1]; it has to be a list"),
        ("profile = 1", "setting profile is 1; it has to be text"),
        ('profile = "fast"', "setting profile is 'fast'; it has to be one of development"),
        ("reslt_ttl_s = 1", "there is no setting named 'reslt_ttl_s'; did you mean result_ttl_s?"),
        (
            "zzz = 1",
            "there is no setting named 'zzz'; the settings are routing_ttl_s, result_ttl_s",
        ),
        ('config = "x"', "there is no setting named 'config'; the settings are"),
    ],
)
def test_a_wrong_line_of_the_file_is_named_with_the_file(
    tmp_path: Path, line: str, expected: str
) -> None:
    path = tmp_path / "routecache.toml"
    path.write_text(f"[routecache]\n{line}\n")
    with pytest.raises(ConfigurationError) as caught:
        load_settings(toml_path=path, environ={})
    where = f"{line.partition(' ')[0]} in [routecache] of {path}: "
    assert str(caught.value).startswith(where + expected)


def test_a_wrong_line_of_the_policy_is_named_with_its_table(tmp_path: Path) -> None:
    path = tmp_path / "routecache.toml"
    path.write_text('[routecache.policy]\nstored_headers = ["set-cookie"]\n')
    with pytest.raises(ConfigurationError) as caught:
        load_policy(toml_path=path, environ={})
    where = f"stored_headers in [routecache.policy] of {path}: setting stored_headers is 'set-coo"
    assert str(caught.value).startswith(where)
    assert load_settings(toml_path=path, environ={}) == Settings()


OVERRIDES = """
[routecache]
[[routecache.policy.overrides]]
models = ["gpt-*"]
ttl_s = 60
max_temperature = inf
cache_tool_calls = "auto"
[[routecache.policy.overrides]]
paths = "/live/*"
is_cached = false
finish_reasons = ["stop"]
"""


def test_overrides_are_tables_of_the_file(tmp_path: Path) -> None:
    path = tmp_path / "routecache.toml"
    path.write_text(OVERRIDES)
    assert load_policy(toml_path=path, environ={}).overrides == (
        Override(
            models=frozenset({"gpt-*"}),
            ttl_s=60,
            max_temperature=math.inf,
            cache_tool_calls="auto",
        ),
        Override(paths=frozenset({"/live/*"}), is_cached=False, finish_reasons=frozenset({"stop"})),
    )


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("ttl_s = 60", "ttl = 60", "there is no setting named 'ttl'; did you mean ttl_s?"),
        ("ttl_s = 60", 'ttl_s = "long"', "setting ttl_s is 'long'; it has to be a number"),
        ("ttl_s = 60", "ttl_s = -1", "setting ttl_s is -1.0; it has to be a finite number"),
        ("is_cached = false", "is_cached = 3", "setting is_cached is 3; it has to be true or"),
    ],
)
def test_a_wrong_line_of_an_override_is_named_with_its_number(
    tmp_path: Path, old: str, new: str, expected: str
) -> None:
    path = tmp_path / "routecache.toml"
    path.write_text(OVERRIDES.replace(old, new))
    with pytest.raises(ConfigurationError) as caught:
        load_policy(toml_path=path, environ={})
    name, number = new.partition(" ")[0], 2 if "is_cached" in old else 1
    where = f"{name} in number {number} of overrides in [routecache.policy] of {path}: "
    assert str(caught.value).startswith(where + expected)


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("overrides = 5", "a list of tables: [[routecache.policy.overrides]]"),
        ("overrides = [5]", "a list of tables: [[routecache.policy.overrides]]"),
        ('decide = "module:function"', "given in code: no file can hold it"),
    ],
)
def test_what_a_file_cannot_say_is_refused(tmp_path: Path, line: str, expected: str) -> None:
    path = tmp_path / "routecache.toml"
    path.write_text(f"[routecache.policy]\n{line}\n")
    with pytest.raises(ConfigurationError) as caught:
        load_policy(toml_path=path, environ={})
    assert str(caught.value).endswith(f"; it has to be {expected}")


@pytest.mark.parametrize("variable", ["ROUTECACHE_RESULT_TTL", "ROUTECACHE_POLICY_MAX_TEMP"])
def test_a_variable_that_is_no_setting_is_an_error(variable: str) -> None:
    load = load_policy if "POLICY" in variable else load_settings
    with pytest.raises(ConfigurationError) as caught:
        load(environ={variable: "1"})
    assert str(caught.value).startswith(f"environment variable {variable}: there is no setting")
    assert "did you mean" in str(caught.value)


@pytest.mark.parametrize(
    "variable",
    [
        "ROUTECACHE_SERVICE_HOST",
        "ROUTECACHE_SERVICE_PORT",
        "ROUTECACHE_SERVICE_PORT_HTTP",
        "ROUTECACHE_PORT",
        "ROUTECACHE_PORT_6379_TCP",
        "ROUTECACHE_PORT_6379_TCP_ADDR",
        "ROUTECACHE_REDIS_SERVICE_HOST",
        "ROUTECACHE_REDIS_PORT_6379_TCP_PROTO",
        "ROUTECACHE_ADMIN_TOKEN",
    ],
)
def test_variables_of_kubernetes_services_and_of_the_admin_app_are_left_alone(
    variable: str,
) -> None:
    """A service named ``routecache-redis`` must not keep the gateway from starting."""
    assert load_settings(environ={variable: "x"}) == Settings()


def test_variables_of_other_programs_are_left_alone() -> None:
    assert load_settings(environ={"ROUTECACHES_MODE": "x", "MODE": "x", "routecache_mode": "x"})


@pytest.mark.parametrize("load", [load_settings, load_policy])
def test_an_argument_that_is_no_setting_is_an_error(load: Callable[..., object]) -> None:
    with pytest.raises(ConfigurationError, match="argument zzz: there is no setting named 'zzz'"):
        load(environ={}, zzz=1)


def test_a_wrong_argument_is_an_error() -> None:
    with pytest.raises(ConfigurationError, match="setting result_ttl_s is -1; it has to be"):
        load_settings(environ={}, result_ttl_s=-1)
    with pytest.raises(ConfigurationError, match="argument profile: setting profile is 'fast'"):
        load_settings(environ={}, profile="fast")


@pytest.mark.parametrize(
    "environ",
    [
        {"ROUTECACHE_SECRET": CANARY[:12]},
        {"ROUTECACHE_SECRET": CANARY * 8},
        {"ROUTECACHE_SECERT": CANARY},
    ],
)
def test_no_error_shows_a_secret_from_the_environment(environ: dict[str, str]) -> None:
    """Not even under a name with a typo in it."""
    with pytest.raises(ConfigurationError) as caught:
        load_settings(environ=environ)
    assert "canary" not in str(caught.value)
    assert caught.value.__suppress_context__ or caught.value.__context__ is None


@pytest.mark.parametrize(
    ("load", "text"),
    [
        (load_settings, f'[routecache]\nsecret = ["{CANARY}"]\n'),
        (load_settings, f'[routecache]\nsecert = "{CANARY}"\n'),
        (load_settings, f'[routecache]\nsecret = "{CANARY}\n'),
        (load_settings, f'routecache = "{CANARY}"\n'),
        (configured_url, f'[routecache]\nurl = ["redis://:{CANARY}@host"]\n'),
    ],
)
def test_no_error_shows_a_secret_from_the_file(
    tmp_path: Path, load: Callable[..., object], text: str
) -> None:
    path = tmp_path / "routecache.toml"
    path.write_text(text)
    with pytest.raises(ConfigurationError) as caught:
        load(toml_path=path, environ={})
    assert "canary" not in str(caught.value)
    assert caught.value.__suppress_context__ or caught.value.__context__ is None


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"[routecache", "is not TOML: "),
        (b"[routecache]\nx = '\xff'", "is not TOML: it is not UTF-8"),
        (b"", "has no table [routecache]; add one"),
        (b"mode = 'on'", "has no table [routecache]; add one"),
        (b"routecache = 1", "is not a table; write it in square brackets"),
    ],
)
def test_a_file_that_cannot_be_understood_is_named(
    tmp_path: Path, content: bytes, expected: str
) -> None:
    path = tmp_path / "routecache.toml"
    path.write_bytes(content)
    with pytest.raises(ConfigurationError) as caught:
        load_settings(toml_path=path, environ={})
    assert str(path) in str(caught.value)
    assert expected in str(caught.value)


def test_a_policy_that_is_no_table_is_named(tmp_path: Path) -> None:
    path = tmp_path / "routecache.toml"
    path.write_text("[routecache]\npolicy = 1\n")
    with pytest.raises(ConfigurationError, match=r"\[routecache.policy\] of .* is not a table"):
        load_policy(toml_path=path, environ={})


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="cannot be read: No such file") as caught:
        configured_url(toml_path=tmp_path / "absent.toml", environ={})
    assert isinstance(caught.value.__cause__, OSError)


@dataclass(frozen=True, slots=True, kw_only=True)
class Knobs:
    """Settings of an adapter."""

    depth: int = 1
    is_lively: bool = False
    names: frozenset[str] = frozenset()


def test_an_adapters_table_follows_the_same_order_of_precedence(tmp_path: Path) -> None:
    path = tmp_path / "routecache.toml"
    path.write_text("[routecache.litellm]\ndepth = 2\nnames = ['file']\nis_lively = true", "utf-8")
    table = {"litellm": {"depth": 3, "names": "host"}}
    environ = {"ROUTECACHE_LITELLM_DEPTH": "4"}
    load = partial(load_table, Knobs, "litellm", toml_path=path)
    assert load(environ={}).depth == 2
    assert load(environ={}, table=table) == Knobs(
        depth=3, names=frozenset({"host"}), is_lively=True
    )
    assert load(environ=environ, table=table).depth == 4
    assert load(environ=environ, table=table, depth=5).depth == 5


def test_a_hosts_table_hides_nothing_but_what_it_names(toml: Path) -> None:
    table = {"result_ttl_s": 5, "policy": {"max_temperature": 0.25}, "url": "memory://"}
    settings = load_settings(toml_path=toml, environ={}, table=table)
    assert settings.result_ttl_s == 5.0
    assert settings.mode is Mode.SHADOW
    assert settings.routing_ttl_s == 900.0  # the file's profile
    policy = load_policy(toml_path=toml, environ={}, table=table)
    assert policy.max_temperature == 0.25
    assert policy.key_headers == {"x-tier"}
    assert configured_url(toml_path=toml, environ={}, table=table) == "memory://"
    assert configured_url(toml_path=toml, environ={}, table={}) == "redis://file:6379/0"


def test_an_error_says_in_which_of_two_files_it_was_found(toml: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"of the host's configuration.*result_ttl_s"):
        load_settings(toml_path=toml, environ={}, table={"result_ttl_s": "soon"})
    toml.write_text("[routecache]\nresult_ttl_s = 'soon'", "utf-8")
    with pytest.raises(ConfigurationError, match=r"of /.*toml.*result_ttl_s"):
        load_settings(toml_path=toml, environ={}, table={"mode": "off"})


def test_an_adapters_options_are_no_settings_of_the_cache() -> None:
    environ = {"ROUTECACHE_LITELLM_DEPTH": "4"}
    assert load_settings(environ=environ) == Settings()
    with pytest.raises(ConfigurationError, match=r"ROUTECACHE_LITELLM_DETPH.*did you mean depth"):
        load_table(Knobs, "litellm", environ={"ROUTECACHE_LITELLM_DETPH": "4"})
