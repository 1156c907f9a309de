"""Breaker: whether it is worth asking a coordinator at all."""

from collections import deque

__all__ = ["Breaker"]

_IN_A_ROW = 3
_IN_A_WINDOW = 5
_WINDOW_S = 1.0


class Breaker:
    """Opens at 3 failures in a row, or at 5 within a second. Knows no clock: times are arguments.

    Only :meth:`close` closes it, or the success of a call that was let through on trial: a call
    that was under way when it opened proves nothing about now.

    Attributes:
        is_open: Nobody should ask.
    """

    __slots__ = ("_failed_s", "_in_a_row", "_is_on_trial", "_may_try", "is_open")

    def __init__(self) -> None:
        self.is_open = False
        self._failed_s: deque[float] = deque(maxlen=_IN_A_WINDOW)
        self._in_a_row = 0
        self._may_try = False
        self._is_on_trial = False

    def succeeded(self) -> None:
        """A call was answered."""
        self._in_a_row = 0
        if self._is_on_trial:
            self.close()

    def failed(self, now_s: float) -> bool:
        """A call failed; says whether that opened it. ``now_s`` is on the monotonic clock."""
        self._is_on_trial = False
        if self.is_open:
            return False
        self._in_a_row += 1
        self._failed_s.append(now_s)
        is_full = len(self._failed_s) == _IN_A_WINDOW
        if self._in_a_row >= _IN_A_ROW or (is_full and now_s - self._failed_s[0] <= _WINDOW_S):
            self.open()
        return self.is_open

    def open(self) -> None:
        """Let nobody ask."""
        self.is_open = True

    def close(self) -> None:
        """Let everybody ask, and begin to count from zero."""
        self.is_open = self._may_try = self._is_on_trial = False
        self._in_a_row = 0
        self._failed_s.clear()

    def allow_trial(self) -> None:
        """Let one call through, for want of a better probe."""
        self._may_try = self.is_open

    def admits(self) -> bool:
        """Whether this call may ask; takes the place of the one on trial if there is one."""
        if not self.is_open:
            return True
        is_let_through, self._may_try = self._may_try, False
        self._is_on_trial = self._is_on_trial or is_let_through
        return is_let_through
