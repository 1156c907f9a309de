"""What a URL of this family says: where the servers are, who we are, and how TLS is done.

    redis://[user:password@]host[:port][/db]                  also valkey://
    redis+sentinel://[user:password@]host[:port],.../service  also valkey+sentinel://
    redis+cluster://[user:password@]host[:port],...           also valkey+cluster://

``rediss`` and ``valkeys`` are the same over TLS. Characters of a user or a password that mean
something in a URL are percent-encoded.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from urllib.parse import unquote

from routecache_middleware.coordinators.url import CoordinatorUrl

__all__ = ["OPTIONS", "Address", "Node", "Topology"]

OPTIONS = (
    "prefix",
    "near",
    "near_bytes",
    "max_connections",
    "timeout_ms",
    "client_name",
    "sentinel_username",
    "sentinel_password",
    "ssl_ca_certs",
    "ssl_certfile",
    "ssl_keyfile",
    "ssl_cert_reqs",
    "ssl_check_hostname",
)
"""All options that these URLs take."""

_FILES = ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile")
_PORT, _SENTINEL_PORT, _MAX_PORT = 6379, 26379, 65_535
_MAX_CONNECTIONS = 64
# A value of 1 MiB needs more than the 50 ms that a request waits: the command goes on without it.
_TIMEOUT_MS = 500


class Topology(StrEnum):
    """How the servers hang together."""

    STANDALONE = "standalone"
    SENTINEL = "sentinel"
    CLUSTER = "cluster"


@dataclass(frozen=True, slots=True)
class Node:
    """One server's host and port."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """A URL taken apart.

    Attributes:
        topology: How the servers hang together.
        nodes: The servers; the sentinels; or any nodes of the cluster.
        database: Number of the database; 0 in a cluster.
        service: What the sentinels call the primary.
        username: ACL user, or empty.
        password: Its password, or empty.
        sentinel_username: ACL user at the sentinels, or empty.
        sentinel_password: Its password, or empty.
        tls: Arguments for the driver's TLS connections; None: no TLS.
        prefix: What all names begin with, after the version.
        client_name: What the server calls us in ``CLIENT LIST``.
        max_connections: How many connections one process opens at most.
        timeout_s: How long one read or write of a socket may take.
    """

    topology: Topology
    nodes: tuple[Node, ...]
    database: int = 0
    service: str = ""
    username: str = field(default="", repr=False)
    password: str = field(default="", repr=False)
    sentinel_username: str = field(default="", repr=False)
    sentinel_password: str = field(default="", repr=False)
    tls: Mapping[str, object] | None = None
    prefix: str = ""
    client_name: str = "routecache"
    max_connections: int = _MAX_CONNECTIONS
    timeout_s: float = _TIMEOUT_MS / 1000

    @classmethod
    def parse(cls, url: CoordinatorUrl, *, topology: Topology | None = None) -> "Address":
        """Take a URL apart; ``topology``: whatever its scheme says.

        Raises:
            ConfigurationError: Something is missing, unknown or out of range.
        """
        url.check_options(*OPTIONS)
        base, _, suffix = url.scheme.partition("+")
        topology = topology or Topology(suffix or "standalone")
        userinfo, _, place = url.location.rpartition("@")
        hosts, _, path = place.partition("/")
        if "," in userinfo.partition("@")[2]:  # what looks like a password holds hosts
            raise url.error(
                "names a user more than once",
                "user:password@ once, before the first host, with '@' and ',' percent-encoded",
            )
        username, _, password = map(unquote, userinfo.partition(":"))
        if username and not password:
            raise url.error("names a user without a password", "user:password@host, or :password@")
        return cls(
            topology=topology,
            nodes=_nodes(url, hosts, topology),
            database=_database(url, path, topology),
            service=_service(url, path) if topology is Topology.SENTINEL else "",
            username=username,
            password=password,
            sentinel_username=url.options.get("sentinel_username", ""),
            sentinel_password=url.options.get("sentinel_password", ""),
            tls=_tls(url, is_on=base.endswith("s") and base != "redis"),
            prefix=_prefix(url),
            client_name=_client_name(url),
            max_connections=_at_least_one(url, "max_connections", _MAX_CONNECTIONS),
            timeout_s=_at_least_one(url, "timeout_ms", _TIMEOUT_MS) / 1000,
        )


def _nodes(url: CoordinatorUrl, hosts: str, topology: Topology) -> tuple[Node, ...]:
    default = _SENTINEL_PORT if topology is Topology.SENTINEL else _PORT
    nodes = tuple(_node(url, text, default) for text in hosts.split(","))
    if topology is Topology.STANDALONE and len(nodes) > 1:
        raise url.error(
            "names several servers",
            "one host[:port]; a Cluster is redis+cluster://, independent nodes are ring://",
        )
    return nodes


def _node(url: CoordinatorUrl, text: str, default_port: int) -> Node:
    host, bracket, rest = text.removeprefix("[").partition("]") if "]" in text else (text, "", "")
    if not bracket:
        host, colon, rest = text.partition(":")
        rest = colon + rest
    port = rest.removeprefix(":") if rest else str(default_port)
    is_port = port.isascii() and port.isdecimal() and 0 < int(port) <= _MAX_PORT
    if not (host and is_port and (not rest or rest.startswith(":"))):
        raise url.error("has a malformed host or port", "host:port, or [IPv6 address]:port")
    return Node(host, int(port))


def _database(url: CoordinatorUrl, path: str, topology: Topology) -> int:
    if topology is Topology.SENTINEL:
        path = path.partition("/")[2]
    if not path:
        return 0
    if not (path.isascii() and path.isdecimal()):
        raise url.error(f"has the path {path!r}", "the number of a database, such as /0")
    if topology is Topology.CLUSTER and int(path):
        raise url.error(f"names database {path}", "database 0: a Cluster has no other")
    return int(path)


def _service(url: CoordinatorUrl, path: str) -> str:
    service = unquote(path.partition("/")[0])
    if not service:
        raise url.error("names no service", "redis+sentinel://host:port,.../service, as configured")
    return service


def _prefix(url: CoordinatorUrl) -> str:
    prefix = url.options.get("prefix", "")
    if not prefix.isascii() or not prefix.isprintable() or set(prefix) & set(" {}*?[]\\^"):
        raise url.error(f"has prefix={prefix!r}", "letters, digits and -_.:/ for prefix")
    return prefix


def _client_name(url: CoordinatorUrl) -> str:
    name = url.options.get("client_name", "routecache")
    if not (name.isascii() and name.isprintable() and name and " " not in name):
        raise url.error(f"has client_name={name!r}", "printable ASCII without spaces")
    return name


def _at_least_one(url: CoordinatorUrl, name: str, default: int) -> int:
    number = url.whole_number(name, default)
    if number < 1:
        raise url.error(f"has {name}={number}", f"a whole number for {name}, 1 or more")
    return number


def _tls(url: CoordinatorUrl, *, is_on: bool) -> dict[str, object] | None:
    given = sorted(name for name in url.options if name.startswith("ssl_"))
    if not is_on:
        if given:
            raise url.error(
                f"has {given[0]} without TLS", "rediss://, valkeys:// or rings:// to use TLS"
            )
        return None
    for name in _FILES:
        path = url.options.get(name)
        if path is not None and not Path(path).is_file():
            raise url.error(f"has {name}={path!r}, which is no file", f"a PEM file for {name}")
    if ("ssl_certfile" in url.options) != ("ssl_keyfile" in url.options):
        raise url.error("has half a client certificate", "both ssl_certfile and ssl_keyfile")
    requirement = url.choice("ssl_cert_reqs", ("required", "none"), "required")
    is_named = url.choice("ssl_check_hostname", ("true", "false"), "true") == "true"
    arguments: dict[str, object] = {
        "ssl_cert_reqs": requirement,
        "ssl_check_hostname": is_named and requirement == "required",
    }
    arguments.update({name: url.options[name] for name in _FILES if name in url.options})
    return arguments
