"""Who listens to a coordinator inside this process: one bounded queue per listener."""

import asyncio
import threading
from collections import deque
from collections.abc import AsyncIterator
from contextlib import suppress

from routecache_middleware.core.ports import CoordinatorEvent, Gap

__all__ = ["Subscribers"]


class Subscribers:
    """Hands every event to every listener, in order, from any thread, without ever waiting.

    A listener that falls behind loses its queue and gets a :class:`Gap` instead: it has to read the
    log's tail, and a slow listener costs neither memory nor time.
    """

    __slots__ = ("_listeners", "_lock", "_max_events")

    def __init__(self, *, max_events: int = 1024) -> None:
        """Prepare, with ``max_events`` as the length of each queue."""
        self._lock = threading.Lock()
        self._listeners: list[_Listener] = []
        self._max_events = max_events

    def __len__(self) -> int:
        return len(self._listeners)

    def publish(self, event: CoordinatorEvent) -> None:
        """Tell everybody."""
        if not self._listeners:
            return
        with self._lock:
            for listener in self._listeners:
                listener.put(event)

    async def listen(self) -> AsyncIterator[CoordinatorEvent]:
        """Yield events from the first ``__anext__`` on, until :meth:`close`."""
        listener = _Listener(self._lock, self._max_events)
        with self._lock:
            self._listeners.append(listener)
        try:
            while (event := await listener.next()) is not None:
                yield event
        finally:
            with self._lock:
                if listener in self._listeners:
                    self._listeners.remove(listener)

    def close(self) -> None:
        """Let every listener finish what is queued, and end."""
        with self._lock:
            for listener in self._listeners:
                listener.close()
            self._listeners.clear()


class _Listener:
    """One queue, bound to the event loop it was made in. ``put`` and ``close`` need the lock."""

    __slots__ = ("_events", "_is_closed", "_lock", "_loop", "_max_events", "_waiter")

    def __init__(self, lock: threading.Lock, max_events: int) -> None:
        self._events: deque[CoordinatorEvent] = deque()
        self._is_closed = False
        self._lock = lock
        self._loop = asyncio.get_running_loop()
        self._max_events = max_events
        self._waiter: asyncio.Future[None] | None = None

    def put(self, event: CoordinatorEvent) -> None:
        if len(self._events) >= self._max_events:
            self._events.clear()
            self._events.append(Gap())
        self._events.append(event)
        self._wake()

    def close(self) -> None:
        self._is_closed = True
        self._wake()

    async def next(self) -> CoordinatorEvent | None:
        while True:
            with self._lock:
                if self._events:
                    return self._events.popleft()
                if self._is_closed:
                    return None
                waiter = self._waiter = self._loop.create_future()
            await waiter

    def _wake(self) -> None:
        waiter, self._waiter = self._waiter, None
        if waiter is None:
            return
        if _running_loop() is self._loop:
            _settle(waiter)
            return
        with suppress(RuntimeError):  # that loop has closed, so nobody is left to wake
            self._loop.call_soon_threadsafe(_settle, waiter)


def _running_loop() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


def _settle(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():  # the listener may have been cancelled meanwhile
        waiter.set_result(None)
