"""RingCoordinator: independent nodes, each with its share of the keys, and one log made of theirs.

A key's entry and lease are on one node and nowhere else: a node that goes takes its share with it,
and the next in line begins anew. What keeps all this from ever serving what was invalidated is
written down in :mod:`.log`. Two processes that see different nodes as down may both lead a flight
for the same key; no correctness hangs on leases.
"""

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Iterable, Sequence

from routecache_middleware.coordinators.redis.joined import JoinedReads
from routecache_middleware.coordinators.redis.processes import this_process
from routecache_middleware.coordinators.ring.asking import Asking
from routecache_middleware.coordinators.ring.figures import cluster_stats, combined_stats
from routecache_middleware.coordinators.ring.keeper import Keeper
from routecache_middleware.coordinators.ring.log import RingLog
from routecache_middleware.coordinators.ring.members import Members
from routecache_middleware.coordinators.ring.node import RingNode
from routecache_middleware.coordinators.subscribers import Subscribers
from routecache_middleware.core.cluster import ClusterStats
from routecache_middleware.core.invalidation import InvalidationRow, LoggedRow
from routecache_middleware.core.keys import CacheKey, Layer
from routecache_middleware.core.models import START, Entry, Position
from routecache_middleware.core.ports import (
    Acquired,
    AppendReceipt,
    Clock,
    CoordinatorEvent,
    CoordinatorStats,
    Fetched,
    Filled,
    Invalidated,
    Released,
)

__all__ = ["RingCoordinator"]

# Of what a request may wait: two nodes that hang, and one that answers, have to fit in.
_ATTEMPT_SHARE, _DEADLINE_SHARE = 0.4, 0.9
# Storing and giving back happen behind the request, and the guard gives them so much time.
_WRITE_S = 0.25
_APPEND_SHARE = 0.25


class RingCoordinator:
    """A :class:`routecache_middleware.core.ports.Coordinator` over registered nodes.

    It is a :class:`routecache_middleware.core.ports.ProvenLog` too. Bound to one event loop at a
    time: ``open`` moves it to the running one.
    """

    name = "ring"
    is_shared = True
    poll_s = 0.25

    def __init__(
        self,
        nodes: Iterable[tuple[RingNode, float]],
        *,
        connect: Callable[[str], RingNode],
        clock: Clock,
        timeout_s: float = 0.05,
        proof_s: float = 1.0,
        rng: random.Random | None = None,
        process: str = "",
    ) -> None:
        """Prepare; nothing is opened.

        Args:
            nodes: The nodes to begin with, and their weights.
            connect: Makes a node of what :meth:`register` is given.
            clock: Where time comes from.
            timeout_s: How long one call may take, all nodes that are tried together, seconds.
            proof_s: A lookup does without reading the log when that was last read to its end less
                than so many seconds ago: how late an invalidation of another process may be seen.
            rng: For jitter.
            process: What other processes call this one; by default host name and process id.

        Raises:
            ConfigurationError: There is no node, one is named twice, or a weight is out of range.
        """
        rng = random.Random() if rng is None else rng  # noqa: S311 - jitter is no secret
        attempt_s = _ATTEMPT_SHARE * timeout_s
        write_s = max(timeout_s, _WRITE_S)
        self._connect = connect
        self._proof_s = proof_s
        self._process = process
        self._subscribers = Subscribers()
        self._members = Members(nodes, clock)
        self._log = RingLog(
            self._members,
            clock=clock,
            rng=rng,
            attempt_s=attempt_s,
            append_s=_APPEND_SHARE * write_s,
            on_news=self._tell,
        )
        self._asking = Asking(
            self._members,
            clock=clock,
            attempt_s=attempt_s,
            deadline_s=_DEADLINE_SHARE * timeout_s,
        )
        self._keeper = Keeper(
            self._members, self._log, clock=clock, rng=rng, publish=self._subscribers.publish
        )
        self._clock = clock
        self._patience = write_s / timeout_s
        self._fetches = JoinedReads(self._fetch)
        self._opened_in: asyncio.AbstractEventLoop | None = None

    @property
    def proof_age_s(self) -> float:
        """How long ago the logs of all nodes that are not down were last read to their ends."""
        return self._log.proof_age_s

    def proven_position(self, within_s: float) -> Position | None:
        """Return where the log ends, as of less than ``within_s`` ago; None without that proof."""
        return self._log.reached if self._log.proof_age_s < within_s else None

    def tail_now(self, after: Position) -> Fetched:
        """Return the log's tail as far as it was read, with no entries and without waiting."""
        return self._log.tail_now(after)

    async def open(self) -> None:
        """Bring the nodes that answer into use.

        Raises:
            CoordinatorError: None of them answers.
        """
        loop = asyncio.get_running_loop()
        if self._opened_in is loop:
            return
        self._opened_in = loop
        self._fetches = JoinedReads(self._fetch)
        self._log.start()
        now_s = self._clock.monotonic_s()
        for member in self._members:
            member.health.restart(now_s)
            await member.node.open()
        await self._keeper.bring_up(list(self._members))
        if not self._members.serving():
            await self.aclose()
            raise self._members.silence()
        self._keeper.start()

    async def aclose(self) -> None:
        """End every ``events`` and close all connections."""
        loop, self._opened_in = self._opened_in, None
        self._subscribers.close()
        if loop is asyncio.get_running_loop():
            await self._keeper.stop()
            await self._log.stop()
        for member in list(self._members):
            await member.node.aclose()

    async def register(self, address: str, weight: float = 1.0) -> str:
        """Add a node at run time; returns its name. It serves as soon as its log is up to date.

        Args:
            address: ``host:port``, or a URL of the node's own.
            weight: Its share of the keys, relative to the others'.

        Raises:
            ConfigurationError: It is there already, or the address or the weight is wrong.
        """
        member = self._members.add(self._connect(address), weight)
        if self._opened_in is not None:
            await member.node.open()
            await self._keeper.bring_up([member])
        return member.name

    async def unregister(self, address: str) -> None:
        """Remove a node at run time, by its name or as it was registered.

        Raises:
            ConfigurationError: There is no such node, or it is the last one.
        """
        is_name = "://" not in address and "@" not in address
        name = address if is_name else self._connect(address).name
        member = self._members.remove(name)
        self._log.forget(name)
        self._keeper.forget(name)
        await member.node.aclose()

    async def fetch(self, keys: Sequence[CacheKey], after: Position) -> Fetched:
        """Read entries together with the log's rows after ``after``.

        Raises:
            CoordinatorError: No node answered.
        """
        return await self._fetches.read((tuple(keys), after))

    async def _fetch(self, wanted: tuple[tuple[CacheKey, ...], Position]) -> Fetched:
        keys, after = wanted
        log = self._log
        if log.proof_age_s < self._proof_s and after <= log.reached:
            entries = await self._asking.fetch(keys) if keys else ()
        elif keys:
            entries, _ = await asyncio.gather(self._asking.fetch(keys), log.refresh())
        else:
            await log.refresh()
            entries = ()
        if any(entry is not None and entry.position > log.reached for entry in entries):
            # Its maker has read further than this process: it has to catch up first.
            await log.refresh()
            entries = [
                entry if entry is not None and entry.position <= log.reached else None
                for entry in entries
            ]
        if after > log.reached:
            tail = await log.rewind(after)
        else:
            tail = log.tail_now(after)
        return Fetched(entries, tail.position, tail.rows, tail.is_rewound)

    async def store(
        self, key: CacheKey, entry: Entry, *, token: str | None = None, form: str = ""
    ) -> bool:
        """Store until ``entry.expires_s``; fenced by the lease when ``token`` is given."""
        is_stored = await self._asking.ask(
            key,
            lambda node: node.store(key, entry, token=token, form=form),
            patience=self._patience,
        )
        if is_stored and token is not None:
            self._subscribers.publish(Filled(key))
        return is_stored

    async def delete(self, key: CacheKey) -> None:
        """Forget a key, to free memory."""
        await self._asking.ask(key, lambda node: node.delete(key), patience=self._patience)

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
        """Take the lease of a key on its node, or learn who has it; see the port."""
        return await self._asking.ask(
            key,
            lambda node: node.acquire(
                key,
                token=token,
                ttl_s=ttl_s,
                form=form,
                position=position,
                since=since,
                seen=seen,
            ),
        )

    async def renew(self, key: CacheKey, *, token: str, ttl_s: float, form: str = "") -> bool:
        """Extend a lease; False when it is no longer held with ``token``."""
        return await self._asking.ask(
            key, lambda node: node.renew(key, token=token, ttl_s=ttl_s, form=form)
        )

    async def release(
        self, key: CacheKey, *, token: str, form: str = "", parallel_s: float = 0.0
    ) -> None:
        """Give a lease back; nothing happens when it is not held with ``token``."""
        was_held = await self._asking.ask(
            key,
            lambda node: node.release(key, token=token, form=form, parallel_s=parallel_s),
            patience=self._patience,
        )
        if was_held:
            self._subscribers.publish(Released(key))

    async def append(self, rows: Sequence[InvalidationRow]) -> AppendReceipt:
        """Append to the logs of all nodes that are not down; the receipt counts the further ones.

        Raises:
            CoordinatorError: No node took the rows.
        """
        return await self._log.append(rows)

    def events(self) -> AsyncIterator[CoordinatorEvent]:
        """Yield what happens from the first ``__anext__`` on; ends when the coordinator closes."""
        return self._subscribers.listen()

    async def sample(self, layer: Layer, limit: int) -> Sequence[tuple[CacheKey, Entry]]:
        """Return up to ``limit`` unexpired entries of a layer, from any nodes that answer."""
        return await self._asking.sample(layer, limit)

    async def probe(self, *, writes: bool) -> None:
        """Make sure that some node answers, and with ``writes`` that it takes a write.

        Raises:
            CoordinatorError: None does.
        """
        if not writes:
            await self._log.refresh()
            return
        if not await self._keeper.announce():
            raise self._members.silence()

    def stats(self) -> CoordinatorStats:
        """Add up what the nodes are known to hold."""
        return combined_stats(self._members)

    async def cluster_stats(self) -> ClusterStats:
        """Ask every node in use for its figures."""
        process = self._process or this_process()
        return await cluster_stats(self._members, self._log, process)

    def _tell(self, rows: Sequence[LoggedRow]) -> None:
        self._subscribers.publish(Invalidated(rows))
