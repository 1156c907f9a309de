"""The invalidation log of the memory coordinator: bounded, ordered, honest about what it lost."""

import threading
from collections import deque
from collections.abc import Sequence
from itertools import takewhile
from typing import NamedTuple

from routecache_middleware.core.invalidation import InvalidationRow, LoggedRow
from routecache_middleware.core.models import Position
from routecache_middleware.core.ports import Clock

__all__ = ["InvalidationLog", "Tail"]


class Tail(NamedTuple):
    """The end of the log, as one reader needs it."""

    rows: Sequence[LoggedRow]
    position: Position
    is_rewound: bool


class InvalidationLog:
    """Rows in order of their positions, which only rise and are never used twice.

    Rows older than ``max_age_s`` are dropped: whatever they could void has expired. Too many rows
    are dropped earlier. Either way a reader who has not seen a dropped row is told that the log is
    rewound, and then trusts nothing that it knew: colder, never staler.
    """

    __slots__ = ("_clock", "_lock", "_max_age_s", "_max_rows", "_rows", "_trimmed", "position")

    def __init__(self, *, clock: Clock, max_age_s: float, max_rows: int = 16_384) -> None:
        """Prepare an empty log.

        Args:
            clock: For the age of rows; its monotonic side.
            max_age_s: The longest physical life of an entry, seconds.
            max_rows: How many rows are kept at most.
        """
        self.position = Position(0)
        self._trimmed = Position(0)  # the last position that is no longer held
        self._rows: deque[tuple[float, LoggedRow]] = deque()
        self._clock = clock
        self._max_age_s = max_age_s
        self._max_rows = max_rows
        self._lock = threading.Lock()

    def append(self, rows: Sequence[InvalidationRow]) -> list[LoggedRow]:
        """Append ``rows``, all at once for every reader, and return them with their positions."""
        now_s = self._clock.monotonic_s()
        with self._lock:
            logged = [
                LoggedRow(Position(position), row)
                for position, row in enumerate(rows, self.position + 1)
            ]
            self._rows.extend((now_s, row) for row in logged)
            # Last: readers compare it without the lock, and then take the lock for the rows.
            self.position = Position(self.position + len(logged))
            self._trim(now_s)
            return logged

    def tail(self, after: Position) -> Tail:
        """Return the rows after ``after``, oldest first; rewound when some of them are gone."""
        if after == self.position:
            return Tail((), after, is_rewound=False)
        with self._lock:
            if after > self.position:
                # Handed out by a log that is no more. Going on beyond it keeps later rows later
                # than whatever was captured then.
                self.position = Position(after + 1)
                return Tail((), self.position, is_rewound=True)
            if after < self._trimmed:
                return Tail((), self.position, is_rewound=True)
            newest_first = (logged for _, logged in reversed(self._rows))
            rows = list(takewhile(lambda logged: logged.position > after, newest_first))
            rows.reverse()
            return Tail(rows, self.position, is_rewound=False)

    def forget(self) -> None:
        """Drop every row; positions go on from where they are."""
        with self._lock:
            self._rows.clear()
            self._trimmed = self.position

    def _trim(self, now_s: float) -> None:
        oldest_s = now_s - self._max_age_s
        while self._rows and (len(self._rows) > self._max_rows or self._rows[0][0] < oldest_s):
            _, dropped = self._rows.popleft()
            self._trimmed = dropped.position
