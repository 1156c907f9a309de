"""Who waits in this process for a key that another process fills, and what wakes them.

One listener hears what the coordinator tells, and only while somebody waits. Events are hints: who
waits also asks again by itself now and then, so that a lost event costs time and nothing else.
"""

import asyncio
import contextvars
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator
from contextlib import aclosing, contextmanager, suppress
from typing import cast

from routecache_middleware.core.keys import CacheKey
from routecache_middleware.core.ports import (
    Coordinator,
    CoordinatorEvent,
    Filled,
    Gap,
    Invalidated,
    Released,
)

__all__ = ["WakeUp", "WakeUps"]


class WakeUp:
    """One waiter's alarm. What rings before :meth:`wait` is not lost."""

    __slots__ = ("_rang",)

    def __init__(self) -> None:
        self._rang = asyncio.Event()

    def ring(self) -> None:
        """Wake the waiter, now or as soon as it waits."""
        self._rang.set()

    async def wait(self, timeout_s: float) -> None:
        """Wait until it rings, for at most ``timeout_s`` seconds."""
        timer = asyncio.get_running_loop().call_later(timeout_s, self._rang.set)
        try:
            await self._rang.wait()
        finally:
            timer.cancel()
            self._rang.clear()


class WakeUps:
    """The waiters of one event loop, by the key that they wait for."""

    __slots__ = ("_catch_up", "_coordinator", "_ending", "_listening", "_waiting")

    def __init__(self, coordinator: Coordinator, catch_up: Callable[[], Awaitable[object]]) -> None:
        """Wait for nothing yet.

        Args:
            coordinator: Whose events are heard.
            catch_up: Reads the invalidation log's tail; what raises in it is ignored.
        """
        self._coordinator = coordinator
        self._catch_up = catch_up
        self._waiting: dict[CacheKey, list[WakeUp]] = {}
        self._listening: asyncio.Task[None] | None = None
        self._ending: set[asyncio.Task[None]] = set()  # the loop itself keeps only weak references

    def __len__(self) -> int:
        return sum(map(len, self._waiting.values()))

    @contextmanager
    def expect(self, key: CacheKey) -> Iterator[WakeUp]:
        """Be told of ``key`` as long as the context lasts."""
        wake_up = WakeUp()
        self._waiting.setdefault(key, []).append(wake_up)
        self._listen()
        try:
            yield wake_up
        finally:
            waiting = self._waiting[key]
            waiting.remove(wake_up)
            if not waiting:
                del self._waiting[key]
            if not self._waiting:
                self._stop()

    async def aclose(self) -> None:
        """Stop listening."""
        self._stop()
        if self._ending:
            await asyncio.wait(self._ending)

    def _listen(self) -> None:
        if self._listening is None or self._listening.done():
            # In an empty context: it belongs to no request.
            self._listening = asyncio.get_running_loop().create_task(
                self._hear(), context=contextvars.Context()
            )

    def _stop(self) -> None:
        listening, self._listening = self._listening, None
        if listening is not None:
            listening.cancel()
            self._ending.add(listening)
            listening.add_done_callback(self._ending.discard)

    async def _hear(self) -> None:
        with suppress(Exception):  # a fault of the coordinator's; the waiters go on asking
            events = self._coordinator.events()
            async with aclosing(cast("AsyncGenerator[CoordinatorEvent, None]", events)):
                async for event in events:
                    await self._told(event)

    async def _told(self, event: CoordinatorEvent) -> None:
        if isinstance(event, Filled | Released):
            waiting = self._waiting.get(event.key, ())
        else:
            assert isinstance(event, Invalidated | Gap)  # noqa: S101 - for type checkers: a closed union
            # What they wait for may be void by now; learn that once for all of them.
            with suppress(Exception):
                await self._catch_up()
            waiting = [wake_up for each in self._waiting.values() for wake_up in each]
        for wake_up in waiting:
            wake_up.ring()
