"""What one event loop of one process has open: links, parts over them, the reader, the upkeep."""

import asyncio
import uuid
from collections.abc import Sequence
from contextlib import suppress

from routecache_middleware.coordinators.ending import end
from routecache_middleware.coordinators.redis.entries import Entries
from routecache_middleware.coordinators.redis.figures import Shares
from routecache_middleware.coordinators.redis.inbox import notify
from routecache_middleware.coordinators.redis.joined import JoinedReads
from routecache_middleware.coordinators.redis.keys import Keys
from routecache_middleware.coordinators.redis.leases import Ended, Leases
from routecache_middleware.coordinators.redis.links import Links
from routecache_middleware.coordinators.redis.log import StreamLog, Tail
from routecache_middleware.coordinators.redis.processes import Processes, this_process
from routecache_middleware.coordinators.redis.reader import LogReader
from routecache_middleware.coordinators.redis.server_time import ServerTime
from routecache_middleware.coordinators.redis.upkeep import Upkeep
from routecache_middleware.coordinators.subscribers import Subscribers
from routecache_middleware.core.codec import EntryCodec
from routecache_middleware.core.invalidation import InvalidationRow
from routecache_middleware.core.keys import CacheKey
from routecache_middleware.core.models import START, Entry, Position
from routecache_middleware.core.ports import AppendReceipt, Clock, Fetched, Filled, Released
from routecache_middleware.errors import CoordinatorError

__all__ = ["PROVEN_S", "Session"]

PROVEN_S = 1.0
"""How old the proof may be that the mirror of the log is complete; then lookups read the log."""


_PROBE_MS = 1_000


class Session:
    """The coordinator's work, in one event loop.

    Attributes:
        subscribers: Who listens to events.
        reader: The mirror of the log and its proof.
        upkeep: What is done every few seconds; it knows the servers' figures.
        leases: Who may fill what.
    """

    def __init__(
        self, links: Links, keys: Keys, codec: EntryCodec, *, limit_bytes: int, clock: Clock
    ) -> None:
        """Prepare; nothing is connected yet."""
        inbox = uuid.uuid4().hex
        self.links = links
        self.keys = keys
        self.time = ServerTime(clock)
        self.entries = Entries(
            links.entries, keys, codec, limit_bytes=limit_bytes, time=self.time, clock=clock
        )
        self.leases = Leases(links.entries, keys, self.entries, inbox=inbox, clock=clock)
        self.log = StreamLog(links.log, keys, time=self.time)
        self.subscribers = Subscribers()
        self.reader = LogReader(
            StreamLog(links.reading, keys, time=self.time),
            self.subscribers,
            clock=clock,
            inbox=inbox,
        )
        self.processes = Processes(links.log, keys, this_process())
        self.upkeep = Upkeep(
            links,
            self.log,
            self.time,
            self.processes,
            Shares(keys),
            mirror=self.reader.mirror,
            clock=clock,
        )
        self._inbox = inbox
        self._highest = START
        self._fetches = JoinedReads(self._fetch)

    async def open(self) -> None:
        """Connect, read the log (begin it if there is none), and go on reading.

        Raises:
            CoordinatorError: The server cannot be used.
        """
        await self.time.measure(self.links.log)
        await self.reader.catch_up()
        self.reader.start()
        self.upkeep.start()

    async def aclose(self) -> None:
        """Stop reading, end every ``events`` and close all connections."""
        await self.upkeep.stop()
        await self.reader.stop()
        self.subscribers.close()
        await self.links.aclose()

    async def fetch(self, keys: Sequence[CacheKey], after: Position) -> Fetched:
        """Read entries; the log's rows come from the mirror if that is proven, or with them."""
        return await self._fetches.read((tuple(keys), after))

    async def append(self, rows: Sequence[InvalidationRow]) -> AppendReceipt:
        """Append rows above every position known here; the readers are to expect them back."""
        if not rows:
            return AppendReceipt(await self.log.top())
        floor = max(self._highest, self.reader.mirror.position)
        receipt = await self.log.append(
            rows, floor=floor, replicas=await self.upkeep.count_replicas()
        )
        self._highest = max(self._highest, receipt.position)
        return receipt

    async def store(self, key: CacheKey, entry: Entry, token: str, form: str) -> bool:
        """Store as the holder of a lease, and wake who waits for it."""
        ended = await self.leases.fill(key, entry, token=token, form=form)
        await self._tell(ended, Filled(key))
        return ended.was_held

    async def release(self, key: CacheKey, token: str, form: str, parallel_s: float) -> None:
        """Give a lease back, and wake who waits for it."""
        ended = await self.leases.release(key, token=token, form=form, parallel_s=parallel_s)
        await self._tell(ended, Released(key))

    async def probe(self, *, writes: bool) -> None:
        """Read the log's end, or write a key of no meaning, where the log is and where entries are.

        Raises:
            CoordinatorError: That failed.
        """
        if not writes:
            await self.log.top()
            return
        await self.log.prolong()
        await self.links.entries.call("SET", self.keys.probe, b"", "PX", _PROBE_MS)

    async def _tell(self, ended: Ended, event: Filled | Released) -> None:
        if not ended.was_held:
            return
        self.subscribers.publish(event)
        others = [inbox for inbox in ended.waiters if inbox != self._inbox]
        with suppress(CoordinatorError):  # they also ask again by themselves
            await notify(self.links.log, self.keys, others, event)

    async def _fetch(self, wanted: tuple[tuple[CacheKey, ...], Position]) -> Fetched:
        keys, after = wanted
        reader = self.reader
        if reader.proof_age_s >= PROVEN_S or after > reader.mirror.position:
            return await self._fetch_with_log(keys, after)
        entries = await self.entries.fetch(keys)
        rows, position, is_rewound = reader.mirror.tail(after)
        if _are_ahead(entries, position):  # the mirror lags by a moment, or rows were lost
            return await self._fetch_with_log(keys, after)
        return Fetched(entries, position, rows, is_rewound)

    async def _fetch_with_log(self, keys: Sequence[CacheKey], after: Position) -> Fetched:
        """Read entries and then the log's tail, in one round trip where one server has both.

        In a Cluster they are read side by side. That is as good: either read begins after the
        lookup did, so both see whatever was acknowledged before.
        """
        expected = self.reader.expected
        entries, tail = await self._read_both(keys, after)
        is_rewound = False
        if not (tail.holds_after and _brings(expected, after, tail)):
            is_rewound = after != START
            tail = await self.log.recover(max(after, expected))
        self._highest = max(self._highest, tail.top)
        if _are_ahead(entries, tail.top):
            # Captured in a log that is no more, whose rows nobody knows: as good as invalidated.
            entries = [e if e is None or e.position <= tail.top else None for e in entries]
        return Fetched(entries, tail.top, tail.rows, is_rewound)

    async def _read_both(
        self, keys: Sequence[CacheKey], after: Position
    ) -> tuple[Sequence[Entry | None], Tail]:
        if self.links.cluster is not None:
            tail = asyncio.get_running_loop().create_task(self.log.tail(after))
            try:
                return await self.entries.fetch(keys), await tail
            finally:
                await end(tail)
        commands = self.entries.commands(keys)
        replies = await self.links.log.batch((*commands, self.log.tail_command(after)))
        entries = self.entries.read_all(keys, replies[:-1]) if keys else []
        return entries, await self.log.finish_tail(after, replies[-1])


def _are_ahead(entries: Sequence[Entry | None], position: Position) -> bool:
    """Whether an entry was captured further on in the log than ``position``."""
    return any(entry is not None and entry.position > position for entry in entries)


def _brings(expected: Position, after: Position, tail: Tail) -> bool:
    """Whether the row that this process appended last is not missing."""
    return expected <= after or any(logged.position == expected for logged in tail.rows)
