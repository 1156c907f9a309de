"""How many bytes of answers may be recorded at a time: per answer, and over all of them."""

from routecache_middleware.core.models import DiscardReason
from routecache_middleware.core.settings import Settings

__all__ = ["Capture", "CaptureBudget"]


class CaptureBudget:
    """The bytes being recorded now, over all answers."""

    __slots__ = ("_limit", "_per_answer", "used")

    def __init__(self, settings: Settings) -> None:
        self._limit = settings.max_capture_bytes
        self._per_answer = settings.max_result_bytes
        self.used = 0

    def start(self, parts: int = 1) -> "Capture":
        """Begin recording one answer; ``parts``: how many entries are to be made of it.

        One of several parts may be as large as all of them could be, but never takes more than half
        of what there is for everybody.
        """
        most = max(self._per_answer, self._limit // 2)
        return Capture(self, min(parts * self._per_answer, most))

    def claim(self, size: int) -> bool:
        """Take ``size`` bytes of the budget, if there are as many left."""
        if self.used + size > self._limit:
            return False
        self.used += size
        return True


class Capture:
    """One answer's part of the budget."""

    __slots__ = ("_budget", "_left", "_taken", "reason")

    def __init__(self, budget: CaptureBudget, limit: int) -> None:
        self._budget = budget
        self._left = limit
        self._taken = 0
        self.reason = DiscardReason.TOO_LARGE

    def take(self, size: int) -> bool:
        """Record ``size`` more bytes; False, with ``reason``, when that is too much."""
        if size > self._left:
            return False
        if not self._budget.claim(size):
            self.reason = DiscardReason.CAPTURE_FULL
            return False
        self._left -= size
        self._taken += size
        return True

    def release(self) -> None:
        """Give everything back; idempotent."""
        self._budget.used -= self._taken
        self._taken = 0
