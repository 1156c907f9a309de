"""GuardedCoordinator: no request waits long, or twice, for a coordinator that fails.

Three things stand between a request and a networked coordinator. A deadline: what is not answered
in time has failed. A shield: a client that leaves does not cancel a command in flight, which would
cost its connection. And two breakers, for reads and for writes, because a store that is full or a
replica still answers reads: after some failures nobody asks any more, and what is left of the price
of an outage is an exception. Whether it works again is found out in the background.

An invalidation that cannot be recorded fails as fast as the rest: it is in force in the process
that made it, and whoever made it tries again until it is recorded.
"""

import asyncio
import contextvars
import logging
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from routecache_middleware.coordinators.gate import NOBODY, Gate
from routecache_middleware.coordinators.outage import Outage
from routecache_middleware.coordinators.resume import resume
from routecache_middleware.coordinators.shielded import ShieldedCalls, translated
from routecache_middleware.core.cluster import ClusterStats, NodeState, NodeStats
from routecache_middleware.core.invalidation import InvalidationRow
from routecache_middleware.core.keys import CacheKey, Layer
from routecache_middleware.core.models import START, Entry, Position
from routecache_middleware.core.ports import (
    Acquired,
    AppendReceipt,
    Clock,
    Coordinator,
    CoordinatorEvent,
    CoordinatorStats,
    Fetched,
)
from routecache_middleware.errors import CoordinatorError

__all__ = ["GuardedCoordinator"]

_OPEN_S = 0.5
_INSPECT_S = 1.0
_CLOSE_S = 1.0

_logger = logging.getLogger("routecache")


class GuardedCoordinator:
    """A :class:`routecache_middleware.core.ports.Coordinator` around one that may hang or fail.

    What the other one offers beyond the port, such as ``tail_now``, is offered as it is.

    Attributes:
        inner: The coordinator that is guarded.
    """

    def __init__(
        self,
        inner: Coordinator,
        *,
        clock: Clock,
        timeout_s: float,
        write_timeout_s: float = 0.25,
        where: str = "",
        log: logging.Logger = _logger,
    ) -> None:
        """Guard ``inner``; nothing is opened.

        Args:
            inner: The coordinator; closed when this one is.
            clock: For what counts as "within a second"; its monotonic side.
            timeout_s: How long a request waits for one answer, seconds: ``fetch`` and ``acquire``.
                A request's budget may cut that short.
            write_timeout_s: The same for what happens behind requests: the other writes.
            where: Its URL without credentials, for the log; empty: it is told by its name alone.
            log: Where an outage is told of.
        """
        self.inner = inner
        self._clock = clock
        self._timeout_s = timeout_s
        self._write_timeout_s = max(timeout_s, write_timeout_s)
        self._calls = ShieldedCalls()
        told = f"{inner.name} ({where})" if where else inner.name
        self._outage = Outage(told, self._recovers, clock=clock, log=log)
        self._reads = Gate("reads", self._calls, self._outage, clock)
        self._writes = Gate("writes", self._calls, self._outage, clock)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._opening: asyncio.Task[None] | None = None
        self._is_open = False
        self._closing = asyncio.Event()
        self._nodes: tuple[NodeStats, ...] = ()

    def __getattr__(self, name: str) -> Any:
        """Return what the coordinator offers beyond the port."""
        if name.startswith("_") or name == "inner":
            raise AttributeError(name)
        return getattr(self.inner, name)

    @property
    def name(self) -> str:
        """The guarded coordinator's."""
        return self.inner.name

    @property
    def is_shared(self) -> bool:
        """The guarded coordinator's."""
        return self.inner.is_shared

    @property
    def poll_s(self) -> float:
        """The guarded coordinator's."""
        return self.inner.poll_s

    @property
    def is_reading(self) -> bool:
        """Whether reads are let through."""
        return self._reads.is_open

    @property
    def is_writing(self) -> bool:
        """Whether writes are let through."""
        return self._writes.is_open

    async def open(self) -> None:
        """Open the coordinator, or leave that to the background when it takes over half a second.

        Raises:
            ConfigurationError: It cannot work as it is configured.
        """
        self._bind(asyncio.get_running_loop())
        if self._is_open or not (self.is_reading or self.is_writing):
            return
        try:
            await self._open_inner()
        except CoordinatorError as error:
            self._reads.close(error)
            self._writes.close(error)
        else:
            self._outage.carry_over()

    async def aclose(self) -> None:
        """Finish or cancel what is under way, stop probing, and close the coordinator."""
        self._closing.set()
        await self._outage.aclose()
        await self._calls.aclose(self._write_timeout_s)
        opening, self._opening = self._opening, None
        if opening is not None and self._loop is asyncio.get_running_loop():
            opening.cancel()
            await asyncio.wait((opening,), timeout=_CLOSE_S)
        self._start_over()
        closing = asyncio.ensure_future(self.inner.aclose())
        _, late = await asyncio.wait((closing,), timeout=_CLOSE_S)
        if late:
            closing.cancel()
            await asyncio.wait((closing,), timeout=_CLOSE_S)
        elif isinstance(error := closing.exception(), CoordinatorError):
            _logger.debug("coordinator %s did not close cleanly: %s", self.name, error)
        elif error is not None:
            raise error

    async def fetch(self, keys: Sequence[CacheKey], after: Position) -> Fetched:
        """Read entries together with the log's rows after ``after``."""
        return await self._reads.ask(self._timeout_s, self.inner.fetch, keys, after)

    async def store(
        self, key: CacheKey, entry: Entry, *, token: str | None = None, form: str = ""
    ) -> bool:
        """Store until ``entry.expires_s``; see the port."""
        return await self._writes.ask(
            self._write_timeout_s, self.inner.store, key, entry, token=token, form=form
        )

    async def delete(self, key: CacheKey) -> None:
        """Forget a key, to free memory."""
        await self._writes.ask(self._write_timeout_s, self.inner.delete, key)

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
        return await self._writes.ask(
            self._timeout_s,
            self.inner.acquire,
            key,
            token=token,
            ttl_s=ttl_s,
            form=form,
            position=position,
            since=since,
            seen=seen,
        )

    async def renew(self, key: CacheKey, *, token: str, ttl_s: float, form: str = "") -> bool:
        """Extend a lease; False when it is no longer held with ``token``."""
        return await self._writes.ask(
            self._write_timeout_s, self.inner.renew, key, token=token, ttl_s=ttl_s, form=form
        )

    async def release(
        self, key: CacheKey, *, token: str, form: str = "", parallel_s: float = 0.0
    ) -> None:
        """Give a lease back; see the port."""
        await self._writes.ask(
            self._write_timeout_s,
            self.inner.release,
            key,
            token=token,
            form=form,
            parallel_s=parallel_s,
        )

    async def append(self, rows: Sequence[InvalidationRow]) -> AppendReceipt:
        """Append to the invalidation log, in order, atomically."""
        return await self._writes.ask(self._write_timeout_s, self.inner.append, rows)

    def events(self) -> AsyncIterator[CoordinatorEvent]:
        """Yield what happens; a failure is a ``Gap``, after which it goes on by itself."""
        return resume(self.inner.events, self._closing)

    async def sample(self, layer: Layer, limit: int) -> Sequence[tuple[CacheKey, Entry]]:
        """Return up to ``limit`` unexpired entries of a layer; for people, so it may take 1 s."""
        return await self._reads.ask(_INSPECT_S, self.inner.sample, layer, limit)

    def stats(self) -> CoordinatorStats:
        """Return the coordinator's own figures."""
        return self.inner.stats()

    async def cluster_stats(self) -> ClusterStats:
        """Return the coordinator's own figures, or what is left of them.

        While reads are not let through, nodes that do not say themselves what is wrong are down;
        and if nothing can be learnt the nodes are those that were there before.
        """
        try:
            stats = await self._calls.ask(NOBODY, _INSPECT_S, self.inner.cluster_stats)
        except CoordinatorError:
            if self.is_reading:
                raise
            stats = ClusterStats(nodes=self._nodes or (NodeStats(name=self.name),))
        else:
            self._nodes = stats.nodes
        if self.is_reading or stats.count(NodeState.UP) < len(stats.nodes):
            return stats
        nodes = tuple(replace(node, state=NodeState.DOWN) for node in stats.nodes)
        return replace(stats, nodes=nodes)

    def _bind(self, loop: asyncio.AbstractEventLoop) -> None:
        """Start over in a new event loop, or after a close; elsewhere this changes nothing."""
        if self._loop is loop and not self._closing.is_set():
            return
        if self._loop is not loop:
            self._loop = loop
            self._calls.forget()
            self._opening = None
        self._closing = asyncio.Event()
        self._outage.open()
        self._start_over()

    def _start_over(self) -> None:
        self._is_open = False
        self._reads.breaker.close()
        self._writes.breaker.close()

    async def _open_inner(self) -> None:
        """Open the coordinator; one that takes too long goes on, and is found open later.

        Raises:
            CoordinatorError: It failed, or is not open yet.
            ConfigurationError: It cannot work as it is configured.
        """
        opening = self._opening
        if opening is None:
            # What it begins, such as a reader, outlives the request that happens to be served.
            loop, context = asyncio.get_running_loop(), contextvars.Context()
            opening = self._opening = loop.create_task(self.inner.open(), context=context)
            opening.add_done_callback(_retrieve)
        await asyncio.wait((opening,), timeout=_OPEN_S)
        if not opening.done():
            raise CoordinatorError(f"not open within {_OPEN_S} s") from TimeoutError()
        if self._opening is opening:
            self._opening = None
        error = opening.exception()
        if error is not None:
            raise translated(error) if isinstance(error, Exception) else error
        self._is_open = True

    async def _recovers(self) -> bool:
        """Try what does not work, let through again what does, and say whether that is all."""
        if not self._is_open:
            try:
                await self._open_inner()
            except CoordinatorError:
                return False
        reads = await self._reads.recovers(self._timeout_s, self._probe(writes=False))
        writes = await self._writes.recovers(self._write_timeout_s, self._probe(writes=True))
        return reads and writes

    def _probe(self, *, writes: bool) -> Callable[[], Coroutine[Any, Any, object]] | None:
        probe = getattr(self.inner, "probe", None)
        if probe is not None:
            return partial(probe, writes=writes)
        return None if writes else partial(self.inner.fetch, (), START)


def _retrieve(task: asyncio.Task[None]) -> None:
    if not task.cancelled():
        task.exception()
