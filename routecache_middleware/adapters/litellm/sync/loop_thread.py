"""An event loop in a thread of its own, for coordinators that only an event loop can ask."""

import asyncio
import threading
from collections.abc import Coroutine
from concurrent.futures import Future
from typing import Any, TypeVar

__all__ = ["LoopThread", "run_aside"]

T = TypeVar("T")

_JOIN_TIMEOUT_S = 2.0


class LoopThread:
    """Starts with the first coroutine it is given; a daemon, so that no process waits for it."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None

    def submit(self, coroutine: Coroutine[Any, Any, T]) -> Future[T]:
        """Run a coroutine there, in a copy of the caller's context; its future."""
        return asyncio.run_coroutine_threadsafe(coroutine, self._started())

    def is_here(self) -> bool:
        """Whether this is that thread: it must never wait for itself."""
        return threading.current_thread() is self._thread

    def stop(self) -> None:
        """End the loop, cancelling what is still under way; waits for a bounded time."""
        with self._lock:
            loop, thread = self._loop, self._thread
            self._loop = self._thread = None
        if loop is not None and thread is not None:
            loop.call_soon_threadsafe(loop.stop)
            if thread is not threading.current_thread():
                thread.join(_JOIN_TIMEOUT_S)

    def _started(self) -> asyncio.AbstractEventLoop:
        with self._lock:
            if self._loop is None:
                loop = asyncio.new_event_loop()
                thread = threading.Thread(target=_serve, args=(loop,), name=self._name, daemon=True)
                thread.start()
                self._loop, self._thread = loop, thread
            return self._loop


def run_aside(coroutine: Coroutine[Any, Any, T], timeout_s: float) -> T:
    """Run a coroutine in a loop that exists for it alone, and wait for it here.

    In a thread of its own: the caller's may be running an event loop already.

    Raises:
        TimeoutError: It took longer than ``timeout_s``; it goes on.
        Exception: Whatever the coroutine raised.
    """
    done: Future[T] = Future()

    def run() -> None:
        try:
            done.set_result(asyncio.run(coroutine))
        except BaseException as error:  # noqa: BLE001 - it is handed to whoever waits
            done.set_exception(error)

    threading.Thread(target=run, name="routecache-aside", daemon=True).start()
    return done.result(timeout_s)


def _serve(loop: asyncio.AbstractEventLoop) -> None:
    asyncio.set_event_loop(loop)
    try:
        loop.run_forever()
        left = asyncio.all_tasks(loop)
        for task in left:
            task.cancel()
        if left:
            loop.run_until_complete(asyncio.wait(left, timeout=_JOIN_TIMEOUT_S / 2))
    finally:
        loop.close()
