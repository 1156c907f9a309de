"""Invalidations that could not be recorded: in force here at once, recorded as soon as possible."""

import asyncio
import math
from collections.abc import Awaitable, Callable, Sequence

from routecache_middleware.core.invalidation import InvalidationRow, InvalidationTable, LoggedRow
from routecache_middleware.core.models import Position
from routecache_middleware.core.ports import Clock

__all__ = ["RETRY_S", "Owed"]

RETRY_S = 1.0
"""Least time between two tries, seconds."""


class Owed:
    """Invalidations not recorded yet: nothing they cover is served, whenever it was made.

    They get no position of our own choosing: the log may give it to somebody else's row, which
    would then never be read.
    """

    __slots__ = ("_again_s", "_clock", "_paying", "_record", "_until_s", "rows", "table")

    _LATER_THAN_ANY = Position(2**62)
    # The longest life of an entry, as coordinators see it: after that they cover nothing.
    _AT_MOST_S = 86_400.0

    def __init__(
        self, clock: Clock, record: Callable[[Sequence[InvalidationRow]], Awaitable[bool]]
    ) -> None:
        """Owe nothing yet.

        Args:
            clock: Where time comes from.
            record: Records rows in the log; says whether they could be read back.
        """
        self._clock = clock
        self._record = record
        self.rows: tuple[InvalidationRow, ...] = ()
        self.table = InvalidationTable()
        self._again_s = self._until_s = -math.inf
        self._paying: asyncio.Task[None] | None = None

    def add(self, rows: Sequence[InvalidationRow]) -> None:
        """Owe these too, and go on trying to record them."""
        now_s = self._clock.monotonic_s()
        self._set((*self.rows, *rows))
        self._again_s = now_s + RETRY_S
        self._until_s = now_s + self._AT_MOST_S
        self._keep_going()

    async def pay(self) -> None:
        """Record what is owed, at most once a second."""
        rows = self._due()
        if rows and await self._record(rows):
            gone = set(map(id, rows))  # an equal row may have come after these were recorded
            self._set(tuple(row for row in self.rows if id(row) not in gone))

    def start(self) -> None:
        """Begin in a new event loop: tasks of one that is gone will never finish."""
        self._paying = None
        self._keep_going()

    async def stop(self) -> None:
        """Try once more, and leave it at that."""
        if self._paying is not None:
            self._paying.cancel()
            await asyncio.wait((self._paying,))
            self._paying = None
        self._again_s = -math.inf
        await self.pay()

    def _due(self) -> tuple[InvalidationRow, ...]:
        """Return what to record now: not again too soon, and not when it has become pointless."""
        now_s = self._clock.monotonic_s()
        if now_s >= self._until_s:
            self._set(())
        if now_s < self._again_s:
            return ()
        self._again_s = now_s + RETRY_S
        return self.rows

    def _keep_going(self) -> None:
        if self.rows and (self._paying is None or self._paying.done()):
            self._paying = asyncio.get_running_loop().create_task(self._keep_paying())

    async def _keep_paying(self) -> None:
        while self.rows:  # also when nobody looks anything up
            await asyncio.sleep(RETRY_S)
            await self.pay()

    def _set(self, rows: tuple[InvalidationRow, ...]) -> None:
        self.rows = rows
        self.table = InvalidationTable()
        self.table.fold(LoggedRow(self._LATER_THAN_ANY, row) for row in rows)
