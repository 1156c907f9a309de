"""The engine: one lookup, one write, one invalidation, each with its counting and its span.

This is the one place where a coordinator's failure is caught on behalf of requests. It is counted,
and the request goes on as if the cache were not there.
"""

import asyncio
import logging
import math
from collections.abc import Callable, Sequence
from contextlib import suppress
from time import perf_counter
from typing import TYPE_CHECKING, Any

from routecache_middleware.core.choices import Mode
from routecache_middleware.core.directives import NO_DIRECTIVES, Directives
from routecache_middleware.core.events import (
    LookupFinished,
    Operation,
    RemoveFinished,
)
from routecache_middleware.core.invalidation import InvalidationRow
from routecache_middleware.core.keys import CacheKey, Layer
from routecache_middleware.core.models import (
    Entry,
    MissReason,
    Outcome,
    Position,
)
from routecache_middleware.core.overrides import Policies
from routecache_middleware.core.plan import Forward, Serve, plan_lookup
from routecache_middleware.core.policy import CachePolicy
from routecache_middleware.core.ports import (
    AppendReceipt,
    Clock,
    Coordinator,
    Fetched,
    Observer,
    OpenOperation,
)
from routecache_middleware.core.records import with_tenant
from routecache_middleware.core.settings import Settings
from routecache_middleware.core.stats import CacheStats
from routecache_middleware.engine.acceptance import Acceptance
from routecache_middleware.engine.background import Background
from routecache_middleware.engine.capture import CaptureBudget
from routecache_middleware.engine.fleet import Fleet
from routecache_middleware.engine.flights import Flights
from routecache_middleware.engine.load import LoadTracker
from routecache_middleware.engine.lookup import Lookup, lookup_finished, told_hash
from routecache_middleware.engine.owed import RETRY_S, Owed
from routecache_middleware.engine.recorder import Recorder
from routecache_middleware.engine.writing import Writes, error_name
from routecache_middleware.errors import ConfigurationError, CoordinatorError

if TYPE_CHECKING:
    from routecache_middleware.engine.companion import Companion

__all__ = ["Engine"]

_logger = logging.getLogger("routecache")

_ABSENT = Forward(MissReason.ABSENT)
_INVALIDATED = Forward(MissReason.INVALIDATED)
# Members of an Enum are slow to read from their class in Python 3.11: 75 ns each, measured.
_GET = Operation.GET
_HIT, _STALE, _MISS = Outcome.HIT, Outcome.STALE, Outcome.MISS
_READABLE = frozenset({Mode.ON, Mode.READ_ONLY, Mode.SHADOW})
_WRITABLE = frozenset({Mode.ON, Mode.WRITE_ONLY, Mode.SHADOW})


class Engine(Writes):
    """A coordinator with its invalidation table, counters and observers."""

    def __init__(
        self,
        coordinator: Coordinator,
        settings: Settings,
        policy: CachePolicy,
        clock: Clock,
        observer: Observer,
        *,
        owns_coordinator: bool = True,
    ) -> None:
        super().__init__(clock, Owed(clock, self._record))
        self.coordinator = coordinator
        self.settings = settings
        self.policy = policy
        self.policies = Policies(policy)
        self.observer = observer
        self.mode = settings.mode
        self.recorder = Recorder()
        self.background = Background(is_eager=not coordinator.is_shared)
        self.load = LoadTracker(clock)
        self.captures = CaptureBudget(settings)
        self.live: Flights[Any] = Flights()
        self.acceptance = Acceptance(settings.auth_ttl_s, clock)
        self._owns_coordinator = owns_coordinator  # whoever built it closes it
        reads = getattr(coordinator, "fetch_now", None)  # SynchronousReads, an optional capability
        self._fetch_now: Callable[[Sequence[CacheKey], Position], Fetched | None] | None = reads
        self.companion: Companion | None = None
        self.is_quiet = False  # nobody could see the last lookup of lookup_now
        self._quiet_until_s = -math.inf
        self._unseen: OpenOperation | None = None
        self._opened_in: asyncio.AbstractEventLoop | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._opening = asyncio.Lock()
        self._open_again_s = -math.inf
        is_fleet = coordinator.is_shared and settings.coalescing
        self.fleet = Fleet(self) if is_fleet else None

    def may_read(self, layer: Layer) -> bool:
        """Whether entries of a layer are looked up in the present mode."""
        return self.mode in _READABLE and self.is_cached(layer)

    def may_write(self, layer: Layer) -> bool:
        """Whether entries of a layer are stored in the present mode."""
        return self.mode in _WRITABLE and self.is_cached(layer)

    def is_cached(self, layer: Layer) -> bool:
        """Whether a layer is cached at all, whatever the mode."""
        return layer is not Layer.RESULT or self.settings.result_caching

    def is_open(self) -> bool:
        """Whether the coordinator was opened for the running event loop."""
        return self._opened_in is asyncio.get_running_loop()

    @property
    def loop(self) -> asyncio.AbstractEventLoop | None:
        """The event loop that it was last opened for; None when it is closed."""
        return self._loop

    async def ensure_open(self) -> None:
        """Open the coordinator for the running event loop, once. Failing to is no error here.

        Raises:
            ConfigurationError: The coordinator cannot work as it is configured.
        """
        loop = asyncio.get_running_loop()
        if self._opened_in is not loop:
            await self._open(loop)

    async def aclose(self) -> None:
        """Finish writes that are under way, for a bounded time, and close our own coordinator."""
        if self._loop is asyncio.get_running_loop():
            if self.companion is not None:
                await self.companion.aclose()
            await self._owed.stop()
            await self.background.drain(self.settings.drain_timeout_s)
            if self.fleet is not None:
                await self.fleet.aclose()
        self._opened_in = self._loop = None
        if self._owns_coordinator:
            await self.coordinator.aclose()

    async def lookup(
        self,
        layer: Layer,
        key: CacheKey,
        *,
        asked: Directives = NO_DIRECTIVES,
        model: str = "",
        verb: str = "",
        tags: tuple[str, ...] = (),
        former: Sequence[CacheKey] = (),
        tenant: str = "",
        may_be_stale: bool = False,
    ) -> Lookup:
        """Look one key up and judge it; the caller counts, who knows what comes of it.

        Args:
            layer: Its layer.
            key: The key.
            asked: What the client asks for: the age, staleness and freshness that it accepts.
            model: The model asked for, for the span.
            verb: Likewise.
            tags: Their invalidation counts also for an entry that was stored without them.
            former: Its keys before the secret changed; found there, it must be current under both.
            tenant: Whose it would be today.
            may_be_stale: The caller refreshes what it finds stale.
        """
        began_s = perf_counter()
        span = self.observer.begin(_GET, layer, model=model, verb=verb)
        try:
            keys = (key, *former) if former else (key,)
            fetched = await self.coordinator.fetch(keys, self.table.position)
            self._learn(fetched)
            if self._owed.rows:  # it can be reached again
                await self._owed.pay()
        except BaseException as error:  # noqa: BLE001 - not kept: see _failed
            return self._failed(span, error, layer, began_s)
        plan = self.judge(key, fetched.entries[0], asked, tags, may_be_stale=may_be_stale)
        if former:
            for old_key, entry in zip(former, fetched.entries[1:], strict=False):
                if entry is not None and not isinstance(plan, Serve):
                    plan = self._judge_former(key, old_key, with_tenant(entry, tenant), asked)
        return self._found(span, plan, fetched.entries[0], layer, began_s, key=key)

    def lookup_now(
        self,
        layer: Layer,
        key: CacheKey,
        *,
        model: str = "",
        verb: str = "",
        may_be_stale: bool = False,
    ) -> Lookup | None:
        """As :meth:`lookup`, where the coordinator can read it without waiting; else None."""
        fetch_now = self._fetch_now
        if fetch_now is None or self._owed.rows:
            return None
        table, began_s = self.table, perf_counter()
        try:
            fetched = fetch_now((key,), table.position)
        except BaseException as error:  # noqa: BLE001 - as in lookup
            span = self.observer.begin(_GET, layer, model=model, verb=verb)
            return self._failed(span, error, layer, began_s)
        if fetched is None:
            return None
        unseen = self._unseen if began_s < self._quiet_until_s else None
        self.is_quiet = unseen is not None
        span = self._begin_get(layer, model, verb) if unseen is None else unseen
        if fetched.position != table.position or fetched.is_rewound:
            self._learn(fetched)
        entry = fetched.entries[0]
        if entry is None:
            plan: Serve | Forward = _ABSENT
        else:  # nothing is owed, so the table alone says what is current
            is_current = table.is_current(key, entry)
            plan = plan_lookup(
                entry,
                is_current=is_current,
                now_s=self.clock.now_s(),
                may_be_stale=may_be_stale,
            )
        return self._found(span, plan, entry, layer, began_s, key=key)

    def _begin_get(self, layer: Layer, model: str, verb: str) -> OpenOperation:
        span = self.observer.begin(_GET, layer, model=model, verb=verb)
        if not span.is_watched:  # nor will others be for a while, if the observer says so
            self._unseen = span
            self._quiet_until_s = getattr(self.observer, "quiet_until_s", -math.inf)
        return span

    def _failed(
        self, span: OpenOperation, error: BaseException, layer: Layer, began_s: float
    ) -> Lookup:
        span.finish(LookupFinished(Outcome.ERROR, self.coordinator.name))
        if not isinstance(error, Exception):
            raise error
        took_s = perf_counter() - began_s
        self.recorder.backend_failed("get", error)
        self.recorder.looked_up(layer, self.coordinator.name, Outcome.ERROR, took_s)
        # A third party's coordinator must not fail a request either, whatever it raises.
        return Lookup(_ABSENT, Outcome.ERROR, self.table.position, span.traceparent)

    def _found(
        self,
        span: OpenOperation,
        plan: Serve | Forward,
        entry: Entry | None,
        layer: Layer,
        began_s: float,
        *,
        key: CacheKey,
    ) -> Lookup:
        recorder = self.recorder
        if isinstance(plan, Serve):
            outcome = _STALE if plan.is_stale else _HIT
            recorder.found(layer, self.coordinator, plan, perf_counter() - began_s)
        else:
            outcome = _MISS
            recorder.missed(layer, plan.reason)
            recorder.looked_up(layer, "none", _MISS, perf_counter() - began_s)
        if not span.is_watched:
            return Lookup(plan, outcome, self.table.position, "", entry)
        key_hash = told_hash(key, self.settings.secret)
        span.finish(lookup_finished(plan, self.coordinator.name, key_hash, recorder.prices))
        return Lookup(plan, outcome, self.table.position, span.traceparent, entry)

    async def read(self, keys: Sequence[CacheKey]) -> Fetched:
        """Fetch entries, and take in what the log has brought.

        Raises:
            CoordinatorError: They could not be read.
        """
        fetched = await self.coordinator.fetch(keys, self.table.position)
        self._learn(fetched)
        if self._owed.rows:
            await self._owed.pay()
        return fetched

    async def sync(self) -> Position:
        """Read the log's tail, and say how far it is known now. Failing to is no error here."""
        with suppress(Exception):  # as in lookup
            await self.catch_up()
        return self.table.position

    async def catch_up(self) -> None:
        """Read the log's tail; raises what the coordinator raises."""
        self._learn(await self.coordinator.fetch((), self.table.position))

    async def peek(self, keys: Sequence[CacheKey]) -> list[Entry | None]:
        """Return fresh, current entries without counting or tracing; None also when that fails."""
        try:
            fetched = await self.coordinator.fetch(keys, self.table.position)
        except Exception:  # noqa: BLE001 - as in lookup
            return [None] * len(keys)
        self._learn(fetched)
        plans = map(self.judge, keys, fetched.entries)
        return [plan.entry if isinstance(plan, Serve) else None for plan in plans]

    async def inspect(self, keys: Sequence[CacheKey]) -> Sequence[Entry | None]:
        """Return what is stored, useful or not, without counting or tracing.

        Raises:
            Exception: Whatever the coordinator raised.
        """
        fetched = await self.coordinator.fetch(keys, self.table.position)
        self._learn(fetched)
        return fetched.entries

    async def invalidate(self, rows: Sequence[InvalidationRow]) -> AppendReceipt:
        """Append to the invalidation log and take it in.

        Raises:
            CoordinatorError: It could not be recorded. It has taken effect in this process, and
                recording it is tried again until that succeeds.
        """
        kind = rows[0].scope.partition(":")[0]  # the rest may name a tenant: not for spans
        span = self.observer.begin(Operation.REMOVE, kind)
        self.recorder.invalidations += 1
        try:
            receipt = await self.coordinator.append(rows)
        except BaseException as error:
            self._owed.add(rows)
            if isinstance(error, Exception):  # who was called off has not seen it fail
                self.recorder.backend_failed("remove", error)
            span.finish(RemoveFinished(kind, error_name(error)))
            if isinstance(error, CoordinatorError) or not isinstance(error, Exception):
                raise
            raise CoordinatorError(f"the invalidation of {kind} could not be recorded") from error
        span.finish(RemoveFinished(kind))
        if await self.sync() < receipt.position:  # recorded, but not to be read now
            self._owed.add(rows)
        return receipt

    def stats(self) -> CacheStats:
        """All counters, frozen."""
        return self.recorder.snapshot(self.coordinator.stats())

    async def _open(self, loop: asyncio.AbstractEventLoop) -> None:
        if self._loop is not loop:
            self._loop = loop
            self._opening = asyncio.Lock()
            self._open_again_s = -math.inf
            # Tasks of a loop that is gone will never finish.
            self.background = Background(is_eager=not self.coordinator.is_shared)
            self.live = Flights()
            if self.fleet is not None:
                self.fleet.begin()
            self._owed.start()
        async with self._opening:
            if self._opened_in is loop or self.clock.monotonic_s() < self._open_again_s:
                return
            try:
                await self.coordinator.open()
            except ConfigurationError:
                raise
            except Exception as error:  # noqa: BLE001 - as in lookup
                if self._open_again_s == -math.inf:  # the first time
                    name = self.coordinator.name
                    _logger.warning(
                        "coordinator %s could not be opened: %s", name, error_name(error)
                    )
                self._open_again_s = self.clock.monotonic_s() + RETRY_S
            else:
                self._opened_in = loop
                if self.companion is not None:
                    self.companion.opened()

    def _learn(self, fetched: Fetched) -> None:
        table = self.table
        if fetched.position == table.position and not fetched.is_rewound:
            return  # nothing new: nearly always
        if fetched.is_rewound:
            # Others may have read further while this was on its way, and what they have read must
            # not be lost: forward only.
            table.rewind(max(fetched.position, table.position))
        if fetched.rows:
            table.fold(fetched.rows)
        table.advance(fetched.position)

    async def _record(self, rows: Sequence[InvalidationRow]) -> bool:
        """Record what was owed; it is settled when it was read back."""
        try:
            receipt = await self.coordinator.append(rows)
        except Exception:  # noqa: BLE001 - as in lookup
            return False
        return await self.sync() >= receipt.position
