"""Which answers are served how often, about, and how much of all hits the most popular ones make.

Counting every hit by key would cost each of them more than looking it up. So of the fastest hits
one in 64 is counted, for 64; all others are. And only so many keys are remembered: when there are
more, the half that was counted least is forgotten. What is often served is counted well, what is
rarely served badly, and of the latter there is a long tail.
"""

from heapq import nlargest
from typing import Final

from routecache_middleware.core.keys import CacheKey

__all__ = ["Popularity"]

_MOST_KEYS: Final = 2_000


class Popularity:
    """Counts answers by key, in this process."""

    __slots__ = ("_counts",)

    def __init__(self) -> None:
        self._counts: dict[CacheKey, int] = {}

    def seen(self, key: CacheKey | None, times: int = 1) -> None:
        """An answer was served; None: nobody knows which."""
        if not key:
            return
        counts = self._counts
        counts[key] = counts.get(key, 0) + times
        if len(counts) > _MOST_KEYS:
            self._counts = dict(nlargest(_MOST_KEYS // 2, counts.items(), key=_count))

    def top(self) -> list[tuple[CacheKey, int]]:
        """Return the keys that are remembered and how often each was served, the most first."""
        return sorted(self._counts.items(), key=_count, reverse=True)


def _count(item: tuple[CacheKey, int]) -> int:
    return item[1]
