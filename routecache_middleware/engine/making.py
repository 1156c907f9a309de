"""One caller on its way to a value, after it found none: makes and stores it, or shares it."""

from collections.abc import Awaitable
from time import perf_counter
from typing import Generic, TypeVar

from routecache_middleware.core.budget import current_budget
from routecache_middleware.core.events import Finished, Operation, WaitFinished
from routecache_middleware.core.keys import Layer
from routecache_middleware.core.models import Entry, Outcome, Position, Scope
from routecache_middleware.core.plan import Forward
from routecache_middleware.core.ports import OpenOperation
from routecache_middleware.core.records import Provenance, scopes_of
from routecache_middleware.engine.claims import Claim, Joined, Led, Served, Terms, Why, how_waited
from routecache_middleware.engine.engine import Engine
from routecache_middleware.engine.fleet import Fleet
from routecache_middleware.engine.leases import (
    UNSHAREABLE_S,
    Lease,
    after_failure_s,
    after_placing_s,
)
from routecache_middleware.engine.lookup import Lookup
from routecache_middleware.engine.reading import read_out
from routecache_middleware.engine.recorder import Recorder, Waited
from routecache_middleware.engine.wanted import Wanted

__all__ = ["Making", "has_fallback"]

T = TypeVar("T")


def has_fallback(lookup: Lookup | None) -> bool:
    """Whether something stale is there to be served should the value not be made."""
    plan = None if lookup is None else lookup.plan
    return isinstance(plan, Forward) and plan.fallback is not None


class _Waiting:
    """A wait that is measured besides."""

    __slots__ = ("_began_s", "_layer", "_opened", "_recorder")

    def __init__(self, opened: OpenOperation, recorder: Recorder, layer: Layer) -> None:
        self._opened = opened
        self._recorder = recorder
        self._layer = layer
        self._began_s = perf_counter()

    @property
    def traceparent(self) -> str:
        return self._opened.traceparent

    @property
    def is_watched(self) -> bool:
        return self._opened.is_watched

    def finish(self, record: Finished) -> None:
        is_shared = isinstance(record, WaitFinished) and record.outcome is Outcome.COALESCED
        how = Waited.SHARED if is_shared else Waited.LEADER_FAILED
        self._recorder.waited(self._layer, how, perf_counter() - self._began_s)
        self._opened.finish(record)


class Making(Generic[T]):
    """A :class:`.single_flight.Caller` for what somebody wants.

    Attributes:
        entry: What was found after all, because another process has made it.
        outcome: How this caller's lookup ended.
        position: The captured position.
        traceparent: The lookup's span.
    """

    __slots__ = (
        "_engine",
        "_has_fallback",
        "_is_refresh",
        "_late",
        "_lease",
        "_seen",
        "_wanted",
        "entry",
        "outcome",
        "position",
        "traceparent",
    )

    def __init__(
        self,
        engine: Engine,
        wanted: Wanted[T],
        position: Position,
        lookup: Lookup | None = None,
        *,
        is_refresh: bool = False,
    ) -> None:
        """Begin.

        Args:
            engine: The engine.
            wanted: What is wanted.
            position: The captured position.
            lookup: What was found instead, if something was looked for.
            is_refresh: Nobody waits for it: what is there was served, and is stale.
        """
        is_error = lookup is not None and lookup.outcome is Outcome.ERROR
        self._engine = engine
        self._wanted = wanted
        self._is_refresh = is_refresh
        self._has_fallback = has_fallback(lookup)
        self._lease: Lease | None = None
        self._late: Claim | None = None  # it waited too long for somebody else
        self.entry: Entry | None = None
        self._seen = None if lookup is None else lookup.entry
        self.position = position
        self.outcome = Outcome.ERROR if is_error else Outcome.MISS
        self.traceparent = "" if lookup is None else lookup.traceparent

    def lead(self, *, is_promoted: bool) -> Awaitable[T]:
        """Make the value for all who want it, or get it from another process."""
        fleet, engine, wanted = self._engine.fleet, self._engine, self._wanted
        may_fill = wanted.store and engine.may_write(wanted.layer)
        if fleet is None or not may_fill or self.outcome is Outcome.ERROR:
            return self.make()
        return self._lead(fleet, is_promoted=is_promoted)

    async def make(self) -> T:
        """Make the value and store it."""
        engine, wanted = self._engine, self._wanted
        if not self._has_fallback:
            self._count(self.outcome)
        value = await wanted.make()
        if self._has_fallback:  # otherwise it is not known before whether it will be served stale
            self._count(self.outcome)
        if wanted.store and engine.may_write(wanted.layer):
            if engine.coordinator.is_shared:
                await self._store(value)
            else:
                entry = self._entry(value)
                if entry is not None:
                    await engine.put(wanted.key, entry)
        elif self._lease is not None:  # the mode has changed meanwhile
            self._lease.give_back()
        return value

    def read(self, entry: Entry) -> T | None:
        """Take the value out of an entry that another caller has found, if it will do here."""
        plan = self._engine.judge(self._wanted.key, entry, tags=self._wanted.tags)
        return read_out(plan, self._wanted.read)

    def may_join(self, position: Position) -> bool:
        """Whether a flight that was captured at ``position`` will do."""
        return self._is_current_since(position, self._wanted.models(None))

    def may_share(self, value: T, position: Position) -> bool:
        """Whether the value of such a flight will do."""
        # Only now is it known which model a decision has selected.
        return self._is_current_since(position, self._wanted.models(value))

    def begin_waiting(self) -> OpenOperation:
        """Tell that the caller waits for somebody else in this process."""
        return _Waiting(self._begin_waiting(), self._engine.recorder, self._wanted.layer)

    def _begin_waiting(self) -> OpenOperation:
        return self._engine.observer.begin(Operation.WAIT, self._wanted.layer)

    async def _lead(self, fleet: Fleet, *, is_promoted: bool) -> T:
        engine, wanted = self._engine, self._wanted
        claim = fleet.claim(
            Terms(
                key=wanted.key,
                form="",
                scopes=self._scopes(wanted.models(None)),
                max_wait_s=engine.settings.max_wait_s,
                tags=wanted.tags,
                is_promoted=is_promoted,
                seen=self._seen,
            )
        )
        while True:
            joined = await claim.ask() or await self._wait(claim)
            if not isinstance(joined, Served):
                break
            value = read_out(joined.plan, wanted.read)
            if value is not None:
                return self._found(value, joined.plan.entry, has_waited=claim.has_waited)
            claim.seen = joined.plan.entry
        self.position = joined.position
        if isinstance(joined, Led):
            return await self._make_under(joined.lease)
        self._late = claim if joined.why is Why.WAITED_TOO_LONG else None
        return await self.make()

    async def _wait(self, claim: Claim) -> Joined:
        waiting = self._begin_waiting()
        joined: Joined | None = None
        began_s = perf_counter()
        try:
            joined = await claim.wait()
        finally:
            took_s = perf_counter() - began_s
            self._engine.recorder.waited(self._wanted.layer, how_waited(joined), took_s)
            if isinstance(joined, Served):
                waiting.finish(WaitFinished(Outcome.COALESCED, joined.plan.entry.origin))
            else:
                waiting.finish(WaitFinished(Outcome.ERROR))
        return joined

    def _found(self, value: T, entry: Entry, *, has_waited: bool) -> T:
        self.entry, self.position = entry, entry.position
        self.outcome = Outcome.COALESCED if has_waited else Outcome.HIT
        self._count(self.outcome)
        return self._wanted.mark(value, self.outcome) if has_waited else value

    def _count(self, outcome: Outcome) -> None:
        counters = self._engine.recorder.layers[self._wanted.layer]
        if self._is_refresh:
            counters.refreshes += 1
        else:
            counters.count(outcome)

    async def _make_under(self, lease: Lease) -> T:
        self._lease = lease
        try:
            return await self.make()
        except Exception:
            lease.give_back(after_failure_s(is_promoted=lease.is_promoted))
            raise
        except BaseException:
            lease.give_back()  # the caller was cancelled: no fault of what it calls
            raise

    async def _store(self, value: T) -> None:
        if current_budget() is None:
            await self._put(value)
        else:  # a request must not wait for that, nor may it be too late for what others wait for
            self._engine.background.run(self._put(value))

    async def _put(self, value: T) -> None:
        parallel_s = 0.0
        try:
            parallel_s = await self._place(value)
        finally:
            if self._lease is not None:
                self._lease.give_back(parallel_s)

    async def _place(self, value: T) -> float:
        """Store; returns for how many seconds nobody should wait for another value."""
        engine, wanted = self._engine, self._wanted
        entry = self._entry(value)
        if entry is None:
            return UNSHAREABLE_S
        if self.outcome is Outcome.ERROR:
            # The lookup has failed: a coordinator that makes callers wait is left alone.
            engine.recorder.layers[wanted.layer].write_errors += 1
            return 0.0
        if self._late is None:
            return after_placing_s(await engine.put(wanted.key, entry, lease=self._lease))
        self._lease = await self._late.take_if_free(self.position)
        if self._lease is None:  # somebody else is still making it, or has made it
            engine.recorder.layers[wanted.layer].discards += 1
            return 0.0
        return after_placing_s(await engine.put(wanted.key, entry, lease=self._lease))

    def _entry(self, value: T) -> Entry | None:
        """Return what to store; None when nothing can be."""
        engine, wanted = self._engine, self._wanted
        ttl_s = engine.settings.ttl_s(wanted.layer) if wanted.ttl_s is None else wanted.ttl_s
        if ttl_s <= 0:
            return None
        revalidate_s, error_s = engine.settings.stale_windows_s(wanted.layer)
        made = Provenance(
            now_s=engine.clock.now_s(),
            ttl_s=ttl_s,
            position=self.position,
            tenant=wanted.tenant,
            tags=wanted.tags,
            origin=self.traceparent,
            stale_while_revalidate_s=revalidate_s,
            stale_if_error_s=error_s,
        )
        try:
            return wanted.write(value, made)
        except (TypeError, ValueError):  # something in it cannot be written down: still an answer
            engine.recorder.layers[wanted.layer].write_errors += 1
            return None

    def _is_current_since(self, position: Position, models: tuple[str, ...]) -> bool:
        scopes = self._scopes(models)
        return self._engine.is_current_since(self._wanted.key, scopes, position)

    def _scopes(self, models: tuple[str, ...]) -> tuple[Scope, ...]:
        return scopes_of(self._wanted.tenant, models, self._wanted.tags)
