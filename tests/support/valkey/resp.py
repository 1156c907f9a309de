"""A small synchronous RESP2 client: what tests plant in a server and what they find there.

Independent of the driver under test, so that a fault in that driver cannot hide itself.
"""

import socket
from typing import BinaryIO

__all__ = ["Argument", "Reply", "ReplyError", "call"]

Argument = bytes | str | int | float
Reply = bytes | int | None | list["Reply"]


class ReplyError(Exception):
    """The server answered with an error; the text begins with its code (``NOAUTH``, ...)."""


def call(
    port: int, *args: Argument, credentials: tuple[str, ...] = (), timeout_s: float = 10.0
) -> Reply:
    """Send one command on a connection of its own and return the answer.

    Args:
        port: Where the server listens on 127.0.0.1.
        args: The command and its arguments; all but bytes are sent as their text.
        credentials: Arguments of an ``AUTH`` to send first: a password, or a user and a password.
        timeout_s: Bound of each wait.

    Raises:
        ReplyError: The server answered with an error.
        OSError: It could not be reached, or did not answer in time.
    """
    with (
        socket.create_connection(("127.0.0.1", port), timeout=timeout_s) as connection,
        connection.makefile("rb") as answers,
    ):
        if credentials:
            connection.sendall(_encode("AUTH", *credentials))
            _read(answers)
        connection.sendall(_encode(*args))
        return _read(answers)


def _encode(*args: Argument) -> bytes:
    texts = [arg if isinstance(arg, bytes) else str(arg).encode() for arg in args]
    bulk = b"".join(b"$%d\r\n%b\r\n" % (len(text), text) for text in texts)
    return b"*%d\r\n%b" % (len(texts), bulk)


def _read(answers: BinaryIO) -> Reply:
    line = answers.readline()
    if not line.endswith(b"\r\n"):
        raise ConnectionResetError("the server closed the connection")
    kind, text = line[:1], line[1:-2]
    if kind == b"-":
        raise ReplyError(text.decode(errors="replace"))
    if kind == b"+":
        return text
    size = int(text)
    if kind == b":":
        return size
    if size < 0:
        return None
    if kind == b"*":
        return [_read(answers) for _ in range(size)]
    body = answers.read(size + 2)
    if len(body) != size + 2:
        raise ConnectionResetError("the server closed the connection within an answer")
    return body[:-2]
