"""Puts an engine together. The only place, with :mod:`.cache`, that names concrete classes."""

from collections.abc import Sequence

from routecache_middleware.coordinators.table import create
from routecache_middleware.core.policy import CachePolicy
from routecache_middleware.core.ports import Clock, Coordinator, MetricSink, Observer
from routecache_middleware.core.settings import Settings
from routecache_middleware.engine.clock import SystemClock
from routecache_middleware.engine.engine import Engine
from routecache_middleware.engine.metering import take_snapshot_anywhere
from routecache_middleware.telemetry.fanout import combine
from routecache_middleware.telemetry.otel import OtelObserver
from routecache_middleware.telemetry.otel_metrics import OtelMetrics

__all__ = ["build_engine"]


def build_engine(
    *,
    url: str,
    coordinator: Coordinator | None,
    settings: Settings,
    policy: CachePolicy,
    observers: Sequence[Observer] | None,
    clock: Clock | None,
) -> Engine:
    """Build the engine of a cache; opens nothing.

    Args:
        url: Which coordinator, unless ``coordinator`` is given.
        coordinator: A coordinator that somebody else built, and closes.
        settings: How the cache behaves.
        policy: What may be cached.
        observers: Who watches; None: OpenTelemetry spans and metrics.
        clock: Time; None: the system's.

    Raises:
        ConfigurationError: The URL is wrong or a package it needs is missing.
    """
    clock = SystemClock() if clock is None else clock
    if observers is None:
        observers = [
            OtelObserver(lookups_per_s=settings.otel_max_lookups),
            OtelMetrics(
                histograms=settings.otel_histograms, lookups_per_s=settings.otel_max_lookups
            ),
        ]
    meters = [observer for observer in observers if isinstance(observer, OtelMetrics)]
    engine = Engine(
        create(url, settings, clock) if coordinator is None else coordinator,
        settings,
        policy,
        clock,
        combine([observer for observer in observers if observer not in meters]),
        owns_coordinator=coordinator is None,
    )
    for meter in meters:
        meter.watch(engine, take_snapshot_anywhere, _record_durations)
    return engine


def _record_durations(engine: Engine, sink: MetricSink) -> None:
    engine.recorder.sink = sink
