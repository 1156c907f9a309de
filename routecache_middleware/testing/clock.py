"""A clock that stands still until a test moves it."""

__all__ = ["FakeClock"]


class FakeClock:
    """A :class:`routecache_middleware.core.ports.Clock` whose two sides move together, or not."""

    def __init__(self, now_s: float = 1_700_000_000.0, monotonic_s: float = 1_000.0) -> None:
        self._now_s = now_s
        self._monotonic_s = monotonic_s

    def now_s(self) -> float:
        """Wall clock, Unix seconds."""
        return self._now_s

    def monotonic_s(self) -> float:
        """Monotonic clock, seconds."""
        return self._monotonic_s

    def advance(self, seconds: float) -> None:
        """Let time pass on both clocks."""
        self._now_s += seconds
        self._monotonic_s += seconds

    def step_wall(self, seconds: float) -> None:
        """Set the wall clock forward, or back with a negative number, as NTP does."""
        self._now_s += seconds
