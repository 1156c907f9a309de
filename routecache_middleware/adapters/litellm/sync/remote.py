"""The lane to a networked coordinator: a cache of the same URL in the event loop of one thread."""

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

from routecache_middleware.adapters.litellm.sync.asking import (
    checked,
    failed,
    is_current_since,
    judge,
    look_up,
    look_up_now,
)
from routecache_middleware.adapters.litellm.sync.loop_thread import LoopThread
from routecache_middleware.adapters.litellm.sync.query import Query
from routecache_middleware.core.budget import open_budget
from routecache_middleware.core.keys import CacheKey
from routecache_middleware.core.models import START, Entry, Outcome, Position, Scope
from routecache_middleware.core.plan import Forward, Serve
from routecache_middleware.engine.engine import Engine
from routecache_middleware.engine.leases import Placing
from routecache_middleware.engine.lookup import Lookup
from routecache_middleware.wiring.cache import RouteCache

__all__ = ["Remote"]

_OPEN_TIMEOUT_S = 1.0
# For a thread to be scheduled, there and back, on top of what the coordinator is given.
_MARGIN_S = 0.1


class Remote:
    """A :class:`.lanes.Lane`; its thread starts with the first lookup."""

    _cache: RouteCache | None
    _has_answered: bool
    _under_way: set[Future[Any]]

    def __init__(self, main: Engine, url: str) -> None:
        self._main = main
        self._url = url
        self._begin()

    def lookup(self, query: Query) -> Lookup:
        """Look a key up, waiting no longer than a request may."""
        cache = self._started()
        timeout_s = self._main.settings.coordinator_timeout_s
        if not self._has_answered:  # connecting takes longer than asking
            timeout_s = max(timeout_s, _OPEN_TIMEOUT_S)
        if self._thread.is_here():
            return failed(cache.engine)
        asked = self._thread.submit(_open_and_look_up(cache.engine, query, timeout_s))
        try:
            found = asked.result(timeout_s + _MARGIN_S)
        except TimeoutError:
            asked.cancel()
            found = failed(cache.engine)
        self._has_answered = self._has_answered or found.outcome is not Outcome.ERROR
        return checked(self._main, query.key, found)

    def put(self, key: CacheKey, entry: Entry, then: Callable[[Placing], None]) -> None:
        """Store an entry, some time soon."""
        cache = self._started()
        putting = self._thread.submit(cache.engine.put(key, entry))
        self._under_way.add(putting)

        def finish(done: Future[Placing]) -> None:
            self._under_way.discard(done)
            is_lost = done.cancelled() or done.exception() is not None
            then(Placing.FAILED if is_lost else done.result())

        putting.add_done_callback(finish)

    def is_current_since(self, key: CacheKey, scopes: tuple[Scope, ...], since: Position) -> bool:
        """Whether nothing was invalidated since, as far as is known here."""
        cache = self._started()
        return is_current_since((cache.engine, self._main), key, scopes, since)

    def judge(self, query: Query, entry: Entry) -> Serve | Forward:
        """Judge an entry, knowing what the thread has read of the log."""
        cache = self._started()
        return judge(cache.engine, self._main, query, entry)

    def position(self) -> Position:
        """How far the log has been read here; not at all before the first lookup."""
        cache = self._cache
        return START if cache is None else cache.engine.table.position

    def close(self) -> None:
        """Wait for writes, close the connections and end the thread."""
        with self._lock:
            cache, self._cache = self._cache, None
        if cache is None:
            return
        limit_s = self._main.settings.drain_timeout_s
        try:
            self._thread.submit(_drain(cache, set(self._under_way), limit_s)).result(
                2 * limit_s + 1
            )
        except TimeoutError:
            pass  # it is a daemon's: it ends with the process
        finally:
            self._thread.stop()

    def before_fork(self) -> None:
        """Nothing is locked: what threads hold here is of no use to a child."""

    def after_fork(self) -> None:
        """Go on."""

    def begin_in_child(self) -> None:
        """Begin anew: the thread has stayed behind, and the connections are the parent's."""
        self._begin()

    def _begin(self) -> None:
        self._lock = threading.Lock()
        self._thread = LoopThread("routecache-litellm-sync")
        self._cache = None
        self._has_answered = False
        self._under_way = set()

    def _started(self) -> RouteCache:
        with self._lock:
            if self._cache is not None:
                return self._cache
            main = self._main
            self._cache = RouteCache(
                url=self._url,
                settings=main.settings,
                policy=main.policy,
                observers=(main.observer,),
                clock=main.clock,
            )
            self._cache.engine.recorder = main.recorder
            return self._cache


async def _open_and_look_up(engine: Engine, query: Query, timeout_s: float) -> Lookup:
    with open_budget(timeout_s):
        await engine.ensure_open()
        return look_up_now(engine, query) or await look_up(engine, query)


async def _drain(cache: RouteCache, under_way: set[Future[Any]], limit_s: float) -> None:
    waiting = [asyncio.wrap_future(one) for one in under_way]
    if waiting:
        await asyncio.wait(waiting, timeout=limit_s)
    await cache.aclose()
