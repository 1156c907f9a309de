"""Which principals the app itself has accepted lately.

With shared entries a hit answers in the app's place, so it may only go to somebody whom the app
would have answered. A 2xx vouches for a principal for ``auth_ttl_s``; a 401 or 403 ends that.
"""

from cachetools import FIFOCache

from routecache_middleware.core.ports import Clock

__all__ = ["Acceptance"]

_MAX_PRINCIPALS = 65_536


class Acceptance:
    """What the app's status codes say of principals. Forgetting one costs a call to the app."""

    __slots__ = ("_clock", "_ttl_s", "_until")

    def __init__(self, ttl_s: float, clock: Clock) -> None:
        self._ttl_s = ttl_s
        self._clock = clock
        self._until: FIFOCache[str, float] = FIFOCache(_MAX_PRINCIPALS)

    def observe(self, principal: str, status: int) -> None:
        """The app answered ``principal`` with an HTTP status."""
        if 200 <= status < 300:  # noqa: PLR2004 - the 2xx class
            self._until[principal] = self._clock.monotonic_s() + self._ttl_s
        elif status in (401, 403):
            self._until.pop(principal, None)

    def is_accepted(self, principal: str) -> bool:
        """Whether the app vouched for ``principal`` within ``auth_ttl_s``."""
        until_s = self._until.get(principal)
        return until_s is not None and self._clock.monotonic_s() < until_s
