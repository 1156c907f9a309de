"""The invalidation log as a stream of the server: raw operations, one at a time.

Every process that reads a log to its end stands on a row of it. While that row is there, nothing
before it was lost, and what follows it is all there is to know. When it is not (flushed, evicted,
expired, or lost by a failover to a replica that lagged), what else was lost cannot be known: one
marker that voids everything is appended, once, whoever notices first; see ``log_scripts``.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

from routecache_middleware.coordinators.redis.entries import MAX_LIFE_S
from routecache_middleware.coordinators.redis.failures import failure, is_error
from routecache_middleware.coordinators.redis.keys import Keys
from routecache_middleware.coordinators.redis.link import Command, Link
from routecache_middleware.coordinators.redis.log_scripts import APPEND, APPEND_AT, RECOVER
from routecache_middleware.coordinators.redis.rows import (
    MARKER,
    fields_of,
    id_of,
    logged_rows,
    position_of,
    split_position,
)
from routecache_middleware.coordinators.redis.server_time import ServerTime
from routecache_middleware.core.invalidation import InvalidationRow, LoggedRow
from routecache_middleware.core.models import START, Position
from routecache_middleware.core.ports import AppendReceipt

__all__ = ["LIFE_S", "StreamLog", "Tail", "Waited"]

LIFE_S = 7 * 86_400.0
"""How long a log stays that nobody appends to and nobody reads."""

# Beyond the longest life of an entry: a call may begin an hour before its answer is stored.
_KEEP_S = MAX_LIFE_S + 3_600
_PAGE_ROWS = 4_096
_WAIT_REPLICAS_MS = 50


class Tail(NamedTuple):
    """The rows after a position, oldest first, where the log ends, and whether it held that one."""

    rows: list[LoggedRow]
    top: Position
    holds_after: bool


class Waited(NamedTuple):
    """A :class:`Tail`, whether that is all of it, and what came into the inbox meanwhile."""

    tail: Tail
    is_complete: bool
    messages: list[tuple[bytes, Sequence[bytes]]]


class StreamLog:
    """The log under ``keys.log``."""

    __slots__ = ("_keep_s", "_keys", "_link", "_time")

    def __init__(
        self, link: Link, keys: Keys, *, time: ServerTime, keep_s: float = _KEEP_S
    ) -> None:
        """Prepare.

        Args:
            link: The way to the server that holds the log; it need not be that of the entries.
            keys: Names.
            time: What the server's clock is ahead of ours.
            keep_s: How old a row gets at least, seconds.
        """
        self._link = link
        self._keys = keys
        self._time = time
        self._keep_s = keep_s

    async def begin(self) -> None:
        """Begin the log with a marker, if there is none; of several callers one does it.

        Raises:
            CoordinatorError: The server did not do it.
        """
        await self._recover(START)

    async def append(
        self, rows: Sequence[InvalidationRow], *, floor: Position = START, replicas: int = 0
    ) -> AppendReceipt:
        """Append rows, all at once, at consecutive positions.

        Args:
            rows: At least one.
            floor: The greatest position that the caller knows of.
            replicas: How many replicas there are, to wait at most 50 ms for.

        Raises:
            CoordinatorError: The server did not take them, or not in time.
        """
        args = [*self._lives(), MARKER, *split_position(floor)]
        for row in rows:
            args += fields_of(row, self._time.offset_s)
        then = [("WAIT", replicas, _WAIT_REPLICAS_MS)] if replicas else []
        replies = await self._link.scripted(APPEND, (self._keys.log,), args, *then)
        acknowledged = replies[1] if replicas and not is_error(replies[1]) else 0
        return AppendReceipt(position_of(replies[0]), int(acknowledged))

    async def append_at(self, rows: Sequence[InvalidationRow], at: Position) -> Position | None:
        """Append rows at ``at`` and the positions that follow it; returns the last of them.

        None: the log does not end before ``at``; nothing was appended. A log that does not exist
        is begun with the first row and no marker.

        Raises:
            CoordinatorError: The server did not take them, or not in time.
        """
        args = [*self._lives(), *split_position(at)]
        for number, row in enumerate(rows):
            args += (id_of(Position(at + number)), *fields_of(row, self._time.offset_s))
        last = await self._link.script(APPEND_AT, (self._keys.log,), *args)
        return None if last is None else position_of(last)

    def tail_command(self, after: Position) -> Command:
        """Return the command whose reply :meth:`finish_tail` understands."""
        start = "-" if after == START else id_of(after)
        return ("XRANGE", self._keys.log, start, "+", "COUNT", _PAGE_ROWS)

    async def finish_tail(self, after: Position, reply: Any) -> Tail:
        """Return the tail of which ``reply`` is the first page.

        Raises:
            CoordinatorError: The server did not answer.
        """
        rows = self._page(reply)
        page = rows
        while len(page) == _PAGE_ROWS:
            start = "(" + id_of(page[-1].position)
            command = ("XRANGE", self._keys.log, start, "+", "COUNT", _PAGE_ROWS)
            page = self._page((await self._link.batch((command,)))[0])
            rows += page
        if after == START:
            return Tail(rows, rows[-1].position if rows else START, holds_after=bool(rows))
        if not rows or rows[0].position != after:
            return Tail(rows, rows[-1].position if rows else START, holds_after=False)
        return Tail(rows[1:], rows[-1].position, holds_after=True)

    async def tail(self, after: Position) -> Tail:
        """Return the rows after ``after``; the log has to hold that one for them to be all.

        Raises:
            CoordinatorError: The server did not answer.
        """
        replies = await self._link.batch((self.tail_command(after),))
        return await self.finish_tail(after, replies[0])

    async def recover(self, known: Position) -> Tail:
        """Return the whole log, after making sure that it voids what was lost; or what follows.

        ``holds_after`` says that ``known`` is there after all, and ``rows`` are what follows it.
        ``known`` may be the beginning, to begin a log that does not exist.

        Raises:
            CoordinatorError: The server did not do it.
        """
        is_held = await self._recover(known)
        tail = await self.tail(known if is_held else START)
        return tail._replace(holds_after=is_held and tail.holds_after)

    async def wait(
        self, after: Position, block_s: float, *, inbox: str = "", inbox_after: bytes = b"0-0"
    ) -> Waited:
        """Return what follows ``after``, waiting for it if there is nothing yet.

        Args:
            after: A row that the caller has read.
            block_s: How long to wait at most, seconds.
            inbox: Id of an inbox to read as well, or empty.
            inbox_after: Stream id of the last message read from it.

        Raises:
            CoordinatorError: The server did not answer.
        """
        names: tuple[Any, ...] = (self._keys.log,)
        ids: tuple[Any, ...] = (id_of(after),)
        if inbox:
            names, ids = (*names, self._keys.inbox(inbox)), (*ids, inbox_after)
        block_ms = int(block_s * 1000)
        held, news = await self._link.batch(
            (
                ("XRANGE", self._keys.log, id_of(after), id_of(after), "COUNT", 1),
                ("XREAD", "COUNT", _PAGE_ROWS, "BLOCK", block_ms, "STREAMS", *names, *ids),
            )
        )
        streams = {} if self._is_wrong_type(news) else dict(news or ())
        rows = logged_rows(streams.get(self._keys.log.encode(), ()), self._time.offset_s)
        tail = Tail(rows, rows[-1].position if rows else after, bool(self._page(held)))
        messages = streams.get(self._keys.inbox(inbox).encode(), []) if inbox else []
        return Waited(tail, len(rows) < _PAGE_ROWS, messages)

    async def top(self) -> Position:
        """Return where the log ends; the beginning when there is none.

        Raises:
            CoordinatorError: The server did not answer.
        """
        command = ("XREVRANGE", self._keys.log, "+", "-", "COUNT", 1)
        rows = self._page((await self._link.batch((command,)))[0])
        return rows[0].position if rows else START

    async def prolong(self) -> None:
        """Let the log live on although nobody appends.

        Raises:
            CoordinatorError: The server did not do it.
        """
        await self._link.call("PEXPIRE", self._keys.log, int(LIFE_S * 1000))

    async def _recover(self, known: Position) -> bool:
        args = (*self._lives(), MARKER, *split_position(known))
        outcome: int = await self._link.script(RECOVER, (self._keys.log,), *args)
        return outcome == 0

    def _lives(self) -> list[Any]:
        return [int(self._keep_s * 1000), int(LIFE_S * 1000)]

    def _page(self, reply: Any) -> list[LoggedRow]:
        if self._is_wrong_type(reply):
            return []  # something else under the log's name: as if it were lost
        return logged_rows(reply, self._time.offset_s)

    def _is_wrong_type(self, reply: Any) -> bool:
        if is_error(reply):
            if not str(reply).startswith("WRONGTYPE"):
                raise failure(reply) from reply
            return True
        return False
