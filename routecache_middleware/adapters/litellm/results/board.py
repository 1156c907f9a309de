"""Which calls are under way in this process, so that identical ones wait for their answer instead.

A flight is settled by the first of: its answer has been written; the provider has failed; the call
is over, or given up, and no answer came to the cache; it has lasted too long. Nobody waits for
itself: neither for the same call (LiteLLM's retries and fallbacks keep its id) nor for the same
task. And who leads a flight waits for no other: so calls that want several entries, in different
orders, never wait for each other in a circle.
"""

import asyncio
import weakref
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from routecache_middleware.core.models import Entry, Position
from routecache_middleware.engine.leases import FAILING_S, after_failure_s

if TYPE_CHECKING:
    from routecache_middleware.adapters.litellm.results.calls import Ask, Call
    from routecache_middleware.engine.engine import Engine

__all__ = ["Board", "Flight"]

_GRACE_S = 1.0
"""How long after the end of a call its answer may still come: LiteLLM writes in a task apart."""


class Flight:
    """One call that others may wait for.

    Attributes:
        key: Entry key and wire form.
        position: Its leader's captured position.
        landed: What came of it; None: nothing.
        followers: How many wait.
        call: The leader.
    """

    __slots__ = (
        "_ask",
        "_board",
        "_is_over",
        "_task",
        "_timers",
        "_witness",
        "call",
        "followers",
        "key",
        "landed",
        "position",
    )

    def __init__(self, board: "Board", key: str, call: "Call", ask: "Ask") -> None:
        self._board = board
        self._ask = ask
        self._is_over = False
        self._timers: list[asyncio.TimerHandle] = []
        self._task: asyncio.Task[Any] | None = None
        self._witness: object = None
        self.key = key
        self.call = call
        self.followers = 0
        self.position: Position = ask.position
        self.landed: asyncio.Future[Entry | None] = asyncio.get_running_loop().create_future()

    def watch(self, witness: object) -> None:
        """Settle it also when the call ends without a word.

        ``witness``: something that lives as long as somebody may still read the answer.
        """
        loop = self.landed.get_loop()
        self._timers.append(loop.call_later(self._board.timeout_s, self._time_out))
        self._task = self.call.task
        if self._task is not None:
            self._task.add_done_callback(self._task_done)
        with suppress(TypeError):  # not everything can be watched
            self._witness = weakref.ref(witness, self._forgotten)

    def expect_end(self) -> None:
        """The call is over; its answer may still be on its way."""
        if not self._is_over:
            loop = self.landed.get_loop()
            self._timers.append(loop.call_later(_GRACE_S, self.fail))

    def answer(self, entry: Entry) -> None:
        """Give everybody the answer; also to those who come before it is stored."""
        if not (self._is_over or self.landed.done()):
            self._board.flights.succeeded(self.key)
            self.landed.set_result(entry)

    def end(self, parallel_s: float = 0.0) -> None:
        """The answer was stored, or cannot be: for so long nobody waits for another one."""
        if self._close():
            now_s = self._board.now_s()
            if parallel_s > 0:
                self._board.flights.unshareable(self.key, now_s, parallel_s)
            elif not self.landed.done():
                had_followers = self.followers > 0
                self._board.flights.failed(self.key, had_followers=had_followers, now_s=now_s)
            self._finish(parallel_s)

    def fail(self, *, is_given_up: bool = False) -> None:
        """There is no answer. ``is_given_up``: by the caller, through no fault of the provider."""
        if self._close():
            if not self.landed.done():
                had_followers, now_s = self.followers > 0, self._board.now_s()
                self._board.flights.failed(self.key, had_followers=had_followers, now_s=now_s)
            lease = self._ask.lease
            is_promoted = lease is not None and lease.is_promoted and not is_given_up
            self._finish(after_failure_s(is_promoted=is_promoted))

    def _close(self) -> bool:
        if self._is_over:
            return False
        self._is_over = True
        self.call.leads -= 1
        self._ask.flight = None
        self._board.close(self)
        for timer in self._timers:
            timer.cancel()
        if self._task is not None:
            self._task.remove_done_callback(self._task_done)
        self._task = self._witness = None
        return True

    def _finish(self, parallel_s: float) -> None:
        lease, self._ask.lease = self._ask.lease, None
        if lease is not None:
            lease.give_back(parallel_s)
        if not self.landed.done():
            self.landed.set_result(None)

    def _time_out(self) -> None:
        self.end(FAILING_S)

    def _task_done(self, task: "asyncio.Task[Any]") -> None:
        # Not asked for its exception: asyncio would no longer tell that nobody has looked at it.
        if task.cancelled():
            self.fail(is_given_up=True)
        else:
            self.expect_end()

    def _forgotten(self, _: object) -> None:
        """Nobody holds the answer any more. Called in the midst of anything, in any thread."""
        loop = self.landed.get_loop()
        if not loop.is_closed():
            loop.call_soon_threadsafe(self.expect_end)


class Board:
    """The flights of one process."""

    __slots__ = ("_engine", "_loop", "_open", "timeout_s")

    def __init__(self, engine: "Engine", timeout_s: float) -> None:
        self._engine = engine
        self.timeout_s = timeout_s
        self._open: set[Flight] = set()
        self._loop: asyncio.AbstractEventLoop | None = None

    @property
    def flights(self) -> Any:
        """The engine's: they are those of the event loop that it is open for."""
        return self._engine.live

    def now_s(self) -> float:
        """Monotonic time."""
        return self._engine.clock.monotonic_s()

    def open(self, key: str, call: "Call", ask: "Ask") -> Flight:
        """Let others wait for what ``call`` gets."""
        flight = ask.flight = Flight(self, key, call, ask)
        loop = flight.landed.get_loop()
        if self._loop is not loop:  # flights of a loop that is gone will never end
            self._loop = loop
            self._open.clear()
        call.leads += 1
        self.flights.open(key, flight)
        self._open.add(flight)
        return flight

    def may_wait(self, call: "Call", flight: Flight) -> bool:
        """Whether a call may wait for a flight and not, in the end, for itself."""
        leader = flight.call
        if call.leads or leader is call or (call.call_id and leader.call_id == call.call_id):
            return False
        return leader.task is None or leader.task is not call.task

    def close(self, flight: Flight) -> None:
        """It is over."""
        self.flights.close(flight.key, flight)
        self._open.discard(flight)

    def clear(self) -> None:
        """Let everybody go; in the event loop that they wait in."""
        flights, self._open = self._open, set()
        if self._loop is asyncio.get_running_loop():
            for flight in flights:
                flight.fail(is_given_up=True)
