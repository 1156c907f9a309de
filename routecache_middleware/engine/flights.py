"""Which upstream calls are under way, and when not to share one.

A flight is open while others may join it. When a flight fails before it has given anybody anything,
its followers come back here: the first finds no open flight and becomes the new leader (promotion),
the rest join it. If that one fails too, everybody goes alone for a second: an upstream that fails
must not be asked one caller at a time. Answers that turn out not to be shareable are remembered for
ten seconds, so that nobody queues for them.
"""

from typing import Generic, Protocol, TypeVar

from cachetools import FIFOCache

from routecache_middleware.core.models import Position

__all__ = ["Flight", "Flights"]

_MAX_PROMOTIONS = 1
_PARALLEL_S = 1.0
_UNSHAREABLE_S = 10.0
_MARKERS = 4096


class Flight(Protocol):
    """One upstream call that others may share."""

    @property
    def position(self) -> Position:
        """Its leader's captured position: a joiner must find it still current."""


F = TypeVar("F", bound=Flight)


class Flights(Generic[F]):
    """The open flights of one event loop.

    Keys are entry keys plus whatever tells wire forms apart.
    """

    __slots__ = ("_failures", "_open", "_parallel_until")

    def __init__(self) -> None:
        self._open: dict[str, F] = {}
        # Both are hints: losing one to the size bound costs a needless wait or call, no more.
        self._failures: FIFOCache[str, int] = FIFOCache(_MARKERS)
        self._parallel_until: FIFOCache[str, float] = FIFOCache(_MARKERS)

    def __len__(self) -> int:
        return len(self._open)

    def find(self, key: str) -> F | None:
        """Return the flight that a request for ``key`` could join."""
        return self._open.get(key)

    def open(self, key: str, flight: F) -> None:
        """Let others join ``flight``; one that was open under ``key`` takes no more."""
        self._open[key] = flight

    def close(self, key: str, flight: F) -> None:
        """Nobody may join ``flight`` any more; another flight under the same key is left alone."""
        if self._open.get(key) is flight:
            del self._open[key]

    def succeeded(self, key: str) -> None:
        """The upstream answers again."""
        if self._failures:
            self._failures.pop(key, None)

    def failed(self, key: str, *, had_followers: bool, now_s: float) -> None:
        """A flight gave nobody anything. Call after :meth:`close`; ``now_s`` is monotonic."""
        if not had_followers:
            return
        failures = self._failures.pop(key, 0) + 1
        if failures > _MAX_PROMOTIONS:
            self._parallel_until[key] = now_s + _PARALLEL_S
        else:
            self._failures[key] = failures

    def has_failed(self, key: str) -> bool:
        """Whether the latest flight that others shared failed: who leads now was promoted."""
        return key in self._failures

    def unshareable(self, key: str, now_s: float, for_s: float = _UNSHAREABLE_S) -> None:
        """Answers under ``key`` cannot be shared: nobody should wait. ``now_s`` is monotonic."""
        self._parallel_until[key] = now_s + for_s

    def is_parallel(self, key: str, now_s: float) -> bool:
        """Whether everybody goes alone for now. ``now_s`` is monotonic."""
        if not self._parallel_until:
            return False
        until_s = self._parallel_until.get(key)
        if until_s is None:
            return False
        if now_s < until_s:
            return True
        self._parallel_until.pop(key, None)
        return False
