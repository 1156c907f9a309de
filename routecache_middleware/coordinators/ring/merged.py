"""The logs of several nodes merged into one, and what each node lacks of it. Pure.

The theory stands in :mod:`routecache_middleware.coordinators.ring.log`.
"""

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from routecache_middleware.coordinators.ring.node import NodeTail
from routecache_middleware.core.invalidation import ALL, InvalidationRow, LoggedRow
from routecache_middleware.core.models import START, Position, Scope

__all__ = ["EVERYTHING", "MergedLog", "Plan"]

EVERYTHING = InvalidationRow(ALL)
"""The row that voids all that was captured before it."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What has to happen before the nodes' logs are in line.

    Attributes:
        fresh: Rows that the merged log does not have yet, oldest first.
        pushes: Node to the rows to append there at their own positions, oldest first.
        repeats: Rows to append to all nodes at a new position.
        begins: No node has any row: the log has to begin with one for everything.
    """

    fresh: Sequence[LoggedRow] = ()
    pushes: Mapping[str, Sequence[LoggedRow]] = field(default_factory=dict)
    repeats: Sequence[InvalidationRow] = ()
    begins: bool = False

    @property
    def is_settled(self) -> bool:
        """Whether nothing has to happen."""
        return not (self.pushes or self.repeats or self.begins)


class MergedLog:
    """All rows known to this process, in order, and how far each node is known to have them.

    Invariant: a node has every row of the merged log up to :meth:`seen` that is not spent, or a
    later row that covers as much. Not thread-safe: it belongs to one event loop.

    Attributes:
        reached: Position of the last row. Only what every node in use holds gets in here.
        floor: Rows up to here were dropped, because there were too many.
    """

    __slots__ = ("_held", "_latest", "_max_rows", "_rows", "_seen", "floor", "reached")

    def __init__(self, *, max_rows: int = 65_536) -> None:
        self.reached = START
        self.floor = START
        self._max_rows = max_rows
        self._rows: list[LoggedRow] = []
        self._held: set[_Identity] = set()
        self._seen: dict[str, Position] = {}
        self._latest: dict[InvalidationRow, Position] = {}

    def seen(self, name: str) -> Position:
        """Return how far a node's log was read: it is asked for what comes after."""
        return self._seen.get(name, START)

    def forget(self, name: str) -> None:
        """A node has lost its log, or is gone: nothing is known of it."""
        self._seen.pop(name, None)

    def after(self, position: Position) -> Sequence[LoggedRow]:
        """Return the rows after ``position``, oldest first."""
        if position >= self.reached:
            return ()
        return self._rows[bisect_right(self._rows, position, key=_position) :]

    def plan(self, tails: Mapping[str, NodeTail]) -> Plan:
        """Compare what the nodes have; ``tails`` is node to its log after :meth:`seen`."""
        if self.reached > START and all(self._is_level(name, tails[name]) for name in tails):
            return Plan()  # nothing new anywhere: nearly always
        fresh = self._fresh(tails)
        view = _View(self._latest, fresh)
        if self._is_void(tails) and view.latest(EVERYTHING) <= self.reached:
            # Nobody holds what this process knew: other rows may have gone as well, unseen.
            is_empty = not any(tails[name].rows or self.seen(name) for name in tails)
            return Plan(begins=True) if is_empty else Plan(repeats=(EVERYTHING,))
        pushes: dict[str, Sequence[LoggedRow]] = {}
        late = set(self._late(tails, fresh, view))
        for name, tail in tails.items():
            top = tail.rows[-1].position if tail.rows else self.seen(name)
            spent = max(tail.spent, self.floor)
            lacking = self._lacking(name, tail, fresh, view)
            late.update(row for row in lacking if spent < row.position <= top)
            if above := [row for row in lacking if row.position > top]:
                # The last of all, however old: nobody is to append before what is handed out.
                pushes[name] = [row for row in above if row.position > spent] or above[-1:]
        repeats = dict.fromkeys(one.row for one in sorted(late, key=_position))
        return Plan(fresh, pushes, tuple(repeats))

    def commit(self, plan: Plan, tails: Mapping[str, NodeTail]) -> Sequence[LoggedRow]:
        """Take in what a settled plan has found; returns the rows beyond what was reached."""
        for name, tail in tails.items():
            self._seen[name] = tail.rows[-1].position if tail.rows else self.seen(name)
        if not plan.fresh:
            return ()
        before = self.reached
        for one in plan.fresh:
            self._latest[one.row] = max(self._latest.get(one.row, START), one.position)
            self._held.add(_identity(one))
        self._rows.extend(plan.fresh)
        if plan.fresh[0].position < before:
            self._rows.sort(key=_position)
        self.reached = self._rows[-1].position
        news = self.after(before)
        self._trim()
        return news

    def _fresh(self, tails: Mapping[str, NodeTail]) -> list[LoggedRow]:
        """Return what stands in any node's log and not in this one, oldest first."""
        found = {_identity(one): one for tail in tails.values() for one in tail.rows}
        fresh = [one for identity, one in found.items() if identity not in self._held]
        return sorted(fresh, key=_position)

    def _is_level(self, name: str, tail: NodeTail) -> bool:
        return not tail.rows and self._seen.get(name) == self.reached

    def _is_void(self, tails: Mapping[str, NodeTail]) -> bool:
        """Whether no node holds the last row that this process knew."""
        if not self._rows:
            return not any(tail.rows for tail in tails.values())
        last = _identity(self._rows[-1])
        return not any(
            self.seen(name) == self.reached or last in map(_identity, tail.rows)
            for name, tail in tails.items()
        )

    def _late(
        self, tails: Mapping[str, NodeTail], fresh: Sequence[LoggedRow], view: "_View"
    ) -> Sequence[LoggedRow]:
        """Return the rows that callers have read past, and that no later row tells them.

        A row is let go only if it is spent by the clocks of all nodes that hold it.
        """
        passed = [
            one
            for one in fresh
            if self.floor < one.position <= self.reached and not view.covers(one.row, self.reached)
        ]
        if not passed:  # nearly always
            return ()
        kept = {
            _identity(one)
            for tail in tails.values()
            for one in tail.rows
            if one.position > tail.spent
        }
        return [one for one in passed if _identity(one) in kept]

    def _lacking(
        self, name: str, tail: NodeTail, fresh: Sequence[LoggedRow], view: "_View"
    ) -> list[LoggedRow]:
        """Return what a node has neither itself nor covered by a later row, oldest first."""
        has = set(map(_identity, tail.rows))
        candidates = [*self.after(self.seen(name)), *fresh]
        candidates.sort(key=_position)
        return [
            one
            for one in candidates
            if _identity(one) not in has and not view.covers(one.row, one.position)
        ]

    def _trim(self) -> None:
        excess = len(self._rows) - self._max_rows
        if excess > 0:
            excess += self._max_rows // 8  # not again with every row
            self.floor = self._rows[excess - 1].position
            self._held.difference_update(map(_identity, self._rows[:excess]))
            del self._rows[:excess]
            self._latest = {row: at for row, at in self._latest.items() if at > self.floor}


class _View:
    """The latest position of every row, fresh ones included."""

    __slots__ = ("_fresh", "_known")

    def __init__(self, known: Mapping[InvalidationRow, Position], fresh: list[LoggedRow]) -> None:
        self._known = known
        self._fresh = {one.row: one.position for one in fresh}  # in order, so the latest stays

    def latest(self, row: InvalidationRow) -> Position:
        return max(self._known.get(row, START), self._fresh.get(row, START))

    def covers(self, row: InvalidationRow, position: Position) -> bool:
        """Whether a row after ``position`` voids all that ``row`` would void there."""
        as_much = (row, InvalidationRow(row.scope), EVERYTHING)
        return any(self.latest(other) > position for other in as_much)


_Identity = tuple[Position, Scope, bool, str | None]


def _identity(one: LoggedRow) -> _Identity:
    """Return what tells a row from others, of whatever node it was read.

    Not the time in a condition: each node's is told on that node's clock, as far as it is known.
    """
    row = one.row
    return one.position, row.scope, row.older_than_s is None, row.router_version


def _position(logged: LoggedRow) -> Position:
    return logged.position
