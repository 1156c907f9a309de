"""Run a coroutine now, and in a task only from where it first has to wait.

Most of what we await never waits: a send on an uncongested connection, a write to memory. A task
for each would cost a turn of the event loop (15-30 µs); a plain ``await`` would tie the caller to
the ones that do wait. So the first step runs inline, and only what is left becomes a task. Python
3.12 has this as ``eager_start``; this is the same for 3.11.
"""

import asyncio
from collections.abc import Coroutine, Generator

__all__ = ["start_eagerly"]


def start_eagerly(coroutine: Coroutine[object, object, None]) -> asyncio.Task[None] | None:
    """Run ``coroutine`` up to its first wait.

    Returns:
        None when it finished; otherwise a task that finishes it.

    Raises:
        BaseException: Whatever the coroutine raised before its first wait.
    """
    try:
        waiting_for = coroutine.send(None)
    except StopIteration:
        return None
    rest = _Rest(coroutine, waiting_for)
    task = asyncio.ensure_future(_finish(rest))
    task.add_done_callback(rest.abandon)
    return task


async def _finish(rest: "_Rest") -> None:
    await rest


class _Rest:
    """What is left of a started coroutine, awaitable once."""

    __slots__ = ("_coroutine", "_is_resumed", "_waiting_for")

    def __init__(self, coroutine: Coroutine[object, object, None], waiting_for: object) -> None:
        self._coroutine = coroutine
        self._waiting_for = waiting_for
        self._is_resumed = False

    def abandon(self, _task: asyncio.Task[None]) -> None:
        """Close the coroutine if the task was cancelled before it ever ran."""
        if not self._is_resumed:
            self._coroutine.close()

    def __await__(self) -> Generator[object, object, None]:
        self._is_resumed = True
        waiting_for = self._waiting_for
        while True:
            try:
                try:
                    value = yield waiting_for
                except GeneratorExit:
                    self._coroutine.close()
                    raise
                except BaseException as error:  # noqa: BLE001 - cancellation included: it is the coroutine's to handle
                    waiting_for = self._coroutine.throw(error)
                else:
                    waiting_for = self._coroutine.send(value)
            except StopIteration:
                return
