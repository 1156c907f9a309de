"""Keeps observers away from requests: what they raise ends here, and several look like one."""

import logging
from collections.abc import Iterable, Sequence
from math import inf
from typing import Final

from routecache_middleware.core.events import (
    Finished,
    Operation,
    RequestFinished,
)
from routecache_middleware.core.ports import Observer, OpenOperation
from routecache_middleware.telemetry.null import NULL_OBSERVER, NULL_OPERATION

__all__ = ["SafeObserver", "combine"]

_log: Final = logging.getLogger("routecache")


def combine(observers: Sequence[Observer]) -> Observer:
    """One observer that tells all of ``observers``, none of which can do harm."""
    safe = tuple(
        observer if isinstance(observer, SafeObserver) else SafeObserver(observer)
        for observer in observers
    )
    match safe:
        case ():
            return NULL_OBSERVER
        case (only,):
            return only
        case _:
            return _FanOut(safe)


class SafeObserver:
    """An observer that never raises: the first failure is logged, all of them are ignored.

    ``BaseException`` passes: cancellation and shutdown are not the observer's.
    """

    __slots__ = ("_has_failed", "_observer")

    def __init__(self, observer: Observer) -> None:
        self._observer = observer
        self._has_failed = False

    @property
    def quiet_until_s(self) -> float:
        """The observer's, if it says one."""
        try:
            return float(getattr(self._observer, "quiet_until_s", -inf))
        except Exception as error:  # noqa: BLE001 - telemetry may never fail a request
            self.failed(error)
            return -inf

    def enter(self, headers: Iterable[tuple[bytes, bytes]]) -> object | None:
        """Enter the caller's trace, if the observer knows how to."""
        enter = getattr(self._observer, "enter", None)
        if enter is None:
            return None
        try:
            token: object | None = enter(headers)
        except Exception as error:  # noqa: BLE001 - telemetry may never fail a request
            self.failed(error)
            return None
        return token

    def leave(self, token: object) -> None:
        """Undo it."""
        try:
            self._observer.leave(token)  # type: ignore[attr-defined] # who enters also leaves
        except Exception as error:  # noqa: BLE001 - telemetry may never fail a request
            self.failed(error)

    def begin(
        self, operation: Operation, target: str, *, model: str = "", verb: str = ""
    ) -> OpenOperation:
        """Begin with the observer; an operation that nobody watches when that fails."""
        try:
            opened = self._observer.begin(operation, target, model=model, verb=verb)
        except Exception as error:  # noqa: BLE001 - telemetry may never fail a request
            self.failed(error)
            return NULL_OPERATION
        # The common case without an SDK needs no guard around it.
        return opened if opened is NULL_OPERATION else _SafeOperation(opened, self)

    def request(self, record: RequestFinished) -> None:
        """Tell the observer how a request was answered."""
        try:
            self._observer.request(record)
        except Exception as error:  # noqa: BLE001 - telemetry may never fail a request
            self.failed(error)

    def failed(self, error: Exception) -> None:
        """Log the first failure: the class alone, because the text may quote what was observed."""
        if not self._has_failed:
            self._has_failed = True
            _log.warning(
                "observer %s raised %s; requests are not affected, and it is logged only once",
                type(self._observer).__name__,
                type(error).__name__,
            )


class _SafeOperation:
    __slots__ = ("_observer", "_opened")
    is_watched: Final = True

    def __init__(self, opened: OpenOperation, observer: SafeObserver) -> None:
        self._opened = opened
        self._observer = observer

    @property
    def traceparent(self) -> str:
        try:
            return self._opened.traceparent
        except Exception as error:  # noqa: BLE001 - telemetry may never fail a request
            self._observer.failed(error)
            return ""

    def finish(self, record: Finished) -> None:
        try:
            self._opened.finish(record)
        except Exception as error:  # noqa: BLE001 - telemetry may never fail a request
            self._observer.failed(error)


class _FanOut:
    """Tells several observers, each of which is safe already."""

    __slots__ = ("_observers",)

    def __init__(self, observers: tuple[SafeObserver, ...]) -> None:
        self._observers = observers

    @property
    def quiet_until_s(self) -> float:
        return min(observer.quiet_until_s for observer in self._observers)

    def enter(self, headers: Iterable[tuple[bytes, bytes]]) -> object | None:
        headers = list(headers)
        entered = [(one, token) for one in self._observers if (token := one.enter(headers))]
        return entered or None

    def leave(self, token: list[tuple[SafeObserver, object]]) -> None:
        for observer, entered in reversed(token):
            observer.leave(entered)

    def begin(
        self, operation: Operation, target: str, *, model: str = "", verb: str = ""
    ) -> OpenOperation:
        opened: list[OpenOperation] = []
        for observer in self._observers:
            one = observer.begin(operation, target, model=model, verb=verb)
            if one is not NULL_OPERATION:
                opened.append(one)
        match opened:
            case []:
                return NULL_OPERATION
            case [only]:
                return only
            case _:
                return _OpenAll(opened)

    def request(self, record: RequestFinished) -> None:
        for observer in self._observers:
            observer.request(record)


class _OpenAll:
    __slots__ = ("_opened",)
    is_watched: Final = True

    def __init__(self, opened: Sequence[OpenOperation]) -> None:
        self._opened = opened

    @property
    def traceparent(self) -> str:
        """Of the first observer that has one."""
        return next((found for one in self._opened if (found := one.traceparent)), "")

    def finish(self, record: Finished) -> None:
        for one in self._opened:
            one.finish(record)
