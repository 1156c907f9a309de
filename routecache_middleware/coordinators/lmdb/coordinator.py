"""The coordinator of one machine: all its worker processes share one LMDB file.

A lookup is a read transaction inside the call, two or three microseconds, and needs no other
process. Whatever writes is handed to the writer's thread: leases and the log are awaited, entries
are not.
"""

import asyncio
import weakref
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import TypeVar

from msgspec.structs import replace

from routecache_middleware.coordinators.lmdb import log, registry
from routecache_middleware.coordinators.lmdb.calls import Calls
from routecache_middleware.coordinators.lmdb.events import Listener
from routecache_middleware.coordinators.lmdb.layout import (
    LAYER_NUMBERS,
    LAYERS,
    Usage,
    charge_bytes,
    slot_of,
)
from routecache_middleware.coordinators.lmdb.leases import Leases
from routecache_middleware.coordinators.lmdb.news import add_news
from routecache_middleware.coordinators.lmdb.pending import Pending, Work
from routecache_middleware.coordinators.lmdb.processes import list_processes
from routecache_middleware.coordinators.lmdb.reader import Reader
from routecache_middleware.coordinators.lmdb.registry import Shared
from routecache_middleware.coordinators.lmdb.writer import LINGER_S
from routecache_middleware.coordinators.memory import SHARES
from routecache_middleware.core.cluster import ClusterStats, NodeStats
from routecache_middleware.core.codec import EntryCodec
from routecache_middleware.core.invalidation import InvalidationRow
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
    Follower,
    Found,
    LayerUsage,
    Leader,
    Parallel,
    Released,
)
from routecache_middleware.errors import ConfigurationError, CoordinatorError

__all__ = ["MAP_PER_BYTE", "LmdbCoordinator"]

T = TypeVar("T")

MAP_PER_BYTE = 4
"""Bytes of the file per byte of the budget: with less, large values find no room in one piece."""

_ITEMS_PER_LAYER = 8
_ENVELOPE_BYTES = 512
_REPAIRS = 3
_FLUSHES = 1000
_OPEN_TIMEOUT_S = 10.0
_CLOSE_TIMEOUT_S = 10.0


class LmdbCoordinator:
    """A :class:`routecache_middleware.core.ports.Coordinator` for all processes of one machine.

    Several of them with the same path share one file and one writer; the first decides on the size.
    Never on a network file system, and never across containers that do not share process ids.
    """

    name = "lmdb"
    is_shared = True
    poll_s = 0.01

    def __init__(
        self, *, path: Path, max_bytes: int, map_bytes: int, clock: Clock, codec: EntryCodec
    ) -> None:
        """Prepare; opens and makes nothing.

        Args:
            path: The directory, for this alone. It is made if it is missing.
            max_bytes: Budget of all layers together.
            map_bytes: The size that the file never exceeds.
            clock: Where time comes from. Its monotonic side has to be that of the machine.
            codec: How entries are written.
        """
        self._path = path
        self._map_bytes = map_bytes
        self._limits = {
            number: int(max_bytes * SHARES[layer]) for number, layer in enumerate(LAYERS)
        }
        self._clock = clock
        self._codec = codec
        self._reader = Reader(codec)
        self._calls = Calls(clock)
        self._shared: Shared | None = None
        self._listeners: weakref.WeakSet[Listener] = weakref.WeakSet()
        self._usage = [Usage()] * len(LAYERS)

    # -- life

    async def open(self) -> None:
        """Open the file, or join those in this process that have it open; idempotent.

        Raises:
            ConfigurationError: The directory cannot be used; the text names the remedy.
            CoordinatorError: The file cannot be opened for now.
        """
        if self._shared is None:
            self._shared = registry.join(
                self._path, map_bytes=self._map_bytes, limits=self._limits, clock=self._clock
            )
        try:
            await self._calls.run(self._shared.writer, _nothing, timeout_s=_OPEN_TIMEOUT_S)
        except CoordinatorError as error:
            if isinstance(error.__cause__, ConfigurationError):
                await self.aclose()
                raise error.__cause__ from None
            raise

    async def aclose(self) -> None:
        """Write what is pending, end every ``events`` and give the file back; idempotent."""
        shared, self._shared = self._shared, None
        if shared is None:
            return
        for listener in list(self._listeners):
            listener.close()
        closed: Future[None] = Future()
        registry.leave(shared, lambda: closed.set_result(None))
        waiting = asyncio.shield(asyncio.wrap_future(closed))
        # Longer only when another process was stopped in the midst of a write. Nobody waits for it.
        done, _ = await asyncio.wait((waiting,), timeout=_CLOSE_TIMEOUT_S)
        if done and not shared.users:
            shared.writer.join()

    # -- entries

    async def fetch(self, keys: Sequence[CacheKey], after: Position) -> Fetched:
        """Read entries and the log's rows after ``after``, in one transaction."""
        fetched = self.fetch_now(keys, after)
        for _ in range(_REPAIRS):
            if fetched is not None:
                return fetched
            # The file has to be opened or grown, or the log has to go on beyond ``after``.
            lifted = await self._run(lambda work: self._lift(work, after))
            fetched = self.fetch_now(keys, lifted or after)
            if fetched is not None and lifted:
                return replace(fetched, is_rewound=True)
        raise CoordinatorError("the LMDB file cannot be read for now")

    def fetch_now(self, keys: Sequence[CacheKey], after: Position) -> Fetched | None:
        """As :meth:`fetch`, at once; None when the file has to be opened first, say."""
        shared = self._require()
        return self._reader.fetch(shared, keys, after, self._clock.now_s())

    async def store(
        self, key: CacheKey, entry: Entry, *, token: str | None = None, form: str = ""
    ) -> bool:
        """Store until ``entry.expires_s``. Without a token it is written after this returns.

        Raises:
            CoordinatorError: It could not be written; or one that was stored earlier could not.
        """
        slot, layer = slot_of(key), _layer_number(key)
        is_storable = self._is_storable(key, entry, layer)
        pending = Pending(slot, key, layer, entry if is_storable else None, self._codec)
        if token is None:
            self._require().writer.put(pending)
            return is_storable

        def fill(work: Work) -> bool:
            leases = Leases(work.txn, work.tables, self._clock.monotonic_s())
            if not leases.is_held(slot_of(key, form), token):
                return False
            pending.apply(work.shelf)
            if is_storable:
                add_news(work.txn, work.tables, Filled(key))
            return is_storable

        return await self._run(fill, slot=slot, incoming=pending, must_run=True)

    async def delete(self, key: CacheKey) -> None:
        """Forget a key, to free memory; soon."""
        pending = Pending(slot_of(key), key, _layer_number(key), None, self._codec)
        self._require().writer.put(pending)

    # -- leases

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
        slot = slot_of(key)

        def take(work: Work) -> Acquired:
            now_s = self._clock.now_s()
            entry = self._reader.decode(key, work.shelf.get(slot), now_s)
            if entry is not None and entry != seen and _is_fresh(entry, now_s):
                return Found(entry)
            now_s = self._clock.monotonic_s()
            held = Leases(work.txn, work.tables, now_s).acquire(
                slot_of(key, form), token, ttl_s, position=position, since=since
            )
            if held is None:
                return Leader(token)
            remaining_s = held.expires_s - now_s
            return Follower(remaining_s) if held.token else Parallel(remaining_s)

        return await self._run(take, slot=slot)

    async def renew(self, key: CacheKey, *, token: str, ttl_s: float, form: str = "") -> bool:
        """Extend a lease; False when it is no longer held with ``token``."""

        def extend(work: Work) -> bool:
            leases = Leases(work.txn, work.tables, self._clock.monotonic_s())
            return leases.renew(slot_of(key, form), token, ttl_s)

        return await self._run(extend)

    async def release(
        self, key: CacheKey, *, token: str, form: str = "", parallel_s: float = 0.0
    ) -> None:
        """Give a lease back; nothing happens when it is not held with ``token``."""

        def give_back(work: Work) -> None:
            leases = Leases(work.txn, work.tables, self._clock.monotonic_s())
            if leases.release(slot_of(key, form), token, parallel_s):
                add_news(work.txn, work.tables, Released(key))

        await self._run(give_back, must_run=True)

    # -- the log and what happens

    async def append(self, rows: Sequence[InvalidationRow]) -> AppendReceipt:
        """Append to the invalidation log, in order, atomically."""

        def add(work: Work) -> Position:
            return log.append(work.txn, work.tables, rows, self._clock.now_s())

        position = await self._run(add, must_run=True)
        self._require().writer.has_read(position)
        return AppendReceipt(position)

    def events(self) -> AsyncIterator[CoordinatorEvent]:
        """Yield what happens from the first ``__anext__`` on; ends when the coordinator closes."""
        listener = Listener(self._require(), self.poll_s)
        self._listeners.add(listener)
        return listener.listen()

    # -- inspection

    async def sample(self, layer: Layer, limit: int) -> Sequence[tuple[CacheKey, Entry]]:
        """Return up to ``limit`` unexpired entries, youngest first; never a full scan."""
        writer = self._require().writer
        for _ in range(_FLUSHES):
            if not writer.pending:
                break
            await self._run(_nothing)
        number, now_s = LAYER_NUMBERS[layer.value], self._clock.now_s()

        def look(work: Work) -> list[tuple[CacheKey, Entry]]:
            return self._reader.sample(work.txn, work.tables, number, limit, now_s)

        return await self._run(look)

    def stats(self) -> CoordinatorStats:
        """Return usage by all processes, without a scan; pending entries are not in it."""
        shared = self._shared
        age_s = LINGER_S
        if shared is not None:
            is_exact = not shared.writer.pending  # asked first: it may be written in between
            usage = self._reader.usage(shared)
            if usage is not None:
                self._usage = usage
                age_s = 0.0 if is_exact else LINGER_S
        layers = {
            layer: LayerUsage(
                used.entries, used.charged_bytes, self._limits[number], used.evictions
            )
            for number, (layer, used) in enumerate(zip(LAYERS, self._usage, strict=True))
        }
        return CoordinatorStats(
            layers=layers, age_s=age_s, corrupt_entries=self._reader.corrupt_entries
        )

    async def cluster_stats(self) -> ClusterStats:
        """One node, this machine, and the live processes that use it."""
        shared = self._require()

        def look(work: Work) -> ClusterStats:
            usages = [work.shelf.usage(number) for number in range(len(LAYERS))]
            node = NodeStats(
                name=self._path.name,
                keys=sum(usage.entries for usage in usages),
                bytes=shared.environment.used_bytes(work.txn),
                ops=self._reader.reads + self._calls.done,
                errors=self._calls.errors,
            )
            found = list_processes(work.txn, work.tables, self._clock.now_s())
            return ClusterStats(
                nodes=(node,),
                processes=tuple(found),
                position=log.top(work.txn, work.tables),
            )

        return await self._run(look)

    def _require(self) -> Shared:
        if self._shared is None:
            raise CoordinatorError("the LMDB coordinator is not open")
        return self._shared

    def _is_storable(self, key: CacheKey, entry: Entry, layer: int) -> bool:
        size = len(entry.body) + 2 * len(key) + _ENVELOPE_BYTES
        size += sum(len(scope) for scope in entry.scopes)
        size += sum(len(name) + len(value) for name, value in entry.headers)
        limit = min(self._limits[layer], self._map_bytes // MAP_PER_BYTE) // _ITEMS_PER_LAYER
        # The comparison of times is written so that NaN is refused as well.
        is_alive = self._clock.now_s() < entry.expires_s < float("inf")
        return is_alive and charge_bytes(size, 4096) <= limit

    def _lift(self, work: Work, after: Position) -> Position | None:
        if after <= log.top(work.txn, work.tables):
            return None
        return log.lift(work.txn, work.tables, after, self._clock.now_s())

    async def _run(
        self,
        run: Callable[[Work], T],
        *,
        slot: bytes | None = None,
        incoming: Pending | None = None,
        must_run: bool = False,
    ) -> T:
        writer = self._require().writer
        return await self._calls.run(writer, run, slot=slot, incoming=incoming, must_run=must_run)


def _layer_number(key: CacheKey) -> int:
    return LAYER_NUMBERS[key.partition(":")[0]]


def _is_fresh(entry: Entry, now_s: float) -> bool:
    return now_s < entry.created_s + entry.freshness_lifetime_s


def _nothing(_: Work) -> None:
    """Do nothing: what counts is that the file is open and written afterwards."""
