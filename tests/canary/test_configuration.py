"""Wrong configuration: the error says where and what to do, and shows nothing that is secret.

What it came from is searched as well, for a gateway that does not start prints all of it.
"""

import json
from pathlib import Path
from typing import Any

import pytest

from routecache_middleware import RouteCache, Settings
from routecache_middleware.admin import AdminSettings, create_admin
from routecache_middleware.admin.configuration import in_force
from routecache_middleware.coordinators.url import mask_url
from routecache_middleware.errors import ConfigurationError
from routecache_middleware.gateway.app import Gateway
from routecache_middleware.gateway.settings import GatewaySettings, ModelSettings
from routecache_middleware.wiring.config import load_policy, load_settings, load_table
from routecache_middleware.wiring.prices import load_prices
from tests.canary.ears import Ears
from tests.canary.planted import planted, prose

PASSWORD, USER, OPTION = planted("url password"), planted("url user"), planted("url option")
SCHEMES = ("redis", "rediss", "redis+sentinel", "redis+cluster", "ring", "lmdb", "memory", "other")
SHAPES = (
    "{s}://{u}:{p}@host:port/0",
    "{s}://{u}:{p}@host:1/x",
    "{s}://{u}:{p}@host:99999",
    "{s}://:{p}@host:1/0?near=maybe",
    "{s}://{u}:{p}@host:1/0?timeout_ms=soon",
    "{s}://{u}:{p}@host:1/0?prefix=%20x&x=y",
    "{s}://{u}:{p}@host:1/0?passwort={o}",
    "{s}://host:1/0?password={o}&unknown=1",
    "{s}://host:1/0?sentinel_password={o}&near=maybe",
    "{s}://host:1/0?api_key={o}&near=maybe",
    "{s}://host:1/0?auth={o}&near=maybe",
    "{s}://{u}:{p}x?y={p}@host:1/0",
    "{s}://{u}:{p}x?{p}=y@host:1/0",
    "{s}://{u}:{p}x?near=y&{p}=z@host:1/0",
    "{s}://{u}:{p}x?near={p}@host:1/0",
    "{s}://{u}:{p}x?{p}@host:1/0",
    "{s}://{u}:{p}/x#{p}@host:port",
    "{s}://{u}:{p}/x,{p}@host:port",
    "{s}://{u}:a@{p}@host:port",
    "{s}://{u}:{p}@h1:1,{u}:{p}@h2:port",
    "{s}://{u}:{p}@[::1:1/0",
    "{s}://{u}:{p}@host:1/0?ssl_keyfile=none",
    "{s}://{u}:{p}@host:1/0?near=a&near=b",
    "{s}://{u}:{p}@host:1/0?weights=x",
    "{s}:{u}:{p}@host",
    "{s}//{u}:{p}@host",
)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("scheme", SCHEMES)
def test_urls_of_stores(scheme: str, shape: str, ears: Ears) -> None:
    url = shape.format(s=scheme, u=USER, p=PASSWORD, o=OPTION)
    try:
        cache = RouteCache(url=url, settings=Settings(), observers=[])
    except ConfigurationError as error:
        ears.hear("an error", error)
    else:
        ears.hear("repr of the cache", cache)
        ears.hear("repr of the coordinator", cache.engine.coordinator)
        ears.hear("configuration in force", json.dumps(in_force(cache, AdminSettings())))


@pytest.mark.parametrize(
    "url",
    [
        f"https://{USER}:{PASSWORD}@host/v1",
        f"https://{PASSWORD}@host/v1",
        f"https://{USER}:{PASSWORD}@host:port/v1",
        f"https://{USER}:{PASSWORD}@[::1/v1",
        f"https://{USER}:{PASSWORD}é@host/v1",
        f"https://{USER}:{PASSWORD}/x@host/v1",
        f"https://host/v1?key={OPTION}",
        f"https://host/v1#key={OPTION}",
        f"https://host/v1?api-version=1&key={OPTION}\n",
        f"{USER}:{PASSWORD}@host",
        f"ftp://{USER}:{PASSWORD}@host",
    ],
)
def test_urls_of_upstreams(url: str, ears: Ears) -> None:
    environ = {"ROUTECACHE_GATEWAY_UPSTREAM": url}
    for make in (
        lambda: GatewaySettings(upstream=url),
        lambda: ModelSettings(base_url=url),
        lambda: load_table(GatewaySettings, "gateway", environ=environ),
    ):
        with pytest.raises(ConfigurationError) as said:
            make()
        ears.hear("an error", said.value)


SECRETS: dict[str, dict[str, str]] = {
    "long secret": {"ROUTECACHE_SECRET": planted("secret") * 4},
    "short secret": {"ROUTECACHE_SECRET": planted("secret")[:13]},
    "several": {"ROUTECACHE_PREVIOUS_SECRETS": f"{planted('former secret')[:13]},x"},
    "another name": {"ROUTECACHE_SECRETS": planted("secret")},
    "another table": {"ROUTECACHE_POLICY_SECRET": planted("secret")},
    "profile": {"ROUTECACHE_PROFILE": "none", "ROUTECACHE_SECRET": planted("secret")},
    "token": {"ROUTECACHE_ADMIN_TOKEN": f"{planted('admin token')} x"},
    "short token": {"ROUTECACHE_ADMIN_READ_TOKEN": planted("read token")[:13]},
    "same tokens": {
        "ROUTECACHE_ADMIN_READ_TOKEN": planted("read token"),
        "ROUTECACHE_ADMIN_TOKEN": planted("read token"),
    },
    "token elsewhere": {"ROUTECACHE_ADMIN_TOKENS": planted("admin token")},
    "key as a name": {"ROUTECACHE_GATEWAY_API_KEY_ENV": f"sk-{planted('upstream key')}"},
    "keys as a name": {"ROUTECACHE_GATEWAY_CLIENT_KEYS_ENV": f"sk-{planted('client key')}"},
    "key elsewhere": {"ROUTECACHE_GATEWAY_API_KEY": planted("upstream key")},
}


@pytest.mark.parametrize("name", SECRETS)
def test_secrets_that_are_wrong_or_stand_in_the_wrong_place(name: str, ears: Ears) -> None:
    environ, failed = SECRETS[name], 0
    for load in (
        lambda: load_settings(environ=environ),
        lambda: load_policy(environ=environ),
        lambda: load_table(AdminSettings, "admin", environ=environ),
        lambda: load_table(GatewaySettings, "gateway", environ=environ),
        lambda: load_prices(environ=environ),
    ):
        try:
            ears.hear("repr of what was loaded", load())
        except ConfigurationError as error:
            failed += 1
            ears.hear("an error", error)
    assert failed


FILES: dict[str, bytes] = {
    "no TOML": f'[routecache]\nsecret = "{planted("secret")}'.encode(),
    "not UTF-8": b'[routecache]\nsecret = "\xff' + planted("secret").encode() + b'"',
    "twice": f'[routecache]\nsecret = "{planted("secret")}"\nsecret = "x"\n'.encode(),
    "no text": f'[routecache]\nsecret = ["{planted("secret")}"]'.encode(),
    "no list": f'[routecache]\nprevious_secrets = [1, "{planted("former secret")}"]'.encode(),
    "a table": f'[routecache]\nurl = {{x = "redis://:{PASSWORD}@host"}}'.encode(),
    "no table": f'routecache = "{planted("secret")}"'.encode(),
    "short token": f'[routecache.admin]\ntoken = "{planted("admin token")[:12]}"'.encode(),
    "no token": f'[routecache.admin]\ntoken = ["{planted("admin token")}"]'.encode(),
    "a key": f'[routecache.gateway]\napi_key_env = "sk-{planted("upstream key")}"'.encode(),
    "a key as a list": f'[routecache.gateway]\napi_key_env=["{planted("upstream key")}"]'.encode(),
    "keys": f'[routecache.gateway]\nclient_keys_env=["{planted("client key")}"]'.encode(),
    "a URL": f'[routecache.gateway]\nupstream = ["https://x:{PASSWORD}@y"]'.encode(),
    "a model": (
        f'[[routecache.gateway.models]]\nname = "m"\nbase_url = "https://{USER}:{PASSWORD}@[x"'
    ).encode(),
    "a model's key": (
        f'[[routecache.gateway.models]]\nname = "m"\napi_key = "{planted("upstream key")}"'
    ).encode(),
    "a model's keys": (
        f'[[routecache.gateway.models]]\nname = "m"\napi_key_env = ["{planted("upstream key")}"]'
    ).encode(),
}


@pytest.mark.parametrize("name", FILES)
def test_files_that_make_no_sense(name: str, tmp_path: Path, ears: Ears) -> None:
    path, failed = tmp_path / "routecache.toml", 0
    path.write_bytes(FILES[name])
    loads: list[Any] = [
        lambda: load_settings(toml_path=path, environ={}),
        lambda: load_policy(toml_path=path, environ={}),
        lambda: load_table(AdminSettings, "admin", toml_path=path, environ={}),
        lambda: Gateway(
            load_table(GatewaySettings, "gateway", toml_path=path, environ={}),
            toml_path=path,
            environ={},
        ),
    ]
    for load in loads:
        try:
            ears.hear("repr of what was loaded", load())
        except ConfigurationError as error:
            failed += 1
            ears.hear("an error", error)
    assert failed


@pytest.mark.parametrize("key", [prose("upstream key"), f"{planted('upstream key')} x", "\x00é"])
def test_keys_of_upstreams_and_clients(key: str, tmp_path: Path, ears: Ears) -> None:
    upstream: dict[str, Any] = {"upstream": "https://host/v1"}
    file = tmp_path / "keys"
    file.write_text(f"{planted('client key')}\n", encoding="utf-8")
    environ = {"KEY": f"{key}{planted('upstream key')}", "KEYS": planted("client key")[:13]}
    for settings in (
        {**upstream, "api_key_env": "KEY"},
        {**upstream, "client_keys_env": "KEYS"},
        {**upstream, "client_keys_file": str(file)},
        {"models": (ModelSettings(name="m", base_url="https://host", api_key_env="KEY"),)},
    ):
        with pytest.raises(ConfigurationError) as said:
            Gateway(GatewaySettings(**settings), environ=environ)
        ears.hear("an error", said.value)


def test_settings_in_code(ears: Ears) -> None:
    for kind, given in (
        (Settings, {"secret": planted("secret")}),
        (Settings, {"secret": planted("secret").encode()[:13]}),
        (Settings, {"previous_secrets": planted("former secret")}),
        (Settings, {"previous_secrets": [planted("former secret")]}),
        (AdminSettings, {"token": planted("admin token").encode()}),
        (AdminSettings, {"token": planted("admin token")[:12]}),
        (GatewaySettings, {"api_key_env": planted("upstream key").encode()}),
        (GatewaySettings, {"client_keys_env": [planted("client key")]}),
    ):
        make: Any = kind
        with pytest.raises(ConfigurationError) as said:
            make(**given)
        ears.hear("an error", said.value)
    with pytest.raises(ConfigurationError) as said:
        Settings.profile("none", secret=planted("secret").encode())
    ears.hear("an error", said.value)


def test_what_is_right_is_shown_without_its_secrets(ears: Ears) -> None:
    settings = Settings(
        secret=planted("secret").encode(), previous_secrets=(planted("former secret").encode(),)
    )
    admin = AdminSettings(token=planted("admin token"), read_token=planted("read token"))
    url = f"redis://{USER}:{PASSWORD}@127.0.0.1:1/0"
    cache = RouteCache(url=url, settings=settings, observers=[])
    app = create_admin(cache, settings=admin)
    gateway = Gateway(
        GatewaySettings(upstream="https://host/v1", api_key_env="KEY", client_keys_env="KEYS"),
        environ={"KEY": planted("upstream key"), "KEYS": planted("client key")},
    )
    for one in (settings, admin, cache, app, cache.engine, gateway, gateway.app, gateway.cache):
        ears.hear("repr", one)
    for owner in (gateway.app, gateway.door, app):
        ears.hear("repr of its parts", list(vars(owner).values()))
    ears.hear("configuration in force", in_force(cache, admin))
    ears.hear("masked", mask_url(url))
