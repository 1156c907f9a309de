"""The live stream: a frame each second, as server-sent events.

A stream ends by itself after a quarter of a minute, and whoever reads it asks for another one, from
where it had come to: so a token that is withdrawn is of no more use after that, and a server that
stops has not to wait for streams without end.
"""

import asyncio
from collections.abc import AsyncIterator
from typing import Final

import msgspec

from routecache_middleware.admin.frames import Frame, Points, frame
from routecache_middleware.admin.keeper import Keeper
from routecache_middleware.wiring.cache import RouteCache

__all__ = ["Live"]

_LASTS: Final = 15
_WAIT_S: Final = 2.0
_MOST: Final = 32


class Live:
    """Makes frames, and streams of them.

    Attributes:
        streams: How many there are now.
    """

    def __init__(self, cache: RouteCache, keeper: Keeper) -> None:
        self.streams = 0
        self._is_over = False
        self._cache = cache
        self._keeper = keeper
        rings = keeper.history.rings
        self._points = {name: Points(ring) for name, ring in rings.items()}

    @property
    def is_full(self) -> bool:
        """Whether there are so many streams that no other one may begin."""
        return self.streams >= _MOST

    async def frame(self, window: str, since_s: int = 0) -> Frame:
        """Return what there is to be shown now; see :func:`.frames.frame`."""
        points = self._points[window]
        while points.grow():  # noqa: ASYNC110 - nothing is waited for: it is work to be done
            await asyncio.sleep(0)  # others go first
        return frame(
            self._keeper.history,
            window,
            points.since(since_s),
            mode=self._cache.mode.value,
            coordinator=self._cache.engine.coordinator.name,
        )

    def stop(self) -> None:
        """End all streams: the server stops."""
        self._is_over = True
        self._keeper.wake()

    async def events(self, window: str, since_s: int) -> AsyncIterator[bytes]:
        """Yield frames, each as one event."""
        self.streams += 1
        try:
            for number in range(_LASTS):
                if number or self._keeper.history.latest is None:
                    await self._keeper.changed(_WAIT_S)
                if self._is_over:
                    return
                made = await self.frame(window, since_s)
                if made.points:  # the last one is not over yet, so it is told again
                    since_s = made.points[-1].t
                yield b"data: " + msgspec.json.encode(made) + b"\n\n"
        finally:
            self.streams -= 1
