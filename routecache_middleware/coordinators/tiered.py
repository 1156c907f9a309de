"""TieredCoordinator: copies in this process in front of a coordinator that many share.

A copy is used without asking anybody while the log is proven: read to its end less than a second
ago. Unproven, the log's tail is read first, and the copies it leaves standing are used. When that
fails they are used until the last proof is ``max_disconnected_s`` old, and then no more. What makes
a copy usable is written down in :mod:`.near`.
"""

from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import replace
from typing import Any

from routecache_middleware.coordinators.claims import Claims
from routecache_middleware.coordinators.guarded import GuardedCoordinator
from routecache_middleware.coordinators.near import NearStore
from routecache_middleware.core.choices import Eviction
from routecache_middleware.core.cluster import ClusterStats
from routecache_middleware.core.invalidation import InvalidationRow, LoggedRow
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
    Found,
    ProvenLog,
)
from routecache_middleware.errors import CoordinatorError

__all__ = ["TieredCoordinator"]

_PROOF_S = 1.0


class TieredCoordinator:
    """A :class:`routecache_middleware.core.ports.Coordinator` with a near cache.

    It offers :class:`routecache_middleware.core.ports.SynchronousReads`, and whatever the shared
    coordinator offers beyond the port. One that is no
    :class:`routecache_middleware.core.ports.ProvenLog` never proves anything: then copies save
    the transfer of entries, not the round trip.

    Attributes:
        shared: The coordinator behind.
    """

    def __init__(
        self,
        shared: Coordinator,
        *,
        max_bytes: int,
        clock: Clock,
        max_disconnected_s: float,
        eviction: Eviction = Eviction.S3FIFO,
    ) -> None:
        """Put an empty near cache in front of ``shared``; nothing is opened.

        Args:
            shared: The coordinator behind; closed when this one is. Guard it, not this one: hits
                here need neither a deadline nor a breaker.
            max_bytes: Budget of the near cache.
            clock: Where time comes from.
            max_disconnected_s: How old the last proof may be for a copy to be used when the
                shared coordinator cannot be asked.
            eviction: What leaves first when the budget is used up.
        """
        self.shared = shared
        self._near = NearStore(max_bytes=max_bytes, clock=clock, eviction=eviction)
        self._claims = Claims()
        self._log = _proven_log(shared)
        self._max_disconnected_s = max_disconnected_s
        # What was appended here holds here at once, however far the proven log has been read.
        self._appended = START

    def __getattr__(self, name: str) -> Any:
        """Return what the shared coordinator offers beyond the port."""
        if name.startswith("_") or name == "shared":
            raise AttributeError(name)
        return getattr(self.shared, name)

    @property
    def name(self) -> str:
        """The shared coordinator's: what is kept here was found there."""
        return self.shared.name

    @property
    def is_shared(self) -> bool:
        """The shared coordinator's."""
        return self.shared.is_shared

    @property
    def poll_s(self) -> float:
        """The shared coordinator's."""
        return self.shared.poll_s

    async def open(self) -> None:
        """Open the shared coordinator."""
        await self.shared.open()

    async def aclose(self) -> None:
        """Forget every copy and close the shared coordinator."""
        try:
            await self.shared.aclose()
        finally:
            self._near.clear()

    def fetch_now(self, keys: Sequence[CacheKey], after: Position) -> Fetched | None:
        """Return the copies of all ``keys`` with the proven log's tail, or None."""
        log = self._log
        if log is None or not keys:
            return None
        position = log.proven_position(_PROOF_S)
        if position is None or position < after or position < self._appended:
            return None  # the caller knows more than has been read ahead: ask
        near = self._near
        rows: Sequence[LoggedRow] = ()
        if position != after or position != near.table.position:
            asked = min(after, near.table.position)
            tail = log.tail_now(asked)
            if tail.is_rewound:
                return None
            near.learn(asked, tail)
            rows = _after(after, tail.rows)
        entries: list[Entry | None] = []
        for key in keys:
            entry = near.fresh(key)
            if entry is None:
                return None
            entries.append(entry)
        return Fetched(entries, position, rows)

    async def fetch(self, keys: Sequence[CacheKey], after: Position) -> Fetched:
        """Return copies where there are any, and the rest from the shared coordinator.

        Raises:
            CoordinatorError: The shared coordinator failed, and there is not a copy of every key,
                or the last proof is older than ``max_disconnected_s``.
        """
        fetched = self.fetch_now(keys, after)
        if fetched is not None:
            return fetched
        try:
            return await self._fetch(keys, after)
        except CoordinatorError:
            fetched = self._fetch_cut_off(keys, after)
            if fetched is None:
                raise
            return fetched

    async def store(
        self, key: CacheKey, entry: Entry, *, token: str | None = None, form: str = ""
    ) -> bool:
        """Store in the shared coordinator, and keep a copy of what it took.

        When it refuses, the copy goes: a newer entry was made, whether it was stored or not. When
        it fails, nobody knows. The new entry is then kept as a copy all the same, which is as true
        as any other copy, and serves this process where the shared store is full or read-only.
        Not so with a ``token``: the refusal that was not heard would have said that somebody else
        has taken over.
        """
        kept: Entry | None = None  # also when this is cancelled
        claim = self._claims.begin_write(key)
        try:
            is_stored = await self.shared.store(key, entry, token=token, form=form)
            kept = entry if is_stored else None
        except CoordinatorError:
            kept = entry if token is None else None
            raise
        finally:
            self._keep(key, kept if self._claims.end_write(key, claim) else None)
        return is_stored

    async def delete(self, key: CacheKey) -> None:
        """Forget a key, here in any case."""
        claim = self._claims.begin_write(key)
        self._near.drop(key)
        try:
            await self.shared.delete(key)
        finally:
            self._claims.end_write(key, claim)
            self._near.drop(key)

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
        """Take the lease of a key in the shared coordinator, or learn who has it; see the port.

        A copy that the caller has ``seen`` and found useless is dropped.
        """
        if seen is not None:
            self._near.drop(key, seen)
        acquired: Acquired | None = None
        claim = self._claims.begin_read(key)
        try:
            acquired = await self.shared.acquire(
                key, token=token, ttl_s=ttl_s, form=form, position=position, since=since, seen=seen
            )
        finally:
            may_keep = self._claims.end_read(key, claim)
            if may_keep and isinstance(acquired, Found):
                self._near.put(key, acquired.entry)
        return acquired

    async def renew(self, key: CacheKey, *, token: str, ttl_s: float, form: str = "") -> bool:
        """Extend a lease; False when it is no longer held with ``token``."""
        return await self.shared.renew(key, token=token, ttl_s=ttl_s, form=form)

    async def release(
        self, key: CacheKey, *, token: str, form: str = "", parallel_s: float = 0.0
    ) -> None:
        """Give a lease back; see the port."""
        await self.shared.release(key, token=token, form=form, parallel_s=parallel_s)

    async def append(self, rows: Sequence[InvalidationRow]) -> AppendReceipt:
        """Append to the invalidation log; no copy is used before the rows are known here."""
        receipt = await self.shared.append(rows)
        self._appended = max(self._appended, receipt.position)
        return receipt

    def events(self) -> AsyncIterator[CoordinatorEvent]:
        """Yield what happens; ends when the coordinator closes."""
        return self.shared.events()

    async def sample(self, layer: Layer, limit: int) -> Sequence[tuple[CacheKey, Entry]]:
        """Return up to ``limit`` unexpired entries of a layer from the shared coordinator."""
        return await self.shared.sample(layer, limit)

    def stats(self) -> CoordinatorStats:
        """Return the shared coordinator's figures, and under ``near`` what is kept here."""
        return replace(self.shared.stats(), near=self._near.usage())

    async def cluster_stats(self) -> ClusterStats:
        """Return the shared coordinator's figures."""
        return await self.shared.cluster_stats()

    async def _fetch(self, keys: Sequence[CacheKey], after: Position) -> Fetched:
        near = self._near
        copies = {key: entry for key in keys if (entry := near.fresh(key)) is not None}
        fetched = await self._read([key for key in keys if key not in copies], after)
        if not copies:
            return fetched
        if any(near.fresh(key) is not entry for key, entry in copies.items()):
            # Void by the rows that have just been read, or replaced meanwhile.
            return _both(fetched, await self._read(keys, after))
        others = iter(fetched.entries)
        entries = [copies[key] if key in copies else next(others) for key in keys]
        return Fetched(entries, fetched.position, fetched.rows, fetched.is_rewound)

    async def _read(self, keys: Sequence[CacheKey], after: Position) -> Fetched:
        """Read from the shared coordinator, learn the log's tail, and keep copies."""
        entries: Iterable[Entry | None] = ()
        claims = [self._claims.begin_read(key) for key in keys]
        try:
            # Not from beyond where the table ends: it would miss what lies between.
            asked = min(after, self._near.table.position)
            fetched = await self.shared.fetch(keys, asked)
            self._near.learn(asked, fetched)
            if fetched.position < after:  # what the caller knows of is not there (any more)
                again = await self.shared.fetch(keys, after)
                self._near.learn(after, again)
                fetched = _both(fetched, again)
            entries = fetched.entries
        finally:
            ended = [self._claims.end_read(key, c) for key, c in zip(keys, claims, strict=True)]
            for key, entry, may_keep in zip(keys, entries, ended, strict=False):
                if may_keep:
                    self._keep(key, entry)
        if asked == after or fetched.is_rewound:
            return fetched
        rows = _after(after, fetched.rows)
        return Fetched(fetched.entries, fetched.position, rows)

    def _fetch_cut_off(self, keys: Sequence[CacheKey], after: Position) -> Fetched | None:
        """Return copies of all ``keys``, stale ones included, if the last proof is recent enough.

        A stale one is for the caller to use or not: there is no way to look for a better one.
        """
        log = self._log
        if log is None or not keys or log.proof_age_s > self._max_disconnected_s:
            return None
        near = self._near
        asked = min(after, near.table.position)
        tail = log.tail_now(asked)
        if tail.is_rewound:
            return None
        near.learn(asked, tail)
        entries = [near.current(key) for key in keys]
        if None in entries:
            return None
        return Fetched(entries, max(tail.position, after), _after(after, tail.rows))

    def _keep(self, key: CacheKey, entry: Entry | None) -> None:
        if entry is None:
            self._near.drop(key)
        else:
            self._near.put(key, entry)


def _after(position: Position, rows: Sequence[LoggedRow]) -> Sequence[LoggedRow]:
    """Return the rows after ``position``: more may have been asked for than the caller did."""
    if not rows or rows[0].position > position:
        return rows
    return [row for row in rows if row.position > position]


def _both(first: Fetched, second: Fetched) -> Fetched:
    """Return ``second``, read after ``first`` for the same caller.

    That a log was rewound may be told only once.
    """
    is_rewound = first.is_rewound or second.is_rewound
    return Fetched(second.entries, second.position, second.rows, is_rewound)


def _proven_log(shared: Coordinator) -> ProvenLog | None:
    """Return the object itself that proves: by way of the guard each hit would cost 0.5 µs more."""
    inner: Any = shared.inner if isinstance(shared, GuardedCoordinator) else shared
    return inner if hasattr(inner, "proven_position") else None
