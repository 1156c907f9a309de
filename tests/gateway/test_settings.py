"""What a configuration may say, and the errors that teach."""

import re
from pathlib import Path
from typing import Any

import pytest

from routecache_middleware.core.prices import Price
from routecache_middleware.errors import ConfigurationError
from routecache_middleware.gateway import create_app
from routecache_middleware.gateway.app import Gateway
from routecache_middleware.gateway.catalogue import Catalogue
from routecache_middleware.gateway.settings import GatewaySettings, ModelSettings, RouteSettings
from routecache_middleware.wiring.config import load_table
from routecache_middleware.wiring.prices import load_prices
from tests.gateway.kit import KEY, gateway
from tests.support.readme_tables import README, meanings

URL = "http://127.0.0.1:1"
CANARY = "sk-canary-0123456789"
TOML = """
[routecache]
url = "memory://"
result_ttl_s = 7
[routecache.gateway]
upstream = "http://127.0.0.1:1/v1"
port = 0
[[routecache.gateway.models]]
name = "gpt-*"
base_url = "https://api.openai.com/v1"
api_key_env = "OPENAI_API_KEY"
fallbacks = ["local"]
[[routecache.gateway.models]]
name = "local"
rename = "llama"
[[routecache.gateway.routes]]
model = "local"
max_chars = 100
handles = []
price = 0.5
[[routecache.gateway.routes]]
model = "gpt-5"
weight = 2
"""


def test_a_file_says_it_all(tmp_path: Path) -> None:
    file = tmp_path / "gateway.toml"
    file.write_text(TOML, encoding="utf-8")
    settings = load_table(GatewaySettings, "gateway", toml_path=file, environ={}, host="::1")
    assert settings.host == "::1"
    assert settings.models == (
        ModelSettings(
            name="gpt-*",
            base_url="https://api.openai.com/v1",
            api_key_env="OPENAI_API_KEY",
            fallbacks=("local",),
        ),
        ModelSettings(name="local", rename="llama"),
    )
    assert settings.routes[0].max_chars == 100
    assert settings.routes[0].handles == ()
    assert settings.routes[1] == RouteSettings(model="gpt-5", weight=2)
    made = Gateway(settings, toml_path=file, environ={"OPENAI_API_KEY": CANARY})
    assert made.cache.settings.result_ttl_s == 7
    assert made.cache.settings.routed_models == frozenset({"auto"})
    assert made.hosts == ("127.0.0.1:1", "api.openai.com")


def test_the_environment_says_it_for_servers_that_want_a_factory(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("ROUTECACHE_GATEWAY_UPSTREAM", URL)
    assert callable(create_app())
    monkeypatch.setenv("ROUTECACHE_GATEWAY_UPSTREM", URL)
    with pytest.raises(ConfigurationError, match="did you mean upstream"):
        create_app()


@pytest.mark.parametrize("record", [GatewaySettings, ModelSettings, RouteSettings])
def test_every_setting_says_what_it_means(record: type[Any]) -> None:
    said = meanings(record)
    assert set(said) == set(record.__dataclass_fields__)
    assert all(meaning.endswith(".") for meaning in said.values())


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("modles = []", "did you mean models"),
        ("models = 7", "a list of tables"),
        ("[[routecache.gateway.models]]\nnmae = 'x'", "nmae in number 1 of models in"),
        ("[[routecache.gateway.models]]\nfallbacks = 'x'", "a list of texts"),
        ("[[routecache.gateway.routes]]\nmax_chars = 'many'", "a whole number, or none"),
        ("[[routecache.gateway.routes]]\nweight = 0", "above 0"),
    ],
)
def test_a_file_that_makes_no_sense_says_where(tmp_path: Path, text: str, words: str) -> None:
    file = tmp_path / "gateway.toml"
    file.write_text(f"[routecache.gateway]\n{text}\n", encoding="utf-8")
    with pytest.raises(ConfigurationError, match=words):
        load_table(GatewaySettings, "gateway", toml_path=file, environ={})


@pytest.mark.parametrize(
    ("record", "name", "value", "words"),
    [
        (GatewaySettings, "upstream", "api.openai.com", "http:// or https://"),
        (GatewaySettings, "upstream", "ftp://host", "http:// or https://"),
        (GatewaySettings, "upstream", "https://", "http:// or https://"),
        (GatewaySettings, "upstream", "https://host:0", "http:// or https://"),
        (GatewaySettings, "upstream", "https://host:port", "http:// or https://"),
        (GatewaySettings, "upstream", "https://[host", "http:// or https://"),
        (GatewaySettings, "upstream", "https://host/?key=1", "without query"),
        (GatewaySettings, "upstream", "https://host/#x", "without query"),
        (GatewaySettings, "upstream", "https://host/\r\nx", "http:// or https://"),
        (GatewaySettings, "upstream", 7, "http:// or https://"),
        (GatewaySettings, "host", "", "an address"),
        (GatewaySettings, "host", "a\nb", "control"),
        (GatewaySettings, "host", 7, "text"),
        (GatewaySettings, "port", 70_000, "at most 65535"),
        (GatewaySettings, "port", -1, "0 or more"),
        (GatewaySettings, "port", True, "whole number"),
        (GatewaySettings, "max_connections", 0, "1 or more"),
        (GatewaySettings, "connect_timeout_s", 0, "above 0"),
        (GatewaySettings, "idle_timeout_s", float("nan"), "above 0"),
        (GatewaySettings, "drain_s", -1, "0 or more"),
        (GatewaySettings, "use_environment_proxy", "yes", "True or False"),
        (ModelSettings, "name", "", "the name of a model"),
        (ModelSettings, "rename", "a*", "one model"),
        (ModelSettings, "fallbacks", "a", "a list of texts"),
        (RouteSettings, "alias", "", "the name of a model"),
        (RouteSettings, "alias", "a*", "one name"),
        (RouteSettings, "min_chars", 1.5, "whole number"),
        (RouteSettings, "max_chars", -1, "0 or more"),
        (RouteSettings, "handles", ["video"], "images, tools"),
        (RouteSettings, "price", -1, "0 or more"),
        (RouteSettings, "weight", 0, "above 0"),
    ],
)
def test_a_wrong_value_is_named_with_its_remedy(
    record: Any, name: str, value: object, words: str
) -> None:
    with pytest.raises(ConfigurationError, match=words) as said:
        record(**{name: value})
    assert name in str(said.value)


@pytest.mark.parametrize("name", ["api_key_env", "client_keys_env"])
def test_a_key_in_the_place_of_a_name_is_not_shown(name: str) -> None:
    with pytest.raises(ConfigurationError, match="not the key itself") as said:
        GatewaySettings(**{name: CANARY})  # type: ignore[arg-type]
    assert CANARY not in str(said.value)


def test_a_password_in_an_address_is_not_shown() -> None:
    with pytest.raises(ConfigurationError, match="api_key_env") as said:
        GatewaySettings(upstream=f"https://user:{CANARY}@host/v1")
    assert CANARY not in str(said.value)


def models(*tables: dict[str, Any]) -> tuple[ModelSettings, ...]:
    return tuple(ModelSettings(**table) for table in tables)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({}, "no upstream"),
        ({"upstream": URL, "api_key_env": "NOT_SET"}, "NOT_SET, named by api_key_env, is not set"),
        ({"upstream": URL, "api_key_env": "BROKEN"}, "BROKEN, .* holds <hidden>"),
        ({"api_key_env": "K"}, "without an upstream"),
        ({"models": models({"name": "a"})}, "no base_url"),
        ({"upstream": URL, "models": models({"name": "a"}, {"name": "a"})}, "two meanings"),
        (
            {"models": models({"name": "a", "base_url": URL, "fallbacks": ["b"]})},
            "there is no other model 'b'",
        ),
        (
            {"models": models({"name": "a", "base_url": URL, "fallbacks": ["a"]})},
            "there is no other model 'a'",
        ),
        (
            {"upstream": URL, "models": models({"name": "a", "fallbacks": ["b*"]})},
            "there is no other model",
        ),
        (
            {
                "models": models({"name": "a", "base_url": URL}),
                "routes": (RouteSettings(model="b"),),
            },
            "chooses the model 'b'",
        ),
        ({"upstream": URL, "routes": (RouteSettings(model="b*"),)}, "chooses the model"),
        (
            {
                "upstream": URL,
                "models": models({"name": "auto"}),
                "routes": (RouteSettings(model="b"),),
            },
            "two meanings for the model 'auto'",
        ),
    ],
)
def test_what_contradicts_itself_does_not_start(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigurationError, match=words):
        gateway({"K": CANARY, "BROKEN": "two words"}, **settings)


def test_a_setting_of_ones_own_decides_which_models_are_routed() -> None:
    environ = {"ROUTECACHE_ROUTED_MODELS": "auto,other"}
    made = gateway(environ, upstream=URL, routes=(RouteSettings(model="b"),))
    assert made.cache.settings.routed_models == frozenset({"auto", "other"})


def test_no_key_is_in_what_is_printed_of_a_gateway() -> None:
    catalogue = Catalogue(GatewaySettings(upstream=URL, api_key_env="K"), {"K": CANARY})
    assert CANARY not in repr(catalogue.default)
    assert CANARY not in repr(vars(catalogue) | {"_environ": None})


def test_the_configurations_in_the_readme_are_understood(tmp_path: Path) -> None:
    blocks = re.findall(r"```toml\n(.*?)```", README.read_text("utf-8"), re.DOTALL)
    (block,) = [text for text in blocks if "[routecache.gateway]" in text]
    file = tmp_path / "gateway.toml"
    file.write_text(block, encoding="utf-8")
    environ = {"GATEWAY_KEYS": KEY, "OPENAI_API_KEY": CANARY}
    settings = load_table(GatewaySettings, "gateway", toml_path=file, environ={})
    made = Gateway(settings, toml_path=file, environ=environ)
    assert made.hosts == ("api.openai.com", "127.0.0.1:8080")
    (block,) = [text for text in blocks if "[routecache.prices]" in text]
    file.write_text(f"[routecache]\n{block}", encoding="utf-8")
    assert load_prices(toml_path=file, environ={}).find("llama-3") == Price(0.1)


def test_alternatives_that_are_no_longer_there_are_passed_over() -> None:
    """A decision may be older than the configuration."""
    settings = GatewaySettings(models=models({"name": "a", "base_url": URL}))
    catalogue = Catalogue(settings, {})
    assert [target.model for target in catalogue.chain("a", ("gone", "a"))] == ["a"]
    assert catalogue.chain("gone", ("a",)) == ()
