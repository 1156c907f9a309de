"""When keys expire, so that they can be freed a few at a time."""

import heapq

__all__ = ["SWEEP_LIMIT", "ExpiryBuckets"]

SWEEP_LIMIT = 64
"""How many expired items one operation frees at most."""

_SPARE_SECONDS = 64


class ExpiryBuckets:
    """Keys by the second in which they expire. Not thread-safe; its owner holds a lock.

    A heap of items would keep removed ones until their time comes, or stall while it is rebuilt
    (TLRUCache does both). Here the heap holds seconds, which are few, and buckets are exact.
    """

    __slots__ = ("_buckets", "_seconds")

    def __init__(self) -> None:
        self._buckets: dict[int, set[str]] = {}
        self._seconds: list[int] = []  # a heap; may name seconds whose bucket is gone

    def add(self, key: str, expires_s: float) -> None:
        """Remember when ``key`` expires."""
        second = int(expires_s) + 1
        bucket = self._buckets.get(second)
        if bucket is not None:
            bucket.add(key)
            return
        self._buckets[second] = {key}
        heapq.heappush(self._seconds, second)
        if len(self._seconds) > 2 * len(self._buckets) + _SPARE_SECONDS:
            self._seconds = sorted(self._buckets)

    def discard(self, key: str, expires_s: float) -> None:
        """Forget ``key``, which was added with this same ``expires_s``."""
        second = int(expires_s) + 1
        bucket = self._buckets.get(second)
        if bucket is None:
            return
        bucket.discard(key)
        if not bucket:
            del self._buckets[second]

    def pop_due(self, now_s: float, limit: int) -> list[str]:
        """Take out up to ``limit`` keys that have expired, up to a second late."""
        due: list[str] = []
        while self._seconds and self._seconds[0] <= now_s and len(due) < limit:
            bucket = self._buckets.get(self._seconds[0])
            if bucket:
                due.append(bucket.pop())
            if not bucket:
                self._buckets.pop(heapq.heappop(self._seconds), None)
        return due

    def clear(self) -> None:
        """Forget everything."""
        self._buckets.clear()
        self._seconds.clear()
