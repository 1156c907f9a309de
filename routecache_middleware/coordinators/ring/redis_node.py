"""One Redis or Valkey server as a node of the ring, made of the redis coordinator's parts."""

import asyncio
import math
import uuid
from collections.abc import Callable, Sequence
from contextlib import suppress

from routecache_middleware.coordinators.redis.entries import Entries
from routecache_middleware.coordinators.redis.failures import failure, is_error
from routecache_middleware.coordinators.redis.figures import QUESTIONS, Answers, Shares
from routecache_middleware.coordinators.redis.inbox import notify, read_messages
from routecache_middleware.coordinators.redis.keys import Keys
from routecache_middleware.coordinators.redis.leases import Ended, Leases
from routecache_middleware.coordinators.redis.links import Links
from routecache_middleware.coordinators.redis.log import StreamLog
from routecache_middleware.coordinators.redis.processes import Processes, this_process
from routecache_middleware.coordinators.redis.sampling import sample
from routecache_middleware.coordinators.redis.server_time import ServerTime
from routecache_middleware.coordinators.ring.node import SPENT_S, NodeFigures, NodeTail, position_at
from routecache_middleware.core.codec import EntryCodec
from routecache_middleware.core.invalidation import InvalidationRow
from routecache_middleware.core.keys import CacheKey, Layer
from routecache_middleware.core.models import START, Entry, Position
from routecache_middleware.core.ports import (
    Acquired,
    Clock,
    CoordinatorEvent,
    CoordinatorStats,
    Filled,
    LayerUsage,
    Released,
)
from routecache_middleware.errors import CoordinatorError

__all__ = ["RedisNode"]

_FIGURES_S = 4.0
_TIME_S = 60.0
_PROLONG_S = 3_600.0
# Trimming comes well after the end of a row's use, or nodes that trim at different times would
# seem to lack what others hold.
_KEEP_S = SPENT_S + 3_600.0


class _Parts:
    """What works on connections, and so belongs to one event loop."""

    def __init__(
        self,
        links: Links,
        keys: Keys,
        codec: EntryCodec,
        *,
        process: str,
        limit_bytes: int,
        time: ServerTime,
        clock: Clock,
    ) -> None:
        self.links = links
        self.entries = Entries(
            links.entries, keys, codec, limit_bytes=limit_bytes, time=time, clock=clock
        )
        self.inbox = uuid.uuid4().hex
        self.inbox_after = b"0-0"
        self.leases = Leases(links.entries, keys, self.entries, inbox=self.inbox, clock=clock)
        self.log = StreamLog(links.log, keys, time=time, keep_s=_KEEP_S)
        self.reading = StreamLog(links.reading, keys, time=time, keep_s=_KEEP_S)
        self.processes = Processes(links.log, keys, process)


class RedisNode:
    """A :class:`routecache_middleware.coordinators.ring.node.RingNode`."""

    def __init__(
        self,
        connect: Callable[[], Links],
        name: str,
        *,
        prefix: str,
        process: str = "",
        codec: EntryCodec,
        limit_bytes: int,
        clock: Clock,
    ) -> None:
        """Prepare; nothing is connected.

        Args:
            connect: Makes ways to the server; they belong to one event loop.
            name: Its address, without credentials.
            prefix: What all names in it begin with, after the version.
            process: What other processes call this one; by default host name and process id.
            codec: Entry to bytes and back.
            limit_bytes: Entries with a larger body are not stored.
            clock: Our clock.
        """
        self._name = name
        self._process = process
        self._keys = Keys(prefix)
        self._limit_bytes = limit_bytes
        self._clock = clock
        self._time = ServerTime(clock)
        self._shares = Shares(self._keys)
        self._held = 0  # keys when they were last counted
        self._corrupt = 0  # of connections that were given up
        self._figured_s = self._timed_s = self._prolonged_s = -math.inf
        self._make_parts: Callable[[], _Parts] = lambda: _Parts(
            connect(),
            self._keys,
            codec,
            process=self._process or this_process(),
            limit_bytes=limit_bytes,
            time=self._time,
            clock=clock,
        )
        self._parts = self._make_parts()
        self._opened_in: asyncio.AbstractEventLoop | None = None

    @property
    def name(self) -> str:
        """Host and port."""
        return self._name

    async def open(self) -> None:
        """Begin anew in another event loop, or after a close; connects when there is need to."""
        loop = asyncio.get_running_loop()
        if self._opened_in is not loop:
            self._opened_in = loop
            self._corrupt += self._parts.entries.corrupt
            self._parts = self._make_parts()

    async def aclose(self) -> None:
        """Close every connection."""
        self._opened_in = None
        await self._parts.links.aclose()

    async def ping(self) -> None:
        """Ask for the server's time, which has to be known before entries are read."""
        await self._measure()

    async def fetch(self, keys: Sequence[CacheKey]) -> Sequence[Entry | None]:
        """Read entries."""
        return await self._parts.entries.fetch(keys)

    async def store(self, key: CacheKey, entry: Entry, *, token: str | None, form: str) -> bool:
        """Store, and wake who waits for the lease."""
        if token is None:
            return await self._parts.entries.store(key, entry)
        ended = await self._parts.leases.fill(key, entry, token=token, form=form)
        await self._tell(ended, Filled(key))
        return ended.was_held

    async def delete(self, key: CacheKey) -> None:
        """Forget a key."""
        await self._parts.entries.delete(key)

    async def acquire(
        self,
        key: CacheKey,
        *,
        token: str,
        ttl_s: float,
        form: str,
        position: Position,
        since: Position,
        seen: Entry | None,
    ) -> Acquired:
        """Take a lease, or learn who has it."""
        return await self._parts.leases.acquire(
            key, token=token, ttl_s=ttl_s, form=form, position=position, since=since, seen=seen
        )

    async def renew(self, key: CacheKey, *, token: str, ttl_s: float, form: str) -> bool:
        """Extend a lease."""
        return await self._parts.leases.renew(key, token=token, ttl_s=ttl_s, form=form)

    async def release(self, key: CacheKey, *, token: str, form: str, parallel_s: float) -> bool:
        """Give a lease back, and wake who waits for it."""
        ended = await self._parts.leases.release(key, token=token, form=form, parallel_s=parallel_s)
        await self._tell(ended, Released(key))
        return ended.was_held

    async def sample(self, layer: Layer, limit: int) -> Sequence[tuple[CacheKey, Entry]]:
        """Read some entries."""
        return await sample(self._parts.links, self._keys, self._parts.entries, layer, limit)

    async def tail(self, after: Position) -> NodeTail:
        """Read the log, and the server's clock: ours may be days off, and may have been set."""
        log = self._parts.log
        page, time = await self._parts.links.log.batch((log.tail_command(after), ("TIME",)))
        if is_error(time):
            raise failure(time) from time
        tail = await log.finish_tail(after, page)
        return NodeTail(
            tail.rows,
            holds_after=after == START or tail.holds_after,
            now=position_at(int(time[0]) + int(time[1]) / 1e6),
        )

    async def append_at(self, rows: Sequence[InvalidationRow], at: Position) -> bool:
        """Append to the log."""
        return await self._parts.log.append_at(rows, at) is not None

    async def begin(self, known: Position) -> None:
        """Begin the log."""
        await self._parts.log.recover(known)

    async def wait(self, after: Position, block_s: float) -> Sequence[CoordinatorEvent]:
        """Wait for the log or the inbox."""
        waited = await self._parts.reading.wait(
            after, block_s, inbox=self._parts.inbox, inbox_after=self._parts.inbox_after
        )
        if not waited.messages:
            return ()
        self._parts.inbox_after = waited.messages[-1][0]
        return list(read_messages(waited.messages))

    async def announce(self, position: Position) -> None:
        """Write down how far this process has read, and do what else is due now and then."""
        await self._parts.processes.tell(position)
        now_s = self._clock.monotonic_s()
        if now_s - self._figured_s >= _FIGURES_S:
            await self._ask()
        if now_s - self._timed_s >= _TIME_S:
            await self._measure()
        if now_s - self._prolonged_s >= _PROLONG_S:
            self._prolonged_s = now_s
            await self._parts.log.prolong()

    async def figures(self) -> NodeFigures:
        """Ask the server for its figures."""
        answers, processes = await asyncio.gather(self._ask(), self._parts.processes.known(START))
        own = self._process or this_process()
        others = tuple(one for one in processes if one.process != own)
        return NodeFigures(
            keys=0 if answers is None else answers.keys,
            bytes=0 if answers is None else answers.memory_bytes,
            processes=others,
            server=None if answers is None else answers.server,
        )

    def stats(self) -> CoordinatorStats:
        """Return what the server told some seconds ago; see the redis coordinator's."""
        limit_bytes = self._limit_bytes
        return CoordinatorStats(
            layers={
                layer: LayerUsage(
                    round(self._held * self._shares.of(layer)),
                    self._shares.bytes_of(layer, self._held),
                    limit_bytes,
                    is_estimate=True,
                )
                for layer in Layer
            },
            age_s=self._clock.monotonic_s() - self._figured_s,
            corrupt_entries=self._corrupt + self._parts.entries.corrupt,
        )

    async def _ask(self) -> Answers | None:
        answers = Answers.of(await self._parts.links.log.batch(QUESTIONS))
        if answers is not None:
            self._held = answers.keys
            sizes = await self._shares.ask_sizes(self._parts.links.entries, answers.names)
            self._shares.add(answers.names, sizes)
            self._figured_s = self._clock.monotonic_s()
        return answers

    async def _measure(self) -> None:
        await self._time.measure(self._parts.links.log)
        self._timed_s = self._clock.monotonic_s()

    async def _tell(self, ended: Ended, event: Filled | Released) -> None:
        others = [inbox for inbox in ended.waiters if inbox != self._parts.inbox]
        with suppress(CoordinatorError):  # they also ask again by themselves
            await notify(self._parts.links.log, self._keys, others, event)
