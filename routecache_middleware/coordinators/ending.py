"""How tasks of ours are ended: never left behind, whatever happens to whoever started them."""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

__all__ = ["end", "together"]

T = TypeVar("T")

_AGAIN_S = 0.05


async def end(task: asyncio.Task[Any] | None) -> None:
    """Cancel a task until it ends; None is fine.

    Once is not enough: ``asyncio.wait_for`` of Python 3.11, which the driver writes with, swallows
    a cancellation that arrives together with its result.
    """
    while task is not None and not task.done():
        task.cancel()
        await asyncio.wait((task,), timeout=_AGAIN_S)
    if task is not None and not task.cancelled():
        task.exception()  # looked at, so that nobody is warned of it


async def together(*works: Coroutine[Any, Any, T]) -> list[T]:
    """Run coroutines side by side and return their results, or raise what the first one raised.

    Unlike with ``asyncio.gather`` none of them goes on after that, with a client that was closed.
    """
    loop = asyncio.get_running_loop()
    tasks = [loop.create_task(work) for work in works]
    try:
        await asyncio.wait(tasks)
    finally:
        for task in tasks:
            await end(task)
        errors = [task.exception() for task in tasks if not task.cancelled()]
    for error in errors:
        if error is not None:
            raise error
    return [task.result() for task in tasks]
