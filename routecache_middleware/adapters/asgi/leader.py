"""The request whose task runs the app, and through whose hands everything the app sends passes.

While it is alone, each message goes straight to its client. When the first follower joins, a pump
task takes over writing to this client, so that a slow leader cannot stall the rest. The app is
never cancelled by us; it learns that its client is gone when nobody else listens any more, in the
way its ASGI version says: ``http.disconnect`` from ``receive`` (2.3) or an error from ``send`` (2.4).
"""

import asyncio
import contextvars
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Protocol

import msgspec

from routecache_middleware.adapters.asgi.relay import Relay
from routecache_middleware.adapters.asgi.types import Headers, Message, Receive
from routecache_middleware.core.models import DiscardReason, Position, ResponseMode
from routecache_middleware.core.plan import ResponseFacts, plan_share, read_response_head
from routecache_middleware.core.settings import Settings
from routecache_middleware.engine.capture import Capture
from routecache_middleware.engine.eager import start_eagerly
from routecache_middleware.engine.live import Live, Reader
from routecache_middleware.errors import TruncatedResponseError

__all__ = ["Leader", "LeaderHost", "SharedHead"]


class SharedHead(msgspec.Struct, frozen=True):
    """The part of a response's head that others may have: allow-listed fields, in order."""

    facts: ResponseFacts
    headers: tuple[tuple[bytes, bytes], ...]
    content_length: bytes


class LeaderHost(Protocol):
    """What a leader tells the request it belongs to."""

    def closed(self, leader: "Leader") -> None:
        """Nobody may join any more."""

    def refused(self, leader: "Leader", reason: DiscardReason) -> None:
        """The head of the response says that nobody else can have it."""

    def completed(self, leader: "Leader") -> None:
        """The last byte was passed on."""


class Leader:
    """One upstream call that others may share."""

    __slots__ = (
        "_blocked",
        "_client_error",
        "_context",
        "_disconnect",
        "_host",
        "_is_joinable",
        "_is_over",
        "_joined",
        "_outbox",
        "_pump",
        "_queued",
        "_reader",
        "_receive",
        "_relay",
        "_settings",
        "_stored_headers",
        "_wanted",
        "capture",
        "discard",
        "live",
    )

    def __init__(
        self,
        relay: Relay,
        receive: Receive,
        live: Live,
        capture: Capture,
        *,
        host: LeaderHost,
        wanted: ResponseMode,
        settings: Settings,
        stored_headers: frozenset[bytes],
        is_joinable: bool,
    ) -> None:
        self.live = live
        self.capture = capture
        self.discard: DiscardReason | None = None
        self._relay = relay
        self._receive = receive
        self._wanted = wanted
        self._stored_headers = stored_headers
        self._host = host
        self._settings = settings
        self._is_joinable = is_joinable
        # The pump writes on the leader's behalf, so middleware above must see the leader's variables.
        self._context = contextvars.copy_context()
        self._pump: asyncio.Task[None] | None = None
        self._reader: Reader | None = None
        self._outbox: deque[Message] = deque()
        self._queued: asyncio.Future[None] | None = None
        self._blocked: asyncio.Task[None] | None = None
        self._joined: asyncio.Future[None] | None = None
        self._client_error: BaseException | None = None
        self._disconnect: Message | None = None
        self._is_over = False

    @property
    def position(self) -> Position:
        """Captured position."""
        return self.live.position

    @property
    def shared_head(self) -> SharedHead:
        """The head that others may have, once ``live.head`` is set."""
        head = self.live.head
        assert isinstance(head, SharedHead)  # noqa: S101 - set by this class only
        return head

    # The app's side.

    async def receive(self) -> Message:
        """Give the app what its client sends; a disconnect is withheld while others listen."""
        if self._disconnect is None:
            message = await self._receive()
            if message["type"] != "http.disconnect":
                return message
            self._disconnect = message  # kept: a poll may be cancelled while it waits below
        await self.live.abandoned(self._reader)
        if not self.live.is_complete:
            # The app is about to give up, so nobody may join any more.
            self._stop_sharing(DiscardReason.INCOMPLETE)
        return self._disconnect

    async def send(self, message: Message) -> None:
        """Take a message from the app: record it, pass it on, and store when it was the last."""
        kind = message["type"]
        if kind == "http.response.start":
            await self._forward(self._begin(message))
        elif kind == "http.response.body":
            await self._body(message)
        else:
            await self._forward(message)

    def _begin(self, message: Message) -> Message:
        headers = list(message.get("headers", ()))
        facts = read_response_head(
            message["status"], headers, has_trailers=message.get("trailers", False)
        )
        stamped = self._relay.stamped(message)
        self.discard = plan_share(facts, self._wanted)
        if self.discard is None:
            self.live.begin(self._share(facts, headers))
        else:
            self._stop_sharing(self.discard)
            self._host.refused(self, self.discard)
            self.live.refuse()
        return stamped

    def _share(self, facts: ResponseFacts, headers: Headers) -> SharedHead:
        allowed = tuple(
            (name.lower(), value)
            for name, value in headers
            if name.lower() in self._stored_headers and name.lower() != b"content-type"
        )
        lengths = [value for name, value in headers if name.lower() == b"content-length"]
        return SharedHead(facts, allowed, lengths[0] if len(lengths) == 1 else b"")

    async def _body(self, message: Message) -> None:
        live, chunk = self.live, message.get("body", b"")
        if live.is_capturing and not self.capture.take(len(chunk)):
            self._stop_sharing(self.capture.reason)
        live.append(chunk)
        if message.get("more_body", False):
            await self._forward(message)
            return
        live.complete()
        try:
            await self._forward(message)
        finally:  # complete is complete, even if this client did not wait for the end
            self._host.completed(self)

    def _stop_sharing(self, reason: DiscardReason) -> None:
        if self.discard is None:
            self.discard = reason
        self.live.stop_capturing()
        self.capture.release()
        self._host.closed(self)

    # The client's side.

    async def _forward(self, message: Message) -> None:
        if self._pump is not None:
            self._enqueue(message)
            if self._client_error is not None and self.live.readers == 0:
                raise self._client_error
            await self._hold_back()
        elif self._is_joinable and self.live.is_capturing:
            self._blocked = start_eagerly(self._relay.send_raw(message))
            if self._blocked is not None:
                await self._wait_for_client_or_follower(self._blocked)
        else:
            await self._relay.send_raw(message)  # nobody can join: exactly as without us

    async def _wait_for_client_or_follower(self, blocked: asyncio.Task[None]) -> None:
        self._joined = asyncio.get_running_loop().create_future()
        try:
            await asyncio.wait((blocked, self._joined), return_when=asyncio.FIRST_COMPLETED)
        except asyncio.CancelledError:
            if self._pump is None:
                blocked.cancel()
                await asyncio.wait((blocked,))
            raise
        finally:
            self._joined = None
        if self._pump is None:
            self._blocked = None
            blocked.result()

    async def _hold_back(self) -> None:
        settings = self._settings
        await self.live.hold_back(settings.max_lag_bytes, settings.slow_reader_timeout_s)

    def _enqueue(self, message: Message) -> None:
        is_cut = self._reader is not None and self._reader.is_cut
        if self._client_error is None and not is_cut:
            self._outbox.append(message)
            self._wake_pump()

    def start_sharing(self) -> None:
        """A follower joins: from now on the pump writes to the leader's own client."""
        if self._pump is not None:
            return
        self._reader = self.live.queued_reader()
        self._pump = asyncio.get_running_loop().create_task(self._pumping(), context=self._context)
        if self._joined is not None and not self._joined.done():
            self._joined.set_result(None)

    async def _pumping(self) -> None:
        reader = self._reader
        assert reader is not None  # noqa: S101 - set before this task is made
        try:
            if self._blocked is not None:
                await self._blocked
            while not reader.is_cut:
                while self._outbox and not reader.is_cut:
                    message = self._outbox.popleft()
                    await self._relay.send_raw(message)
                    reader.consumed(len(message.get("body", b"")))
                if self._is_over:
                    return
                self._queued = asyncio.get_running_loop().create_future()
                await self._queued
        except Exception as error:  # noqa: BLE001 - told to the app when nobody else listens
            self._client_error = error
            self._outbox.clear()
        finally:
            self.live.remove(reader)

    def _wake_pump(self) -> None:
        if self._queued is not None and not self._queued.done():
            self._queued.set_result(None)

    async def run(self, call: Callable[[], Awaitable[None]]) -> None:
        """Run the app to its end, then give this client the rest of its copy.

        Raises:
            Exception: Whatever the app raised.
            TruncatedResponseError: This client was too slow and was cut off.
        """
        try:
            await call()
        except asyncio.CancelledError:
            self._give_up()
            raise
        finally:
            self.live.abort()
            self._is_over = True
            self._wake_pump()
            if not self.live.is_complete:
                self._stop_sharing(DiscardReason.INCOMPLETE)
            await self._drain()

    def _give_up(self) -> None:
        if self._pump is not None:
            self._pump.cancel()

    async def _drain(self) -> None:
        if self._pump is None:
            return
        is_cut = self._reader is not None and self._reader.is_cut
        if is_cut:
            self._pump.cancel()  # it hangs on a client that does not read
        try:
            await asyncio.wait((self._pump,))
        except asyncio.CancelledError:
            self._pump.cancel()
            raise
        if is_cut:
            raise TruncatedResponseError("this client read too slowly and was cut off")
