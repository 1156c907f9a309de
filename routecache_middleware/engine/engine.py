"""The engine: one lookup, one write, one invalidation, each with its counting and its span.

This is the one place where a coordinator's failure is caught on behalf of requests. It is counted,
and the request goes on as if the cache were not there.
"""

import asyncio
import logging
from collections.abc import Sequence
from typing import Any

import msgspec
from cachetools import FIFOCache

from routecache_middleware.core.events import (
    LookupFinished,
    Operation,
    PutFinished,
    RemoveFinished,
)
from routecache_middleware.core.invalidation import InvalidationRow, InvalidationTable, LoggedRow
from routecache_middleware.core.keys import CacheKey, Layer
from routecache_middleware.core.models import (
    DiscardReason,
    Entry,
    MissReason,
    Outcome,
    Position,
    Scope,
)
from routecache_middleware.core.plan import Forward, Serve, plan_lookup
from routecache_middleware.core.ports import AppendReceipt, Clock, Coordinator, Fetched, Observer
from routecache_middleware.core.settings import CachePolicy, Settings
from routecache_middleware.core.stats import CacheStats
from routecache_middleware.engine.acceptance import Acceptance
from routecache_middleware.engine.background import Background
from routecache_middleware.engine.capture import CaptureBudget
from routecache_middleware.engine.flights import Flights
from routecache_middleware.engine.load import LoadTracker
from routecache_middleware.engine.recorder import Recorder
from routecache_middleware.errors import CoordinatorError

__all__ = ["Engine", "Lookup"]

_logger = logging.getLogger("routecache")

_REMEMBERED_MISSES = 10_000


class Lookup(msgspec.Struct, frozen=True):
    """What a lookup found.

    Attributes:
        plan: Serve what was found, or forward, and why.
        outcome: ``hit``, ``miss`` or ``error``.
        position: The captured position: store what is made from now on with it.
        traceparent: The lookup's span, for links.
    """

    plan: Serve | Forward
    outcome: Outcome
    position: Position
    traceparent: str


class Engine:
    """A coordinator with its invalidation table, counters and observers."""

    def __init__(
        self,
        coordinator: Coordinator,
        settings: Settings,
        policy: CachePolicy,
        clock: Clock,
        observer: Observer,
    ) -> None:
        self.coordinator = coordinator
        self.settings = settings
        self.policy = policy
        self.clock = clock
        self.observer = observer
        self.mode = settings.mode
        self.recorder = Recorder()
        self.table = InvalidationTable()
        self.background = Background()
        self.load = LoadTracker(clock)
        self.captures = CaptureBudget(settings)
        self.live: Flights[Any] = Flights()
        self.acceptance = Acceptance(settings.auth_ttl_s, clock)
        # The captured positions of misses, for the `cache_*` call that usually follows a `get_*`.
        self._missed_at: FIFOCache[CacheKey, Position] = FIFOCache(_REMEMBERED_MISSES)
        self._opened_in: asyncio.AbstractEventLoop | None = None

    async def ensure_open(self) -> None:
        """Open the coordinator for the running event loop, once. A failure to open is no error here."""
        loop = asyncio.get_running_loop()
        if self._opened_in is loop:
            return
        self._opened_in = loop
        self.background = Background()  # tasks of a loop that is gone will never finish
        self.live = Flights()
        try:
            await self.coordinator.open()
        except CoordinatorError as error:
            _logger.warning("coordinator %s could not be opened: %s", self.coordinator.name, error)

    async def aclose(self) -> None:
        """Finish writes that are under way, for a bounded time, and close the coordinator."""
        self._opened_in = None
        await self.background.drain(self.settings.drain_timeout_s)
        await self.coordinator.aclose()

    async def lookup(
        self,
        layer: Layer,
        key: CacheKey,
        *,
        max_age_s: float | None = None,
        model: str = "",
        verb: str = "",
    ) -> Lookup:
        """Look one key up and judge what was found. Does not count: the caller knows what comes of it."""
        span = self.observer.begin(Operation.GET, layer.value, model=model, verb=verb)
        try:
            fetched = await self.coordinator.fetch((key,), self.table.position)
        except Exception:  # noqa: BLE001 - a third party's coordinator must not fail a request either
            span.finish(LookupFinished(Outcome.ERROR, self.coordinator.name))
            plan: Serve | Forward = Forward(MissReason.ABSENT)
            return Lookup(plan, Outcome.ERROR, self.table.position, span.traceparent)
        self._learn(fetched)
        entry = fetched.entries[0]
        plan = plan_lookup(
            entry,
            is_current=entry is None or self.table.is_current(key, entry),
            now_s=self.clock.now_s(),
            max_age_s=max_age_s,
        )
        outcome = Outcome.HIT if isinstance(plan, Serve) else Outcome.MISS
        if span.is_watched:
            span.finish(self._finished(plan))
        return Lookup(plan, outcome, self.table.position, span.traceparent)

    def remember_miss(self, key: CacheKey, position: Position) -> None:
        """Keep the captured position of a miss until something is stored under ``key``."""
        self._missed_at[key] = position

    def captured(self, key: CacheKey) -> Position:
        """Position to store with: where the last miss of ``key`` was captured, or now."""
        position: Position | None = self._missed_at.pop(key, None)
        return self.table.position if position is None else position

    async def peek(self, key: CacheKey) -> Entry | None:
        """Return a fresh, current entry without counting or tracing; None also when that fails."""
        try:
            fetched = await self.coordinator.fetch((key,), self.table.position)
        except Exception:  # noqa: BLE001 - as in lookup
            return None
        self._learn(fetched)
        entry = fetched.entries[0]
        is_current = entry is None or self.table.is_current(key, entry)
        plan = plan_lookup(entry, is_current=is_current, now_s=self.clock.now_s())
        return plan.entry if isinstance(plan, Serve) else None

    async def put(self, key: CacheKey, entry: Entry, *, verb: str = "") -> bool:
        """Store an entry. False when it is too large or the coordinator failed, which is counted."""
        if entry.layer is Layer.RESULT and len(entry.body) > self.settings.max_result_bytes:
            self.recorder.discarded(DiscardReason.TOO_LARGE)
            return False
        span = self.observer.begin(
            Operation.PUT, entry.layer.value, model=entry.model_id, verb=verb
        )
        is_stored, failure = await self.write(key, entry)
        if span.is_watched:
            size, ttl_s = len(entry.body), entry.freshness_lifetime_s
            span.finish(PutFinished(is_stored, size, ttl_s, entry.model_id, failure))
        return is_stored

    async def write(self, key: CacheKey, entry: Entry) -> tuple[bool, str]:
        """Store and count without tracing; says whether it was stored, and the error's name if any."""
        counters = self.recorder.layers[entry.layer]
        try:
            is_stored = await self.coordinator.store(key, entry)
        except Exception as error:  # noqa: BLE001 - as in lookup
            counters.write_errors += 1
            return False, type(error.__cause__ or error).__name__
        if is_stored:
            counters.writes += 1
        return is_stored, ""

    async def invalidate(self, rows: Sequence[InvalidationRow]) -> AppendReceipt:
        """Append to the invalidation log and take it in.

        Raises:
            CoordinatorError: It could not be recorded. It has taken effect in this process.
        """
        kind = rows[0].scope.partition(":")[0]  # the rest may name a tenant: not for spans
        span = self.observer.begin(Operation.REMOVE, kind)
        try:
            receipt = await self.coordinator.append(rows)
            # Others may have appended meanwhile: reading the tail takes in their rows as well.
            self._learn(await self.coordinator.fetch((), self.table.position))
        except Exception as error:
            here = Position(self.table.position + 1)
            self.table.fold(LoggedRow(here, row) for row in rows)
            span.finish(RemoveFinished(kind, type(error.__cause__ or error).__name__))
            if isinstance(error, CoordinatorError):
                raise
            raise CoordinatorError(f"the invalidation of {kind} could not be recorded") from error
        self.recorder.invalidations += 1
        span.finish(RemoveFinished(kind))
        return receipt

    def is_current_since(self, key: CacheKey, scopes: Sequence[Scope], position: Position) -> bool:
        """Whether a flight captured at ``position`` may still be joined, as far as is known here."""
        return self.table.is_current_since(key, scopes, position)

    def stats(self) -> CacheStats:
        """All counters, frozen."""
        return self.recorder.snapshot(self.coordinator.stats())

    def _learn(self, fetched: Fetched) -> None:
        if fetched.is_rewound:
            self.table.rewind(fetched.position)
        if fetched.rows:
            self.table.fold(fetched.rows)
        self.table.advance(fetched.position)

    def _finished(self, plan: Serve | Forward) -> LookupFinished:
        if isinstance(plan, Forward):
            return LookupFinished(Outcome.MISS, miss_reason=plan.reason)
        return LookupFinished(
            Outcome.HIT,
            self.coordinator.name,
            item_size=len(plan.entry.body),
            ttl_s=plan.ttl_s,
            age_s=plan.age_s,
            model_id=plan.entry.model_id,
            origin=plan.entry.origin,
            cost_ms=plan.entry.cost_ms,
        )
