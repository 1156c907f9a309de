"""Reads of one thing that are wanted at the same time: one runs, and one more serves the rest.

When a popular answer is not there (any more), everybody asks for it at once. A read that began
before a caller came may miss what was acknowledged before it came; a read that begins later serves
all who wait. So a herd of any size costs two reads, one after the other, and not a connection each.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

__all__ = ["JoinedReads"]

K = TypeVar("K")
T = TypeVar("T")


class JoinedReads(Generic[K, T]):
    """The reads under way in one event loop, by what is read."""

    def __init__(self, read: Callable[[K], Awaitable[T]]) -> None:
        """``read`` reads one thing."""
        self._read = read
        self._running: dict[K, asyncio.Future[None]] = {}
        self._next: dict[K, asyncio.Task[T]] = {}

    async def read(self, key: K) -> T:
        """Return what a read brings that begins now or later; raises what it raises."""
        running = self._running.get(key)
        if running is None:
            return await self._run(key)
        following = self._next.get(key)
        if following is None:
            following = asyncio.get_running_loop().create_task(self._follow(key, running))
            following.add_done_callback(_retrieve)
            self._next[key] = following
        return await asyncio.shield(following)

    async def _follow(self, key: K, running: asyncio.Future[None]) -> T:
        await running
        del self._next[key]  # before the read begins: who comes from now on is too late for it
        return await self._run(key)

    async def _run(self, key: K) -> T:
        ended = self._running[key] = asyncio.get_running_loop().create_future()
        try:
            return await self._read(key)
        finally:
            if self._running.get(key) is ended:
                del self._running[key]
            ended.set_result(None)


def _retrieve(task: asyncio.Task[T]) -> None:
    if not task.cancelled():
        task.exception()
