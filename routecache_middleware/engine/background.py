"""Work that outlives the request that caused it, drained at shutdown."""

import asyncio
import logging
from collections.abc import Coroutine

from routecache_middleware.core.budget import unbudgeted
from routecache_middleware.engine.eager import start_eagerly
from routecache_middleware.engine.faults import fault

__all__ = ["Background"]

_logger = logging.getLogger("routecache")

_FRAMES = 6


class Background:
    """Tasks of one event loop. Strong references are kept; the loop itself keeps only weak ones."""

    __slots__ = ("_has_failed", "_is_eager", "_tasks")

    def __init__(self, *, is_eager: bool = True) -> None:
        """Make an empty set.

        Args:
            is_eager: Start work inline, in the caller's task. Not for what may use
                ``asyncio.timeout``, which would be tied to that task and cancel it.
        """
        self._is_eager = is_eager
        self._tasks: set[asyncio.Task[None]] = set()
        self._has_failed = False

    def run(self, coroutine: Coroutine[object, object, None], *, is_urgent: bool = True) -> None:
        """Run ``coroutine``, inline as far as it goes without waiting. Its errors are logged.

        ``is_urgent=False``: not before the caller waits for something.
        """
        try:
            task = (
                start_eagerly(coroutine)
                if self._is_eager and is_urgent
                else asyncio.create_task(coroutine, context=unbudgeted())
            )
        except Exception as error:  # noqa: BLE001 - no request may fail for it
            self._failed(error)
            return
        if task is not None:
            self._tasks.add(task)
            task.add_done_callback(self._finished)

    async def drain(self, timeout_s: float) -> None:
        """Wait for what is under way, then cancel what is left."""
        if not self._tasks:
            return
        _, late = await asyncio.wait(set(self._tasks), timeout=timeout_s)
        for task in late:
            task.cancel()
        if late:
            await asyncio.wait(late)

    def _finished(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._failed(error)

    def _failed(self, error: BaseException) -> None:
        if not self._has_failed:  # the same fault would come with every request
            self._has_failed = True
            why = fault(error, frames=_FRAMES)  # its text may quote a request
            _logger.error("background work failed with %s; logged only once", why)
