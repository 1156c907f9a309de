"""One computation for all who want the same value at the same time (get-or-compute).

The leader computes in its own task, so context variables and cancellation are its own. Followers
wait; a follower that is cancelled disturbs nobody. A leader's error is the leader's alone:
:mod:`.flights` says who tries next.
"""

import asyncio
from collections.abc import Awaitable
from typing import Generic, Protocol, TypeVar

from routecache_middleware.core.events import WaitFinished
from routecache_middleware.core.models import Entry, Outcome, Position
from routecache_middleware.core.ports import Clock, OpenOperation
from routecache_middleware.engine.flights import Flights

__all__ = ["Caller", "Flown", "SingleFlight"]

T = TypeVar("T")


class Caller(Protocol[T]):
    """Somebody who wants a value."""

    @property
    def position(self) -> Position:
        """The captured position."""

    @property
    def traceparent(self) -> str:
        """Its span, for the links of those who follow it."""

    @property
    def entry(self) -> Entry | None:
        """What :meth:`lead` found instead of making it, or None."""

    def lead(self, *, is_promoted: bool) -> Awaitable[T]:
        """Make the value, and store it, or get it from another process.

        The flight stays open until then. ``is_promoted``: somebody has just failed to.
        """

    async def make(self) -> T:
        """Make the value, and store it, for this caller alone."""

    def may_join(self, position: Position) -> bool:
        """Whether a flight that was captured at ``position`` will do."""

    def may_share(self, value: T, position: Position) -> bool:
        """Whether the ``value`` of such a flight will do, now that it is known."""

    def begin_waiting(self) -> OpenOperation:
        """Tell that the caller follows a flight."""


class Flown(Generic[T]):
    """A value, and whether it is somebody else's.

    Attributes:
        value: The value.
        is_shared: Another caller has made or found it.
        entry: Where it was found, or None when it was made.
    """

    __slots__ = ("entry", "is_shared", "value")

    def __init__(self, value: T, *, is_shared: bool, entry: Entry | None = None) -> None:
        self.value = value
        self.is_shared = is_shared
        self.entry = entry


class _Computation(Generic[T]):
    """A flight whose answer is one value."""

    __slots__ = ("_caller", "_leader", "followers", "landed")

    def __init__(self, caller: Caller[T]) -> None:
        self.followers = 0
        self._caller = caller
        self._leader = asyncio.current_task()
        # Holds None when the leader failed: an exception in it that nobody awaits would be logged.
        self.landed: asyncio.Future[Flown[T] | None] = asyncio.get_running_loop().create_future()

    @property
    def position(self) -> Position:
        """Where its leader is now: one that waited for another process captures anew."""
        return self._caller.position

    @property
    def traceparent(self) -> str:
        """Its leader's span."""
        return self._caller.traceparent

    def can_be_awaited(self) -> bool:
        """Whether waiting for it would end: not in another event loop, nor in its own leader."""
        is_here = self.landed.get_loop() is asyncio.get_running_loop()
        return is_here and self._leader is not asyncio.current_task()


class SingleFlight(Generic[T]):
    """Collapses concurrent computations of the same key."""

    __slots__ = ("_clock", "_flights")

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._flights: Flights[_Computation[T]] = Flights()

    def __len__(self) -> int:
        return len(self._flights)

    def is_under_way(self, key: str) -> bool:
        """Whether somebody is making the value now."""
        return self._flights.find(key) is not None

    async def run(self, key: str, caller: Caller[T]) -> Flown[T] | None:
        """Return the value that ``caller`` makes, or somebody else's that is under way.

        None when somebody else's was invalidated while this caller waited for it.

        Raises:
            Exception: Whatever the caller's own ``make`` raised; never somebody else's error.
        """
        while True:
            if self._flights.is_parallel(key, self._clock.monotonic_s()):
                return Flown(await caller.make(), is_shared=False)
            flight = self._flights.find(key)
            if flight is None or not caller.may_join(flight.position):
                return await self._lead(key, caller)
            if not flight.can_be_awaited():
                return Flown(await caller.make(), is_shared=False)
            flown = await self._follow(flight, caller)
            if flown is not None:
                is_good = caller.may_share(flown.value, flight.position)
                return flown if is_good else None

    async def _follow(self, flight: _Computation[T], caller: Caller[T]) -> Flown[T] | None:
        waiting = caller.begin_waiting()
        flown: Flown[T] | None = None
        flight.followers += 1
        try:
            flown = await asyncio.shield(flight.landed)
        finally:
            flight.followers -= 1
            outcome = Outcome.ERROR if flown is None else Outcome.COALESCED
            waiting.finish(WaitFinished(outcome, flight.traceparent))
        return flown

    async def _lead(self, key: str, caller: Caller[T]) -> Flown[T]:
        flight: _Computation[T] = _Computation(caller)
        self._flights.open(key, flight)
        shared: Flown[T] | None = None
        try:
            value = await caller.lead(is_promoted=self._flights.has_failed(key))
            shared = Flown(value, is_shared=True, entry=caller.entry)
            return Flown(value, is_shared=False)
        finally:  # also when cancelled: followers must never wait for ever
            self._flights.close(key, flight)
            if shared is None:
                had_followers = flight.followers > 0
                now_s = self._clock.monotonic_s()
                self._flights.failed(key, had_followers=had_followers, now_s=now_s)
            else:
                self._flights.succeeded(key)
            flight.landed.set_result(shared)
