"""TLS in front of a server that was built without it, with certificates made for the test."""

import tempfile
from pathlib import Path

import trustme

from tests.support.child import ModuleChild

__all__ = ["TlsForwarder", "start_tls"]


class TlsForwarder:
    """A TLS endpoint in a process of its own.

    Attributes:
        ca_path: Who signed its certificate, which is for ``127.0.0.1`` and ``localhost``.
        client_cert_path: A certificate that it accepts from a client.
        client_key_path: Its key.
        stranger_cert_path: A client's certificate that somebody else signed.
        stranger_key_path: Its key.
        stranger_ca_path: Somebody else, who did not sign the endpoint's certificate.
    """

    def __init__(self, target_port: int, *, require_client_cert: bool) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="routecache-tls-")
        folder = Path(self._folder.name)
        authority, stranger = trustme.CA(), trustme.CA()
        self.ca_path = folder / "ca.pem"
        authority.cert_pem.write_to_path(self.ca_path)
        self.stranger_ca_path = folder / "stranger-ca.pem"
        stranger.cert_pem.write_to_path(self.stranger_ca_path)
        self.client_cert_path, self.client_key_path = _issue(authority, folder, "client")
        self.stranger_cert_path, self.stranger_key_path = _issue(stranger, folder, "stranger")
        server_path = folder / "server.pem"
        server = authority.issue_cert("127.0.0.1", "localhost")
        server.private_key_and_cert_chain_pem.write_to_path(server_path)
        client_ca = (str(self.ca_path),) if require_client_cert else ()
        self._child = ModuleChild(
            "tests.support.tls_forwarder", str(target_port), str(server_path), *client_ca
        )

    @property
    def port(self) -> int:
        """Where it listens on 127.0.0.1."""
        return self._child.port

    @property
    def url(self) -> str:
        """``rediss://127.0.0.1:PORT/0``."""
        return f"rediss://127.0.0.1:{self.port}/0"

    def close(self) -> None:
        """End it and forget its certificates; idempotent."""
        self._child.close()
        self._folder.cleanup()


def start_tls(target_port: int, *, require_client_cert: bool = False) -> TlsForwarder:
    """Start a TLS endpoint in front of a port of 127.0.0.1.

    Args:
        target_port: Where it carries the plain bytes.
        require_client_cert: Refuse clients without a certificate of its authority (mutual TLS).
    """
    return TlsForwarder(target_port, require_client_cert=require_client_cert)


def _issue(authority: trustme.CA, folder: Path, name: str) -> tuple[Path, Path]:
    issued = authority.issue_cert(f"{name}@example.org")
    certificate_path, key_path = folder / f"{name}.pem", folder / f"{name}.key"
    issued.cert_chain_pems[0].write_to_path(certificate_path)
    issued.private_key_pem.write_to_path(key_path)
    return certificate_path, key_path
