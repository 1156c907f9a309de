"""The metrics of :mod:`routecache_middleware.core.metrics` through the OpenTelemetry API alone.

Counters and gauges are observable instruments: their callbacks read the plain numbers when an SDK
collects, so counting costs a request nothing more. Durations have to be recorded one by one, which
costs a hit some 10 us with an SDK; that can be switched off.

An SDK keeps the first instrument of a name and ignores the callbacks of all that follow. So there
is one set of instruments per provider, which adds up all caches of the process; what a cache that
is gone has counted stays in the sum.
"""

import logging
import os
import weakref
from collections.abc import Callable, Iterable, Mapping
from math import inf
from threading import Lock
from typing import Final, Generic, TypeVar, assert_never

from opentelemetry import metrics as otel
from opentelemetry.metrics import CallbackOptions, MeterProvider, Observation

from routecache_middleware import __version__
from routecache_middleware.core.metrics import (
    BY_NAME,
    LOOKUP_DURATION,
    METRICS,
    Kind,
    Metric,
)
from routecache_middleware.core.snapshot import NO_METRICS, MetricsSnapshot, merged
from routecache_middleware.telemetry import names
from routecache_middleware.telemetry.allowance import Allowance
from routecache_middleware.telemetry.null import NullObserver
from routecache_middleware.telemetry.otel import ENABLED_VARIABLE, OFF_WORDS

__all__ = ["OtelMetrics"]

T = TypeVar("T")

_LOOKUP: Final = LOOKUP_DURATION.name
_log: Final = logging.getLogger("routecache")


class OtelMetrics(NullObserver):
    """Exports the metrics of caches; as an observer it watches no single request.

    Args:
        meter_provider: Where metrics go; None: the global provider, even one that is set later.
        enabled: Whether anything is exported; None: unless the environment variable
            ``OTEL_PYTHON_INSTRUMENTATION_ROUTECACHE_ENABLED`` says no.
        histograms: Whether durations are recorded. When the global provider is set after the cache
            was built, that begins with its first collection.
        lookups_per_s: How many durations of lookups are recorded in a second.
    """

    __slots__ = ("_histograms", "_is_enabled", "_lookups_per_s", "_provider")

    def __init__(
        self,
        *,
        meter_provider: MeterProvider | None = None,
        enabled: bool | None = None,
        histograms: bool = True,
        lookups_per_s: float = inf,
    ) -> None:
        if enabled is None:
            enabled = os.environ.get(ENABLED_VARIABLE, "").strip().lower() not in OFF_WORDS
        self._is_enabled = enabled
        self._provider = meter_provider
        self._histograms = histograms
        self._lookups_per_s = lookups_per_s

    def watch(
        self,
        cache: T,
        take: Callable[[T], MetricsSnapshot | None],
        begin: Callable[[T, "Told"], None],
    ) -> None:
        """Export the metrics of a cache for as long as it lives.

        Args:
            cache: Whatever the numbers are taken from; only a weak reference is kept.
            take: Returns its numbers, from any thread; None when they cannot be had now.
            begin: Called once, when durations are wanted from now on.
        """
        if self._is_enabled:
            allowance = Allowance(self._lookups_per_s)
            source = _Source(cache, take, begin if self._histograms else None, allowance)
            _instruments_of(self._provider).add(source)


class Durations:
    """Takes single values of histograms. One per provider."""

    __slots__ = ("_attributes", "_histograms")

    def __init__(self, meter: otel.Meter) -> None:
        # No schema_url on the meter: Prometheus would have it as a label of every series.
        self._histograms = {
            metric.name: meter.create_histogram(
                metric.name,
                metric.unit,
                metric.meaning,
                explicit_bucket_boundaries_advisory=metric.bounds,
            )
            for metric in METRICS
            if metric.kind is Kind.HISTOGRAM and metric.is_recorded
        }
        self._attributes: dict[tuple[str, tuple[str, ...]], Mapping[str, str]] = {}

    def record(self, metric: str, value: float, labels: tuple[str, ...]) -> None:
        """Take one value of the metric of that name."""
        try:
            attributes = self._attributes.get((metric, labels))
            if attributes is None:  # all of them are enumerations, so they are few
                attributes = dict(zip(BY_NAME[metric].attributes, labels, strict=True))
                self._attributes[metric, labels] = attributes
            self._histograms[metric].record(value, attributes)
        except Exception:  # noqa: BLE001, S110 - telemetry may never fail a request
            pass


class Told:
    """Takes single values of one cache; of lookups no more than are allowed in a second."""

    __slots__ = ("_allowance", "_durations")

    def __init__(self, durations: Durations, allowance: Allowance) -> None:
        self._durations = durations
        self._allowance = allowance

    def record(self, metric: str, value: float, labels: tuple[str, ...]) -> None:
        """Take one value of the metric of that name."""
        if metric != _LOOKUP or self._allowance.take():
            self._durations.record(metric, value, labels)


class _Source(Generic[T]):
    """A cache, and what it had counted when it was last asked."""

    def __init__(
        self,
        cache: T,
        take: Callable[[T], MetricsSnapshot | None],
        begin: Callable[[T, Told], None] | None,
        allowance: Allowance,
    ) -> None:
        self._cache = weakref.ref(cache)
        self._take = take
        self._begin = begin
        self._allowance = allowance
        self._last = NO_METRICS

    def begin(self, durations: Durations) -> None:
        """Let durations be recorded from now on, if they are wanted."""
        cache, begin = self._cache(), self._begin
        if cache is not None and begin is not None:
            self._begin = None
            begin(cache, Told(durations, self._allowance))

    def take(self) -> MetricsSnapshot:
        """Return its numbers; of one that cannot answer or is gone, those of before."""
        cache = self._cache()
        if cache is None:
            self._last = self._last.cumulative()
            return self._last
        try:
            taken = self._take(cache)
        except Exception as error:  # noqa: BLE001 - an SDK would log it once per instrument
            _log.debug("metrics of a cache could not be read: %s", type(error).__name__)
            return self._last
        if taken is not None:
            self._last = taken
        return self._last

    @property
    def is_gone(self) -> bool:
        return self._cache() is None


class _Instruments:
    """All instruments of one provider, and the caches behind them."""

    def __init__(self, provider: MeterProvider | None) -> None:
        meter = otel.get_meter(names.SCOPE_NAME, __version__, meter_provider=provider)
        self._lock = Lock()
        self._sources: list[_Source[object]] = []
        self._retired = NO_METRICS
        self._snapshot = NO_METRICS
        self._served: set[str] = {metric.name for metric in METRICS}
        self._durations = Durations(meter)
        # A provider that is set later is noticed when it collects for the first time.
        self._is_live = provider is not None or _has_global_provider()
        for metric in METRICS:
            _create(meter, metric, self._callback(metric))

    def add(self, source: "_Source[T]") -> None:
        with self._lock:
            self._sources.append(source)  # type: ignore[arg-type]
            if self._is_live:
                source.begin(self._durations)

    def _callback(self, metric: Metric) -> Callable[[CallbackOptions], Iterable[Observation]]:
        def observe(options: CallbackOptions) -> Iterable[Observation]:  # noqa: ARG001
            return self._observe(metric)

        return observe

    def _observe(self, metric: Metric) -> list[Observation]:
        with self._lock:
            if metric.name in self._served:  # the next collection has begun
                self._served.clear()
                self._snapshot = self._take()
            self._served.add(metric.name)
            return [
                Observation(one.value, dict(zip(metric.attributes, one.labels, strict=True)))
                for one in self._snapshot.of(metric)
            ]

    def _take(self) -> MetricsSnapshot:
        self._is_live = True
        for source in self._sources:
            source.begin(self._durations)
        gone = [source for source in self._sources if source.is_gone]
        self._retired = merged([self._retired, *(source.take() for source in gone)])
        self._sources = [source for source in self._sources if source not in gone]
        return merged([self._retired, *(source.take() for source in self._sources)])


def _create(
    meter: otel.Meter,
    metric: Metric,
    observe: Callable[[CallbackOptions], Iterable[Observation]],
) -> None:
    match metric.kind:
        case Kind.COUNTER:
            meter.create_observable_counter(metric.name, [observe], metric.unit, metric.meaning)
        case Kind.UP_DOWN:
            meter.create_observable_up_down_counter(
                metric.name, [observe], metric.unit, metric.meaning
            )
        case Kind.GAUGE:
            meter.create_observable_gauge(metric.name, [observe], metric.unit, metric.meaning)
        case Kind.HISTOGRAM:  # recorded, where at all: there is no observable one
            pass
        case _:
            assert_never(metric.kind)


def _has_global_provider() -> bool:
    # The API has no public name for the provider that stands in for one that is set later.
    return type(otel.get_meter_provider()).__module__.partition(".")[2] != "metrics._internal"


_lock: Final = Lock()
_by_provider: Final[weakref.WeakKeyDictionary[MeterProvider, _Instruments]] = (
    weakref.WeakKeyDictionary()
)
_global: list[_Instruments] = []


def _instruments_of(provider: MeterProvider | None) -> _Instruments:
    with _lock:
        if provider is None:
            if not _global:
                _global.append(_Instruments(None))
            return _global[0]
        found = _by_provider.get(provider)
        if found is None:
            found = _by_provider[provider] = _Instruments(provider)
        return found
