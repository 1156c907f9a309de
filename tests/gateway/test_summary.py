"""What the gateway says of itself at its start: each line, and no secret in any."""

from typing import Any

import pytest

from routecache_middleware.gateway.summary import summary
from tests.admin.kit import READ_TOKEN, TOKEN
from tests.gateway.kit import KEY, gateway

URL = "http://127.0.0.1:8000"
UPSTREAM_KEY = "canary-key-of-the-upstream"
PASSWORD = "canary-password-of-the-store"
SECRET = "canary-secret-of-the-deployment"


def said(environ: dict[str, str] | None = None, **settings: Any) -> dict[str, str]:
    """Return the lines after the first, by what they are about; notes together."""
    made = summary(gateway(environ, upstream="http://127.0.0.1:1", **settings), URL)
    first, *lines = made.text().splitlines()
    assert first.startswith(f"Listening on {URL}, in front of 127.0.0.1:1")
    assert "canary" not in made.text() + repr(made) + repr(made.record(1))
    found: dict[str, str] = {"": first}
    for line in lines:
        name, _, text = line.strip().partition(":")
        found[name] = f"{found.get(name, '')} {text.strip()}".strip()
    return found


def test_the_store_is_named_without_its_password() -> None:
    found = said(store="memory://")
    assert found["store"] == "memory:// (in this process alone, and gone when it ends)"
    assert "note" not in found
    found = said(store="lmdb:///tmp/cache", workers=3)
    assert found["store"] == "lmdb:///tmp/cache (on this machine's disk)"
    assert found[""].endswith("(3 processes)")
    found = said(store=f"redis://u:{PASSWORD}@cache:6379/0")
    assert found["store"] == "redis://***@cache:6379/0 (shared)"


def test_a_shared_store_without_a_secret_is_told_of() -> None:
    assert "set ROUTECACHE_SECRET to 16" in said(store="lmdb:///tmp/cache")["note"]
    assert "note" not in said({"ROUTECACHE_SECRET": SECRET}, store="lmdb:///tmp/cache")


@pytest.mark.parametrize(
    ("variable", "value", "words"),
    [
        ("MODE", "off", "nothing is cached"),
        ("MODE", "read_only", "nothing is stored"),
        ("MODE", "write_only", "nothing is served"),
        ("MODE", "shadow", "counts what would have been"),
        ("ALLOW_ANONYMOUS", "true", "carry no credential share answers"),
    ],
)
def test_what_is_not_as_usual_is_told_of(variable: str, value: str, words: str) -> None:
    assert words in said({f"ROUTECACHE_{variable}": value})["note"]


def test_it_says_who_may_use_it() -> None:
    assert said()["clients"] == "their credentials are passed on to the upstream"
    own = said({"K": UPSTREAM_KEY}, api_key_env="K")["clients"]
    assert own.startswith("programs of this machine only")
    keys = said({"C": KEY, "K": UPSTREAM_KEY}, api_key_env="K", client_keys_env="C")["clients"]
    assert keys == "need one of the gateway's keys"


@pytest.mark.parametrize(
    ("environ", "words"),
    [
        ({}, "for this machine only: there is no ROUTECACHE_ADMIN_TOKEN"),
        ({"ROUTECACHE_ADMIN_TOKEN": TOKEN}, "asks for the admin token"),
        ({"ROUTECACHE_ADMIN_READ_TOKEN": READ_TOKEN}, "asks for the read token; nobody may change"),
    ],
)
def test_it_says_where_the_dashboard_is_and_to_whom_it_is_shown(
    environ: dict[str, str], words: str
) -> None:
    found = said(environ, admin=True)["dashboard"]
    assert found.startswith(f"{URL}/routecache/ ({words}")
    assert found.endswith(f"for Prometheus: {URL}/routecache/metrics)")
    assert said(environ)["dashboard"] == "none (--admin serves it at /routecache/)"


def test_a_store_of_somebody_elses_is_shared_or_not() -> None:
    made = gateway(upstream="http://127.0.0.1:1")
    made.cache.engine.coordinator.name = "theirs"  # type: ignore[misc]
    assert summary(made, URL).store_is == "in this process alone"
