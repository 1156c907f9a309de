"""Allowance: so many in a second, and no more."""

from math import inf
from time import perf_counter

__all__ = ["Allowance"]


class Allowance:
    """Says whether there may be another one in this second. Costs 0.1 us.

    Args:
        per_s: How many a second; infinite: any number.
    """

    __slots__ = ("_left", "_per_s", "_until_s")

    def __init__(self, per_s: float) -> None:
        self._per_s = self._left = per_s
        self._until_s = -inf

    def take(self) -> bool:
        """Take one, if there is one left."""
        if self._left > 0:
            self._left -= 1
            return True
        now_s = perf_counter()
        if now_s < self._until_s:
            return False
        self._until_s = now_s + 1.0
        self._left = self._per_s - 1
        return self._per_s > 0
