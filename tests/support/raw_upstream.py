"""An upstream that is a bare socket: what arrives is kept as bytes, what leaves is as told."""

import contextlib
import socket
import threading
from collections.abc import Callable
from typing import BinaryIO, NamedTuple, Self

__all__ = ["Arrived", "RawUpstream", "Reply", "answer", "chunk", "head"]

_WAIT_S = 20.0


class Arrived(NamedTuple):
    """A request as it came."""

    start_line: str
    fields: list[tuple[str, str]]
    body: bytes

    def values(self, name: str) -> list[str]:
        """Return all values of a header field."""
        return [value for field, value in self.fields if field.lower() == name]


Reply = Callable[[socket.socket, Arrived], None]


class RawUpstream:
    """Serves ``reply`` on a free port, a thread per connection.

    Attributes:
        arrived: The requests so far.
        connections: How many connections there were.
        hung_up: Set when a client closes while its answer is under way.
        reply: What to do with a request; may be replaced.
    """

    def __init__(self, reply: Reply) -> None:
        self.reply = reply
        self.arrived: list[Arrived] = []
        self.connections = 0
        self.hung_up = threading.Event()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._open: list[socket.socket] = []
        self.port: int = self._listener.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self._thread = threading.Thread(target=self._accept, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for connection in self._open:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
            connection.close()
        self._thread.join(5)

    def wait_until_gone(self, connection: socket.socket) -> None:
        """Return once the other side has closed."""
        connection.settimeout(_WAIT_S)
        with contextlib.suppress(OSError):
            while connection.recv(65_536):
                pass
            self.hung_up.set()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            self._open.append(connection)
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with contextlib.suppress(OSError, ValueError):
            reader = connection.makefile("rb")
            while (arrived := _read(reader)) is not None:
                self.arrived.append(arrived)
                self.reply(connection, arrived)


def _read(reader: BinaryIO) -> Arrived | None:
    lines: list[str] = []
    while True:
        line = reader.readline()
        if not line:
            return None
        if line == b"\r\n":
            break
        lines.append(line.decode("latin-1").removesuffix("\r\n"))
    fields = [(n, v.strip()) for n, _, v in (line.partition(":") for line in lines[1:])]
    named = {name.lower(): value for name, value in fields}
    body = b""
    if "content-length" in named:
        body = reader.read(int(named["content-length"]))
        if len(body) < int(named["content-length"]):
            return None  # it broke off
    elif named.get("transfer-encoding") == "chunked":
        while size := int(reader.readline(), 16):
            body += reader.read(size)
            reader.readline()
        reader.readline()
    return Arrived(lines[0], fields, body)


def head(status: str, *fields: str) -> bytes:
    """Return the head of a response."""
    return "\r\n".join([f"HTTP/1.1 {status}", *fields, "", ""]).encode("latin-1")


def chunk(data: bytes) -> bytes:
    """Return a chunk; of nothing: the last."""
    return b"%x\r\n%b\r\n" % (len(data), data)


def answer(body: bytes, *fields: str, status: str = "200 OK") -> Reply:
    """Return a reply that is whole and says its length."""
    kinds = (
        []
        if any(f.lower().startswith("content-type") for f in fields)
        else ["content-type: application/json"]
    )
    whole = head(status, *kinds, *fields, f"content-length: {len(body)}") + body
    return lambda connection, _: connection.sendall(whole)
