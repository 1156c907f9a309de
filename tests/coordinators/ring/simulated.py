"""Nodes made of dicts, and a network between processes and nodes that can be made to fail."""

import asyncio
import random
from collections import defaultdict
from collections.abc import Callable, Sequence
from enum import Enum, auto
from typing import TypeVar

from routecache_middleware.coordinators.memory import MemoryCoordinator
from routecache_middleware.coordinators.ring.merged import EVERYTHING
from routecache_middleware.coordinators.ring.node import (
    SPENT_S,
    NodeFigures,
    NodeTail,
    position_at,
)
from routecache_middleware.core.cluster import ProcessStats
from routecache_middleware.core.invalidation import InvalidationRow, LoggedRow
from routecache_middleware.core.keys import CacheKey, Layer
from routecache_middleware.core.models import START, Entry, Position
from routecache_middleware.core.ports import (
    Acquired,
    Clock,
    CoordinatorEvent,
    CoordinatorStats,
    Filled,
    Follower,
    Released,
)
from routecache_middleware.errors import CoordinatorError

T = TypeVar("T")

Waiter = tuple[CacheKey, str]

KEEP_S = SPENT_S + 3_600.0
"""How old a row gets at least before a server trims it, by the server's clock."""


class Link(Enum):
    """What becomes of a call from one process to one node."""

    UP = auto()
    REFUSED = auto()
    HUNG = auto()
    DEAF = auto()
    """The node does what it is asked, and the answer is lost."""


class Server:
    """One node, as all processes see it. Losing its log makes another incarnation of it.

    ``own_clock`` is the one that its log goes by; entries have no part in that, as processes tell
    their times to each server in its own.
    """

    def __init__(
        self,
        name: str,
        clock: Clock,
        *,
        max_bytes: int = 8_000_000,
        own_clock: Clock | None = None,
    ) -> None:
        self.name = name
        self.clock = own_clock or clock
        self.memory = MemoryCoordinator(max_bytes=max_bytes, clock=clock)
        self.log: list[LoggedRow] = []
        self.incarnation = 0
        self.is_running = True
        self.is_paused = False
        self.waiters: dict[Waiter, set[str]] = defaultdict(set)
        self.inboxes: dict[str, list[CoordinatorEvent]] = defaultdict(list)
        self.positions: dict[str, Position] = {}
        self.changed = asyncio.Event()
        self.accepted: dict[Position, int] = {}
        """Position to the incarnation that took a row there."""

    @property
    def top(self) -> Position:
        return self.log[-1].position if self.log else START

    async def lose_everything(self) -> None:
        self.lose_log()
        await self.memory.aclose()
        self.waiters.clear()

    def lose_log(self, keep: int = 0) -> None:
        """As a failover to a replica that lagged does, or the eviction of the log."""
        del self.log[keep:]
        self.incarnation += 1

    def extend(self, rows: Sequence[InvalidationRow], at: Position) -> bool:
        if self.top >= at:
            return False
        self.log += [LoggedRow(Position(at + n), row) for n, row in enumerate(rows)]
        self.accepted[Position(at + len(rows) - 1)] = self.incarnation
        self._trim()
        self._wake()
        return True

    def end_lease(self, key: CacheKey, form: str, process: str, event: CoordinatorEvent) -> None:
        for waiter in self.waiters.pop((key, form), set()) - {process}:
            self.inboxes[waiter].append(event)
        self._wake()

    def _trim(self) -> None:
        """As a real one does: the newest of the old rows stays, for who stands on it."""
        cutoff = position_at(self.clock.now_s() - KEEP_S)
        old = sum(row.position <= cutoff for row in self.log)
        del self.log[: max(0, old - 1)]

    def _wake(self) -> None:
        self.changed.set()
        self.changed = asyncio.Event()


class Network:
    """Links between processes and servers, and how long a message takes."""

    def __init__(self, rng: random.Random | None = None, *, delay_s: float = 0.0) -> None:
        self.links: dict[tuple[str, str], Link] = {}
        self.delay_s = delay_s
        self._rng = rng or random.Random(0)

    def link(self, process: str, server: Server) -> Link:
        if not server.is_running:
            return Link.REFUSED
        return Link.HUNG if server.is_paused else self.links.get((process, server.name), Link.UP)

    async def travel(self) -> None:
        if self.delay_s:
            await asyncio.sleep(self.delay_s * (0.2 + self._rng.expovariate(1.0)))
        else:
            await asyncio.sleep(0)


class SimulatedNode:
    """One process's way to a server."""

    def __init__(self, server: Server, network: Network, process: str) -> None:
        self._server = server
        self._network = network
        self._process = process
        self.read_incarnation = 0
        """Of which incarnation of the server the log was read last."""

    @property
    def name(self) -> str:
        return self._server.name

    async def open(self) -> None:
        pass

    async def aclose(self) -> None:
        pass

    async def ping(self) -> None:
        await self._call(lambda: None)

    async def fetch(self, keys: Sequence[CacheKey]) -> Sequence[Entry | None]:
        return (await self._call(lambda: self._server.memory.fetch_now(keys, START))).entries

    async def store(self, key: CacheKey, entry: Entry, *, token: str | None, form: str) -> bool:
        def run() -> bool:
            is_stored = self._server.memory.store_now(key, entry, token=token, form=form)
            if is_stored and token is not None:
                self._server.end_lease(key, form, self._process, Filled(key))
            return is_stored

        return await self._call(run)

    async def delete(self, key: CacheKey) -> None:
        await self._call(lambda: self._server.memory.delete_now(key))

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
        def run() -> Acquired:
            acquired = self._server.memory.acquire_now(
                key, token=token, ttl_s=ttl_s, form=form, position=position, since=since, seen=seen
            )
            if isinstance(acquired, Follower):
                self._server.waiters[key, form].add(self._process)
            return acquired

        return await self._call(run)

    async def renew(self, key: CacheKey, *, token: str, ttl_s: float, form: str) -> bool:
        await self._call(lambda: None)
        return await self._server.memory.renew(key, token=token, ttl_s=ttl_s, form=form)

    async def release(self, key: CacheKey, *, token: str, form: str, parallel_s: float) -> bool:
        await self._call(lambda: None)
        memory = self._server.memory
        was_held = await memory.renew(key, token=token, ttl_s=60.0, form=form)
        await memory.release(key, token=token, form=form, parallel_s=parallel_s)
        if was_held:
            self._server.end_lease(key, form, self._process, Released(key))
        return was_held

    async def sample(self, layer: Layer, limit: int) -> Sequence[tuple[CacheKey, Entry]]:
        await self._call(lambda: None)
        return await self._server.memory.sample(layer, limit)

    async def tail(self, after: Position) -> NodeTail:
        def run() -> NodeTail:
            log = self._server.log
            self.read_incarnation = self._server.incarnation
            holds_after = after == START or any(row.position == after for row in log)
            rows = [row for row in log if row.position > after]
            return NodeTail(rows, holds_after, now=position_at(self._server.clock.now_s()))

        return await self._call(run)

    async def append_at(self, rows: Sequence[InvalidationRow], at: Position) -> bool:
        return await self._call(lambda: self._server.extend(rows, at))

    async def begin(self, known: Position) -> None:
        at = max(Position(known + 1), position_at(self._server.clock.now_s()))
        await self._call(lambda: self._server.log or self._server.extend((EVERYTHING,), at))

    async def wait(self, after: Position, block_s: float) -> Sequence[CoordinatorEvent]:
        server = self._server
        deadline = asyncio.get_running_loop().time() + block_s
        while asyncio.get_running_loop().time() < deadline:
            await self._call(lambda: None)
            inbox = server.inboxes.pop(self._process, [])
            if inbox or server.top > after:
                return inbox
            changed, left_s = server.changed, deadline - asyncio.get_running_loop().time()
            try:
                await asyncio.wait_for(changed.wait(), max(0.0, left_s))
            except TimeoutError:
                break
        return ()

    async def announce(self, position: Position) -> None:
        def run() -> None:
            self._server.positions[self._process] = position

        await self._call(run)

    async def figures(self) -> NodeFigures:
        await self._call(lambda: None)
        stats = self._server.memory.stats()
        told = self._server.positions.items()
        return NodeFigures(
            keys=sum(usage.entries for usage in stats.layers.values()),
            bytes=sum(usage.bytes for usage in stats.layers.values()),
            processes=tuple(ProcessStats(process=name, position=at) for name, at in told),
        )

    def stats(self) -> CoordinatorStats:
        return self._server.memory.stats()

    async def _call(self, run: Callable[[], T]) -> T:
        await self._network.travel()
        link = self._network.link(self._process, self._server)
        if link is Link.REFUSED:
            raise CoordinatorError("nobody listens") from ConnectionRefusedError()
        if link is Link.HUNG:
            await asyncio.Event().wait()
        answer = run()
        if link is Link.DEAF:
            await asyncio.Event().wait()
        await self._network.travel()
        return answer
