"""What went wrong with a server, in words that name the remedy and no address or credential."""

import asyncio
import socket
import ssl
from collections.abc import Iterator

from routecache_middleware.errors import CoordinatorError

__all__ = ["failure", "is_error", "is_reply", "lost_its_node"]

_REMEDIES: tuple[tuple[tuple[str, ...], str], ...] = (
    (
        ("WRONGPASS", "NOAUTH", "AuthenticationError", "AuthenticationWrongNumber"),
        (
            "the server refuses our user or password: correct user:password@ in the URL, with "
            "special characters percent-encoded"
        ),
    ),
    (
        ("NOPERM", "NoPermissionError"),
        (
            "the user may not run a command that is needed: allow +@read +@write +@scripting "
            "+@connection +@blocking +info +time +wait (and +cluster) on the keys ~rc*; ACL LOG "
            "at the server tells what was refused"
        ),
    ),
    (
        ("READONLY", "ReadOnlyError", "previous master is now a slave"),
        (
            "the server is a read-only replica: name the primary in the URL, or let "
            "redis+sentinel:// or redis+cluster:// find it"
        ),
    ),
    (
        ("OutOfMemoryError", "used memory > 'maxmemory'"),
        (
            "the server's maxmemory is reached and nothing may be evicted: raise it, or set "
            "maxmemory-policy to allkeys-lfu"
        ),
    ),
    (
        ("MOVED ", "MovedError", "CROSSSLOT"),
        "the server is a node of a Cluster: use redis+cluster:// (rediss+cluster:// with TLS)",
    ),
    (
        ("Cluster mode is not enabled", "cluster support disabled"),
        "the server is not a node of a Cluster: use redis:// or redis+sentinel://",
    ),
    (
        ("MasterNotFoundError",),
        (
            "no sentinel knows a reachable primary of that service: check the service name and the "
            "sentinels"
        ),
    ),
    (
        ("unknown command", "syntax error", "ERR Unknown"),
        "the server lacks a command that is needed: Redis 6.2, Valkey 7.2 or newer is",
    ),
    (
        ("LOADING", "BusyLoadingError"),
        "the server is loading its data: it will answer when that is done",
    ),
    (
        ("CLUSTERDOWN", "ClusterDownError", "not covered", "cannot be connected", "TTL exhausted"),
        "the cluster does not serve the slot: a node is down and is not replaced yet",
    ),
    (
        ("No connection available", "Too many connections", "max number of clients"),
        "all connections are in use: raise max_connections in the URL, or maxclients at the server",
    ),
    (("DB index is out of range",), "the server has no database of that number"),
)
_CAUSES: tuple[tuple[type[BaseException], str], ...] = (
    (
        ssl.SSLError,
        (
            "the TLS handshake failed: check ssl_ca_certs, the host name, and whether the server "
            "wants a client certificate (ssl_certfile, ssl_keyfile)"
        ),
    ),
    (socket.gaierror, "the host name is unknown: check the host in the URL"),
    (
        ConnectionRefusedError,
        "nobody listens there: check host and port, and that the server runs",
    ),
    (TimeoutError, "no answer in time: check the network, and what keeps the server busy"),
    (asyncio.TimeoutError, "no answer in time: check the network, and what keeps the server busy"),
)
_LOST = (
    "MovedError",
    "ReadOnlyError",
    "ClusterDownError",
    "MasterDownError",
    "UNBLOCKED",
)


def failure(error: BaseException) -> CoordinatorError:
    """Return what to raise from ``error``, which a driver raised."""
    return CoordinatorError(f"{type(error).__name__}: {_explain(error)}")


def is_error(reply: object) -> bool:
    """Whether a reply of a batch is an error that stands in for one."""
    return isinstance(reply, BaseException)


def is_reply(error: BaseException | None) -> bool:
    """Whether an error is a server's answer, after which the connection is as good as before."""
    return any(kind.__name__ == "ResponseError" for kind in type(error).__mro__)


def lost_its_node(error: BaseException) -> bool:
    """Whether ``error`` says that somebody else has taken over from the server that was asked."""
    text = _text(error)
    return not is_reply(error) or any(word in text for word in _LOST)


def _explain(error: BaseException) -> str:
    chain = list(_chain(error))
    text = " ".join(map(_text, chain))  # compared only, never shown: it may name an address
    for words, remedy in _REMEDIES[:4]:
        if any(word in text for word in words):
            return remedy
    for kind, remedy in _CAUSES:
        if any(isinstance(link, kind) for link in chain):
            return remedy
    for words, remedy in _REMEDIES[4:]:
        if any(word in text for word in words):
            return remedy
    if "Timeout" in type(error).__name__:
        return _CAUSES[-1][1]
    return "the connection to the server failed; its log may say why"


def _text(error: BaseException) -> str:
    # The driver strips the codes of errors for which it has classes.
    return f"{type(error).__name__} {error}"


def _chain(error: BaseException) -> Iterator[BaseException]:
    seen: set[int] = set()
    link: BaseException | None = error
    while link is not None and id(link) not in seen:
        seen.add(id(link))
        yield link
        link = link.__cause__ or link.__context__
