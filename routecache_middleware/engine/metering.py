"""What a process has counted and measured, as one :class:`.MetricsSnapshot`.

Reading takes some 100 us and changes nothing: the numbers are read while requests go on, so those
of one moment may be a request apart.
"""

import asyncio
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import Future

from routecache_middleware.core import metrics
from routecache_middleware.core.keys import Layer
from routecache_middleware.core.metrics import Metric
from routecache_middleware.core.models import DiscardReason, Outcome, StaleReason
from routecache_middleware.core.ports import Coordinator, LayerUsage
from routecache_middleware.core.snapshot import MetricsSnapshot, Series
from routecache_middleware.engine.engine import Engine
from routecache_middleware.engine.measures import Histogram, LayerMeasures
from routecache_middleware.engine.recorder import LayerCounters, Recorder, Waited

__all__ = ["NEAR", "take_snapshot", "take_snapshot_anywhere"]

NEAR = "memory"
"""The layer of what a process keeps near, in front of a shared coordinator."""

_PATIENCE_S = 0.5  # of a thread that exports metrics
_TOO_LARGE = frozenset({DiscardReason.TOO_LARGE.value, DiscardReason.CAPTURE_FULL.value})
_INCOMPLETE = frozenset({DiscardReason.INCOMPLETE.value, DiscardReason.TRAILERS.value})


def take_snapshot(engine: Engine) -> MetricsSnapshot:
    """Return all numbers of this process. Metrics of which there is nothing yet are absent."""
    recorder, where = engine.recorder, engine.coordinator.name
    found: dict[str, list[Series]] = {}
    for metric, one in (
        *_counted(recorder, where),
        *_measured(recorder, where),
        *_held(engine.coordinator),
        *_now(engine),
        *_saved(recorder),
    ):
        found.setdefault(metric.name, []).append(one)
    return MetricsSnapshot({name: tuple(series) for name, series in found.items()})


def take_snapshot_anywhere(engine: Engine) -> MetricsSnapshot | None:
    """As :func:`take_snapshot`, from any thread; None when the event loop is too busy to answer.

    A coordinator may be asked for its figures by its own event loop only.
    """
    loop = engine.loop
    if loop is None or not loop.is_running() or loop is _running_loop():
        return take_snapshot(engine)
    taken: Future[MetricsSnapshot] = Future()
    try:
        loop.call_soon_threadsafe(_take_into, taken, engine)
        return taken.result(_PATIENCE_S)
    except (RuntimeError, TimeoutError):  # the loop was closed meanwhile, or is busy
        taken.cancel()
        return None


def _take_into(taken: "Future[MetricsSnapshot]", engine: Engine) -> None:
    if taken.set_running_or_notify_cancel():
        try:
            taken.set_result(take_snapshot(engine))
        except Exception as error:  # noqa: BLE001 - it is the asking thread's to hear of
            taken.set_exception(error)


def _running_loop() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


_Found = Iterator[tuple[Metric, Series]]


def _counted(recorder: Recorder, where: str) -> _Found:
    for layer, counters in recorder.layers.items():
        for outcome, count in _outcomes(counters):
            found_at = where if outcome in {Outcome.HIT, Outcome.STALE} else "none"
            yield from _some(metrics.LOOKUPS, count, layer.value, outcome.value, found_at)
        refreshed = counters.stale - counters.stale_if_error - counters.stale_max
        for why, count in (
            (StaleReason.WHILE_REVALIDATE, refreshed),
            (StaleReason.IF_ERROR, counters.stale_if_error),
            (StaleReason.MAX_STALE, counters.stale_max),
        ):
            yield from _some(metrics.STALE_RESPONSES, count, layer.value, why.value)
        reasons = recorder.discard_reasons if layer is Layer.RESULT else Counter[str]()
        for ending, count in _writes(counters, reasons):
            yield from _some(metrics.WRITES, count, layer.value, where, ending)
    for (model, verb), tally in list(recorder.models.tallies.items()):
        for outcome, count in tally.outcomes():
            yield from _some(metrics.REQUESTS, count, model, verb, outcome.value)
    for reason, count in list(recorder.bypass_reasons.items()):
        yield from _some(metrics.BYPASSES, count, reason)
    for (name, reason), count in list(recorder.miss_reasons.items()):
        yield from _some(metrics.MISSES, count, name, reason)
    for (operation, error), count in list(recorder.backend_errors.items()):
        yield from _some(metrics.BACKEND_ERRORS, count, where, operation, error)
    yield metrics.INVALIDATIONS, Series((), recorder.invalidations)


def _measured(recorder: Recorder, where: str) -> _Found:
    for layer, measures in recorder.measures.items():
        name = layer.value
        for outcome, at, histogram in _lookups(measures, where):
            yield from _filled(metrics.LOOKUP_DURATION, histogram, name, at, outcome.value)
        for how, histogram in _waits(measures):
            yield from _filled(metrics.WAIT_DURATION, histogram, name, how.value)
        yield from _filled(metrics.WRITE_DURATION, measures.write_s, name, where)
        yield from _filled(metrics.ITEM_SIZE, measures.size_bytes, name)
        yield from _filled(metrics.ENTRY_AGE, measures.age_s, name)


def _held(coordinator: Coordinator) -> _Found:
    held, is_shared = coordinator.stats(), coordinator.is_shared
    yield metrics.NODES, Series((coordinator.name,), held.nodes)
    yield from _usage(held.layers, coordinator.name, is_shared=is_shared)
    yield from _usage(held.near, NEAR, is_shared=False)


def _usage(layers: Mapping[Layer, LayerUsage], where: str, *, is_shared: bool) -> _Found:
    # Some know how many entries they hold, but not their bytes, and have no limit of ours.
    knows_bytes = any(usage.bytes for usage in layers.values())
    for layer, usage in layers.items():
        place = (layer.value, where)
        yield metrics.ENTRY_COUNT, Series(place, usage.entries, is_shared=is_shared)
        if knows_bytes:
            yield metrics.STORAGE_USAGE, Series(place, usage.bytes, is_shared=is_shared)
        if knows_bytes and usage.limit_bytes and not usage.is_estimate:
            yield metrics.STORAGE_LIMIT, Series(place, usage.limit_bytes, is_shared=is_shared)
        evicted = Series((*place, "capacity"), usage.evictions, is_shared=is_shared)
        yield metrics.EVICTIONS, evicted


def _now(engine: Engine) -> _Found:
    coordinator = engine.coordinator
    # What is guarded says so; what is not cannot be down without this process.
    is_up = getattr(coordinator, "is_reading", True) and getattr(coordinator, "is_writing", True)
    yield metrics.BACKEND_UP, Series((coordinator.name,), int(is_up))
    yield metrics.FLIGHTS, Series((Layer.RESULT.value,), len(engine.live))


def _saved(recorder: Recorder) -> _Found:
    tokens: Counter[tuple[str, str]] = Counter()
    cost_usd: dict[str, float] = {}
    for layer, saved in recorder.saved.items():
        if not saved:
            continue
        rows = list(saved.rows(layer, recorder.prices()))
        for row in rows:
            model = recorder.models.name(row.model)
            tokens["input", model] += row.input_tokens
            tokens["output", model] += row.output_tokens
            cost_usd[model] = cost_usd.get(model, 0.0) + (row.usd or 0.0)
        yield from _some(metrics.SAVED_TIME, sum(row.upstream_s for row in rows), layer.value)
        timed = sum(row.requests - row.without_time for row in rows)
        yield from _some(metrics.SAVED_VALUES, timed, layer.value)
    for place, count in tokens.items():
        yield from _some(metrics.SAVED_TOKENS, count, *place)
    for model, usd in cost_usd.items():
        yield from _some(metrics.SAVED_COST, usd, model)


def _some(metric: Metric, count: float, *labels: str) -> _Found:
    if count:
        yield metric, Series(labels, count)


def _filled(metric: Metric, histogram: Histogram, *labels: str) -> _Found:
    counts = tuple(histogram.counts)
    if any(counts):
        yield metric, Series(labels, histogram.total, counts)


def _outcomes(counters: LayerCounters) -> Iterable[tuple[Outcome, int]]:
    return (
        (Outcome.HIT, counters.hits),
        (Outcome.STALE, counters.stale),
        (Outcome.MISS, counters.misses),
        (Outcome.COALESCED, counters.coalesced),
        (Outcome.BYPASS, counters.bypasses),
        (Outcome.ERROR, counters.errors),
    )


def _writes(counters: LayerCounters, reasons: Counter[str]) -> Iterable[tuple[str, int]]:
    known = dict(reasons)
    too_large = sum(known.get(reason, 0) for reason in _TOO_LARGE)
    incomplete = sum(known.get(reason, 0) for reason in _INCOMPLETE)
    return (
        ("stored", counters.writes),
        ("error", counters.write_errors),
        ("too_large", too_large),
        ("incomplete", incomplete),
        ("not_cacheable", sum(known.values()) - too_large - incomplete),
        # No fault of the value's: a lease was lost, or what it was made of is out of date.
        ("dropped", counters.discards - sum(known.values())),
    )


def _lookups(measures: LayerMeasures, where: str) -> Iterable[tuple[Outcome, str, Histogram]]:
    return (
        (Outcome.HIT, where, measures.hit_s),
        (Outcome.STALE, where, measures.stale_s),
        (Outcome.MISS, "none", measures.miss_s),
        (Outcome.ERROR, where, measures.error_s),
    )


def _waits(measures: LayerMeasures) -> Iterable[tuple[Waited, Histogram]]:
    return (
        (Waited.SHARED, measures.shared_s),
        (Waited.TIMEOUT, measures.timeout_s),
        (Waited.LEADER_FAILED, measures.failed_s),
    )
