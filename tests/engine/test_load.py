"""Live measurement, and what of it is published."""

import math

import pytest

from routecache_middleware.engine import load as module
from routecache_middleware.engine.load import LoadTracker
from routecache_middleware.testing.clock import FakeClock


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


def test_a_model_never_called_is_not_known(clock: FakeClock) -> None:
    assert LoadTracker(clock).metrics("m") is None


def test_calls_in_flight_are_counted(clock: FakeClock) -> None:
    tracker = LoadTracker(clock)
    first, second = tracker.started("m"), tracker.started("m")
    assert first is second
    metrics = tracker.metrics("m")
    assert metrics is not None
    assert metrics.in_flight == 2
    first.ended(100.0, is_failure=False)
    second.ended(100.0, is_failure=True)
    metrics = tracker.metrics("m")
    assert metrics is not None
    assert metrics.in_flight == 0


def test_averages_start_with_the_first_observation_and_follow_the_newest(clock: FakeClock) -> None:
    tracker = LoadTracker(clock)
    load = tracker.started("m")
    load.ended(100.0, is_failure=True)
    assert (load.avg_response_time_ms, load.error_rate) == (100.0, 1.0)
    tracker.started("m").ended(200.0, is_failure=False)
    assert load.avg_response_time_ms == pytest.approx(120.0)
    assert load.error_rate == pytest.approx(0.8)


def test_the_rate_settles_at_the_calls_per_second_and_decays(clock: FakeClock) -> None:
    tracker = LoadTracker(clock)
    for _ in range(1000):
        clock.advance(0.1)
        tracker.started("m").ended(1.0, is_failure=False)
    load = tracker.known()["m"]
    assert load.rate(clock.monotonic_s()) == pytest.approx(10.0, rel=0.02)
    clock.advance(10.0)
    assert load.rate(clock.monotonic_s()) == pytest.approx(10.0 / math.e, rel=0.02)


def test_numbers_are_due_once_a_second(clock: FakeClock) -> None:
    tracker = LoadTracker(clock)
    load = tracker.started("m")
    assert (tracker.is_due(load), load.is_changed) == (True, True)
    tracker.published("m")
    assert (tracker.is_due(load), load.is_changed) == (False, False)
    clock.advance(1.0)
    assert tracker.is_due(load)


def test_the_number_of_models_is_bounded_and_busy_ones_stay(
    clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Model names come from clients."""
    monkeypatch.setattr(module, "_MAX_MODELS", 3)
    tracker = LoadTracker(clock)
    busy = tracker.started("busy")
    tracker.started("idle").ended(1.0, is_failure=False)
    tracker.started("busy too")
    tracker.started("new")
    assert list(tracker.known()) == ["busy", "busy too", "new"]
    tracker.started("newer")  # nobody is idle: counting right matters more than the bound
    assert list(tracker.known()) == ["busy", "busy too", "new", "newer"]
    busy.ended(1.0, is_failure=False)
    assert tracker.metrics("busy") is not None
