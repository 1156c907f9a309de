"""How often one caller may ask: a bucket for each of the latest callers, refilled all the time."""

import math
from collections import OrderedDict

__all__ = ["Limiter"]

_MOST_CALLERS = 1_024


class Limiter:
    """Token buckets by caller. Knows no clock: times are arguments, on the monotonic one.

    Callers may be anybody, so only the latest are remembered; who is forgotten starts anew.
    """

    __slots__ = ("_buckets", "_burst", "_rate_per_s")

    def __init__(self, rate_per_s: float, burst: float) -> None:
        """Allow ``rate_per_s`` on average and ``burst`` at once."""
        self._rate_per_s = rate_per_s
        self._burst = burst
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def wait_s(self, caller: str, now_s: float) -> int:
        """Take one; return 0, or after how many whole seconds there will be one again."""
        left, at_s = self._buckets.pop(caller, (self._burst, now_s))
        left = min(self._burst, left + (now_s - at_s) * self._rate_per_s)
        is_there = left >= 1
        self._buckets[caller] = (left - 1 if is_there else left, now_s)
        if len(self._buckets) > _MOST_CALLERS:
            self._buckets.popitem(last=False)
        return 0 if is_there else max(1, math.ceil((1 - left) / self._rate_per_s))
