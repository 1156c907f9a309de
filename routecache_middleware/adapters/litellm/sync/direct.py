"""The lane to ``memory`` and ``lmdb``: coroutines that never suspend, run under a lock."""

import threading
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any, TypeVar

from routecache_middleware.adapters.litellm.sync.asking import (
    checked,
    failed,
    is_current_since,
    judge,
    look_up,
    look_up_now,
)
from routecache_middleware.adapters.litellm.sync.loop_thread import run_aside
from routecache_middleware.adapters.litellm.sync.query import Query
from routecache_middleware.core.budget import open_budget
from routecache_middleware.core.keys import CacheKey
from routecache_middleware.core.models import Entry, Outcome, Position, Scope
from routecache_middleware.core.plan import Forward, Serve
from routecache_middleware.engine.engine import Engine
from routecache_middleware.engine.leases import Placing
from routecache_middleware.engine.lookup import Lookup
from routecache_middleware.engine.owed import RETRY_S
from routecache_middleware.errors import RouteCacheError

__all__ = ["Direct"]

T = TypeVar("T")

_OPEN_TIMEOUT_S = 1.0


class Direct:
    """A :class:`.lanes.Lane` without a thread; nothing here waits, but for a file to open."""

    def __init__(self, main: Engine) -> None:
        self._main = main
        self._lock = threading.RLock()
        self._engine = Engine(
            main.coordinator,
            main.settings,
            main.policy,
            main.clock,
            main.observer,
            owns_coordinator=False,
        )
        self._engine.recorder = main.recorder
        self._is_open = not main.coordinator.is_shared
        self._open_again_s = float("-inf")
        self._is_held = False

    def lookup(self, query: Query) -> Lookup:
        """Look a key up."""
        engine = self._engine
        with self._lock:
            if not self._is_open:
                self._open()
            found = look_up_now(engine, query) or self._lookup(query)
            if found.outcome is Outcome.ERROR and engine.coordinator.is_shared:
                self._is_open = False  # it may have been closed: by the cache, with its loop
        return checked(self._main, query.key, found)

    def put(self, key: CacheKey, entry: Entry, then: Callable[[Placing], None]) -> None:
        """Store an entry."""
        placing = Placing.FAILED
        try:
            with self._lock:
                placing = _run(self._engine.put(key, entry))
        finally:
            then(placing)

    def is_current_since(self, key: CacheKey, scopes: tuple[Scope, ...], since: Position) -> bool:
        """Whether nothing was invalidated since."""
        with self._lock:
            return is_current_since((self._engine, self._main), key, scopes, since)

    def judge(self, query: Query, entry: Entry) -> Serve | Forward:
        """Judge an entry, knowing all that is in the log now."""
        with self._lock, suppress(_SuspendedError):
            _run(self._engine.sync())
        return judge(self._engine, self._main, query, entry)

    def position(self) -> Position:
        """How far the log has been read here."""
        return self._engine.table.position

    def close(self) -> None:
        """Nothing is under way here, and the coordinator is the cache's."""

    def before_fork(self) -> None:
        """Let no thread be inside ``memory``: nothing frees its locks in a child.

        LMDB sees to that itself. It locks its file before this is called, and who holds our lock
        may be waiting for that.
        """
        self._is_held = not self._main.coordinator.is_shared and self._lock.acquire(timeout=1.0)

    def after_fork(self) -> None:
        """Go on."""
        if self._is_held:
            self._is_held = False
            self._lock.release()

    def begin_in_child(self) -> None:
        """Go on; the lock that is held counts the parent's threads."""
        self._is_held = False
        self._lock = threading.RLock()

    def _lookup(self, query: Query) -> Lookup:
        try:
            return _run(look_up(self._engine, query))
        except _SuspendedError:  # the file has to be opened again: that needs a loop
            return self._aside(_within(look_up(self._engine, query), self._main)) or failed(
                self._engine
            )

    def _open(self) -> None:
        now_s = self._main.clock.monotonic_s()
        if now_s >= self._open_again_s:
            self._open_again_s = now_s + RETRY_S
            opened = self._aside(_done(self._main.coordinator.open()))
            self._is_open = opened is not None

    def _aside(self, coroutine: Coroutine[Any, Any, T]) -> T | None:
        try:
            return run_aside(coroutine, _OPEN_TIMEOUT_S)
        except (RouteCacheError, TimeoutError):
            return None


class _SuspendedError(Exception):
    """A coroutine that was run by hand would have had to wait."""


def _run(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine that does not wait for anything."""
    try:
        coroutine.send(None)
    except StopIteration as stop:
        result: T = stop.value
        return result
    coroutine.close()
    raise _SuspendedError


async def _within(coroutine: Coroutine[Any, Any, T], main: Engine) -> T:
    with open_budget(main.settings.coordinator_timeout_s):
        return await coroutine


async def _done(coroutine: Coroutine[Any, Any, None]) -> bool:
    await coroutine
    return True
