"""What other processes do, as events: the file is looked at every few milliseconds.

There is no way to be woken by another process, so whoever listens polls. This process's own commits
wake it at once. Rows and news come from the file, whoever wrote them, so they come in one order.
"""

import asyncio
from collections.abc import AsyncIterator
from concurrent.futures import Future
from contextlib import suppress

from routecache_middleware.coordinators.lmdb import log, news
from routecache_middleware.coordinators.lmdb.layout import DamagedError
from routecache_middleware.coordinators.lmdb.pending import Job, Work
from routecache_middleware.coordinators.lmdb.registry import Shared
from routecache_middleware.core.models import START, Position
from routecache_middleware.core.ports import CoordinatorEvent, Gap, Invalidated
from routecache_middleware.errors import CoordinatorError

__all__ = ["Listener"]


class Listener:
    """One listener: how far it has heard, and what wakes it."""

    def __init__(self, shared: Shared, poll_s: float) -> None:
        self._shared = shared
        self._poll_s = poll_s
        self._loop: asyncio.AbstractEventLoop | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._position: Position = START
        self._news = 0
        self._transaction = -1
        self._generation = -1
        self._is_closed = False
        self._has_missed = False
        self._reopened: Future[None] | None = None

    async def listen(self) -> AsyncIterator[CoordinatorEvent]:
        """Yield events until :meth:`close`."""
        self._loop = asyncio.get_running_loop()
        stop = self._shared.writer.on_commit(self._ring)
        try:
            while True:
                is_closed = self._is_closed  # what was done before closing is still told
                for event in self._read():
                    yield event
                if is_closed:
                    return
                await self._wait()
        finally:
            stop()

    def close(self) -> None:
        """Let it tell what has happened so far, and end; from any thread."""
        self._is_closed = True
        self._ring()

    def _read(self) -> list[CoordinatorEvent]:
        environment = self._shared.environment
        with environment.read_lock:
            if environment.is_usable():
                with suppress(environment.driver.Error, DamagedError):
                    return self._read_new()
        self._has_missed = True
        self._reopen()
        return []

    def _reopen(self) -> None:
        if self._reopened is None or self._reopened.done():
            self._reopened = Future()
            with suppress(CoordinatorError):  # closed, or busy: the next poll comes by here again
                self._shared.writer.submit(Job(_nothing, self._reopened))

    def _read_new(self) -> list[CoordinatorEvent]:
        environment = self._shared.environment
        transaction = environment.handle.info()["last_txnid"]
        is_same_file = environment.generation == self._generation
        if transaction == self._transaction and is_same_file:
            return []
        is_first = self._generation < 0
        with environment.handle.begin() as txn:
            position = log.top(txn, environment.tables)
            if is_first:
                events: list[CoordinatorEvent] = [Gap()] if self._has_missed else []
                last = news.last_news(txn, environment.tables)
            else:
                events, last = news.news_after(txn, environment.tables, self._news)
                if self._has_missed and not is_same_file and Gap() not in events:
                    events.insert(0, Gap())
                rows = log.tail(txn, environment.tables, self._position)
                if rows:
                    events.append(Invalidated(rows))
        self._position, self._news = position, last
        self._transaction, self._generation = transaction, environment.generation
        self._has_missed = False
        return events

    async def _wait(self) -> None:
        if self._is_closed:
            return
        loop = asyncio.get_running_loop()
        waiter = self._waiter = loop.create_future()
        timer = loop.call_later(self._poll_s, self._wake)
        try:
            await waiter
        finally:
            timer.cancel()

    def _ring(self) -> None:
        if self._waiter is not None and self._loop is not None:
            with suppress(RuntimeError):  # that loop has closed, so nobody is left to wake
                self._loop.call_soon_threadsafe(self._wake)

    def _wake(self) -> None:
        waiter, self._waiter = self._waiter, None
        if waiter is not None and not waiter.done():
            waiter.set_result(None)


def _nothing(_: Work) -> None:
    """Do nothing: what counts is that the file is open afterwards."""
