"""Ears: everything that is said while something happens, wherever it is said."""

import logging
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, Final

from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from routecache_middleware import RouteCache
from routecache_middleware.core.ports import Observer
from routecache_middleware.telemetry.exposition import render, render_openmetrics
from routecache_middleware.telemetry.otel import OtelObserver
from routecache_middleware.telemetry.otel_metrics import OtelMetrics
from tests.canary.planted import leaks

__all__ = ["Ears", "listening", "told_of"]

_ORDINARY: Final = frozenset(vars(logging.makeLogRecord({}))) - {"msg", "args"}
Kept = Callable[[logging.LogRecord], bool]


class Ears(logging.Handler):
    """Hears log records of all loggers, spans, metric points, and what else it is told.

    Attributes:
        heard: Where something was said, and what.
        records: All log records.
        tracing: A provider whose spans are heard.
        metering: A provider whose points are heard, when they are collected.
    """

    def __init__(self, keeps: Kept = lambda _: True) -> None:
        super().__init__(logging.DEBUG)
        self.heard: list[tuple[str, str]] = []
        self.records: list[logging.LogRecord] = []
        self._keeps = keeps
        self._spans = InMemorySpanExporter()
        resource = Resource.create()
        self.tracing = TracerProvider(resource=resource, shutdown_on_exit=False)
        self.tracing.add_span_processor(SimpleSpanProcessor(self._spans))
        self._points = InMemoryMetricReader()
        self.metering = MeterProvider([self._points], resource, shutdown_on_exit=False)

    def observers(self) -> list[Observer]:
        """Return what tells a cache's spans and metrics to these ears."""
        spans = OtelObserver(tracer_provider=self.tracing, enabled=True)
        return [spans, OtelMetrics(meter_provider=self.metering, enabled=True)]

    def emit(self, record: logging.LogRecord) -> None:
        """Hear a log record: its message, its arguments, its error, whatever was added to it."""
        if not self._keeps(record):
            return
        self.records.append(record)
        said = [record.getMessage(), str(record.msg), repr(record.args)]
        if record.exc_info and record.exc_info[1] is not None:
            said.append(told_of(record.exc_info[1]))
        added = {name: value for name, value in vars(record).items() if name not in _ORDINARY}
        said.append(repr({n: v for n, v in added.items() if n not in {"msg", "args"}}))
        self.hear(f"logger {record.name}", "\n".join(said))

    def hear(self, where: str, said: object) -> None:
        """Hear what was said: text, bytes, an error, or the ``str`` and ``repr`` of an object."""
        if isinstance(said, bytes):
            said = said.decode("utf-8", "backslashreplace")
        elif isinstance(said, BaseException):
            said = told_of(said)
        elif not isinstance(said, str):
            said = f"{said}\n{said!r}"
        self.heard.append((where, said))

    async def hear_of(self, cache: RouteCache) -> None:
        """Hear what a cache says of itself: its numbers, in every form, and its ``repr``."""
        total = await cache.total_metrics()
        self.hear("/metrics", render(total))
        self.hear("/metrics, OpenMetrics", render_openmetrics(total))
        for said in (cache, cache.engine, cache.engine.coordinator, cache.settings, cache.stats()):
            self.hear(f"repr of {type(said).__name__}", said)
        savings = cache.savings()  # by tenant, too: it names those whom the operator named
        self.hear("savings", [replace(row, tenant="") for row in savings.rows])
        self.hear("shadow report", cache.shadow_report())

    @property
    def spans(self) -> tuple[ReadableSpan, ...]:
        """The spans that have ended."""
        return self._spans.get_finished_spans()

    def points(self) -> str:
        """Collect the metrics; return their points with all attributes."""
        data = self._points.get_metrics_data()
        return "" if data is None else str(data.to_json())

    def leaks(self) -> list[str]:
        """Return what was heard that nobody should have said."""
        every = [*self.heard, *_of_spans(self.spans)]
        every.append(("metric points", self.points()))
        return sorted({f"{where}: {leak}" for where, said in every for leak in leaks(said)})

    def close(self) -> None:
        """End it; what was heard stays."""
        super().close()
        self.tracing.shutdown()
        self.metering.shutdown()


@contextmanager
def listening(keeps: Kept = lambda _: True, *, under: str = "") -> Iterator[Ears]:
    """Listen to every logger of this process, at every level; or to those below one, by name."""
    ears, root = Ears(keeps), logging.getLogger(under or None)
    known: list[Any] = [root, *root.manager.loggerDict.values()]
    every = [one for one in known if isinstance(one, logging.Logger)]
    loggers = [one for one in every if not under or f"{one.name}.".startswith(f"{under}.")]
    before = [(one, one.level, one.disabled) for one in loggers]
    deaf = [one for one in loggers if one is not root and not one.propagate]
    try:
        for one in loggers:
            one.disabled = False
            one.setLevel(logging.DEBUG)
        for one in (root, *deaf):
            one.addHandler(ears)
        yield ears
    finally:
        for one in (root, *deaf):
            one.removeHandler(ears)
        for one, level, is_disabled in before:
            one.setLevel(level)
            one.disabled = is_disabled
        ears.close()


def told_of(error: BaseException) -> str:
    """Return all that an error says: ``str`` and ``repr`` of it and of what it came from.

    Not the lines of source beside it, which are those of the test.
    """
    every = traceback.TracebackException.from_exception(error, lookup_lines=False)
    said = [str(error), repr(error), repr(error.args)]
    todo: list[BaseException | None] = [error.__cause__, error.__context__]
    todo += getattr(error, "exceptions", ())
    if error.__suppress_context__ and error.__cause__ is None:
        todo = [*getattr(error, "exceptions", ())]
    said += [told_of(one) for one in todo if one is not None]
    said += list(every.format_exception_only())
    return "\n".join(said)


def _of_spans(spans: tuple[ReadableSpan, ...]) -> Iterator[tuple[str, str]]:
    for span in spans:
        links = [(link.context, dict(link.attributes or {})) for link in span.links]
        events = [(event.name, dict(event.attributes or {})) for event in span.events]
        said = (span.to_json(), links, events, span.status.description, span.resource.to_json())
        yield f"span {span.name}", "\n".join(map(str, said))
