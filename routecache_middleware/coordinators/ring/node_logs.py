"""Reading and appending to the logs of several nodes. A node that fails is left out."""

import asyncio
from collections.abc import Coroutine, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import TypeVar

from routecache_middleware.coordinators.ring.members import Member
from routecache_middleware.coordinators.ring.merged import MergedLog
from routecache_middleware.coordinators.ring.node import NodeTail
from routecache_middleware.core.invalidation import InvalidationRow, LoggedRow
from routecache_middleware.core.models import START, Position
from routecache_middleware.errors import CoordinatorError

__all__ = ["NodeLogs"]

T = TypeVar("T")

# How long reading a log from its beginning may take: a day of invalidations may be many.
_WHOLE_S = 2.0


class NodeLogs:
    """The nodes' logs, as far as ``merged`` has not read them."""

    def __init__(self, merged: MergedLog, *, attempt_s: float, append_s: float) -> None:
        """Prepare.

        Args:
            merged: Knows how far each node's log was read, and is told when it was lost.
            attempt_s: How long one read of a node may take.
            append_s: How long one append to a node may take.
        """
        self._merged = merged
        self._attempt_s = attempt_s
        self._append_s = append_s
        self._whole: dict[str, Sequence[LoggedRow]] = {}

    async def tails(self, members: Sequence[Member]) -> dict[str, NodeTail]:
        """Return what is new in the logs of those that answer."""
        tails = await _gather(self._tail(member) for member in members)
        pairs = zip(members, tails, strict=True)
        return {member.name: tail for member, tail in pairs if tail is not None}

    async def read_whole(self, members: Sequence[Member]) -> None:
        """Read logs that nothing is known of, which may be long, before anybody waits for them."""
        await _gather(self._read_whole(member) for member in members)

    def forget_whole(self) -> None:
        """Drop what :meth:`read_whole` has read: it was taken in, or is of no use."""
        self._whole.clear()

    async def begin(self, members: Sequence[Member], known: Position) -> None:
        """Let logs that have no row begin with one for everything, after ``known``.

        At the node that is first by name: of several processes that start together one does it.
        """
        first = min(members, key=_name)
        with suppress(CoordinatorError):
            await first.ask(first.node.begin(known), self._append_s)

    async def push(
        self, members: Sequence[Member], rows: Mapping[str, Sequence[LoggedRow]]
    ) -> None:
        """Give each node the rows it lacks at their own positions, as far as it takes them."""
        await _gather(self._push(member, rows.get(member.name, ())) for member in members)

    async def repeat(
        self, members: Sequence[Member], rows: Sequence[InvalidationRow], at: Position
    ) -> None:
        """Append rows to all nodes at ``at``, as far as they take them."""
        await _gather(self._append_to(member, rows, at) for member in members)

    async def append(
        self, members: Sequence[Member], rows: Sequence[InvalidationRow], at: Position
    ) -> int:
        """Return how many nodes took the rows; 0 when one refused, or none is left.

        A node that fails is tried until it is down. The one that is first by name is asked first,
        so that of two appenders one wins there and the other has not written anywhere else.
        """
        if not members:  # the last one went down meanwhile
            return 0
        first, *others = sorted(members, key=_name)
        taken = [await self._insist(first, rows, at)]
        if taken[0] is not False:
            taken += await _gather(self._insist(member, rows, at) for member in others)
        return 0 if False in taken else taken.count(True)

    async def _read_whole(self, member: Member) -> None:
        """Read a log that nothing is known of, which may be long, before anybody waits for it."""
        if self._merged.seen(member.name) == START:
            with suppress(CoordinatorError):
                tail = await member.ask(member.node.tail(START), _WHOLE_S)
                self._whole[member.name] = tail.rows

    async def _tail(self, member: Member) -> NodeTail | None:
        begun = self._whole.get(member.name, ())
        after = begun[-1].position if begun else self._merged.seen(member.name)
        try:
            tail = await member.ask(member.node.tail(after), self._attempt_s)
            if tail.holds_after:
                return replace(tail, rows=[*begun, *tail.rows]) if begun else tail
            self._merged.forget(member.name)  # flushed, restarted, failed over
            self._whole.pop(member.name, None)
            return await member.ask(member.node.tail(START), self._append_s)
        except CoordinatorError:
            return None

    async def _push(self, member: Member, rows: Sequence[LoggedRow]) -> None:
        for run in _runs(rows):
            if not await self._append_to(member, [one.row for one in run], run[0].position):
                return

    async def _insist(
        self, member: Member, rows: Sequence[InvalidationRow], at: Position
    ) -> bool | None:
        """Append to a node unless it goes down over it (None); False when it refused."""
        while member.health.is_serving:
            taken = await self._append_to(member, rows, at)
            if taken is not None:
                return taken
        return None

    async def _append_to(
        self, member: Member, rows: Sequence[InvalidationRow], at: Position
    ) -> bool | None:
        try:
            return await member.ask(member.node.append_at(rows, at), self._append_s)
        except CoordinatorError:
            return None


def _runs(rows: Sequence[LoggedRow]) -> Iterable[list[LoggedRow]]:
    """Split rows into runs of consecutive positions."""
    run: list[LoggedRow] = []
    for one in rows:
        if run and one.position != run[-1].position + 1:
            yield run
            run = []
        run.append(one)
    if run:
        yield run


async def _gather(calls: Iterable[Coroutine[None, None, T]]) -> list[T]:
    waiting = list(calls)
    if len(waiting) == 1:
        return [await waiting[0]]
    return list(await asyncio.gather(*waiting))


def _name(member: Member) -> str:
    return member.name
