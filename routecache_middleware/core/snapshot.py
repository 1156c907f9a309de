"""MetricsSnapshot: all numbers of one process at one moment, and how those of several add up.

Numbers that every process of a shared coordinator would report alike, such as how many entries it
holds, are marked as shared: of them the greatest counts, of gauges the least, and all others add
up.
"""

from collections.abc import Iterable, Mapping
from math import floor, isfinite, log2
from typing import Final

import msgspec
from msgspec.structs import replace

from routecache_middleware.core.metrics import BY_NAME, Kind, Metric

__all__ = ["NO_METRICS", "MetricsSnapshot", "Series", "decode_snapshot", "even", "merged"]

_CUMULATIVE = frozenset({Kind.COUNTER, Kind.HISTOGRAM})
_GRAIN: Final = 2.0**-20
_GRAIN_USD: Final = 2.0**-30  # an answer may cost a few millionths
_MOST_GRAINS: Final = 2.0**53  # a float has so many bits


class Series(msgspec.Struct, frozen=True, array_like=True):
    """One series of a metric.

    Attributes:
        labels: Values of the metric's attributes, in the metric's order.
        value: The number; of a histogram the sum of all values.
        counts: Of a histogram: how many values fell into each bucket, the last one beyond all
            bounds.
        is_shared: Whether every process reports this number of the same thing.
    """

    labels: tuple[str, ...]
    value: int | float
    counts: tuple[int, ...] = ()
    is_shared: bool = False


class MetricsSnapshot(msgspec.Struct, frozen=True):
    """The numbers of one process, or of several together.

    Attributes:
        series: Metric name to its series. Only metrics of this version.
        workers: How many processes they are of, those that are gone not counted.
    """

    series: Mapping[str, tuple[Series, ...]] = {}
    workers: int = 1

    def of(self, metric: Metric) -> tuple[Series, ...]:
        """All series of a metric."""
        return self.series.get(metric.name, ())

    def value(self, metric: Metric, *labels: str) -> int | float:
        """Sum of the series whose labels begin with ``labels``; 0 when there is none."""
        return sum(one.value for one in self.of(metric) if one.labels[: len(labels)] == labels)

    def cumulative(self) -> "MetricsSnapshot":
        """What still counts of a process that is gone: what it has done, not what it had."""
        kept = {
            name: tuple(one for one in series if not one.is_shared)
            for name, series in self.series.items()
            if BY_NAME[name].kind in _CUMULATIVE
        }
        return MetricsSnapshot({name: series for name, series in kept.items() if series}, workers=0)

    def evened(self) -> "MetricsSnapshot":
        """The same with values that add up to the same in any order; see :func:`even`."""
        series = {
            name: tuple(replace(one, value=even(BY_NAME[name], one.value)) for one in every)
            for name, every in self.series.items()
        }
        return MetricsSnapshot(series, self.workers)

    def gauges(self) -> "MetricsSnapshot":
        """What is the case now, and nothing that was counted; of no process."""
        kept = {
            name: series for name, series in self.series.items() if BY_NAME[name].kind is Kind.GAUGE
        }
        return MetricsSnapshot(kept, workers=0)

    def since(self, base: "MetricsSnapshot") -> "MetricsSnapshot":
        """The same without what ``base`` counts already, which is an earlier one of the process."""
        earlier = {
            (name, one.labels): one for name, series in base.series.items() for one in series
        }
        series = {
            name: tuple(
                _minus(one, earlier.get((name, one.labels)))
                if BY_NAME[name].kind in _CUMULATIVE and not one.is_shared
                else one
                for one in every
            )
            for name, every in self.series.items()
        }
        return MetricsSnapshot(series, self.workers)


NO_METRICS = MetricsSnapshot(workers=0)
"""Nothing counted."""


def merged(snapshots: Iterable[MetricsSnapshot]) -> MetricsSnapshot:
    """Return what the snapshots come to together. The order does not matter."""
    totals: dict[str, dict[tuple[str, ...], Series]] = {}
    workers = 0
    for snapshot in snapshots:
        workers += snapshot.workers
        for name, series in snapshot.series.items():
            total = totals.setdefault(name, {})
            kind = BY_NAME[name].kind
            for one in series:
                other = total.get(one.labels)
                total[one.labels] = one if other is None else _plus(kind, one, other)
    summed = {
        name: tuple(total[labels] for labels in sorted(total)) for name, total in totals.items()
    }
    return MetricsSnapshot(summed, workers)


def even(metric: Metric, value: float) -> int | float:
    """Return a value of a metric rounded down to a multiple of its grain, a power of two.

    The grain is a millionth of a second, a milliardth of a dollar, or of a histogram a thousandth
    of its smallest bound. Sums of such floats are not rounded, so that their order does not matter.
    Of others a sum may fall by its last bit when a process that is gone is added elsewhere. And a
    counter that falls, by however little, has restarted as Prometheus sees it: all of it counts
    once more.
    """
    if isinstance(value, int):
        return value
    grain = _GRAIN_USD if metric.unit == "{USD}" else _GRAIN
    if metric.bounds:
        grain = 2.0 ** (floor(log2(metric.bounds[0])) - 10)
    grains = value / grain
    return floor(grains) * grain if grains < _MOST_GRAINS else value


def decode_snapshot(packed: object) -> MetricsSnapshot:
    """Take a snapshot in from another process, perhaps of another version.

    What this version does not know, or knows otherwise, is left out.

    Raises:
        ValueError: It is none.
    """
    read = msgspec.convert(packed, MetricsSnapshot)
    known = {
        name: tuple(one for one in series if _is_of(BY_NAME[name], one))
        for name, series in read.series.items()
        if name in BY_NAME
    }
    return MetricsSnapshot(known, read.workers)


def _is_of(metric: Metric, one: Series) -> bool:
    buckets = len(metric.bounds) + 1 if metric.kind is Kind.HISTOGRAM else 0
    is_sound = isfinite(one.value) and min(one.value, *one.counts, 0) >= 0
    return is_sound and len(one.labels) == len(metric.attributes) and len(one.counts) == buckets


def _plus(kind: Kind, one: Series, other: Series) -> Series:
    if kind is Kind.GAUGE:
        return min(one, other, key=_value)
    if one.is_shared or other.is_shared:
        return max(one, other, key=_value)
    counts = tuple(map(sum, zip(one.counts, other.counts, strict=True)))
    return Series(one.labels, one.value + other.value, counts)


def _minus(one: Series, base: Series | None) -> Series:
    if base is None:
        return one
    counts = tuple(now - then for now, then in zip(one.counts, base.counts, strict=True))
    return Series(one.labels, one.value - base.value, counts)


def _value(one: Series) -> int | float:
    return one.value
