"""The ring's log: one order made of many logs, without consensus.

Every node has a log of its own, and takes a row at position p only if its log ends before p. A
process *uses* the nodes that are not down for it and that answer.

1. *Append*: p is greater than all that the appender knows of any node. Every node that is not down
   has to take the row; if one refuses, because it got a later row meanwhile, all is done again with
   a higher p. Rows that stand in a log twice are harmless: the later one governs.
2. *Read*: the logs of all nodes in use are read and compared. Before a process hands out a row, or
   a position, every node that it uses holds what is handed out. What a node lacks is given to it at
   the same position if its log ends before that; else the row is appended again, everywhere, at a
   position above all, and is handed out as that one.
3. A row that turns up at a position which this process has already handed out, because it came from
   a node that was out of reach, is appended again in the same way.
4. A node is asked for entries only while its log is in line. One that comes back is first given
   what it lacks. A node that lost its log is noticed by the row that was last in it.
5. When no node in use holds the last row that a process knew, rows may have been lost unseen: a row
   for *everything* is appended above all. A log without any row begins with one as well.
6. A row is *spent* when no entry captured before it can be left: after ``SPENT_S``. Nodes trim
   what is spent, each by its own clock. So a spent row is not missed where it is lacking, and not
   appended again when it comes late. Only the clock of the node that lacks it, or of every node
   that holds the late one, tells that it is spent; never the process's own, which may be a day
   ahead. The last row is given to every node however old it is, because positions are handed out
   with it. And p is not below what the clock of any node has shown, so that no row is spent when
   it is appended.

**Claim.** Let an entry's maker have captured position C before an invalidation was called, and let
a lookup begin after that was acknowledged (one second after, if it trusts what was read ahead). The
lookup does not take the entry for current, provided that

    (a) the maker, when it captured, and the appender used one node S in common, and S kept its log
        in between, and
    (b) the reader uses a node that holds the row: one of those that acknowledged it or that were
        given it since, and that kept its log.

    A node keeps its log if it loses nothing that is not spent by its clock, and its clock shows
    no more time than has passed.

*Proof.* By 2 and 6, the log of S reached C before C was handed out. By 1, S took the row at a
position p only because it ended before p. S kept its log, so p > C. By (b) the reader finds the row
in a log at p, or at a later position where it was appended again, and hands it out before it
answers; or it is spent by the clock of the node that holds it, and with it the entry. Else its
table then has a row at p or later in the entry's scope, so that the entry, captured at C < p, is
not current. Nothing in this depends on the clocks of processes, on what clocks show as long as
those of nodes run evenly, or on what other processes do at the same time.

What is beyond (a) and (b) is a network in which two processes have no live node in common: there
3 and 5 void what they can when they learn of it, and positions are never below the wall clock, so
that a row is later than what was captured before it as far as the clocks agree.
"""

import asyncio
import math
import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress

from routecache_middleware.coordinators.ending import end
from routecache_middleware.coordinators.ring.members import Member, Members
from routecache_middleware.coordinators.ring.merged import EVERYTHING, MergedLog, Plan
from routecache_middleware.coordinators.ring.node import NodeTail, position_at
from routecache_middleware.coordinators.ring.node_logs import NodeLogs
from routecache_middleware.core.invalidation import InvalidationRow, LoggedRow
from routecache_middleware.core.models import START, Position
from routecache_middleware.core.ports import AppendReceipt, Clock, Fetched
from routecache_middleware.errors import CoordinatorError

__all__ = ["RingLog"]

# Rows that stand at the same position in different logs are taken for the same row.
_SPREAD = 1 << 16
_TURNS = 16
_PATIENT_TURNS = 4


class RingLog:
    """Reads, compares, repairs and appends to the logs of the nodes in use.

    Belongs to one event loop at a time; :meth:`start` moves it to the running one.
    """

    def __init__(
        self,
        members: Members,
        *,
        clock: Clock,
        rng: random.Random,
        attempt_s: float,
        append_s: float,
        on_news: Callable[[Sequence[LoggedRow]], None],
    ) -> None:
        """Prepare.

        Args:
            members: The nodes.
            clock: Where time comes from.
            rng: For the pauses between tries.
            attempt_s: How long one read of a node may take.
            append_s: How long one append to a node may take. A node that does not take one goes
                down over it, so this is more than a lookup has.
            on_news: Called with rows as they are handed out for the first time.
        """
        self._members = members
        self._clock = clock
        self._rng = rng
        self._on_news = on_news
        self._merged = MergedLog()
        self._logs = NodeLogs(self._merged, attempt_s=attempt_s, append_s=append_s)
        self._above = START  # positions that callers know of, whoever gave them out
        self._now = START  # the latest that the clock of any node has shown
        self._proven_s = -math.inf
        self._lock = asyncio.Lock()
        self._next: asyncio.Task[None] | None = None
        self._reading: set[asyncio.Task[None]] = set()
        self.used: frozenset[str] = frozenset()
        """The nodes that the last read compared."""

    @property
    def reached(self) -> Position:
        """How far the log was read: what may be captured."""
        return self._merged.reached

    @property
    def proof_age_s(self) -> float:
        """How long ago all nodes that are not down were last read to their ends; seconds."""
        if self._above > self._merged.reached:
            return math.inf
        return self._clock.monotonic_s() - self._proven_s

    def start(self) -> None:
        """Begin in the running event loop, with no proof of anything."""
        self._lock = asyncio.Lock()
        self._next = None
        self._reading = set()
        self._proven_s = -math.inf

    async def stop(self) -> None:
        """Read no more."""
        reading, self._next = list(self._reading), None
        for task in reading:
            task.cancel()
        for task in reading:
            await end(task)

    def tail_now(self, after: Position) -> Fetched:
        """Return what was read after ``after``, without waiting."""
        merged = self._merged
        if after == merged.reached:
            return Fetched((), after)
        if after > merged.reached:
            # Known from elsewhere. Not proven until the log has a row above it: see `rewind`.
            self._above = max(self._above, after)
            return Fetched((), after, (), is_rewound=True)
        if after < merged.floor:
            return Fetched((), merged.reached, (), is_rewound=True)
        return Fetched((), merged.reached, merged.after(after))

    async def refresh(self) -> None:
        """Read the nodes' logs to their ends; reading begins after this is called.

        Raises:
            CoordinatorError: No node answered, or their logs could not be brought in line.
        """
        if self._next is None:
            self._next = asyncio.get_running_loop().create_task(self._refresh_next())
            self._reading.add(self._next)
            self._next.add_done_callback(self._was_read)
        reading = self._next
        try:
            await asyncio.shield(reading)  # others wait for it too
        except asyncio.CancelledError:
            caller = asyncio.current_task()
            is_called_off = caller is not None and caller.cancelling() > 0
            if reading.cancelled() and not is_called_off:  # what it waits for, not the caller
                raise CoordinatorError("the ring is being closed") from None
            raise

    async def append(self, rows: Sequence[InvalidationRow]) -> AppendReceipt:
        """Append to every node that is not down.

        Raises:
            CoordinatorError: No node took the rows.
        """
        async with self._lock:
            if not rows:
                await self._align(self._members.serving())
                return AppendReceipt(self.reached)
            receipt = await self._append(rows)
            self._proven_s = -math.inf  # until they were read back
            with suppress(CoordinatorError):
                await self._align(self._members.serving())
            return receipt

    async def rewind(self, after: Position) -> Fetched:
        """Void everything for who knows ``after``, which no log has reached.

        Raises:
            CoordinatorError: No node took the row that says so.
        """
        self._above = max(self._above, after)
        async with self._lock:
            if self.reached <= self._above:  # else somebody else has done it meanwhile
                await self._append((EVERYTHING,))
                await self._align(self._members.serving())
        return Fetched((), self.reached, (), is_rewound=True)

    async def join(self, joining: Sequence[Member]) -> None:
        """Bring the logs of nodes that answer again up to date; then they are asked for entries.

        Raises:
            CoordinatorError: No node answered, or the logs could not be brought in line.
        """
        await self._logs.read_whole(joining)
        async with self._lock:
            try:
                in_line = await self._align([*self._members.serving(), *joining])
            finally:
                self._logs.forget_whole()
            for member in joining:
                if member.name in in_line:
                    member.health.joined()

    def seen(self, name: str) -> Position:
        """Return how far one node's log was read."""
        return self._merged.seen(name)

    def forget(self, name: str) -> None:
        """A node was unregistered."""
        self._merged.forget(name)

    async def _refresh_next(self) -> None:
        async with self._lock:
            self._next = None  # who comes now wants what is read after this
            await self._align(self._members.serving())

    def _was_read(self, task: asyncio.Task[None]) -> None:
        self._reading.discard(task)
        if not task.cancelled():
            task.exception()  # told to whoever waits: marked as seen in case nobody does any more

    async def _align(self, members: Sequence[Member]) -> frozenset[str]:
        """Read and repair until the logs of all who answer are in line; returns who that is."""
        for turn in range(_TURNS):
            sent_s = self._clock.monotonic_s()
            tails = await self._logs.tails(members)
            if not tails:
                raise self._members.silence()
            self._now = max(self._now, *(tail.now for tail in tails.values()))
            plan = self._merged.plan(tails)
            if plan.is_settled:
                self._commit(plan, tails, sent_s)
                return frozenset(tails)
            if turn > 0:  # at first sight it may only be on its way
                await self._repair(plan, [one for one in members if one.name in tails])
            await self._pause(turn)
        raise CoordinatorError("the logs of the ring's nodes could not be brought in line")

    def _commit(self, plan: Plan, tails: Mapping[str, NodeTail], sent_s: float) -> None:
        news = self._merged.commit(plan, tails)
        self.used = frozenset(tails)
        if all(member.name in tails for member in self._members.serving()):
            self._proven_s = sent_s
        if news:
            self._on_news(news)

    async def _repair(self, plan: Plan, members: Sequence[Member]) -> None:
        """Do what a plan says; what fails or is refused shows when the logs are read again."""
        if plan.begins:
            await self._logs.begin(members, self.reached)
        elif plan.pushes:
            await self._logs.push(members, plan.pushes)
        else:
            at = self._propose(row.position for row in plan.fresh)
            await self._logs.repeat(members, plan.repeats, at)

    async def _append(self, rows: Sequence[InvalidationRow]) -> AppendReceipt:
        for turn in range(_TURNS):
            await self._align(self._members.serving())
            at = self._propose(())
            takers = await self._logs.append(self._members.serving(), rows, at)
            if takers:
                return AppendReceipt(Position(at + len(rows) - 1), takers - 1)
            await self._pause(turn)
        raise CoordinatorError("no node of the ring took the invalidation")

    def _propose(self, positions: Iterable[Position]) -> Position:
        """Return a position above all that is known, and hardly ever one that others propose.

        No node's clock is past it, or that node could take the row for spent and trim it.
        """
        known = max((*positions, self.reached, self._above))
        lowest = max(position_at(self._clock.now_s()), self._now, known + 1)
        return Position(lowest + self._rng.randrange(_SPREAD))

    async def _pause(self, turn: int) -> None:
        if turn >= _PATIENT_TURNS:  # several processes are at it
            await asyncio.sleep(self._rng.random() * 0.001 * turn)
