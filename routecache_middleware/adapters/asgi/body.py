"""Reading a request body without losing anything: bounded, and replayable message by message."""

import asyncio
from collections.abc import Callable

from routecache_middleware.adapters.asgi.types import Message, Receive

__all__ = ["Replay", "read_body", "spliced"]


async def read_body(receive: Receive, limit: int, messages: list[Message]) -> bytes | None:
    """Read a body of at most ``limit`` bytes; a larger one is left off where that is noticed.

    Args:
        receive: The server's.
        limit: Largest body, bytes.
        messages: Gets everything that was received, to be replayed to the app: also when the body
            is not read to its end, and when ``receive`` raises.

    Returns:
        The whole body, or None when it is too large or the client left before its end.
    """
    if not messages:
        messages.append(await receive())
    message = messages[0]
    if message["type"] == "http.request" and not message.get("more_body", False):
        body: bytes = message.get("body", b"")  # nearly always
        return body if len(body) <= limit else None
    size = len(message.get("body", b""))
    while message["type"] == "http.request":
        if size > limit:
            return None
        if not message.get("more_body", False):
            return b"".join([part.get("body", b"") for part in messages])
        message = await receive()
        messages.append(message)
        size += len(message.get("body", b""))
    return None


async def spliced(
    edit: Callable[[bytes, str], bytes], body: bytes, text: str, *, in_thread_bytes: int
) -> bytes:
    """Return ``edit(body, text)``; made in a thread when the body is larger than that."""
    if len(body) > in_thread_bytes:
        return await asyncio.to_thread(edit, body, text)
    return edit(body, text)


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
        """Return the next message."""
        if self._next < len(self._messages):
            self._next += 1
            return self._messages[self._next - 1]
        return await self._receive()
