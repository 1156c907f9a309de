"""Events that go on after a failure."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import suppress

from routecache_middleware.core.ports import CoordinatorEvent, Gap

__all__ = ["resume"]

_FIRST_PAUSE_S = 0.25
_MAX_PAUSE_S = 2.0


async def resume(
    listen: Callable[[], AsyncIterator[CoordinatorEvent]], closing: asyncio.Event
) -> AsyncIterator[CoordinatorEvent]:
    """Yield what ``listen()`` yields, and begin again when that fails, until ``closing`` is set.

    A :class:`Gap` comes when it fails, so that nobody goes on waiting for what may never come, and
    another one when it listens again, because of what happened in between.
    """
    source, pause_s = listen(), _FIRST_PAUSE_S
    while True:
        try:
            async for event in source:
                pause_s = _FIRST_PAUSE_S
                yield event
        except Exception:  # noqa: BLE001 - whatever it is, the log's tail can still be read
            yield Gap()
        else:
            return  # it was closed
        finally:
            await _close(source)
        with suppress(TimeoutError):
            async with asyncio.timeout(pause_s):
                await closing.wait()
                return
        pause_s = min(2 * pause_s, _MAX_PAUSE_S)
        source = _again(listen())


async def _again(source: AsyncIterator[CoordinatorEvent]) -> AsyncIterator[CoordinatorEvent]:
    """Yield a :class:`Gap` once ``source`` listens, and then what it yields."""
    first = asyncio.ensure_future(anext(source))  # listening begins with the first step
    try:
        await asyncio.sleep(0)
        yield Gap()
        yield await first
        async for event in source:
            yield event
    except StopAsyncIteration:
        return
    finally:
        first.cancel()
        await asyncio.wait((first,))
        if not first.cancelled():
            first.exception()
        await _close(source)


async def _close(source: AsyncIterator[CoordinatorEvent]) -> None:
    close = getattr(source, "aclose", None)
    if close is not None:
        await close()
