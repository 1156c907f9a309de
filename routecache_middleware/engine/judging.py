"""Judging what was found: is it current, as far as this process knows, and fresh enough."""

from collections.abc import Sequence

from routecache_middleware.core.directives import NO_DIRECTIVES, Directives
from routecache_middleware.core.invalidation import InvalidationTable
from routecache_middleware.core.keys import CacheKey
from routecache_middleware.core.models import START, Entry, MissReason, Position, Scope
from routecache_middleware.core.plan import Forward, Serve, plan_lookup
from routecache_middleware.core.ports import Clock
from routecache_middleware.core.records import with_tags
from routecache_middleware.engine.owed import Owed

__all__ = ["Judge"]

_ABSENT = Forward(MissReason.ABSENT)
_INVALIDATED = Forward(MissReason.INVALIDATED)


class Judge:
    """Part of the engine: the invalidations that are known, and those still to be recorded.

    Attributes:
        clock: Time.
        table: The log as far as it was read.
    """

    def __init__(self, clock: Clock, owed: Owed) -> None:
        self.clock = clock
        self.table = InvalidationTable()
        self._owed = owed

    def is_current(self, key: CacheKey, entry: Entry) -> bool:
        """Whether nothing that covers ``entry`` was invalidated since, as far as is known here."""
        return self.table.is_current(key, entry) and (
            not self._owed.rows or self._owed.table.is_current(key, entry)
        )

    def is_current_since(self, key: CacheKey, scopes: Sequence[Scope], position: Position) -> bool:
        """Whether a flight captured at ``position`` may be joined, as far as is known here."""
        return self.table.is_current_since(key, scopes, position) and (
            not self._owed.rows or self._owed.table.is_current_since(key, scopes, position)
        )

    def latest(self, key: CacheKey, scopes: Sequence[Scope]) -> Position | None:
        """Where it was last invalidated; None when that could not be recorded yet."""
        if self._owed.rows and not self._owed.table.is_current_since(key, scopes, START):
            return None
        return self.table.latest(key, scopes)

    def judge(
        self,
        key: CacheKey,
        entry: Entry | None,
        asked: Directives = NO_DIRECTIVES,
        tags: tuple[str, ...] = (),
        *,
        may_be_stale: bool = False,
    ) -> Serve | Forward:
        """Whether an entry may be served, as far as is known here; the rest as for a lookup."""
        if entry is None:
            return _ABSENT
        is_current = self.is_current(key, with_tags(entry, tags) if tags else entry)
        now_s = self.clock.now_s()
        return plan_lookup(
            entry,
            is_current=is_current,
            now_s=now_s,
            max_age_s=asked.max_age_s,
            max_stale_s=asked.max_stale_s,
            min_fresh_s=asked.min_fresh_s,
            may_be_stale=may_be_stale,
        )

    def _judge_former(
        self, key: CacheKey, old_key: CacheKey, entry: Entry, asked: Directives
    ) -> Serve | Forward:
        if not self.is_current(old_key, entry):
            return _INVALIDATED
        return self.judge(key, entry, asked)
