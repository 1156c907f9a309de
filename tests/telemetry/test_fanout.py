import asyncio
import logging

import pytest
from opentelemetry.sdk.trace import TracerProvider

from routecache_middleware.core.events import (
    Finished,
    LookupFinished,
    Operation,
    RequestFinished,
)
from routecache_middleware.core.models import Outcome
from routecache_middleware.core.ports import Observer, OpenOperation
from routecache_middleware.telemetry.fanout import SafeObserver, combine
from routecache_middleware.telemetry.null import NULL_OBSERVER, NULL_OPERATION
from routecache_middleware.telemetry.otel import OtelObserver

CANARY = "canary-7f3a"
MISS = LookupFinished(Outcome.MISS)
REQUEST = RequestFinished(Outcome.MISS)


class Watching:
    """An observer, and its own open operation, that keeps what it was told."""

    is_watched = True

    def __init__(self, traceparent: str = "") -> None:
        self.traceparent = traceparent
        self.begun: list[tuple[Operation, str, str, str]] = []
        self.finished: list[Finished] = []
        self.requests: list[RequestFinished] = []

    def begin(
        self, operation: Operation, target: str, *, model: str = "", verb: str = ""
    ) -> OpenOperation:
        self.begun.append((operation, target, model, verb))
        return self

    def finish(self, record: Finished) -> None:
        self.finished.append(record)

    def request(self, record: RequestFinished) -> None:
        self.requests.append(record)


class Broken:
    """Raises at one place, or at all of them."""

    def __init__(self, where: str, error: BaseException | None = None) -> None:
        self._where = where
        self._error = error or RuntimeError(CANARY)

    def _raise_at(self, place: str) -> None:
        if self._where in (place, "everywhere"):
            raise self._error

    is_watched = True

    @property
    def traceparent(self) -> str:
        self._raise_at("traceparent")
        return ""

    def begin(
        self, operation: Operation, target: str, *, model: str = "", verb: str = ""
    ) -> OpenOperation:
        self._raise_at("begin")
        return self

    def finish(self, record: Finished) -> None:
        self._raise_at("finish")

    def request(self, record: RequestFinished) -> None:
        self._raise_at("request")


def one_request(observer: Observer) -> str:
    """A lookup and a request, as the engine tells of them; the lookup's traceparent."""
    opened = observer.begin(Operation.GET, "result", model="m", verb="chat")
    traceparent = opened.traceparent
    opened.finish(MISS)
    observer.request(REQUEST)
    return traceparent


PLACES = ["begin", "traceparent", "finish", "request"]


@pytest.mark.parametrize("place", [*PLACES, "everywhere"])
def test_a_broken_observer_is_logged_once_and_never_felt(
    place: str, caplog: pytest.LogCaptureFixture
) -> None:
    observer = combine([Broken(place)])
    with caplog.at_level(logging.DEBUG):
        for _ in range(3):
            assert one_request(observer) == ""
    (logged,) = caplog.records
    assert (logged.name, logged.levelno) == ("routecache", logging.WARNING)
    assert "Broken" in logged.getMessage()
    assert "RuntimeError" in logged.getMessage()
    assert CANARY not in caplog.text


def test_each_broken_observer_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    observer = combine([Broken("begin"), Broken("finish")])
    one_request(observer)
    one_request(observer)
    assert len(caplog.records) == 2


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("error", [asyncio.CancelledError(), KeyboardInterrupt(), SystemExit()])
def test_cancellation_and_shutdown_pass_through(
    place: str, error: BaseException, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(type(error)):
        one_request(combine([Broken(place, error)]))
    assert not caplog.records


def test_an_observer_that_returns_no_operation_is_a_broken_one(
    caplog: pytest.LogCaptureFixture,
) -> None:
    class Careless(Watching):
        def begin(self, *args: object, **kwargs: object) -> OpenOperation:
            return None  # type: ignore[return-value]

    assert one_request(combine([Careless()])) == ""
    assert len(caplog.records) == 1


def test_one_observer_is_told_everything() -> None:
    watching = Watching("00-a-b-01")
    assert one_request(combine([watching])) == "00-a-b-01"
    assert watching.begun == [(Operation.GET, "result", "m", "chat")]
    assert watching.finished == [MISS]
    assert watching.requests == [REQUEST]


def test_all_observers_are_told_even_when_one_is_broken() -> None:
    first, last = Watching(), Watching()
    one_request(combine([first, Broken("everywhere"), last]))
    for watching in (first, last):
        assert watching.begun == [(Operation.GET, "result", "m", "chat")]
        assert watching.finished == [MISS]
        assert watching.requests == [REQUEST]


def test_the_reference_is_that_of_the_first_observer_that_has_one() -> None:
    observers = [Watching(), Watching("00-a-b-01"), Watching("00-c-d-01")]
    assert one_request(combine(observers)) == "00-a-b-01"
    assert one_request(combine([Watching(), Watching()])) == ""


def test_observers_that_open_nothing_cost_no_operation() -> None:
    watching = Watching("00-a-b-01")
    assert one_request(combine([NULL_OBSERVER, watching])) == "00-a-b-01"
    assert watching.finished == [MISS]
    both = combine([NULL_OBSERVER, OtelObserver(enabled=False)])
    assert both.begin(Operation.GET, "result") is NULL_OPERATION


def test_nobody_watching_costs_nothing() -> None:
    observer = combine([])
    assert observer is NULL_OBSERVER
    assert observer.begin(Operation.GET, "result") is NULL_OPERATION
    assert one_request(observer) == ""


def test_an_observer_is_made_safe_once() -> None:
    safe = SafeObserver(Watching())
    assert combine([safe]) is safe


def test_spans_go_through_the_guard_as_well(caplog: pytest.LogCaptureFixture) -> None:
    """A span whose record cannot be told still ends, and the request goes on."""
    observer = combine([OtelObserver(tracer_provider=TracerProvider(shutdown_on_exit=False))])
    opened = observer.begin(Operation.GET, "result")
    assert opened.traceparent.startswith("00-")
    opened.finish(LookupFinished(Outcome.HIT, ttl_s=float("nan")))
    (logged,) = caplog.records
    assert "OtelObserver raised ValueError" in logged.getMessage()


class Traced(Watching):
    """Knows callers' traces, and fails to leave or enter them where told to."""

    def __init__(self, fails_at: str = "") -> None:
        super().__init__()
        self._fails_at = fails_at
        self.left: list[object] = []

    def enter(self, headers: object) -> object | None:
        if self._fails_at == "enter":
            raise RuntimeError(CANARY)
        return headers

    def leave(self, token: object) -> None:
        self.left.append(token)
        if self._fails_at == "leave":
            raise RuntimeError(CANARY)


@pytest.mark.parametrize("fails_at", ["", "enter", "leave"])
def test_a_callers_trace_is_entered_and_left_by_all_who_know_how(
    fails_at: str, caplog: pytest.LogCaptureFixture
) -> None:
    good, other = Traced(), Traced(fails_at)
    observer = combine([good, other, Watching()])
    headers = [(b"traceparent", b"x")]
    token = observer.enter(headers)  # type: ignore[attr-defined]
    observer.leave(token)  # type: ignore[attr-defined]
    assert good.left == [headers]
    assert other.left == ([] if fails_at == "enter" else [headers])
    assert len(caplog.records) == (1 if fails_at else 0)
    assert CANARY not in caplog.text
    assert combine([Watching(), Watching()]).enter(headers) is None  # type: ignore[attr-defined]
