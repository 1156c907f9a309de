"""The coordinator over Redis or Valkey. A lookup is one GET while the mirror of the log is proven.

It keeps one session per event loop; a forked child has event loops of its own, and so connections
of its own.
"""

import asyncio
import math
from collections.abc import AsyncIterator, Callable, Sequence

from routecache_middleware.coordinators.redis.figures import node_stats
from routecache_middleware.coordinators.redis.sampling import sample
from routecache_middleware.coordinators.redis.session import Session
from routecache_middleware.core.cluster import ClusterStats
from routecache_middleware.core.invalidation import InvalidationRow
from routecache_middleware.core.keys import CacheKey, Layer
from routecache_middleware.core.models import START, Entry, Position
from routecache_middleware.core.ports import (
    Acquired,
    AppendReceipt,
    CoordinatorEvent,
    CoordinatorStats,
    Fetched,
    LayerUsage,
)
from routecache_middleware.errors import CoordinatorError

__all__ = ["RedisCoordinator"]


class RedisCoordinator:
    """A :class:`routecache_middleware.core.ports.Coordinator` for any number of processes.

    Also a :class:`routecache_middleware.core.ports.ProvenLog`, and
    :class:`routecache_middleware.core.ports.Probed`. It has neither a breaker nor deadlines shorter
    than the sockets': put ``GuardedCoordinator`` around it.
    """

    is_shared = True
    poll_s = 0.25

    def __init__(self, make_session: Callable[[], Session], *, name: str, limit_bytes: int) -> None:
        """Prepare; nothing is connected.

        Args:
            make_session: Makes what one event loop needs.
            name: The URL's scheme.
            limit_bytes: The largest body of an entry.
        """
        self.name = name
        self._make_session = make_session
        self._limit_bytes = limit_bytes
        self._sessions: dict[asyncio.AbstractEventLoop, Session] = {}
        self._opening: dict[asyncio.AbstractEventLoop, asyncio.Lock] = {}
        self._corrupt = 0  # of sessions that were closed

    async def open(self) -> None:
        """Connect in the running event loop, and read the log.

        Raises:
            CoordinatorError: The server cannot be used; the text says why and what to do.
        """
        loop = asyncio.get_running_loop()
        self._forget_closed_loops()
        async with self._opening.setdefault(loop, asyncio.Lock()):
            if loop in self._sessions:
                return
            session = self._make_session()
            try:
                await session.open()
            except BaseException:
                await session.aclose()
                raise
            self._sessions[loop] = session

    async def aclose(self) -> None:
        """Close what the running event loop has open, and end its ``events``."""
        session = self._sessions.pop(asyncio.get_running_loop(), None)
        if session is not None:
            self._corrupt += session.entries.corrupt
            await session.aclose()

    async def fetch(self, keys: Sequence[CacheKey], after: Position) -> Fetched:
        """Read entries together with the log's rows after ``after``."""
        return await self._session().fetch(keys, after)

    async def store(
        self, key: CacheKey, entry: Entry, *, token: str | None = None, form: str = ""
    ) -> bool:
        """Store until ``entry.expires_s``; fenced by the lease when ``token`` is given."""
        session = self._session()
        if token is None:
            return await session.entries.store(key, entry)
        return await session.store(key, entry, token, form)

    async def delete(self, key: CacheKey) -> None:
        """Forget a key, to free memory."""
        await self._session().entries.delete(key)

    async def acquire(
        self,
        key: CacheKey,
        *,
        token: str,
        ttl_s: float,
        form: str = "",
        position: Position = START,
        since: Position = START,
        seen: Entry | None = None,
    ) -> Acquired:
        """Take the lease of a key, or learn who has it; see the port."""
        return await self._session().leases.acquire(
            key, token=token, ttl_s=ttl_s, form=form, position=position, since=since, seen=seen
        )

    async def renew(self, key: CacheKey, *, token: str, ttl_s: float, form: str = "") -> bool:
        """Extend a lease; False when it is no longer held with ``token``."""
        return await self._session().leases.renew(key, token=token, ttl_s=ttl_s, form=form)

    async def release(
        self, key: CacheKey, *, token: str, form: str = "", parallel_s: float = 0.0
    ) -> None:
        """Give a lease back; nothing happens when it is not held with ``token``."""
        await self._session().release(key, token, form, parallel_s)

    async def append(self, rows: Sequence[InvalidationRow]) -> AppendReceipt:
        """Append to the invalidation log, in order, atomically."""
        receipt = await self._session().append(rows)
        for session in list(self._sessions.values()):  # other threads have theirs
            session.reader.expect(receipt.position)
        return receipt

    async def events(self) -> AsyncIterator[CoordinatorEvent]:
        """Yield what happens from the first ``__anext__`` on; ends when the coordinator closes."""
        async for event in self._session().subscribers.listen():
            yield event

    async def sample(self, layer: Layer, limit: int) -> Sequence[tuple[CacheKey, Entry]]:
        """Return up to ``limit`` unexpired entries of a layer; never a full scan."""
        session = self._session()
        return await sample(session.links, session.keys, session.entries, layer, limit)

    def stats(self) -> CoordinatorStats:
        """Return what the servers told some seconds ago.

        Entries and bytes per layer are estimates from keys picked by chance; ``limit_bytes`` is the
        largest body of one entry.
        """
        session = self._any_session()
        if session is None:
            empty = LayerUsage(limit_bytes=self._limit_bytes)
            return CoordinatorStats(
                layers=dict.fromkeys(Layer, empty), age_s=math.inf, corrupt_entries=self._corrupt
            )
        upkeep = session.upkeep
        layers = {
            layer: LayerUsage(
                entries=round(upkeep.keys * upkeep.shares.of(layer)),
                bytes=upkeep.shares.bytes_of(layer, upkeep.keys),
                limit_bytes=self._limit_bytes,
                is_estimate=True,
            )
            for layer in Layer
        }
        corrupt = self._corrupt + sum(one.entries.corrupt for one in self._sessions.values())
        return CoordinatorStats(layers, upkeep.nodes, upkeep.age_s, corrupt)

    async def cluster_stats(self) -> ClusterStats:
        """Ask every node for its figures, and say which processes have read the log how far."""
        session = self._session()
        position = session.reader.mirror.position
        nodes = await node_stats(session.links)
        processes = await session.processes.known(position)
        top = await session.log.top()
        return ClusterStats(nodes=tuple(nodes), processes=processes, position=max(position, top))

    @property
    def proof_age_s(self) -> float:
        """How long ago the log was last known to be read to its end; infinite before that."""
        session = self._any_session()
        return math.inf if session is None else session.reader.proof_age_s

    def proven_position(self, within_s: float) -> Position | None:
        """Return where the log ends, as of less than ``within_s`` ago; None without that proof."""
        session = self._any_session()
        return None if session is None else session.reader.proven_position(within_s)

    def tail_now(self, after: Position) -> Fetched:
        """Return the log's tail as far as it was read, with no entries and without waiting."""
        session = self._any_session()
        if session is None:
            return Fetched((), after)
        rows, position, is_rewound = session.reader.mirror.tail(after)
        return Fetched((), position, rows, is_rewound)

    async def probe(self, *, writes: bool) -> None:
        """Connect if need be, and read the log's end; or write a key that lives for a second.

        Raises:
            CoordinatorError: That failed.
        """
        await self.open()
        await self._session().probe(writes=writes)

    def _session(self) -> Session:
        session = self._sessions.get(asyncio.get_running_loop())
        if session is None:
            raise CoordinatorError(f"{self.name} is not open in this event loop")
        return session

    def _any_session(self) -> Session | None:
        """Return the session of the running loop, or another one: figures are figures."""
        try:
            own = self._sessions.get(asyncio.get_running_loop())
        except RuntimeError:
            own = None
        return own or next(iter(self._sessions.values()), None)

    def _forget_closed_loops(self) -> None:
        for loop in [loop for loop in self._sessions if loop.is_closed()]:
            del self._sessions[loop]
        for loop in [loop for loop in self._opening if loop.is_closed()]:
            del self._opening[loop]
