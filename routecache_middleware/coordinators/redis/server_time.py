"""One clock for everything stored: the server's."""

from routecache_middleware.coordinators.redis.link import Link
from routecache_middleware.core.ports import Clock

__all__ = ["ServerTime"]

# A power of two: adding it to a time and taking it away again gives the same float.
_STEP_S = 1 / 64
# What a slow answer or a slewing clock may do; below that, times on one machine stay as they are.
_TOLERANCE_S = 0.25


class ServerTime:
    """How far the server's clock is ahead of this process's.

    Attributes:
        offset_s: Add it to a time of ours before it is stored, and take it off what was stored.
    """

    __slots__ = ("_clock", "offset_s")

    def __init__(self, clock: Clock) -> None:
        self.offset_s = 0.0
        self._clock = clock

    async def measure(self, link: Link) -> None:
        """Ask the server for its time.

        Raises:
            CoordinatorError: It did not answer.
        """
        before_s = self._clock.now_s()
        seconds, microseconds = await link.call("TIME")
        after_s = self._clock.now_s()
        measured_s = int(seconds) + int(microseconds) / 1e6 - (before_s + after_s) / 2
        if abs(measured_s - self.offset_s) > _TOLERANCE_S:
            self.offset_s = round(measured_s / _STEP_S) * _STEP_S
