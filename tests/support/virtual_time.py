"""Time that passes only when nothing else can happen: hours of waiting in no time at all.

When everything waits and no timer is set, nothing will ever happen again: that is an error here, so
a waiter that nobody wakes fails its test instead of hanging it.
"""

import asyncio
import functools
import selectors
from collections.abc import Callable, Coroutine
from typing import Any, ParamSpec

__all__ = ["LoopClock", "VirtualTimeLoop", "in_virtual_time"]

P = ParamSpec("P")

_LONGEST_S = 3_600.0  # something that is renewed again and again would let time pass for ever


class _Selector(selectors.SelectSelector):
    """Does not wait: lets its loop's time pass instead."""

    skip: Callable[[float], None]

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        if ready or timeout == 0:
            return ready
        if timeout is None:
            raise RuntimeError("everything waits for ever")
        self.skip(timeout)
        return []


class VirtualTimeLoop(asyncio.SelectorEventLoop):
    """An event loop whose time is its own."""

    def __init__(self) -> None:
        selector = _Selector()
        selector.skip = self._skip
        self._now_s = 1_000.0
        super().__init__(selector)

    def time(self) -> float:
        return self._now_s

    def _skip(self, seconds: float) -> None:
        self._now_s += max(seconds, 1e-6)


class LoopClock:
    """A clock that shows the running loop's time."""

    def now_s(self) -> float:
        return 1_700_000_000.0 + asyncio.get_running_loop().time()

    def monotonic_s(self) -> float:
        return asyncio.get_running_loop().time()


def in_virtual_time(test: Callable[P, Coroutine[Any, Any, None]]) -> Callable[P, None]:
    """Run a test in a loop with virtual time; no task may be left when it ends."""

    @functools.wraps(test)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
            runner.run(_checked(test(*args, **kwargs)))

    return run


async def _checked(test: Coroutine[Any, Any, None]) -> None:
    async with asyncio.timeout(_LONGEST_S):
        await test
    for _ in range(30):
        await asyncio.sleep(0)
    assert asyncio.all_tasks() == {asyncio.current_task()}
