"""An event loop whose time is made up: waiting costs nothing, and every run is the same."""

import asyncio
import selectors
from collections.abc import Awaitable, Callable


class _Selector(selectors.SelectSelector):
    now_s = 1_000.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None:
            raise RuntimeError("everything waits, and nothing will ever happen")
        self.now_s += max(0.0, timeout)
        return []


class VirtualLoop(asyncio.SelectorEventLoop):
    """Jumps to when the next thing happens."""

    def __init__(self) -> None:
        self._virtual = _Selector()
        super().__init__(self._virtual)

    def time(self) -> float:
        return self._virtual.now_s


class VirtualClock:
    """The clock of one process: its wall clock is wrong by ``skew_s``."""

    def __init__(self, loop: VirtualLoop, *, skew_s: float = 0.0) -> None:
        self._loop = loop
        self._skew_s = skew_s

    def now_s(self) -> float:
        return 1_700_000_000.0 + self._loop.time() + self._skew_s

    def monotonic_s(self) -> float:
        return self._loop.time()


def run_virtually(main: Callable[[VirtualClock], Awaitable[None]]) -> None:
    """Run to the end in made-up time."""
    loop = VirtualLoop()

    async def run() -> None:
        await main(VirtualClock(loop))

    try:
        loop.run_until_complete(run())
        loop.run_until_complete(loop.shutdown_asyncgens())
    finally:
        loop.close()
