"""Telling LiteLLM of the hits that it did not see: summed up per key, model and API, each second.

What a hit itself does for this is to count. Everything else happens here: once a second the sums
are taken from the leases and handed to LiteLLM's logging one after the other, slowly enough to
leave the event loop to the requests.
"""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress

import msgspec

from routecache_middleware.adapters.litellm.fastlane.leases import Accepted, Lease
from routecache_middleware.core.models import Entry

__all__ = ["Report", "Tally"]

_EVERY_S = 1.0
_MAX_TALLIES = 4096
_SHARE = 4.0
"""For each second that logging takes, at least this many pass without."""
_CLOSING_S = 2.0


class Tally(msgspec.Struct):
    """Hits of one key on one model, by one API.

    Attributes:
        accepted: Whose.
        hits: How many.
        entries: With which answers, by identity, and how often each; not necessarily all.
    """

    accepted: Accepted
    hits: int
    entries: dict[int, tuple[Entry, int]]


class Report:
    """Takes sums from leases and hands them on.

    Attributes:
        reported: Hits that LiteLLM was told of.
        dropped: Hits that it was not: there were too many keys at once, or it failed.
    """

    def __init__(
        self,
        log: Callable[[Tally], Awaitable[None]],
        *,
        on_tick: Callable[[], None] = lambda: None,
        every_s: float = _EVERY_S,
        max_tallies: int = _MAX_TALLIES,
    ) -> None:
        """Begin with nothing.

        Args:
            log: Tells LiteLLM.
            on_tick: Called each time that sums are taken.
            every_s: How often, seconds.
            max_tallies: Keys times models that may wait at a time.
        """
        self._log = log
        self._on_tick = on_tick
        self._every_s = every_s
        self._max_tallies = max_tallies
        self._leases: list[Lease] = []
        self._tallies: dict[tuple[str, ...], Tally] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._sending: asyncio.Task[None] | None = None
        self.reported = 0
        self.dropped = 0

    def add(self, lease: Lease) -> None:
        """Note a lease that has something to report. Part of a hit: it does next to nothing."""
        self._leases.append(lease)  # at most as many as there are leases: each comes once
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(self._every_s, self._collect)

    async def aclose(self) -> None:
        """Hand on what is left, for a bounded time."""
        if self._timer is not None:
            self._timer.cancel()
            self._collect()
        if self._sending is not None:
            with suppress(TimeoutError):
                async with asyncio.timeout(_CLOSING_S):
                    await self._sending
        self.dropped += sum(tally.hits for tally in self._tallies.values())
        self._tallies.clear()

    def _collect(self) -> None:
        self._timer = None
        self._on_tick()
        leases, self._leases = self._leases, []
        for lease in leases:
            hits, entries = lease.hits, lease.entries
            lease.hits, lease.entries = 0, {}
            self._sum(lease.accepted, hits, entries)
        if self._tallies and self._sending is None:
            self._sending = asyncio.get_running_loop().create_task(self._send())

    def _sum(self, who: Accepted, hits: int, entries: dict[int, tuple[Entry, int]]) -> None:
        name = (who.key, who.model, who.user, who.lane.name)
        tally = self._tallies.get(name)
        if tally is not None:
            tally.hits += hits
            for entry, count in entries.values():
                _, before = tally.entries.get(id(entry), (entry, 0))
                tally.entries[id(entry)] = (entry, before + count)
        elif len(self._tallies) < self._max_tallies:
            self._tallies[name] = Tally(who, hits, entries)
        else:
            self.dropped += hits

    async def _send(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            while self._tallies:
                tally = self._tallies.pop(next(iter(self._tallies)))
                began_s = loop.time()
                try:
                    await self._log(tally)
                except BaseException as error:
                    self.dropped += tally.hits
                    if not isinstance(error, Exception):
                        raise  # the process ends
                else:
                    self.reported += tally.hits
                await asyncio.sleep((loop.time() - began_s) * _SHARE)
        finally:
            self._sending = None
