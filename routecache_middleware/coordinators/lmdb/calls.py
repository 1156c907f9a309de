"""Waiting for the writer: no longer than the request has time for, and without the event loop."""

import asyncio
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

from routecache_middleware.coordinators.lmdb.pending import Job, Pending, Work
from routecache_middleware.coordinators.lmdb.writer import Writer
from routecache_middleware.core.budget import current_budget
from routecache_middleware.core.ports import Clock
from routecache_middleware.errors import CoordinatorError

__all__ = ["Calls"]

T = TypeVar("T")

# How long anybody waits for another process that holds LMDB's mutex. Requests have a budget, too.
_TIMEOUT_S = 1.0


class Calls:
    """Hands jobs to a writer.

    Attributes:
        done: How many.
        errors: How many of them failed.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.done = 0
        self.errors = 0

    async def run(
        self,
        writer: Writer,
        run: Callable[[Work], T],
        *,
        slot: bytes | None = None,
        incoming: Pending | None = None,
        must_run: bool = False,
        timeout_s: float = _TIMEOUT_S,
    ) -> T:
        """Let the writer do something, and return what came of it.

        Args:
            writer: Who does it.
            run: What to do.
            slot: See :class:`Job`.
            incoming: See :class:`Job`.
            must_run: It is done even if nobody has the time to wait for it, or waits any more.
            timeout_s: How long to wait where no request's budget says less.

        Raises:
            CoordinatorError: It failed, or took too long.
        """
        budget = current_budget()
        if budget is not None:
            timeout_s = min(timeout_s, budget.remaining_s)
        if timeout_s <= 0 and not must_run:
            raise CoordinatorError("the time that a request may wait for LMDB is used up")
        done: Future[T] = Future()
        begun_s = self._clock.monotonic_s()
        self.done += 1
        try:
            writer.submit(Job(run, done, slot, incoming))
            waiting = asyncio.wrap_future(done)
            async with asyncio.timeout(timeout_s):
                result = await (asyncio.shield(waiting) if must_run else waiting)
        except Exception as error:
            self.errors += 1
            if budget is not None:
                budget.fail()
            if isinstance(error, CoordinatorError):
                raise
            raise CoordinatorError(_describe(error)) from error
        if budget is not None:
            budget.spend(self._clock.monotonic_s() - begun_s)
        return result


def _describe(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return "another process holds the LMDB file's mutex"
    return f"the LMDB file could not be used ({type(error).__name__})"
