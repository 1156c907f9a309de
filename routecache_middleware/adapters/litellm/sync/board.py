"""Which provider calls threads are making now, so that others wait for the answer instead."""

import threading
import time
from collections.abc import Callable

from cachetools import FIFOCache

from routecache_middleware.adapters.litellm.sync.flight import End, Flight
from routecache_middleware.core.models import Entry
from routecache_middleware.engine.flights import Flights

__all__ = ["Board"]

_MARKERS = 4096


class Board:
    """The flights of one process. Thread-safe, and never locked while anybody waits."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._begin()

    def enter(
        self, flight: Flight, *, may_wait: bool, may_join: Callable[[Flight], bool]
    ) -> Flight | None:
        """Open ``flight``, or find the one to wait for.

        Args:
            flight: The caller's own.
            may_wait: Whether this thread may be held up at all.
            may_join: Whether the answer to another one will do.

        Returns:
            ``flight`` itself, or an earlier one of the same call, for a leader; that of another
            call for a follower; None for who goes alone.
        """
        with self._lock:
            if self._flights.is_parallel(flight.key, time.monotonic()):
                return None
            found = self._flights.find(flight.key)
            if found is not None and found.end is None:
                if found.call_id == flight.call_id:
                    return found  # LiteLLM tries again
                if found.is_abandoned():
                    self._close(found, End.FAILED)
                    found = None
            if found is None or not may_join(found):
                return self._open(flight)
            if found.end is None and (not may_wait or found.thread is flight.thread):
                return None  # a thread never waits for itself
            found.followers += 1
            return found

    def has_landed_since(self, key: str, since_s: float) -> bool:
        """Whether an answer was stored after ``since_s`` on the monotonic clock.

        Who has looked before that and leads since would ask the provider a second time.
        """
        with self._lock:
            landed_s = self._landed.get(key)
        return landed_s is not None and landed_s >= since_s

    def answered(self, flight: Flight, entry: Entry) -> None:
        """There is an answer: followers go, and who comes before it is stored gets it as well."""
        with self._lock:
            if flight.end is None:
                self._flights.succeeded(flight.key)
                flight.finish(End.ANSWERED, entry)

    def stored(self, flight: Flight) -> None:
        """The answer is where the next lookup finds it, if anywhere."""
        with self._lock:
            self._landed[flight.key] = time.monotonic()
            self._flights.close(flight.key, flight)
            self._all.discard(flight)

    def ended(self, flight: Flight, end: End) -> None:
        """There is no answer to share."""
        with self._lock:
            self._close(flight, end)

    def clear(self) -> None:
        """Let everybody go, and forget everything."""
        with self._lock:
            for flight in self._all:
                flight.finish(End.FAILED)
            self._begin()

    def begin_in_child(self) -> None:
        """Begin anew after a fork: no thread that leads anything has come along."""
        self._lock = threading.Lock()
        self._begin()

    def _begin(self) -> None:
        self._flights: Flights[Flight] = Flights()
        self._all: set[Flight] = set()
        # A hint: losing one to the size bound costs a needless call, no more.
        self._landed: FIFOCache[str, float] = FIFOCache(_MARKERS)

    def _open(self, flight: Flight) -> Flight:
        self._flights.open(flight.key, flight)
        self._all.add(flight)
        return flight

    def _close(self, flight: Flight, end: End) -> None:
        if flight.end is not None:
            return
        self._flights.close(flight.key, flight)
        self._all.discard(flight)
        now_s = time.monotonic()
        if end is End.UNSHAREABLE:
            self._flights.unshareable(flight.key, now_s)
        else:
            self._flights.failed(flight.key, had_followers=flight.followers > 0, now_s=now_s)
        flight.finish(end)
