"""Passing an app's response on, with our fields in its head and our numbers taken."""

from collections.abc import Awaitable, Callable, Iterable
from time import perf_counter

from routecache_middleware.adapters.asgi.marks import has_mark, mark, server_timing
from routecache_middleware.adapters.asgi.types import Headers, Message, Send
from routecache_middleware.core.models import Outcome, RoutingDecision

__all__ = ["Relay", "Stamp"]

_TARGETED = b"routecache-control"


class Stamp:
    """What is written into the head of one response."""

    __slots__ = (
        "_began_s",
        "_has_timing",
        "_is_below",
        "_yields",
        "cache_status",
        "decision",
        "has_fields",
        "outcome",
    )

    def __init__(
        self, *, has_fields: bool, has_timing: bool, yields: bool = False, is_below: bool = False
    ) -> None:
        """Begin.

        Args:
            has_fields: Say what the cache did.
            has_timing: Say how long it took.
            yields: Our fields stay out of a head into which another cache wrote them.
            is_below: Another cache of ours is above, and wants to read what is said to caches.
        """
        self._is_below = is_below
        self.has_fields = has_fields
        self._yields = yields
        self._has_timing = has_timing
        self._began_s = perf_counter() if has_timing else 0.0
        self.cache_status = b""
        self.outcome = Outcome.BYPASS
        self.decision: RoutingDecision | None = None

    def readable(self, headers: Iterable[tuple[bytes, bytes]]) -> Headers:
        """Return a head without what is said to this cache alone (RFC 9213 section 2.1)."""
        if self._is_below:
            return list(headers)
        return [pair for pair in headers if pair[0].lower() != _TARGETED]

    def put(self, headers: Headers, asked_app_s: float | None = None) -> None:
        """Append our fields. ``asked_app_s``: when the app was called, by ``perf_counter``."""
        if self.has_fields and not (self._yields and has_mark(headers)):
            mark(headers, self.cache_status, self.outcome, self.decision)
        if self._has_timing:
            now_s = perf_counter()
            if asked_app_s is None:
                headers.append(server_timing(now_s - self._began_s))
            else:
                headers.append(server_timing(asked_app_s - self._began_s, now_s - asked_app_s))


class Relay:
    """The ``send`` of a request that is forwarded.

    Attributes:
        stamp: What is written into the head of the response.
        status: Its HTTP status code, 0 before there is one.
        is_client_gone: The client left, so how the call ends says nothing about the app.
    """

    __slots__ = (
        "_asked_s",
        "_client_send",
        "_instead",
        "_on_status",
        "_rescue",
        "is_client_gone",
        "stamp",
        "status",
    )

    def __init__(
        self,
        send: Send,
        stamp: Stamp,
        on_status: Callable[[int], None],
        rescue: Callable[[int], Awaitable[list[Message] | None]] | None = None,
    ) -> None:
        """Pass on to ``send``.

        Args:
            send: The server's.
            stamp: What to write into the head.
            on_status: Told the status before the head is passed on.
            rescue: Given the status, returns a whole response to send instead of the app's.
        """
        self._client_send = send
        self._on_status = on_status
        self._asked_s = perf_counter()
        self._rescue = rescue
        self._instead: list[Message] | None = None
        self.stamp = stamp
        self.status = 0
        self.is_client_gone = False

    async def send(self, message: Message) -> None:
        """Pass a message on; the head of the response gets our fields."""
        if message["type"] == "http.response.start":
            message = await self.stamped(message)
        await self.send_raw(message)

    async def send_raw(self, message: Message) -> None:
        """Pass a message on as it is."""
        if self._instead is None:
            await self._client_send(message)
        elif message["type"] == "http.response.start":
            for stored in self._instead:
                await self._client_send(stored)

    async def stamped(self, message: Message) -> Message:
        """Return the head of the response with our fields appended; the app's is not touched."""
        self.status = message["status"]
        self._on_status(self.status)
        if self._rescue is not None:
            self._instead = await self._rescue(self.status)
        headers = self.stamp.readable(message.get("headers", ()))
        self.stamp.put(headers, self._asked_s)
        return {**message, "headers": headers}
