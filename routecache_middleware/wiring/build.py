"""Puts an engine together. The only place, with :mod:`.cache`, that names concrete classes."""

from collections.abc import Sequence

from routecache_middleware.coordinators.table import create
from routecache_middleware.core.policy import CachePolicy
from routecache_middleware.core.ports import Clock, Coordinator, Observer
from routecache_middleware.core.settings import Settings
from routecache_middleware.engine.clock import SystemClock
from routecache_middleware.engine.engine import Engine
from routecache_middleware.telemetry.fanout import combine
from routecache_middleware.telemetry.otel import OtelObserver

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
        observers: Who watches; None: OpenTelemetry spans.
        clock: Time; None: the system's.

    Raises:
        ConfigurationError: The URL is wrong or a package it needs is missing.
    """
    clock = SystemClock() if clock is None else clock
    return Engine(
        create(url, settings, clock) if coordinator is None else coordinator,
        settings,
        policy,
        clock,
        combine([OtelObserver()] if observers is None else observers),
        owns_coordinator=coordinator is None,
    )
