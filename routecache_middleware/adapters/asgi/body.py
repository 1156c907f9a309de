"""Reading a request body without losing anything: bounded, and replayable message by message."""

import msgspec

from routecache_middleware.adapters.asgi.types import Message, Receive

__all__ = ["ReadBody", "Replay", "read_body"]


class ReadBody(msgspec.Struct, frozen=True):
    """What was read.

    Attributes:
        body: The whole body, or None when it is too large or the client left before its end.
        messages: Everything received so far, to be replayed to the app.
    """

    body: bytes | None
    messages: list[Message]


async def read_body(receive: Receive, limit: int) -> ReadBody:
    """Read a body of at most ``limit`` bytes; a larger one is left off where that is noticed."""
    message = await receive()
    if message["type"] == "http.request" and not message.get("more_body", False):
        body = message.get("body", b"")  # nearly always
        return ReadBody(body if len(body) <= limit else None, [message])
    messages, size = [message], len(message.get("body", b""))
    while message["type"] == "http.request":
        if size > limit:
            return ReadBody(None, messages)
        if not message.get("more_body", False):
            return ReadBody(b"".join([part.get("body", b"") for part in messages]), messages)
        message = await receive()
        messages.append(message)
        size += len(message.get("body", b""))
    return ReadBody(None, messages)


class Replay:
    """A ``receive`` that first gives what was already received, then asks the real one.

    Never invents a message: after the body the app waits on the real connection.
    """

    __slots__ = ("_messages", "_next", "_receive")

    def __init__(self, messages: list[Message], receive: Receive) -> None:
        self._messages = messages
        self._next = 0
        self._receive = receive

    async def __call__(self) -> Message:
        if self._next < len(self._messages):
            self._next += 1
            return self._messages[self._next - 1]
        return await self._receive()
