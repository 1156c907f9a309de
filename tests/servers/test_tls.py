"""The TLS endpoint: a true handshake in front of a server that speaks none."""

import socket
import ssl
from pathlib import Path

import pytest

from tests.support.fixtures import StartTls
from tests.support.tls import TlsForwarder
from tests.support.valkey import ValkeyServer


def ping(
    endpoint: TlsForwarder, *, ca_path: Path, certificate: tuple[Path, Path] | None = None
) -> bytes:
    context = ssl.create_default_context(cafile=str(ca_path))
    if certificate is not None:
        context.load_cert_chain(*certificate)
    with (
        socket.create_connection(("127.0.0.1", endpoint.port), timeout=5) as plain,
        context.wrap_socket(plain, server_hostname="127.0.0.1") as wire,
    ):
        wire.sendall(b"PING\r\n")
        if not (answer := wire.recv(100)):
            raise ConnectionResetError("the endpoint hung up")
        return answer


def test_its_certificate_is_good_for_who_trusts_its_authority(
    valkey: ValkeyServer, tls_forwarder: StartTls
) -> None:
    endpoint = tls_forwarder(valkey.port)
    assert ping(endpoint, ca_path=endpoint.ca_path) == b"+PONG\r\n"
    with pytest.raises(ssl.SSLCertVerificationError):
        ping(endpoint, ca_path=endpoint.stranger_ca_path)


def test_a_client_needs_a_certificate_where_one_is_required(
    valkey: ValkeyServer, tls_forwarder: StartTls
) -> None:
    endpoint = tls_forwarder(valkey.port, require_client_cert=True)
    ours = (endpoint.client_cert_path, endpoint.client_key_path)
    theirs = (endpoint.stranger_cert_path, endpoint.stranger_key_path)
    assert ping(endpoint, ca_path=endpoint.ca_path, certificate=ours) == b"+PONG\r\n"
    for certificate in (None, theirs):
        with pytest.raises((ssl.SSLError, ConnectionError)):
            ping(endpoint, ca_path=endpoint.ca_path, certificate=certificate)


def test_its_files_are_gone_when_it_is_closed(
    valkey: ValkeyServer, tls_forwarder: StartTls
) -> None:
    endpoint = tls_forwarder(valkey.port)
    assert endpoint.ca_path.exists()
    endpoint.close()
    assert not endpoint.ca_path.exists()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", endpoint.port), timeout=5)
