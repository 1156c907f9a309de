"""Decisions that cost less to make than to fetch: kept in this process, judged by the shared log.

A near cache like that in front of a networked coordinator, with nothing behind it but the log. An
invalidation by any process voids what is kept here, by the same rules and within the same time.
"""

from collections.abc import AsyncIterator, Sequence
from typing import Any

from routecache_middleware.coordinators.guarded import GuardedCoordinator
from routecache_middleware.coordinators.tiered import TieredCoordinator
from routecache_middleware.core.cluster import ClusterStats
from routecache_middleware.core.invalidation import InvalidationRow
from routecache_middleware.core.keys import CacheKey, Layer
from routecache_middleware.core.models import START, Entry, Position, Scope
from routecache_middleware.core.ports import (
    Acquired,
    AppendReceipt,
    Coordinator,
    CoordinatorEvent,
    CoordinatorStats,
    Fetched,
    Leader,
    ProvenLog,
)
from routecache_middleware.engine.engine import Engine

__all__ = ["NearEngine", "is_networked"]

_MAX_BYTES = 8_388_608
_PROOF_S = 1.0


def is_networked(coordinator: Coordinator) -> bool:
    """Whether a lookup may take a round trip; LMDB is shared as well, but is read in place."""
    is_near = isinstance(coordinator, TieredCoordinator)
    return coordinator.is_shared and (is_near or not hasattr(coordinator, "fetch_now"))


class NearEngine(Engine):
    """An engine of its own for this process, which counts and judges with that of the cache."""

    def __init__(self, engine: Engine) -> None:
        """Put an empty store beside ``engine``; opens nothing."""
        self._main = engine
        near = TieredCoordinator(
            _LogAlone(engine),
            max_bytes=_MAX_BYTES,
            clock=engine.clock,
            max_disconnected_s=engine.settings.max_disconnected_s,
        )
        super().__init__(near, engine.settings, engine.policy, engine.clock, engine.observer)
        self.recorder = engine.recorder

    def is_current(self, key: CacheKey, entry: Entry) -> bool:
        """As in the base; also what the cache's own engine knows already counts."""
        return super().is_current(key, entry) and self._main.is_current(key, entry)

    def is_current_since(self, key: CacheKey, scopes: Sequence[Scope], position: Position) -> bool:
        """See :meth:`is_current`."""
        return super().is_current_since(key, scopes, position) and self._main.is_current_since(
            key, scopes, position
        )


class _LogAlone:
    """The shared coordinator's log, and no entries: what is stored is kept by the near cache."""

    is_shared = False

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        coordinator = engine.coordinator
        shared = coordinator.shared if isinstance(coordinator, TieredCoordinator) else coordinator
        self._shared = shared
        inner: Any = shared.inner if isinstance(shared, GuardedCoordinator) else shared
        if hasattr(inner, "proven_position"):
            self._log: ProvenLog = inner
            # A near cache looks for these on what stands behind it.
            self.proven_position = self._log.proven_position
            self.tail_now = self._log.tail_now

    @property
    def name(self) -> str:
        return "near"

    @property
    def poll_s(self) -> float:
        return self._shared.poll_s

    @property
    def proof_age_s(self) -> float:
        return self._log.proof_age_s

    async def open(self) -> None:
        await self._engine.ensure_open()

    async def aclose(self) -> None:
        """Nothing is ours."""

    async def fetch(self, keys: Sequence[CacheKey], after: Position) -> Fetched:
        nothing = [None] * len(keys)
        tail = self._read_ahead(after) or await self._shared.fetch((), after)
        return Fetched(nothing, tail.position, tail.rows, tail.is_rewound)

    async def store(
        self, key: CacheKey, entry: Entry, *, token: str | None = None, form: str = ""
    ) -> bool:
        return True

    async def delete(self, key: CacheKey) -> None:
        """There are none."""

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
        return Leader(token)

    async def renew(self, key: CacheKey, *, token: str, ttl_s: float, form: str = "") -> bool:
        return True

    async def release(
        self, key: CacheKey, *, token: str, form: str = "", parallel_s: float = 0.0
    ) -> None:
        """There are none."""

    async def append(self, rows: Sequence[InvalidationRow]) -> AppendReceipt:
        return await self._shared.append(rows)

    def events(self) -> AsyncIterator[CoordinatorEvent]:
        return self._shared.events()

    async def sample(self, layer: Layer, limit: int) -> Sequence[tuple[CacheKey, Entry]]:
        return ()

    def stats(self) -> CoordinatorStats:
        return CoordinatorStats()

    async def cluster_stats(self) -> ClusterStats:
        return await self._shared.cluster_stats()

    def _read_ahead(self, after: Position) -> Fetched | None:
        """Return the log's tail without asking for it, where that is as good."""
        if not hasattr(self, "_log"):
            return None
        position = self._log.proven_position(_PROOF_S)
        if position is None or position < after:
            return None
        tail = self._log.tail_now(after)
        return None if tail.is_rewound else tail
