"""The real clock."""

import time

__all__ = ["SystemClock"]


class SystemClock:
    """Time as the operating system tells it."""

    now_s = staticmethod(time.time)
    monotonic_s = staticmethod(time.monotonic)
