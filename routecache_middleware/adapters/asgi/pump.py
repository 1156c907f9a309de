"""Writing to the leader's client from a task of its own, so that it cannot stall the rest."""

import asyncio
import contextvars
from collections import deque

from routecache_middleware.adapters.asgi.relay import Relay
from routecache_middleware.adapters.asgi.types import Message
from routecache_middleware.engine.eager import Begun, begin
from routecache_middleware.engine.live import Reader
from routecache_middleware.errors import TruncatedResponseError

__all__ = ["Pump"]


class Pump:
    """Sends what the app sent, in order, at the pace of the leader's client.

    Each message goes out in the context variables that the app had when it sent it: middleware
    above us reads them in its own ``send``.

    Attributes:
        reader: The client's place in the shared answer.
        error: What the client's ``send`` raised; it gets nothing more after that.
    """

    __slots__ = ("_is_over", "_outbox", "_queued", "_relay", "_task", "error", "reader")

    def __init__(self, relay: Relay, reader: Reader, sending: Begun | None) -> None:
        """Take over; ``sending`` is the message that the client has been holding up, if any."""
        self._relay = relay
        self._outbox: deque[tuple[Message, contextvars.Context]] = deque()
        self._queued: asyncio.Future[None] | None = None
        self._is_over = False
        self.reader = reader
        self.error: Exception | None = None
        if sending is not None:
            sending.release()
        self._task = asyncio.get_running_loop().create_task(self._run(sending))
        # Not in a `finally` of the task: one that is cancelled before it ever runs has none.
        self._task.add_done_callback(lambda _: self._ended(sending))

    def put(self, message: Message) -> None:
        """Send a message when its turn comes."""
        if self.error is None and not self.reader.is_cut:
            self._outbox.append((message, contextvars.copy_context()))
            self._wake()

    async def drain(self) -> None:
        """Wait until everything has been sent; nothing comes after that.

        Raises:
            TruncatedResponseError: The client was too slow and was cut off.
        """
        self._is_over = True
        self._wake()
        if self.reader.is_cut:
            self._task.cancel()  # it hangs on a client that does not read
        try:
            await asyncio.wait((self._task,))
        except asyncio.CancelledError:
            self._task.cancel()
            raise
        if self.reader.is_cut:
            raise TruncatedResponseError("this client read too slowly and was cut off")

    def cancel(self) -> None:
        """Stop at once: the client's own request was cancelled."""
        self._task.cancel()

    async def _run(self, sending: Begun | None) -> None:
        try:
            if sending is not None:
                await sending.finish()
            await self._send_all()
        except Exception as error:  # noqa: BLE001 - told to the app when nobody else listens
            self.error = error
            self._outbox.clear()
            self.reader.remove()

    def _ended(self, sending: Begun | None) -> None:
        self.reader.remove()
        if sending is not None:
            sending.close()

    async def _send_all(self) -> None:
        while not self.reader.is_cut:
            if self._outbox:
                message, context = self._outbox.popleft()
                sending = context.run(begin, self._relay.send_raw(message))
                if sending is not None:
                    await sending.finish()
                self.reader.consumed(len(message.get("body", b"")))
            elif self._is_over:
                return
            else:
                self._queued = asyncio.get_running_loop().create_future()
                await self._queued

    def _wake(self) -> None:
        if self._queued is not None and not self._queued.done():
            self._queued.set_result(None)
