"""The request whose task runs the app, and through whose hands everything the app sends passes.

While it is alone, each message goes straight to its client. When the first follower joins, a pump
task takes over writing to this client, so that a slow leader cannot stall the rest. The app is
never cancelled by us; it learns that its client is gone when nobody else listens any more, in the
way its ASGI version says: ``http.disconnect`` from ``receive`` (2.3), an error from ``send`` (2.4).
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Protocol

import msgspec

from routecache_middleware.adapters.asgi.pump import Pump
from routecache_middleware.adapters.asgi.relay import Relay
from routecache_middleware.adapters.asgi.types import Headers, Message, Receive
from routecache_middleware.core.models import DiscardReason, Position, ResponseMode
from routecache_middleware.core.plan import ResponseFacts, plan_share, read_response_head
from routecache_middleware.core.settings import Settings
from routecache_middleware.engine.capture import Capture
from routecache_middleware.engine.eager import Begun, begin
from routecache_middleware.engine.live import Live

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

    def failed(self, leader: "Leader") -> None:
        """The app raised, was cancelled or returned early; who shares the answer hears it next."""


class Leader:
    """One upstream call that others may share.

    Attributes:
        live: The answer, for those who share it.
        capture: Its part of the memory for answers under way.
        discard: Why it cannot be stored, or None. While it is None, all of it is there.
        relay: The way to this request's own client.
    """

    __slots__ = (
        "_disconnect",
        "_host",
        "_is_joinable",
        "_is_over",
        "_is_private",
        "_pump",
        "_receive",
        "_sending",
        "_settings",
        "_stored_headers",
        "_wanted",
        "capture",
        "discard",
        "live",
        "relay",
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
        is_private: bool = True,
    ) -> None:
        self.live = live
        self.capture = capture
        self.discard: DiscardReason | None = None
        self.relay = relay
        self._receive = receive
        self._wanted = wanted
        self._stored_headers = stored_headers
        self._host = host
        self._settings = settings
        self._is_joinable = is_joinable
        self._is_private = is_private
        self._pump: Pump | None = None
        self._sending: Begun | None = None  # what this client is holding up, while it is alone
        self._disconnect: Message | None = None
        self._is_over = False

    @property
    def position(self) -> Position:
        """Captured position."""
        return self.live.position

    @property
    def followers(self) -> int:
        """How many others share it now."""
        return self.live.others(None if self._pump is None else self._pump.reader)

    @property
    def shared_head(self) -> SharedHead:
        """The head that others may have, once ``live.head`` is set."""
        head = self.live.head
        assert isinstance(head, SharedHead)  # noqa: S101 - set by this class only
        return head

    def keep_nothing(self, reason: DiscardReason) -> None:
        """Neither store the answer nor let anybody else join; who already has, gets the rest."""
        if self.discard is None:
            self.discard = reason
        self.live.stop_capturing()
        self.capture.release()
        self._host.closed(self)

    def start_sharing(self) -> None:
        """A follower joins: from now on the pump writes to the leader's own client."""
        if self._pump is not None or self._is_over:
            return
        self._pump = Pump(self.relay, self.live.queued_reader(), self._sending)

    async def run(self, call: Callable[[], Awaitable[None]]) -> None:
        """Run the app to its end, then give this client the rest of its copy.

        Raises:
            Exception: Whatever the app raised.
            TruncatedResponseError: This client was too slow and was cut off.
        """
        try:
            await call()
        except asyncio.CancelledError:
            if self._pump is not None:
                self._pump.cancel()
            raise
        finally:
            self._is_over = True
            if not self.live.is_complete:
                self._end_early()
            if self._pump is not None:
                await self._pump.drain()

    def _end_early(self) -> None:
        """The app is done without having ended its response."""
        if self._may_be_whole():  # who settles it finds out
            self._host.closed(self)
            self._host.completed(self)
            self.live.abort()  # whoever is about to follow gets nothing that only may be whole
            return
        self.keep_nothing(DiscardReason.INCOMPLETE)
        self._host.failed(self)
        self.live.abort()

    # The app's side.

    async def receive(self) -> Message:
        """Give the app what its client sends; a disconnect is withheld while others listen."""
        if self._disconnect is None:
            message = await self._receive()
            if message["type"] != "http.disconnect":
                return message
            self._disconnect = message  # kept: a poll may be cancelled while it waits below
        await self.live.abandoned(None if self._pump is None else self._pump.reader)
        self._client_is_gone()
        return self._disconnect

    async def send(self, message: Message) -> None:
        """Take a message from the app: record it, pass it on, and store when it was the last."""
        kind = message["type"]
        if kind == "http.response.start":
            await self._forward(await self._begin(message))
        elif kind == "http.response.body":
            await self._body(message)
        else:
            await self._forward(message)

    async def _begin(self, message: Message) -> Message:
        stamped = await self.relay.stamped(message)
        if self.discard is not None:
            return stamped
        headers = list(message.get("headers", ()))
        facts = read_response_head(
            message["status"], headers, has_trailers=message.get("trailers", False)
        )
        refusal = plan_share(facts, self._wanted, is_private=self._is_private)
        if refusal is None:
            self.live.begin(self._share(facts, headers))
        else:
            self.keep_nothing(refusal)
            self._host.refused(self, refusal)
            self.live.refuse()
        return stamped

    def _share(self, facts: ResponseFacts, headers: Headers) -> SharedHead:
        lowered = [(name.lower(), value) for name, value in headers]
        kept = self._stored_headers
        allowed = [pair for pair in lowered if pair[0] in kept and pair[0] != b"content-type"]
        lengths = [value for name, value in lowered if name == b"content-length"]
        return SharedHead(facts, tuple(allowed), lengths[0] if len(lengths) == 1 else b"")

    async def _body(self, message: Message) -> None:
        live, chunk = self.live, message.get("body", b"")
        if live.is_capturing and not self.capture.take(len(chunk)):
            self.keep_nothing(self.capture.reason)
        live.append(chunk)
        if message.get("more_body", False):
            await self._forward(message)
            return
        live.complete()
        try:
            await self._forward(message)
        finally:  # complete is complete, even if this client did not wait for the end
            self._host.completed(self)

    # The client's side.

    async def _forward(self, message: Message) -> None:
        if self._pump is not None:
            await self._forward_shared(self._pump, message)
        elif self._is_joinable and self.live.is_capturing:
            await self._forward_alone(message)
        else:
            await self.relay.send_raw(message)  # nobody can join: exactly as without us

    async def _forward_alone(self, message: Message) -> None:
        """Send in this task, but go on as soon as the pump takes over."""
        try:
            sending = begin(self.relay.send_raw(message))
            if sending is not None:
                self._sending = sending
                await sending.here()
        except Exception:
            self._client_is_gone()
            raise
        finally:
            self._sending = None

    async def _forward_shared(self, pump: Pump, message: Message) -> None:
        live, settings = self.live, self._settings
        pump.put(message)
        if pump.error is not None and not self.followers:
            self._client_is_gone()
            raise pump.error
        # After the last message there is nothing to hold back: what is missing waits in memory.
        if not live.is_complete and await live.hold_back(
            settings.max_lag_bytes, settings.slow_reader_timeout_s
        ):
            self._host.closed(self)

    def _client_is_gone(self) -> None:
        """The app is about to hear that nobody listens, and to give up: nobody may join now."""
        self.relay.is_client_gone = True
        if self.live.is_complete:
            return
        if self._may_be_whole():
            self._host.closed(self)
        else:
            self.keep_nothing(DiscardReason.INCOMPLETE)

    def _may_be_whole(self) -> bool:
        """Whether all of the answer may be there, although the app has not ended it.

        Clients hang up at a stream's terminal marker, often before the response ends.
        """
        live = self.live
        is_begun = live.total_bytes > 0 and live.is_capturing and not self.followers
        return is_begun and self._wanted is ResponseMode.STREAM and self.relay.is_client_gone
