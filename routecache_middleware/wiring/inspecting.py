"""Looking at what is stored without using it: bounded in time, never failing, never counted."""

import asyncio
from collections.abc import Coroutine, Sequence
from typing import Any, TypeVar

from routecache_middleware.core.explanation import (
    StoredAnswer,
    StoredDecision,
    shown,
    state_of,
)
from routecache_middleware.core.freshness import age_s
from routecache_middleware.core.keys import CacheKey
from routecache_middleware.core.models import Entry, RoutingDecision
from routecache_middleware.core.plan import Serve, plan_lookup
from routecache_middleware.core.records import read_decision
from routecache_middleware.engine.engine import Engine
from routecache_middleware.errors import ConfigurationError, CorruptEntryError

__all__ = ["Inspector"]

T = TypeVar("T")

_OPEN_S = 1.0  # connecting takes longer than a lookup, and happens once


class Inspector:
    """Reads for one explanation. After the first failure nothing more is asked.

    Attributes:
        trouble: What kept it from reading, or empty.
    """

    __slots__ = ("_engine", "trouble")

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.trouble = ""

    async def entries(self, keys: Sequence[CacheKey]) -> Sequence[Entry | None]:
        """Return what is stored, useful or not; None also for what could not be read.

        The first time in an event loop the coordinator is opened, which may take a second.

        Raises:
            ConfigurationError: It cannot work as it is configured.
        """
        nothing: list[Entry | None] = [None] * len(keys)
        if not self.trouble and not self._engine.is_open():
            await self._within(_OPEN_S, self._engine.ensure_open())
        if self.trouble:
            return nothing
        timeout_s = self._engine.settings.coordinator_timeout_s
        found = await self._within(timeout_s, self._engine.inspect(keys))
        return nothing if found is None else [*found, *nothing][: len(keys)]

    async def usable(self, keys: Sequence[CacheKey]) -> Sequence[Entry | None]:
        """Return answers that are fresh and current; None for all else."""
        found = await self.entries(keys)
        pairs = zip(keys, found, strict=True)
        return [entry if isinstance(self.plan(key, entry), Serve) else None for key, entry in pairs]

    def plan(self, key: CacheKey, entry: Entry | None, *, may_be_stale: bool = False) -> object:
        """Say whether an entry may be served to a request that asks nothing special."""
        is_current = entry is not None and self._engine.is_current(key, entry)
        now_s = self._engine.clock.now_s()
        return plan_lookup(entry, is_current=is_current, now_s=now_s, may_be_stale=may_be_stale)

    def describe(self, key: CacheKey, entry: Entry | None) -> StoredAnswer | None:
        """Describe a stored answer, if there is one."""
        if entry is None:
            return None
        is_current = self._engine.is_current(key, entry)
        return StoredAnswer.of(entry, is_current=is_current, now_s=self._engine.clock.now_s())

    def decision(self, key: CacheKey, entry: Entry | None) -> RoutingDecision | None:
        """Return a stored decision, unless it may not be used any more or cannot be read."""
        plan = self.plan(key, entry, may_be_stale=True)
        if not isinstance(plan, Serve):
            return None
        try:
            return read_decision(plan.entry, plan.age_s)
        except CorruptEntryError:
            return None

    def describe_decision(
        self, key: CacheKey, entry: Entry | None, model: str
    ) -> StoredDecision | None:
        """Describe a stored decision, if there is one that can be read; ``model``: what is used."""
        if entry is None:
            return None
        now_s = self._engine.clock.now_s()
        age = age_s(entry, now_s)
        try:
            decision = read_decision(entry, age)
        except CorruptEntryError:
            return None
        is_current = self._engine.is_current(key, entry)
        return StoredDecision(
            state=state_of(entry, is_current=is_current, now_s=now_s),
            age_s=round(age, 3),
            ttl_s=round(entry.freshness_lifetime_s - age, 3),
            selected_model=shown(decision.selected_model),
            model=shown(model),
            score=decision.score,
            strategy=shown(decision.strategy),
        )

    async def _within(self, timeout_s: float, call: Coroutine[Any, Any, T]) -> T | None:
        """Return what a call returns; None when it fails or takes too long, which is noted."""
        task = asyncio.ensure_future(call)
        name = self._engine.coordinator.name
        try:
            # Not asyncio.timeout: a coordinator that takes no notice of being cancelled would hold
            # us up all the same.
            await asyncio.wait((task,), timeout=timeout_s)
            if task.done():
                return task.result()
            self.trouble = f"the coordinator ({name}) did not answer within {timeout_s:g} s"
        except ConfigurationError:
            raise
        except Exception as error:  # noqa: BLE001 - a third party's may raise anything
            kind = type(error.__cause__ or error).__name__
            self.trouble = f"the coordinator ({name}) failed with {kind}"
        finally:
            if not task.done():
                task.add_done_callback(_retrieve)
                task.cancel()
        return None


def _retrieve(task: "asyncio.Task[Any]") -> None:
    if not task.cancelled():
        task.exception()
