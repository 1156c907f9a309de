"""Single flight over all processes of a shared coordinator.

Within a process :mod:`.flights` lets one request lead. Here that request asks the coordinator for
the lease of its key: it leads for the whole fleet, or waits while somebody else does, or finds that
the entry is already there. A lease saves upstream calls and no more: what is served is judged by
the invalidation log alone, so two leaders at a time are a waste and never a wrong answer.
"""

from routecache_middleware.engine.claims import Claim, Host, Markers, Terms
from routecache_middleware.engine.wakeups import WakeUps

__all__ = ["Fleet"]


class Fleet:
    """This process's part in it; one per engine with a shared coordinator."""

    __slots__ = ("_host", "_markers", "wakeups")

    def __init__(self, host: Host) -> None:
        self._host = host
        self.begin()

    def begin(self) -> None:
        """Begin in a new event loop: tasks of one that is gone will never finish."""
        self._markers = Markers()
        self.wakeups = WakeUps(self._host.coordinator, self._host.catch_up)

    def claim(self, terms: Terms) -> Claim:
        """Begin to ask for the lease of a key."""
        return Claim(self._host, self._markers, self.wakeups, terms)

    async def aclose(self) -> None:
        """Stop listening; who still waits goes on asking."""
        await self.wakeups.aclose()
