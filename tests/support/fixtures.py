"""Fixtures of real servers and faults; each starts with the first test that asks for it.

The servers of a session are shared: ask for a ``..._url``, which hands them out whole and empty,
and for ``start_valkey`` where a test needs options of its own.
"""

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Protocol

import pytest

from tests.support.faults import FaultProxy, start_proxy
from tests.support.tls import TlsForwarder, start_tls
from tests.support.valkey import (
    Sentinels,
    ValkeyCluster,
    ValkeyServer,
    start_cluster,
    start_sentinels,
    start_server,
)

__all__ = [
    "StartProxy",
    "StartTls",
    "StartValkey",
    "cluster_url",
    "fault_proxy",
    "sentinel_url",
    "sentinels",
    "start_valkey",
    "tls_forwarder",
    "valkey",
    "valkey_cluster",
    "valkey_url",
]


class StartValkey(Protocol):
    """Start a server that ends with the test; options are command line."""

    def __call__(self, *options: str) -> ValkeyServer: ...


class StartProxy(Protocol):
    """Start a fault proxy in front of a port; it ends with the test."""

    def __call__(self, port: int) -> FaultProxy: ...


class StartTls(Protocol):
    """Start a TLS endpoint in front of a port; it ends with the test."""

    def __call__(self, port: int, *, require_client_cert: bool = False) -> TlsForwarder: ...


@pytest.fixture(scope="session")
def valkey(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ValkeyServer]:
    """One server for the session; tests use a key prefix of their own, or ``valkey_url``."""
    server = start_server(tmp_path_factory.mktemp("valkey"))
    yield server
    server.close()


@pytest.fixture
def valkey_url(valkey: ValkeyServer) -> str:
    """The session's server, running and empty."""
    if not valkey.is_running:
        valkey.restart()
    valkey.resume()
    valkey.command("FLUSHALL")
    return valkey.url


@pytest.fixture(scope="session")
def valkey_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ValkeyCluster]:
    """Three masters with a replica each, for the session."""
    cluster = start_cluster(tmp_path_factory.mktemp("cluster"))
    yield cluster
    cluster.close()


@pytest.fixture
def cluster_url(valkey_cluster: ValkeyCluster) -> str:
    """The session's cluster, healed and empty."""
    if not valkey_cluster.is_whole():
        valkey_cluster.heal()
    valkey_cluster.flush()
    return valkey_cluster.url


@pytest.fixture(scope="session")
def sentinels(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sentinels]:
    """A master with a replica and three sentinels, for the session."""
    watched = start_sentinels(tmp_path_factory.mktemp("sentinels"))
    yield watched
    watched.close()


@pytest.fixture
def sentinel_url(sentinels: Sentinels) -> str:
    """The session's sentinels, healed and empty."""
    if not sentinels.is_whole():
        sentinels.heal()
    sentinels.flush()
    return sentinels.url


@pytest.fixture
def start_valkey(tmp_path: Path) -> Iterator[StartValkey]:
    """Servers of the test's own: ``start_valkey("--maxmemory", "2mb")``."""
    with ExitStack() as stack:

        def start(*options: str) -> ValkeyServer:
            server = start_server(tmp_path, *options)
            stack.callback(server.close)
            return server

        yield start


@pytest.fixture
def fault_proxy() -> Iterator[StartProxy]:
    """Fault proxies of the test's own: ``fault_proxy(valkey.port)``."""
    with ExitStack() as stack:

        def start(port: int) -> FaultProxy:
            proxy = start_proxy(port)
            stack.callback(proxy.close)
            return proxy

        yield start


@pytest.fixture
def tls_forwarder() -> Iterator[StartTls]:
    """TLS endpoints of the test's own: ``tls_forwarder(valkey.port, require_client_cert=True)``."""
    with ExitStack() as stack:

        def start(port: int, *, require_client_cert: bool = False) -> TlsForwarder:
            forwarder = start_tls(port, require_client_cert=require_client_cert)
            stack.callback(forwarder.close)
            return forwarder

        yield start
