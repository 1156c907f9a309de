"""A flight before take-off: its first request is still asking the other processes.

Only then is it known who makes the answer. Whoever joins meanwhile waits for what comes of it.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from routecache_middleware.adapters.asgi.leader import Leader
from routecache_middleware.adapters.asgi.types import Receive
from routecache_middleware.core.models import Position
from routecache_middleware.core.plan import Serve
from routecache_middleware.engine.live import ReaderLeftError

__all__ = ["Boarding", "Landed", "unless_gone"]

T = TypeVar("T")

Landed = Leader | Serve | None
"""The leader to follow now, an answer that another process has made, or nothing: try again."""


class Boarding:
    """A flight that others may join before it is known who leads it.

    Attributes:
        position: Captured position of the request that began it.
        landed: What came of it.
    """

    __slots__ = ("landed", "position")

    def __init__(self, position: Position) -> None:
        self.position = position
        self.landed: asyncio.Future[Landed] = asyncio.get_running_loop().create_future()


async def unless_gone(
    receive: Receive, wanted: Awaitable[T], give_back: Callable[[T], None] | None = None
) -> T:
    """Wait for ``wanted``, but no longer than this request's client does.

    Args:
        receive: The request's.
        wanted: What to wait for; cancelled when it is no longer wanted.
        give_back: Called with a result that came just when the client left.

    Raises:
        ReaderLeftError: The client left first.
    """
    waiting = asyncio.ensure_future(wanted)
    watch = asyncio.ensure_future(_disconnected(receive))
    is_wanted = False
    try:
        await asyncio.wait((waiting, watch), return_when=asyncio.FIRST_COMPLETED)
        is_wanted = not watch.done() or watch.exception() is not None
        if not is_wanted:
            raise ReaderLeftError
        return await waiting
    except asyncio.CancelledError:
        is_wanted = False
        raise
    finally:
        for task in (waiting, watch):
            task.cancel()
        await asyncio.gather(waiting, watch, return_exceptions=True)
        if give_back is not None and not is_wanted and not waiting.cancelled():
            give_back(waiting.result())


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
