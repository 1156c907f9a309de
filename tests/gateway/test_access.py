"""Who may use a gateway that asks with a key of its own."""

import hashlib
from pathlib import Path

import pytest

from routecache_middleware.errors import ConfigurationError
from routecache_middleware.gateway.clients import load_client_keys
from routecache_middleware.gateway.door import is_loopback
from routecache_middleware.gateway.settings import GatewaySettings
from tests.gateway.kit import COMPLETION, KEY, chat, gateway, running
from tests.support.raw_upstream import RawUpstream, answer

CANARY = "sk-canary-0123456789"


def test_a_key_of_its_own_stays_on_this_machine_or_behind_client_keys() -> None:
    environ = {"OPENAI_API_KEY": CANARY, "KEYS": KEY}
    named = {"upstream": "https://api.openai.com/v1", "api_key_env": "OPENAI_API_KEY"}
    gateway(environ, **named)  # on loopback
    gateway(environ, host="0.0.0.0", client_keys_env="KEYS", **named)
    gateway(environ, host="0.0.0.0", upstream="https://api.openai.com/v1")  # clients' own keys
    for host in ("0.0.0.0", "::", "10.0.0.1", "gateway.internal"):
        with pytest.raises(ConfigurationError, match="client_keys_env or client_keys_file") as said:
            gateway(environ, host=host, **named)
        assert CANARY not in str(said.value)


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("127.0.0.1", True),
        ("127.9.9.9", True),
        ("::1", True),
        ("[::1]", True),
        ("LocalHost", True),
        ("0.0.0.0", False),
        ("localhost.evil.example", False),
        ("", False),
    ],
)
def test_addresses_that_only_this_machine_reaches(host: str, *, expected: bool) -> None:
    assert is_loopback(host) is expected


def test_only_clients_with_a_key_get_in_also_for_what_is_stored() -> None:
    """A hit does not run what lies below the cache; the door is above it."""
    with RawUpstream(answer(COMPLETION)) as upstream:
        made = gateway(
            {"K": CANARY, "KEYS": f"{KEY}, another-key-of-somebody"},
            upstream=upstream.url,
            api_key_env="K",
            client_keys_env="KEYS",
        )
        with running(made) as client:
            allowed = [
                {"authorization": f"Bearer {KEY}"},
                {"authorization": f"bearer {KEY}"},
                {"x-api-key": "another-key-of-somebody"},
                {"api-key": KEY},
            ]
            assert [chat(client, headers=h).status_code for h in allowed] == [200] * 4
            assert chat(client, headers=allowed[0]).headers["x-routecache"] == "HIT"
            refused = [
                {},
                {"authorization": ""},
                {"authorization": "Bearer"},
                {"authorization": f"Bearer {KEY}x"},
                {"authorization": f"Bearer {KEY[:-1]}"},
                {"authorization": f"Basic {KEY}"},
                {"x-api-key": CANARY},
                {"authorization": "Bearer wrong", "x-api-key": KEY},
            ]
            found = [chat(client, headers=h) for h in refused]
            twice = client.post(
                "/v1/messages", headers=[("x-api-key", KEY), ("x-api-key", KEY)], json={}
            )
    assert [answer.status_code for answer in found] == [401] * len(refused)
    assert twice.status_code == 401
    assert twice.json()["type"] == "error"  # in Anthropic's shape
    assert all("www-authenticate" in answer.headers for answer in found)
    assert not any(KEY in answer.text or CANARY in answer.text for answer in found)
    for arrived in upstream.arrived:
        assert arrived.values("authorization") == [f"Bearer {CANARY}"]
        assert arrived.values("x-api-key") == arrived.values("api-key") == []


def test_clients_do_not_share_answers() -> None:
    with RawUpstream(answer(COMPLETION)) as upstream:
        made = gateway({"KEYS": f"{KEY},{KEY}2"}, upstream=upstream.url, client_keys_env="KEYS")
        with running(made) as client:
            for _ in range(2):
                chat(client, headers={"x-api-key": KEY})
                chat(client, headers={"x-api-key": f"{KEY}2"})
    assert len(upstream.arrived) == 2


@pytest.mark.parametrize(
    "headers",
    [
        {"host": "evil.example"},
        {"origin": "https://evil.example"},
        {"host": "127.0.0.1.evil.example"},
        {"origin": "null"},
        {"origin": "http://[broken"},
    ],
)
def test_a_web_page_cannot_use_the_key_of_a_gateway_on_this_machine(
    headers: dict[str, str],
) -> None:
    with RawUpstream(answer(COMPLETION)) as upstream:
        made = gateway({"K": CANARY}, upstream=upstream.url, api_key_env="K")
        with running(made) as client:
            assert chat(client).status_code == 200
            assert chat(client, headers={"origin": "http://localhost:3000"}).status_code == 200
            found = chat(client, headers=headers)
    assert found.status_code == 403
    assert len(upstream.arrived) == 2


def test_keys_come_from_a_file_of_hashes(tmp_path: Path) -> None:
    file = tmp_path / "keys"
    digest = hashlib.sha256(KEY.encode()).hexdigest()
    file.write_text(f"# ours\n\nsha256:{digest.upper()}  # Ann's\n", encoding="utf-8")
    keys = load_client_keys(GatewaySettings(client_keys_file=str(file)), {})
    assert keys is not None
    assert len(keys) == 1
    assert keys.accept([(b"authorization", b"Bearer " + KEY.encode())])
    assert not keys.accept([(b"authorization", b"Bearer " + digest.encode())])


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (f"{CANARY}\n".encode(), "line 1 is <hidden>"),
        (b"sha256:12\n", "sha256sum"),
        (b"\xff\xfe", "not UTF-8"),
        (b"# nobody\n", "hold none"),
    ],
)
def test_a_file_of_keys_that_makes_no_sense_is_an_error(
    tmp_path: Path, content: bytes, words: str
) -> None:
    file = tmp_path / "keys"
    file.write_bytes(content)
    with pytest.raises(ConfigurationError, match=words) as said:
        load_client_keys(GatewaySettings(client_keys_file=str(file)), {})
    assert str(file) in str(said.value)
    assert CANARY not in str(said.value)


def test_keys_that_are_not_there_or_too_short_are_errors(tmp_path: Path) -> None:
    assert load_client_keys(GatewaySettings(), {}) is None
    with pytest.raises(ConfigurationError, match="cannot be read"):
        load_client_keys(GatewaySettings(client_keys_file=str(tmp_path / "none")), {})
    with pytest.raises(ConfigurationError, match=r"hold none: the environment variable KEYS \("):
        load_client_keys(GatewaySettings(client_keys_env="KEYS"), {"KEYS": " , "})
    with pytest.raises(ConfigurationError, match="at least 16") as said:
        load_client_keys(GatewaySettings(client_keys_env="KEYS"), {"KEYS": "short-key"})
    assert "short-key" not in str(said.value)
