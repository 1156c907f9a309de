"""The calls that are under way, counted so that the count cannot drift.

LiteLLM says when it calls a provider, and mostly when that is over: not for a call that was
cancelled, and not for a stream that nobody reads to its end. So an open call is over with the first
of these: an event says so; the next attempt of the same call begins; the task that made it has
ended; LiteLLM forgets its record of the call; it is very old. Events of one call may come in any
thread, and some come twice.
"""

import asyncio
import threading
import weakref
from collections import deque
from collections.abc import Iterable
from contextlib import suppress
from typing import Any

import msgspec

from routecache_middleware.adapters.litellm.part import Kwargs
from routecache_middleware.core.ports import Clock
from routecache_middleware.engine.load import LoadTracker, ModelLoad

__all__ = ["OpenCalls"]

_MAX_CALLS = 65_536
_MAX_CALL_S = 3600.0
_ORPHAN_S = 60.0  # a stream may be read by another task than the one that asked for it
_LATE_S = (
    5.0  # LiteLLM may run a loop for one call, and tell of its end a little later, in a thread
)
_FIELD = "routecache_open_call"


class OpenCalls:
    """What is open now; each call counts under several names. Threads may share it."""

    def __init__(self, tracker: LoadTracker, clock: Clock) -> None:
        """Count in ``tracker``, by the monotonic ``clock``."""
        self._tracker = tracker
        self._clock = clock
        self._lock = threading.Lock()
        self._open: dict[int, _Call] = {}
        self._next = 0
        # A record may be forgotten at any moment, in any thread, while the lock is held here.
        self._forgotten: deque[int] = deque()

    def __len__(self) -> int:
        """How many are open."""
        return len(self._open)

    def begin(self, record: Kwargs, names: Iterable[str], *, is_stream: bool) -> None:
        """Count an attempt, and mark LiteLLM's ``record`` of the call with it."""
        former, task = record.get(_FIELD), _current_task()
        with self._lock:
            if isinstance(former, _Mark):
                self._finish(former.serial)
            self._settle_forgotten()
            if len(self._open) >= _MAX_CALLS:
                return
            self._next = serial = self._next + 1
            loads = tuple(self._tracker.started(name) for name in names)
            self._open[serial] = _Call(loads, self._clock.monotonic_s(), is_stream, task)
        record[_FIELD] = _Mark(serial, self._forgotten)

    def end(self, record: Kwargs, *, within_s: float = 0.0, is_failure: bool = False) -> None:
        """Count an attempt as over, once.

        Args:
            record: LiteLLM's record of the call, or a copy of it.
            within_s: Seconds that it took at most, if that is known: events come late.
            is_failure: Whether the provider failed.
        """
        mark = record.pop(_FIELD, None)
        if not isinstance(mark, _Mark):
            return
        with self._lock:
            call = self._open.get(mark.serial)
            if call is not None:
                took_s = self._clock.monotonic_s() - call.began_s
                took_s = min(took_s, within_s) if within_s > 0 else took_s
                self._finish(mark.serial, took_s * 1000, is_failure=is_failure)

    def settle(self) -> None:
        """Count as over what is over although no event has said so."""
        now_s = self._clock.monotonic_s()
        with self._lock:
            self._settle_forgotten()
            for serial in [serial for serial, call in self._open.items() if call.is_over(now_s)]:
                self._finish(serial)

    def clear(self) -> None:
        """Count all as over."""
        with self._lock:
            for serial in list(self._open):
                self._finish(serial)

    def _settle_forgotten(self) -> None:
        while self._forgotten:
            self._finish(self._forgotten.popleft())

    def _finish(
        self, serial: int, took_ms: float | None = None, *, is_failure: bool = False
    ) -> None:
        call = self._open.pop(serial, None)
        for load in () if call is None else call.loads:
            if took_ms is None:
                load.abandoned()
            else:
                load.ended(took_ms, is_failure=is_failure)


class _Call(msgspec.Struct):
    loads: tuple[ModelLoad, ...]
    began_s: float
    is_stream: bool
    task: "weakref.ref[asyncio.Task[Any]] | None"
    alone_since_s: float | None = None

    def is_over(self, now_s: float) -> bool:
        if now_s - self.began_s > _MAX_CALL_S:
            return True
        if self.task is None:
            return False
        task = self.task()
        if task is not None and not task.done():
            return False
        if task is not None and task.cancelled():
            return True
        if self.alone_since_s is None:
            self.alone_since_s = now_s
        return now_s - self.alone_since_s > (_ORPHAN_S if self.is_stream else _LATE_S)


class _Mark:
    """Stands in LiteLLM's record of a call, and lives as long as that does."""

    __slots__ = ("_forgotten", "serial")

    def __init__(self, serial: int, forgotten: deque[int]) -> None:
        self.serial = serial
        self._forgotten = forgotten

    def __del__(self) -> None:
        self._forgotten.append(self.serial)

    def __deepcopy__(self, memo: object) -> None:
        """Leave no mark in a copy: it would be forgotten first."""

    def __reduce__(self) -> tuple[type[str], tuple[()]]:
        """Nor in a pickled one."""
        return str, ()

    def __repr__(self) -> str:
        return "<routecache>"


def _current_task() -> "weakref.ref[asyncio.Task[Any]] | None":
    with suppress(RuntimeError):  # a thread without an event loop
        task = asyncio.current_task()
        return None if task is None else weakref.ref(task)
    return None
