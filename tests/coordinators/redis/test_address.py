"""URLs of the family: what they say, and what is wrong with those that are refused."""

from pathlib import Path

import pytest

from routecache_middleware.coordinators.redis.address import Address, Node, Topology
from routecache_middleware.coordinators.table import SCHEMES, create
from routecache_middleware.coordinators.url import CoordinatorUrl
from routecache_middleware.core.settings import Settings
from routecache_middleware.errors import ConfigurationError
from tests.coordinators.redis.support import CLOCK


def parse(text: str) -> Address:
    return Address.parse(CoordinatorUrl.parse(text))


def test_a_standalone_url_names_server_user_and_database() -> None:
    address = parse(
        "redis://al%40ice:p%3Aa%2Fs%3Fs@cache.example:6380/3?prefix=blue:&timeout_ms=80"
    )
    assert address.topology is Topology.STANDALONE
    assert address.nodes == (Node("cache.example", 6380),)
    assert (address.username, address.password) == ("al@ice", "p:a/s?s")
    assert (address.database, address.prefix, address.timeout_s) == (3, "blue:", 0.08)
    assert address.tls is None


@pytest.mark.parametrize(
    ("text", "nodes"),
    [
        ("redis://h", [("h", 6379)]),
        ("valkey://:secret@h:1", [("h", 1)]),
        ("redis://[::1]:7000/0", [("::1", 7000)]),
        ("redis://[fe80::2]", [("fe80::2", 6379)]),
        ("redis+cluster://a:1,b,c:3", [("a", 1), ("b", 6379), ("c", 3)]),
        ("redis+cluster://u:p@a:1,b:2/0", [("a", 1), ("b", 2)]),
        ("redis+sentinel://a,b:2/main", [("a", 26379), ("b", 2)]),
        ("redis://u:p@ss@w@h:1", [("h", 1)]),
    ],
)
def test_hosts_and_ports(text: str, nodes: list[tuple[str, int]]) -> None:
    assert [(node.host, node.port) for node in parse(text).nodes] == nodes


def test_a_sentinel_url_names_the_service_and_both_logins() -> None:
    address = parse("valkey+sentinel://u:p@a,b/my%20main/2?sentinel_username=s&sentinel_password=t")
    assert (address.service, address.database) == ("my main", 2)
    assert (address.sentinel_username, address.sentinel_password) == ("s", "t")


@pytest.mark.parametrize("base", ["rediss", "valkeys"])
@pytest.mark.parametrize("rest", ["://h", "+cluster://h", "+sentinel://h/main"])
def test_the_s_means_tls(base: str, rest: str, tmp_path: Path) -> None:
    file = tmp_path / "ca.pem"
    file.touch()
    assert parse(base + rest).tls == {"ssl_cert_reqs": "required", "ssl_check_hostname": True}
    options = f"?ssl_ca_certs={file}&ssl_cert_reqs=none"
    assert parse(base + rest + options).tls == {
        "ssl_cert_reqs": "none",
        "ssl_check_hostname": False,  # the driver refuses to check a name alone
        "ssl_ca_certs": str(file),
    }


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("redis://", "host"),
        ("redis:///0", "host"),
        ("redis://h:port", "port"),
        ("redis://h:0", "port"),
        ("redis://h:65536", "port"),
        ("redis://[::1", "port"),
        ("redis://[::1]6379", "port"),
        ("redis://a,b", "redis+cluster://"),
        ("redis+cluster://a,,b", "host"),
        ("redis://h/x", "number of a database"),
        ("redis+cluster://h/1", "database 0"),
        ("redis+sentinel://h", "service"),
        ("redis://user@h", "password"),
        ("redis://h?bogus=1", "bogus"),
        ("redis://h?ssl_ca_certs=/x", "rediss://"),
        ("rediss://h?ssl_ca_certs=/no/such/file", "PEM"),
        ("rediss://h?ssl_cert_reqs=maybe", "required"),
        ("redis://h?prefix={x}", "prefix"),
        ("redis://h?prefix=a*", "prefix"),
        ("redis://h?client_name=a b", "client_name"),
        ("redis://h?max_connections=0", "max_connections"),
        ("redis://h?timeout_ms=fast", "timeout_ms"),
        ("redis://h?near=perhaps", "near"),
        ("redis://h?near_bytes=-1", "near_bytes"),
    ],
)
def test_what_is_wrong_is_said_with_its_remedy(text: str, words: str) -> None:
    with pytest.raises(ConfigurationError, match="it has to be") as caught:
        create(text, Settings(), CLOCK)
    assert words in str(caught.value)


def test_half_a_client_certificate_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "client.pem"
    file.touch()
    with pytest.raises(ConfigurationError, match="both ssl_certfile and ssl_keyfile"):
        parse(f"rediss://h?ssl_certfile={file}")


@pytest.mark.parametrize("text", ["redis://u:hunter2@h:port", "redis://u:hunter2@h?bogus=1"])
def test_no_error_shows_a_password(text: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        create(text, Settings(), CLOCK)
    assert "hunter2" not in str(caught.value)
    assert "hunter2" not in repr(parse("redis://u:hunter2@h"))


def test_every_scheme_of_the_family_is_known() -> None:
    """In every combination: over TLS or not, each topology."""
    for base in ("redis", "rediss", "valkey", "valkeys"):
        for kind, rest in (("", "h"), ("+cluster", "h"), ("+sentinel", "h/main")):
            assert f"{base}{kind}" in SCHEMES
            assert create(f"{base}{kind}://{rest}", Settings(), CLOCK).name == f"{base}{kind}"


def test_a_missing_driver_is_named_with_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "redis.asyncio", None)
    with pytest.raises(ConfigurationError, match=r"routecache-middleware\[redis\]"):
        create("redis://h", Settings(), CLOCK)
