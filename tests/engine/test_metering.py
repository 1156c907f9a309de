import asyncio

import pytest

from routecache_middleware import RouteCache, Settings
from routecache_middleware.coordinators.memory import MemoryCoordinator
from routecache_middleware.coordinators.tiered import TieredCoordinator
from routecache_middleware.core import metrics
from routecache_middleware.core.keys import Layer
from routecache_middleware.core.metrics import METRICS, Kind, Metric
from routecache_middleware.core.models import (
    BypassReason,
    DiscardReason,
    Entry,
    MissReason,
    RoutingDecision,
)
from routecache_middleware.core.ports import CoordinatorStats, LayerUsage
from routecache_middleware.core.prices import Price, Prices
from routecache_middleware.core.snapshot import MetricsSnapshot, Series
from routecache_middleware.engine.engine import Engine
from routecache_middleware.engine.metering import take_snapshot
from routecache_middleware.engine.recorder import Waited
from routecache_middleware.errors import CoordinatorError
from routecache_middleware.testing.clock import FakeClock


def new_cache(clock: FakeClock | None = None) -> RouteCache:
    return RouteCache(url="memory://", settings=Settings(), observers=[], clock=clock)


def counts(snapshot: MetricsSnapshot, metric: Metric) -> dict[tuple[str, ...], float]:
    return {one.labels: one.value for one in snapshot.of(metric)}


def test_a_new_cache_has_counted_nothing() -> None:
    snapshot = take_snapshot(new_cache().engine)
    assert set(snapshot.series) == {
        "routecache.backend.up",
        "routecache.entry.count",
        "routecache.evictions",
        "routecache.flight.active",
        "routecache.invalidations",
        "routecache.nodes",
    }
    assert snapshot.value(metrics.BACKEND_UP, "memory") == 1
    assert snapshot.workers == 1


async def test_what_happens_to_a_decision_is_counted_and_measured() -> None:
    clock = FakeClock()
    async with new_cache(clock) as cache:

        async def decide() -> RoutingDecision:
            await asyncio.sleep(0)
            return RoutingDecision("m")

        await asyncio.gather(cache.route("q", decide), cache.route("q", decide))
        clock.advance(45)
        await cache.route("q", decide)
        await cache.invalidate_model("m")
        snapshot = take_snapshot(cache.engine)
    assert counts(snapshot, metrics.LOOKUPS) == {
        ("route", "hit", "memory"): 1,
        ("route", "miss", "none"): 1,
        ("route", "coalesced", "none"): 1,
    }
    durations = {one.labels: sum(one.counts) for one in snapshot.of(metrics.LOOKUP_DURATION)}
    assert durations == {("route", "memory", "hit"): 1, ("route", "none", "miss"): 2}
    (wait,) = snapshot.of(metrics.WAIT_DURATION)
    assert (wait.labels, sum(wait.counts)) == (("route", "shared"), 1)
    (age,) = snapshot.of(metrics.ENTRY_AGE)
    assert (age.labels, age.value, age.counts[2]) == (("route",), 45, 1)
    assert counts(snapshot, metrics.WRITES) == {("route", "memory", "stored"): 1}
    (size,) = snapshot.of(metrics.ITEM_SIZE)
    assert sum(size.counts) == 1
    assert snapshot.value(metrics.INVALIDATIONS) == 1


async def test_a_waiter_whose_leader_fails_has_waited_in_vain() -> None:
    async with new_cache() as cache:

        async def fail() -> RoutingDecision:
            await asyncio.sleep(0)
            raise ValueError("no")

        async def decide() -> RoutingDecision:
            return RoutingDecision("m")

        first = asyncio.ensure_future(cache.route("q", fail))
        second = asyncio.ensure_future(cache.route("q", decide))
        with pytest.raises(ValueError, match="no"):
            await first
        await second
        (wait,) = take_snapshot(cache.engine).of(metrics.WAIT_DURATION)
    assert wait.labels == ("route", "leader_failed")


def test_reasons_become_the_words_of_the_table() -> None:
    engine = new_cache().engine
    recorder = engine.recorder
    for reason in (
        DiscardReason.TOO_LARGE,
        DiscardReason.CAPTURE_FULL,
        DiscardReason.INCOMPLETE,
        DiscardReason.VETOED,
    ):
        recorder.discarded(reason)
    recorder.result.discards += 1
    recorder.result.write_errors += 5
    recorder.bypassed(BypassReason.NO_STORE)
    recorder.result.stale, recorder.result.stale_if_error, recorder.result.stale_max = 6, 2, 1
    snapshot = take_snapshot(engine)
    assert counts(snapshot, metrics.WRITES) == {
        ("result", "memory", "error"): 5,
        ("result", "memory", "too_large"): 2,
        ("result", "memory", "incomplete"): 1,
        ("result", "memory", "not_cacheable"): 1,
        ("result", "memory", "dropped"): 1,
    }
    assert counts(snapshot, metrics.BYPASSES) == {("no-store",): 1}
    assert counts(snapshot, metrics.STALE_RESPONSES) == {
        ("result", "while_revalidate"): 3,
        ("result", "if_error"): 2,
        ("result", "max_stale"): 1,
    }


def every_metric(engine: Engine) -> MetricsSnapshot:
    """Move every counter there is."""
    recorder = engine.recorder
    recorder.prices = lambda: Prices({"m": Price(250_000.0)})
    made = Entry(Layer.RESULT, b"{}", 0.0, 1.0, model_id="m", cost_ms=1500.0, input_tokens=1)
    recorder.saved_results.served(made, "")
    recorder.backend_failed("get", CoordinatorError("x"))
    recorder.bypassed(BypassReason.NO_STORE)
    recorder.missed(Layer.RESULT, MissReason.EXPIRED)
    recorder.result.hits = recorder.result.stale = 1
    recorder.models.tally("m", "chat").hits = 1
    recorder.waited(Layer.RESULT, Waited.TIMEOUT, 1.0)
    recorder.wrote(Layer.RESULT, "memory", 0.1, 100)
    recorder.result.writes = 1
    recorder.measures[Layer.RESULT].hit_s.record(0.1)
    recorder.measures[Layer.RESULT].age_s.record(0.1)
    return take_snapshot(engine)


async def test_every_metric_of_the_table_can_be_moved() -> None:
    async with new_cache() as cache:
        await cache.cache_routing_decision("q", "m", 1.0)
        snapshot = every_metric(cache.engine)
    assert set(snapshot.series) == {metric.name for metric in METRICS}
    for metric in METRICS:
        for one in snapshot.of(metric):
            assert len(one.labels) == len(metric.attributes)
            wanted = len(metric.bounds) + 1 if metric.kind is Kind.HISTOGRAM else 0
            assert len(one.counts) == wanted
    assert snapshot.value(metrics.SAVED_TOKENS, "input", "m") == 1
    assert snapshot.value(metrics.SAVED_COST, "m") == 0.25
    assert snapshot.value(metrics.SAVED_TIME, "result") == 1.5
    assert snapshot.value(metrics.SAVED_VALUES, "result") == 1
    assert snapshot.of(metrics.BACKEND_ERRORS)[0].labels == ("memory", "get", "CoordinatorError")


class SharedMemory(MemoryCoordinator):
    """What several processes would share, with a breaker that is open for writes."""

    name = "shared"
    is_shared = True
    is_reading = True
    is_writing = False


def test_what_is_near_counts_apart_from_what_is_shared() -> None:
    clock = FakeClock()
    shared = SharedMemory(max_bytes=1 << 20, clock=clock)
    near = TieredCoordinator(shared, max_bytes=1 << 20, clock=clock, max_disconnected_s=5)
    cache = RouteCache(coordinator=near, settings=Settings(), observers=[], clock=clock)
    snapshot = take_snapshot(cache.engine)
    entries = snapshot.of(metrics.ENTRY_COUNT)
    assert Series(("result", "shared"), 0, is_shared=True) in entries
    assert Series(("result", "memory"), 0) in entries
    assert snapshot.value(metrics.BACKEND_UP, "shared") == 0


def test_a_store_without_a_limit_of_ours_reports_none(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = new_cache().engine
    held = CoordinatorStats({Layer.RESULT: LayerUsage(entries=3, bytes=30, evictions=2)})
    assert take_snapshot(engine).of(metrics.STORAGE_USAGE) == ()  # nor of what it does not know
    monkeypatch.setattr(engine.coordinator, "stats", lambda: held)
    snapshot = take_snapshot(engine)
    assert snapshot.of(metrics.STORAGE_LIMIT) == ()
    assert counts(snapshot, metrics.EVICTIONS) == {("result", "memory", "capacity"): 2}


def test_what_a_server_holds_is_an_estimate_and_its_limit_none_of_ours(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    engine = new_cache().engine
    usage = LayerUsage(entries=3, bytes=30, limit_bytes=7, is_estimate=True)
    monkeypatch.setattr(
        engine.coordinator, "stats", lambda: CoordinatorStats({Layer.RESULT: usage})
    )
    snapshot = take_snapshot(engine)
    assert snapshot.value(metrics.STORAGE_USAGE, "result") == 30
    assert snapshot.of(metrics.STORAGE_LIMIT) == ()
