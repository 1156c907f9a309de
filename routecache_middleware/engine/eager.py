"""Begin a coroutine here and now, and decide only when it has to wait who goes on with it.

Most of what we await never waits: a send on an uncongested connection, a write to memory. A task
for each would cost a turn of the event loop (15-30 µs); a plain ``await`` would tie the caller to
the ones that do wait. So the first step runs inline. What is left goes on in the caller's own task,
from which another task can take it over in the middle, or in a task of its own. Python 3.12 has
``eager_start`` for the latter; nothing has the former.
"""

import asyncio
import contextvars
import types
from collections.abc import Coroutine, Generator

__all__ = ["Begun", "begin", "start_eagerly"]


class Begun:
    """A coroutine that has begun and waits for something."""

    __slots__ = ("_context", "_coroutine", "_gate", "_is_released", "_waits_for")

    def __init__(
        self, coroutine: Coroutine[object, object, None], waits_for: "asyncio.Future[object] | None"
    ) -> None:
        self._coroutine = coroutine
        self._waits_for = waits_for  # None: it only gave way, as ``sleep(0)`` does
        self._context = contextvars.copy_context()
        self._gate: _Gate | None = None
        self._is_released = False

    @types.coroutine
    def here(self) -> Generator[object, object, bool]:
        """Go on in the task that began it, which is as good as having awaited it from the start.

        Returns:
            True when it finished; False when :meth:`release` was called, and somebody else has to
            :meth:`finish` it.

        Raises:
            BaseException: Whatever the coroutine raised.
        """
        while True:
            error: BaseException | None = None
            try:
                if self._waits_for is None:
                    yield None
                else:
                    self._gate = _Gate(self._waits_for)
                    yield from self._gate
            except GeneratorExit:
                self.close()
                raise
            except BaseException as caught:  # noqa: BLE001 - cancellation included: it is the coroutine's to handle
                error = caught
            if self._is_released:
                if error is not None:  # meant for this task, not for who took over
                    raise error
                return False
            if not self._step(error):
                return True

    def release(self) -> None:
        """Let the task that waits in :meth:`here` go; another one is going to :meth:`finish`."""
        self._is_released = True
        if self._gate is not None:
            self._gate.abandon()

    @types.coroutine
    def finish(self) -> Generator[object, object, None]:
        """Go on to the end in another task, in the context variables of the one that began it.

        Raises:
            BaseException: Whatever the coroutine raised.
        """
        while True:
            error: BaseException | None = None
            try:
                if self._waits_for is not None:
                    self._waits_for._asyncio_future_blocking = True  # noqa: SLF001 - as below
                yield self._waits_for
            except GeneratorExit:
                self.close()
                raise
            except BaseException as caught:  # noqa: BLE001 - as above
                error = caught
            if not self._context.run(self._step, error):
                return

    def close(self) -> None:
        """Give up on it."""
        self._coroutine.close()

    def _step(self, error: BaseException | None) -> bool:
        """Run up to the next wait; False at the end."""
        try:
            waits_for = (
                self._coroutine.send(None) if error is None else self._coroutine.throw(error)
            )
        except StopIteration:
            return False
        self._waits_for = _future(waits_for)
        return True


class _Gate(asyncio.Future[None]):
    """Stands in for the future that a coroutine waits for, so that its task can be let go."""

    def __init__(self, inner: "asyncio.Future[object]") -> None:
        super().__init__(loop=inner.get_loop())
        self._inner = inner
        inner._asyncio_future_blocking = False  # noqa: SLF001 - as a task does with what it waits for
        inner.add_done_callback(self._open)

    def cancel(self, msg: object = None) -> bool:
        """Cancel what is waited for, exactly as if it were waited for directly."""
        return not self.done() and self._inner.cancel(msg)

    def abandon(self) -> None:
        """Wake who waits here although nothing has happened."""
        self._inner.remove_done_callback(self._open)
        self._open()

    def _open(self, _inner: object = None) -> None:
        if not self.done():
            self.set_result(None)


def begin(coroutine: Coroutine[object, object, None]) -> Begun | None:
    """Run ``coroutine`` up to its first wait; None when it finished.

    Raises:
        BaseException: Whatever the coroutine raised before its first wait.
    """
    try:
        waits_for = coroutine.send(None)
    except StopIteration:
        return None
    return Begun(coroutine, _future(waits_for))


def start_eagerly(coroutine: Coroutine[object, object, None]) -> asyncio.Task[None] | None:
    """Run ``coroutine`` up to its first wait, and the rest in a task.

    Only for what does not care in which task it runs: ``asyncio.timeout`` around the first wait
    would be tied to the caller's task.

    Returns:
        None when it finished; otherwise the task that finishes it.

    Raises:
        BaseException: Whatever the coroutine raised before its first wait.
    """
    begun = begin(coroutine)
    if begun is None:
        return None
    task = asyncio.ensure_future(_finish(begun))
    # If the task is cancelled before it ever runs, nobody else would close the coroutine.
    task.add_done_callback(lambda _: begun.close())
    return task


async def _finish(begun: Begun) -> None:
    await begun.finish()


def _future(waits_for: object) -> "asyncio.Future[object] | None":
    if waits_for is None or isinstance(waits_for, asyncio.Future):
        return waits_for
    raise RuntimeError(f"a coroutine waits for {type(waits_for)}, which asyncio does not know")
