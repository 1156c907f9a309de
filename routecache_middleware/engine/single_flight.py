"""One computation for all who want the same value at the same time (get-or-compute).

The leader computes in its own task, so context variables and cancellation are its own. Followers
wait; a follower that is cancelled disturbs nobody. A leader's error is the leader's alone:
:mod:`.flights` says who tries next.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from routecache_middleware.core.models import Position
from routecache_middleware.core.ports import Clock
from routecache_middleware.engine.flights import Flights

__all__ = ["Flown", "SingleFlight"]

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Flown(Generic[T]):
    """A value and how it came: ``leader`` is the leader's traceparent, None for the leader itself."""

    value: T
    leader: str | None


class _Computation(Generic[T]):
    """A flight whose answer is one value."""

    __slots__ = ("followers", "future", "position", "traceparent")

    def __init__(self, position: Position, traceparent: str) -> None:
        self.position = position
        self.traceparent = traceparent
        self.followers = 0
        # Holds None when the leader failed: an exception in it that nobody awaits would be logged.
        self.future: asyncio.Future[Flown[T] | None] = asyncio.get_running_loop().create_future()


class SingleFlight(Generic[T]):
    """Collapses concurrent computations of the same key."""

    __slots__ = ("_clock", "_flights")

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._flights: Flights[_Computation[T]] = Flights()

    def has(self, key: str) -> bool:
        """Whether a computation of ``key`` is under way."""
        return self._flights.find(key) is not None

    async def run(
        self,
        key: str,
        compute: Callable[[], Awaitable[T]],
        *,
        position: Position,
        is_current: Callable[[Position], bool],
        traceparent: str = "",
    ) -> Flown[T]:
        """Return the value of ``compute``, or of somebody else's that is under way.

        Args:
            key: What is computed.
            compute: Makes the value; also stores it, so that the flight stays open until then.
            position: The caller's captured position.
            is_current: Whether a flight captured at a position may still be joined.
            traceparent: The caller's span, for the links of its followers.

        Raises:
            Exception: Whatever the caller's own ``compute`` raised; never somebody else's error.
        """
        while True:
            if self._flights.is_parallel(key, self._clock.monotonic_s()):
                return Flown(await compute(), None)
            flight = self._flights.find(key)
            if flight is None or not is_current(flight.position):
                return await self._lead(key, _Computation(position, traceparent), compute)
            flown = await self._follow(flight)
            if flown is not None:
                return flown

    async def _follow(self, flight: _Computation[T]) -> Flown[T] | None:
        flight.followers += 1
        try:
            return await asyncio.shield(flight.future)
        finally:
            flight.followers -= 1

    async def _lead(
        self, key: str, flight: _Computation[T], compute: Callable[[], Awaitable[T]]
    ) -> Flown[T]:
        self._flights.open(key, flight)
        shared: Flown[T] | None = None
        try:
            value = await compute()
            shared = Flown(value, flight.traceparent)
            return Flown(value, None)
        finally:  # also when cancelled: followers must never wait for ever
            self._flights.close(key, flight)
            if shared is None:
                had_followers = flight.followers > 0
                now_s = self._clock.monotonic_s()
                self._flights.failed(key, had_followers=had_followers, now_s=now_s)
            else:
                self._flights.succeeded(key)
            flight.future.set_result(shared)
