"""The log's rows as one process has read them. No I/O; ``reader`` fills it."""

from bisect import bisect_right
from collections.abc import Sequence
from typing import NamedTuple

from routecache_middleware.core.invalidation import LoggedRow
from routecache_middleware.core.models import START, Position

__all__ = ["Mirror", "MirrorTail"]

_MAX_ROWS = 65_536  # what an invalidation table holds


class MirrorTail(NamedTuple):
    """The rows after a position, where the mirror ends, and whether some of them are missing."""

    rows: Sequence[LoggedRow]
    position: Position
    is_rewound: bool


class Mirror:
    """Rows in order of their positions.

    Attributes:
        position: How far the log was read.
    """

    __slots__ = ("_is_cut", "_max_rows", "_positions", "_rows", "position")

    def __init__(self, *, max_rows: int = _MAX_ROWS) -> None:
        self.position = START
        self._max_rows = max_rows
        self._rows: list[LoggedRow] = []
        self._positions: list[Position] = []
        self._is_cut = False

    def __len__(self) -> int:
        return len(self._rows)

    def reset(self, rows: Sequence[LoggedRow]) -> None:
        """This is the whole log now, whatever it was before."""
        self._rows.clear()
        self._positions.clear()
        self._is_cut = False
        self.position = START
        self.extend(rows)

    def extend(self, rows: Sequence[LoggedRow]) -> None:
        """These rows follow."""
        self._rows += rows
        self._positions += [logged.position for logged in rows]
        if rows:
            self.position = rows[-1].position
        if len(self._rows) > self._max_rows:
            excess = len(self._rows) - self._max_rows // 2  # many at once: seldom
            del self._rows[:excess], self._positions[:excess]
            self._is_cut = True

    def tail(self, after: Position) -> MirrorTail:
        """Return the rows after ``after``.

        Rewound unless ``after`` is one of the rows: it was lost, or left the mirror long ago. Who
        knows more than the mirror gets nothing new, at its own position.
        """
        if after >= self.position:
            return MirrorTail((), after, is_rewound=False)
        index = bisect_right(self._positions, after)
        is_here = index > 0 and self._positions[index - 1] == after
        is_rewound = self._is_cut if after == START else not is_here
        return MirrorTail(self._rows[index:], self.position, is_rewound)
