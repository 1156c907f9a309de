"""A request's body: passed on as it comes, or read whole where the model decides who gets it."""

import asyncio
from collections.abc import AsyncIterator
from typing import Final

from routecache_middleware.adapters.asgi.types import Message, Receive
from routecache_middleware.core.canonical import DoubtfulJSONError, decode
from routecache_middleware.core.splice import replace_model

__all__ = ["MAX_READ_BYTES", "ClientLeftError", "Incoming", "TooLargeError", "model_of", "renamed"]

MAX_READ_BYTES: Final = 64 * 1024 * 1024
"""The longest body that is read whole: twice of what Anthropic takes."""

_IN_THREAD_BYTES: Final = 65_536


class ClientLeftError(Exception):
    """The client went away before its request was complete."""


class TooLargeError(Exception):
    """A body that has to be read whole is longer than :data:`MAX_READ_BYTES`."""


class Incoming:
    """The messages of one request.

    Attributes:
        taken: Set when all of the body was taken.
    """

    __slots__ = ("_receive", "_upcoming", "taken")

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._upcoming: Message | None = None
        self.taken = asyncio.Event()

    async def begin(self) -> bytes | None:
        """Return the body if it came in one message, else None: it is to be read piece by piece.

        Raises:
            ClientLeftError: There will be none.
        """
        self._upcoming = await self._next()
        if self._upcoming.get("more_body", False):
            return None
        self.taken.set()
        whole: bytes = self._upcoming.get("body", b"")
        return whole

    async def pieces(self) -> AsyncIterator[bytes]:
        """Yield the body, after :meth:`begin`.

        Raises:
            ClientLeftError: The client went away before its end.
        """
        message = self._upcoming
        while message is not None:
            self._upcoming = None
            piece = message.get("body", b"")
            if piece:
                yield piece
            message = await self._next() if message.get("more_body", False) else None
        self.taken.set()

    async def whole(self) -> bytes:
        """Read the rest, after :meth:`begin`.

        Raises:
            ClientLeftError: The client went away before its end.
            TooLargeError: It is too long.
        """
        body = bytearray()
        async for piece in self.pieces():
            body += piece
            if len(body) > MAX_READ_BYTES:
                raise TooLargeError
        return bytes(body)

    async def until_gone(self) -> None:
        """Return when the client has gone away."""
        while (await self._receive())["type"] != "http.disconnect":
            pass

    async def _next(self) -> Message:
        message = await self._receive()
        if message["type"] == "http.disconnect":
            raise ClientLeftError
        return message


async def model_of(body: bytes) -> str | None:
    """Return the model that a JSON body names; None when that cannot be said for certain."""
    if len(body) > _IN_THREAD_BYTES:
        return await asyncio.to_thread(_model_of, body)
    return _model_of(body)


async def renamed(body: bytes, model: str) -> bytes:
    """Return a body that :func:`model_of` could read with another model in it."""
    if len(body) > _IN_THREAD_BYTES:
        return await asyncio.to_thread(replace_model, body, model)
    return replace_model(body, model)


def _model_of(body: bytes) -> str | None:
    try:
        model = decode(body).get("model")
    except DoubtfulJSONError:
        return None
    return model if isinstance(model, str) and model else None
