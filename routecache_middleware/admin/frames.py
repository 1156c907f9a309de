"""Frames: what the dashboard is told each second, made of the history."""

from collections.abc import Iterable, Mapping
from itertools import groupby
from typing import Final

import msgspec

from routecache_middleware.admin.listing import LISTED
from routecache_middleware.core import metrics
from routecache_middleware.core.history import (
    RINGS,
    Figures,
    History,
    Interval,
    Ring,
    SeriesKey,
    add_figures,
)
from routecache_middleware.core.metrics import Metric
from routecache_middleware.core.snapshot import MetricsSnapshot
from routecache_middleware.engine.metering import NEAR

__all__ = ["Cards", "Frame", "Held", "Point", "Points", "Saved", "frame", "quantiles", "step_of"]

_QUANTILES: Final = (0.5, 0.95, 0.99)
_MOST_POINTS: Final = 360
_AT_ONCE: Final = 30
_MEASURED: Final = ("hit", "miss")
_LISTED: Final = frozenset(layer.value for layer in LISTED)


class Saved(msgspec.Struct, frozen=True, kw_only=True):
    """What was not spent: tokens, US dollars, and seconds that the upstream would have taken."""

    input_tokens: float = 0
    output_tokens: float = 0
    usd: float = 0.0
    time_s: float = 0.0


class Point(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What was counted in one interval, or in several together.

    Attributes:
        t: When it began, Unix seconds.
        lookups: Layer to outcome to how many.
        bypasses: Why requests were bypassed; ``misses``: layer and why nothing was found.
        models: Model to how many requests were served from the cache, and how many there were.
        latency: Layer to outcome to the 50th, 95th and 99th percentile, seconds.
        wait: The same of waiting for somebody else's answer; ``write``: of storing.
        waits: How many waited.
        with_s: How long looking up a hit took on average, seconds; ``without_s``: how long the
            answers once took that were not made again.
        evictions: Entries dropped to make room.
        errors: Operations of the coordinator that failed; ``write_errors``: writes that did.
        saved: What was not spent.
    """

    t: int
    lookups: dict[str, dict[str, float]] = {}
    bypasses: dict[str, float] = {}
    misses: dict[str, dict[str, float]] = {}
    models: dict[str, tuple[float, float]] = {}
    latency: dict[str, dict[str, tuple[float, ...]]] = {}
    wait: tuple[float, ...] = ()
    write: tuple[float, ...] = ()
    waits: float = 0
    with_s: float | None = None
    without_s: float | None = None
    evictions: float = 0
    errors: float = 0
    write_errors: float = 0
    saved: Saved = Saved()


class Held(msgspec.Struct, frozen=True, kw_only=True):
    """What is stored where: entries, and bytes of a limit as far as they are known."""

    cache: str
    place: str
    entries: float
    bytes: float | None
    limit_bytes: float | None


class Cards(msgspec.Struct, frozen=True, kw_only=True):
    """The figures at the top.

    Attributes:
        hit_rate: Window to the hit rate of all layers, 0..1; None where nothing was asked.
        served: Answers and decisions served from the cache since the first process began.
        saved: What was saved by that.
        entries: Answers, decisions and metadata in the coordinator. Load metrics are left out:
            they last for seconds, and figures of our own are kept among them.
        bytes: What all entries take, ``limit_bytes`` of how much, as far as known.
        is_up: Whether all processes reach the coordinator.
        workers: How many processes there are.
    """

    hit_rate: dict[str, float | None]
    served: float
    saved: Saved
    entries: float
    bytes: float | None
    limit_bytes: float | None
    is_up: bool
    workers: int


class Frame(msgspec.Struct, frozen=True, kw_only=True):
    """One update of the dashboard.

    Attributes:
        at_s: When its numbers were read, Unix seconds.
        window: How far it reaches back.
        step_s: How long a point's interval is, seconds.
        mode: What the cache does.
        coordinator: Its name.
        cards: The figures at the top.
        held: What is stored where.
        total: All of the window together.
        points: The intervals, those that the reader has already left out.
    """

    at_s: float
    window: str
    step_s: int
    mode: str
    coordinator: str
    cards: Cards
    held: tuple[Held, ...]
    total: Point
    points: tuple[Point, ...]


def frame(
    history: History,
    window: str,
    points: tuple[Point, ...],
    *,
    mode: str = "",
    coordinator: str = "",
) -> Frame:
    """Return an update.

    Args:
        history: Of what.
        window: How far back.
        points: Those that the reader is to be told.
        mode: What the cache does.
        coordinator: The coordinator's name.
    """
    ring = history.rings[window]
    latest = history.latest or MetricsSnapshot()
    held = _held(latest)
    return Frame(
        at_s=round(history.latest_s, 3),
        window=window,
        step_s=step_of(ring),
        mode=mode,
        coordinator=coordinator,
        cards=_cards(history, latest, held, coordinator),
        held=held,
        total=_point(int(history.latest_s) - ring.step_s * ring.length, ring.total),
        points=points,
    )


def quantiles(metric: Metric, counts: Iterable[float]) -> tuple[float, ...]:
    """Return the 50th, 95th and 99th percentile of a histogram; empty when nothing was counted.

    Inside a bucket values are taken to lie evenly, and beyond the last bound on it, as Prometheus'
    ``histogram_quantile`` has it.
    """
    buckets = list(counts)
    total = sum(buckets)
    if total <= 0:
        return ()
    return tuple(_quantile(metric.bounds, buckets, total * share) for share in _QUANTILES)


def _quantile(bounds: tuple[float, ...], buckets: list[float], rank: float) -> float:
    below = 0.0
    for place, count in enumerate(buckets[:-1]):
        if count and below + count >= rank:
            low = bounds[place - 1] if place else 0.0
            return low + (bounds[place] - low) * (rank - below) / count
        below += count
    return bounds[-1]


def step_of(ring: Ring) -> int:
    """Return how long a point's interval is: no more points than there are dots to draw them."""
    return ring.step_s * max(1, -(-ring.length // _MOST_POINTS))


class Points:
    """The points of one window. Those whose time is over are made once, a few at a time.

    A day's take 100 ms of CPU with 20 models, which no request of a gateway should wait for.
    """

    def __init__(self, ring: Ring) -> None:
        self._ring = ring
        self._made: dict[int, Point] = {}

    def grow(self) -> bool:
        """Make some of those that are missing; says whether there may be more."""
        *over, _ = self._groups() or [(0, [])]  # the latest one is not over yet
        missing = [group for group in over if group[0] not in self._made][:_AT_ONCE]
        for start_s, intervals in missing:
            self._made[start_s] = _joined(start_s, intervals)
        kept = {start_s for start_s, _ in over}
        self._made = {at: point for at, point in self._made.items() if at in kept}
        return len(missing) == _AT_ONCE

    def since(self, since_s: int) -> tuple[Point, ...]:
        """Return those from a time on, the one that is not over yet included."""
        return tuple(
            self._made.get(start_s) or _joined(start_s, intervals)
            for start_s, intervals in self._groups()
            if start_s >= since_s
        )

    def _groups(self) -> list[tuple[int, list[Interval]]]:
        step_s = step_of(self._ring)
        groups = groupby(self._ring, key=lambda one: one.start_s // step_s * step_s)
        return [(start_s, list(intervals)) for start_s, intervals in groups]


def _joined(start_s: int, intervals: Iterable[Interval]) -> Point:
    found: dict[SeriesKey, tuple[float, ...]] = {}
    for one in intervals:
        add_figures(found, one.figures)
    return _point(start_s, found)


def _point(start_s: int, figures: Figures) -> Point:
    by_name: dict[str, dict[SeriesKey, tuple[float, ...]]] = {}
    for (name, *labels), values in figures.items():
        by_name.setdefault(name, {})[tuple(labels)] = values
    lookups = _nested(by_name, metrics.LOOKUPS)
    saved = _saved(by_name)
    wait, write = _all(by_name, metrics.WAIT_DURATION), _all(by_name, metrics.WRITE_DURATION)
    return Point(
        t=start_s,
        lookups=lookups,
        bypasses={key[0]: one[0] for key, one in by_name.get(metrics.BYPASSES.name, {}).items()},
        misses=_nested(by_name, metrics.MISSES),
        models=_models(by_name.get(metrics.REQUESTS.name, {})),
        latency=_latency(by_name.get(metrics.LOOKUP_DURATION.name, {})),
        wait=quantiles(metrics.WAIT_DURATION, wait[1:]),
        write=quantiles(metrics.WRITE_DURATION, write[1:]),
        waits=sum(wait[1:]),
        with_s=_mean_hit_s(by_name),
        without_s=_mean_made_s(by_name),
        evictions=_sum(by_name, metrics.EVICTIONS),
        errors=_sum(by_name, metrics.BACKEND_ERRORS),
        write_errors=sum(
            one[0] for key, one in by_name.get(metrics.WRITES.name, {}).items() if key[1] == "error"
        ),
        saved=saved,
    )


_ByName = Mapping[str, Mapping[SeriesKey, tuple[float, ...]]]


def _nested(by_name: _ByName, metric: Metric) -> dict[str, dict[str, float]]:
    found: dict[str, dict[str, float]] = {}
    for (layer, word), values in by_name.get(metric.name, {}).items():
        found.setdefault(layer, {})[word] = values[0]
    return found


def _models(series: Mapping[SeriesKey, tuple[float, ...]]) -> dict[str, tuple[float, float]]:
    found: dict[str, tuple[float, float]] = {}
    for (model, how), values in series.items():
        served, asked = found.get(model, (0.0, 0.0))
        found[model] = (served + values[0] * (how == "served"), asked + values[0])
    return found


def _latency(
    series: Mapping[SeriesKey, tuple[float, ...]],
) -> dict[str, dict[str, tuple[float, ...]]]:
    found: dict[str, dict[str, tuple[float, ...]]] = {}
    for (layer, outcome), values in series.items():
        if outcome in _MEASURED:
            measured = quantiles(metrics.LOOKUP_DURATION, values[1:])
            found.setdefault(layer, {})[outcome] = measured
    return found


def _mean_hit_s(by_name: _ByName) -> float | None:
    values = by_name.get(metrics.LOOKUP_DURATION.name, {}).get(("result", "hit"))
    return None if values is None else values[0] / sum(values[1:])


def _mean_made_s(by_name: _ByName) -> float | None:
    # Not by the number of hits: what another process has just stored saves time and is none.
    values = by_name.get(metrics.SAVED_VALUES.name, {}).get(("result",))
    took = by_name.get(metrics.SAVED_TIME.name, {}).get(("result",), (0.0,))
    return None if values is None else took[0] / values[0]


def _saved(by_name: _ByName) -> Saved:
    tokens = by_name.get(metrics.SAVED_TOKENS.name, {})
    return Saved(
        input_tokens=tokens.get(("input",), (0,))[0],
        output_tokens=tokens.get(("output",), (0,))[0],
        usd=_sum(by_name, metrics.SAVED_COST),
        time_s=_sum(by_name, metrics.SAVED_TIME),
    )


def _all(by_name: _ByName, metric: Metric) -> tuple[float, ...]:
    every = by_name.get(metric.name, {}).values()
    return tuple(map(sum, zip(*every, strict=True)))


def _sum(by_name: _ByName, metric: Metric) -> float:
    return sum(values[0] for values in by_name.get(metric.name, {}).values())


def _hit_rate(total: Figures) -> float | None:
    served = asked = 0.0
    for (name, *labels), values in total.items():
        if name == metrics.LOOKUPS.name and labels[1] != "bypass":
            asked += values[0]
            served += values[0] * (labels[1] in {"hit", "stale"})
    return served / asked if asked else None


def _held(latest: MetricsSnapshot) -> tuple[Held, ...]:
    used = {one.labels: one.value for one in latest.of(metrics.STORAGE_USAGE)}
    limits = {one.labels: one.value for one in latest.of(metrics.STORAGE_LIMIT)}
    return tuple(
        Held(
            cache=one.labels[0],
            place=one.labels[1],
            entries=one.value,
            bytes=used.get(one.labels),
            limit_bytes=limits.get(one.labels),
        )
        for one in latest.of(metrics.ENTRY_COUNT)
    )


def _cards(
    history: History, latest: MetricsSnapshot, held: tuple[Held, ...], coordinator: str
) -> Cards:
    is_shared = coordinator != NEAR
    own = [one for one in held if not (is_shared and one.place == NEAR)]
    known = [one.bytes for one in own if one.bytes is not None]
    limits = [one.limit_bytes for one in own if one.limit_bytes is not None]
    return Cards(
        hit_rate={name: _hit_rate(history.rings[name].total) for name in RINGS},
        served=sum(
            one.value for one in latest.of(metrics.LOOKUPS) if one.labels[1] in {"hit", "stale"}
        ),
        saved=Saved(
            input_tokens=latest.value(metrics.SAVED_TOKENS, "input"),
            output_tokens=latest.value(metrics.SAVED_TOKENS, "output"),
            usd=latest.value(metrics.SAVED_COST),
            time_s=latest.value(metrics.SAVED_TIME),
        ),
        entries=sum(one.entries for one in own if one.cache in _LISTED),
        bytes=sum(known) if known else None,
        limit_bytes=sum(limits) if limits else None,
        is_up=all(one.value for one in latest.of(metrics.BACKEND_UP)),
        workers=latest.workers,
    )
