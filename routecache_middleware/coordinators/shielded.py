"""Calls that are waited for only so long, and that run on when nobody waits any more.

A command that is cancelled in flight costs its connection, and clients leave all the time. So each
call runs in a task of its own. The caller waits for a future which that task settles on its last
step: half the cost of ``asyncio.shield`` inside ``asyncio.timeout``, measured.
"""

import asyncio
import time
from collections.abc import Callable, Coroutine
from typing import Any, Generic, ParamSpec, Protocol, TypeVar

from routecache_middleware.core.budget import current_budget
from routecache_middleware.errors import ConfigurationError, CoordinatorError

__all__ = ["Judge", "ShieldedCalls", "translated"]

P = ParamSpec("P")
T = TypeVar("T")

_MAX_CALLS = 1024
_LEFT_BEHIND_S = 5.0
# How late a timer may fire before it is the event loop that is behind, and how long answers that
# came in meanwhile then get to be read. Without it one long callback in the app, or a herd of
# requests, would look like a coordinator that hangs: timers run before, or in the same turn as, the
# first read of a socket. A loop that stays behind gets more of it, but not for ever.
_STALL_S = 0.002
_GRACE_S = 0.01
_MAX_GRACE_S = 0.5


class Judge(Protocol):
    """Who keeps count of how calls end. Told once per call, also when its caller has left."""

    def succeeded(self) -> None:
        """The call was answered in time."""

    def failed(self, error: Exception) -> None:
        """It failed, or was not answered in time."""


class ShieldedCalls:
    """The calls under way to one coordinator. They belong to the event loop they were made in."""

    __slots__ = ("_calls",)

    def __init__(self) -> None:
        self._calls: set[_Call[Any]] = set()

    def __len__(self) -> int:
        return len(self._calls)

    async def ask(
        self,
        judge: Judge,
        timeout_s: float,
        method: Callable[P, Coroutine[Any, Any, T]],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> T:
        """Return what ``method`` returns; it runs to its end even if the caller is cancelled.

        The wait is cut short to what the current request's budget has left, and is taken from it.

        Raises:
            CoordinatorError: It failed; or it was not answered within ``timeout_s``, or within the
                budget; or the budget is spent, or too many calls are under way: then it was not
                even begun, and the judge is told nothing.
            ConfigurationError: As ``method`` raised it; the judge is told nothing.
        """
        budget = current_budget()
        if budget is not None and budget.remaining_s < timeout_s:
            timeout_s = budget.remaining_s
            if timeout_s <= 0:
                raise CoordinatorError("this request has waited for the coordinator long enough")
        if len(self._calls) >= _MAX_CALLS:
            raise CoordinatorError(f"{_MAX_CALLS} calls to the coordinator are under way already")
        call: _Call[T] = _Call(self._calls, judge, timeout_s)
        call.begin(method, *args, **kwargs)
        await call.waiter
        if budget is not None:
            if call.error is None:
                budget.spend(time.monotonic() - call.began_s)
            else:
                budget.fail()
        return call.answer()

    async def aclose(self, timeout_s: float) -> None:
        """Wait for what is under way in the running loop, and cancel what is left after a while."""
        loop = asyncio.get_running_loop()
        here = [call for call in self._calls if call.loop is loop]
        self._calls.difference_update(here)
        if not here:
            return
        _, late = await asyncio.wait({call.task for call in here}, timeout=timeout_s)
        for task in late:
            task.cancel()
        if late:
            await asyncio.wait(late, timeout=timeout_s)
        for call in here:
            call.end()  # one that was cancelled before its first step has told nobody

    def forget(self) -> None:
        """Forget calls of an event loop that is gone: they will never finish."""
        self._calls.clear()


def translated(error: Exception) -> CoordinatorError | ConfigurationError:
    """Return ``error``, or what to raise for one that a coordinator may not raise.

    Only the name of the latter's class is told: its text may hold anything.
    """
    if isinstance(error, CoordinatorError | ConfigurationError):
        return error
    wrapped = CoordinatorError(f"the coordinator raised {type(error).__name__}")
    wrapped.__cause__ = error
    return wrapped


class _Call(Generic[T]):
    """One call. Neither task nor future ever holds an exception that nobody may come to fetch."""

    __slots__ = (
        "_calls",
        "_is_judged",
        "_judge",
        "_result",
        "_timeout_s",
        "_timer",
        "began_s",
        "due_s",
        "error",
        "loop",
        "task",
        "waiter",
    )

    _result: T
    task: asyncio.Task[None]

    def __init__(self, calls: "set[_Call[Any]]", judge: Judge, timeout_s: float) -> None:
        loop = asyncio.get_running_loop()
        self._calls = calls
        self._judge = judge
        self._is_judged = False
        self._timeout_s = timeout_s
        self.began_s = time.monotonic()
        self.due_s = self.began_s + timeout_s
        self._timer = loop.call_later(timeout_s, self._expire)
        self.error: Exception | None = None
        self.loop = loop
        self.waiter: asyncio.Future[None] = loop.create_future()

    def begin(
        self, method: Callable[P, Coroutine[Any, Any, T]], *args: P.args, **kwargs: P.kwargs
    ) -> None:
        self._calls.add(self)  # the loop itself keeps only a weak reference to a task
        self.task = self.loop.create_task(self._run(method, *args, **kwargs))

    def answer(self) -> T:
        """Return the result, or raise the error, once ``waiter`` is done."""
        error, self.error = self.error, None  # its traceback leads here: no cycle may stay
        if error is None:
            return self._result
        try:
            raise error
        finally:
            del error

    def end(self, error: Exception | None = None) -> None:
        """Let the caller go, if it still waits."""
        self._timer.cancel()
        if not self.waiter.done():
            if error is None and not hasattr(self, "_result"):
                error = CoordinatorError("the coordinator was closed")
            self.error = error
            self.waiter.set_result(None)

    async def _run(
        self, method: Callable[P, Coroutine[Any, Any, T]], *args: P.args, **kwargs: P.kwargs
    ) -> None:
        error: Exception | None = None
        try:  # called in here: a task that is cancelled before its first step leaves no coroutine
            self._result = await method(*args, **kwargs)
        except asyncio.CancelledError:
            error = CoordinatorError("the call was given up")
        except Exception as caught:  # noqa: BLE001 - raised to who waits, if anybody does
            error = translated(caught)
        self._calls.discard(self)
        if not self._is_judged:
            if error is None:
                self._judge.succeeded()
            elif not isinstance(error, ConfigurationError):
                self._judge.failed(error)
        self.end(error)
        error = None  # its traceback leads to this frame: no cycle may stay

    def _expire(self) -> None:
        now_s = time.monotonic()
        if now_s - self.due_s > _STALL_S and now_s - self.began_s < _MAX_GRACE_S:
            self.due_s = now_s + _GRACE_S
            self._timer = self.loop.call_later(_GRACE_S, self._expire)
            return
        error = CoordinatorError(f"no answer within {self._timeout_s * 1000:.0f} ms")
        error.__cause__ = TimeoutError()
        self._is_judged = True
        self._judge.failed(error)
        self.end(error)
        # The driver has timeouts of its own. This is for one that has none.
        self._timer = self.loop.call_later(_LEFT_BEHIND_S, self.task.cancel)
