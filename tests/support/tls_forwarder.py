"""Ends TLS in front of a server that speaks none; see :mod:`tests.support.tls`.

``python -m tests.support.tls_forwarder TARGET_PORT CERTIFICATE_PATH [CLIENT_CA_PATH]`` prints its
port and serves until its standard input ends.
"""

import asyncio
import contextlib
import ssl
import sys

_CHUNK_BYTES = 65_536


def _context(certificate_path: str, client_ca_path: str | None) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate_path)
    if client_ca_path is not None:
        context.load_verify_locations(client_ca_path)
        context.verify_mode = ssl.CERT_REQUIRED
    return context


async def _carry(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await source.read(_CHUNK_BYTES):
            sink.write(data)
            await sink.drain()
    sink.close()  # TLS knows no half-closed connection


class Forwarder:
    """Carries each client's bytes to a connection of its own."""

    def __init__(self, target_port: int) -> None:
        self._target_port = target_port

    async def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one client until one side is done."""
        try:
            up_reader, up_writer = await asyncio.open_connection("127.0.0.1", self._target_port)
        except OSError:
            writer.transport.abort()
            return
        await asyncio.gather(_carry(reader, up_writer), _carry(up_reader, writer))


async def _main(target_port: int, context: ssl.SSLContext) -> None:
    server = await asyncio.start_server(Forwarder(target_port).accept, "127.0.0.1", 0, ssl=context)
    print(server.sockets[0].getsockname()[1], flush=True)  # noqa: T201 - the parent reads it
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)


if __name__ == "__main__":
    target, certificate, *client_ca = sys.argv[1:]
    asyncio.run(_main(int(target), _context(certificate, client_ca[0] if client_ca else None)))
