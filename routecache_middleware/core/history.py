"""History: what was counted in each second, ten seconds and minute, as far as people look back.

Three rings of intervals: 1 s for 5 minutes, 10 s for an hour, 60 s for a day. An interval holds by
how much each counter has moved, so intervals add up: to longer ones, and to what a whole ring has
seen, which is kept as a running sum. What is the case now (how many entries there are) is no part
of that; the latest value counts.

Only what somebody looks at is kept, and that by few words: of requests the model and whether they
were served, of everything else no model. With 50 models a day takes 20 MB at most.
"""

from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from typing import Final

import msgspec

from routecache_middleware.core import metrics
from routecache_middleware.core.metrics import Kind, Metric
from routecache_middleware.core.snapshot import MetricsSnapshot, Series

__all__ = [
    "CHUNK",
    "RINGS",
    "Figures",
    "History",
    "Interval",
    "Ring",
    "SeriesKey",
    "add_figures",
    "decode_chunk",
    "encode_chunk",
    "figures_of",
]

SeriesKey = tuple[str, ...]
"""A metric's name and some of its labels."""

Figures = Mapping[SeriesKey, tuple[float, ...]]
"""By how much each series has moved: its value, and of a histogram how much fell where."""

RINGS: Final[Mapping[str, tuple[int, int]]] = {"5m": (1, 300), "1h": (10, 360), "24h": (60, 1440)}
"""The rings: how long an interval is, seconds, and how many there are."""

CHUNK: Final = 60
"""How many intervals are written together."""

# Metric to how many of its labels are kept, the first ones.
_KEPT: Final[Mapping[Metric, int]] = {
    metrics.LOOKUPS: 2,
    metrics.MISSES: 2,
    metrics.BYPASSES: 1,
    metrics.LOOKUP_DURATION: 3,
    metrics.WAIT_DURATION: 1,
    metrics.WRITE_DURATION: 1,
    metrics.WRITES: 3,
    metrics.EVICTIONS: 1,
    metrics.BACKEND_ERRORS: 3,
    metrics.INVALIDATIONS: 0,
    metrics.SAVED_TOKENS: 1,
    metrics.SAVED_COST: 0,
    metrics.SAVED_TIME: 1,
    metrics.SAVED_VALUES: 1,
}
_SET_BACK_S: Final = 120  # by so much a clock may be set back, and nothing is given up
_DUST: Final = 1e-9  # what is left of floats that were added and taken away again
_SERVED: Final = frozenset({"hit", "stale"})
_LAYER_AND_OUTCOME: Final = frozenset({metrics.LOOKUP_DURATION, metrics.WRITES})


class Interval(msgspec.Struct, array_like=True):
    """What was counted in a while.

    Attributes:
        start_s: When it began, Unix seconds: a multiple of its ring's step.
        figures: What has moved, by how much.
    """

    start_s: int
    figures: dict[SeriesKey, tuple[float, ...]]


class Ring:
    """The latest intervals of one length.

    Attributes:
        step_s: How long an interval is, seconds.
        length: How many there are at most.
        total: What all of them come to.
    """

    def __init__(self, step_s: int, length: int) -> None:
        self.step_s = step_s
        self.length = length
        self.total: dict[SeriesKey, tuple[float, ...]] = {}
        self._intervals: deque[Interval] = deque()

    def __iter__(self) -> Iterator[Interval]:
        return iter(self._intervals)

    def __len__(self) -> int:
        return len(self._intervals)

    def add(self, figures: Figures, now_s: float) -> None:
        """Take in what has moved until ``now_s``."""
        start_s = int(now_s // self.step_s) * self.step_s
        last = self._intervals[-1] if self._intervals else None
        if last is not None and last.start_s > start_s + self.step_s * self.length + _SET_BACK_S:
            # The clock was far ahead, and was put right: what was kept then is of no known time.
            self._intervals.clear()
            self.total.clear()
            last = None
        if last is not None and last.start_s >= start_s:  # the clock may have been set back
            add_figures(last.figures, figures)
        else:
            self._intervals.append(Interval(start_s, dict(figures)))
        add_figures(self.total, figures)
        self._forget(start_s)

    def put(self, intervals: Iterable[Interval], now_s: float) -> None:
        """Take in intervals that somebody else has kept, where there is none yet."""
        known = {one.start_s for one in self._intervals}
        newest_s = int(now_s // self.step_s) * self.step_s
        new = [one for one in intervals if self._fits(one, newest_s) and one.start_s not in known]
        if not new:
            return
        self._intervals = deque(sorted((*self._intervals, *new), key=_start))
        for one in new:
            add_figures(self.total, one.figures)
        self._forget(self._intervals[-1].start_s)

    def chunk(self, number: int) -> list[Interval]:
        """Return the intervals that are written together under a number."""
        span_s = CHUNK * self.step_s
        return [one for one in self._intervals if one.start_s // span_s == number]

    def numbers(self, now_s: float) -> range:
        """Return the numbers of the chunks that reach back as far as the ring."""
        span_s = CHUNK * self.step_s
        last = int(now_s) // span_s
        return range(int(now_s - self.step_s * self.length) // span_s, last + 1)

    def _fits(self, one: Interval, newest_s: int) -> bool:
        is_aligned = one.start_s % self.step_s == 0
        return is_aligned and newest_s - self.step_s * self.length < one.start_s <= newest_s

    def _forget(self, newest_s: int) -> None:
        oldest_s = newest_s - self.step_s * self.length
        while self._intervals[0].start_s <= oldest_s:
            _take(self.total, self._intervals.popleft().figures)


class History:
    """All rings, fed with snapshots.

    Attributes:
        rings: By how far back they reach.
        latest: The snapshot taken in last, or None.
        latest_s: When that was, Unix seconds.
    """

    def __init__(self) -> None:
        self.rings = {name: Ring(step_s, length) for name, (step_s, length) in RINGS.items()}
        self.latest: MetricsSnapshot | None = None
        self.latest_s = 0.0
        self._before: Figures | None = None

    def add(self, snapshot: MetricsSnapshot, now_s: float) -> None:
        """Take a snapshot in. The first one says only where counting begins."""
        figures, before = figures_of(snapshot), self._before
        self.latest, self.latest_s, self._before = snapshot, now_s, figures
        if before is None:
            return
        moved, self._before = _moved(figures, before)
        for ring in self.rings.values():
            ring.add(moved, now_s)


def figures_of(snapshot: MetricsSnapshot) -> dict[SeriesKey, tuple[float, ...]]:
    """Return what is kept of a snapshot: all that only ever grows, by few words."""
    found: dict[SeriesKey, tuple[float, ...]] = {}
    for metric, kept in _KEPT.items():
        for one in snapshot.of(metric):
            add_figures(found, {_key(metric, kept, one): _values(metric, one)})
    for one in snapshot.of(metrics.REQUESTS):
        model, _, outcome = one.labels
        how = "served" if outcome in _SERVED else "asked"
        if outcome != "bypass":
            add_figures(found, {(metrics.REQUESTS.name, model, how): (one.value,)})
    return found


def encode_chunk(intervals: Iterable[Interval]) -> bytes:
    """Return intervals as bytes."""
    packed = [(one.start_s, list(one.figures.items())) for one in intervals]
    return msgspec.msgpack.encode(packed)


_PACKED: Final = msgspec.msgpack.Decoder(
    list[tuple[int, list[tuple[tuple[str, ...], tuple[float, ...]]]]]
)


def decode_chunk(packed: bytes) -> list[Interval]:
    """Return the intervals in what another process, perhaps of another version, has written.

    What this version would not have written is left out.
    """
    try:
        found = _PACKED.decode(packed)
    except (ValueError, RecursionError):
        return []
    return [
        Interval(start_s, {key: values for key, values in figures if _is_known(key, values)})
        for start_s, figures in found
    ]


def _key(metric: Metric, kept: int, one: Series) -> SeriesKey:
    if metric in _LAYER_AND_OUTCOME:  # the place between them is the same for all
        return (metric.name, one.labels[0], one.labels[2])
    return (metric.name, *one.labels[:kept])


def _values(metric: Metric, one: Series) -> tuple[float, ...]:
    return (one.value, *one.counts) if metric.kind is Kind.HISTOGRAM else (one.value,)


_SIZES: Final = {
    metric.name: len(metric.bounds) + 2 if metric.kind is Kind.HISTOGRAM else 1
    for metric in (*_KEPT, metrics.REQUESTS)
}


def _is_known(key: SeriesKey, values: tuple[float, ...]) -> bool:
    is_one = bool(key) and _SIZES.get(key[0]) == len(values)
    return is_one and all(0 <= value < float("inf") for value in values)


def add_figures(to: dict[SeriesKey, tuple[float, ...]], figures: Figures) -> None:
    """Add figures to others, in place."""
    for key, values in figures.items():
        held = to.get(key)
        to[key] = (
            values
            if held is None
            else tuple(one + more for one, more in zip(held, values, strict=True))
        )


def _take(of: dict[SeriesKey, tuple[float, ...]], figures: Figures) -> None:
    for key, values in figures.items():
        held = of.pop(key, (0.0,) * len(values))  # what was next to nothing is gone already
        left = tuple(max(0.0, one - less) for one, less in zip(held, values, strict=True))
        if max(left) > _DUST:
            of[key] = left


def _moved(
    now: Figures, before: Figures
) -> tuple[dict[SeriesKey, tuple[float, ...]], dict[SeriesKey, tuple[float, ...]]]:
    """Return what has moved, and the greatest values there were.

    A total that is lower than before was read from an older record. When it has caught up, what was
    counted before must not count again.
    """
    moved: dict[SeriesKey, tuple[float, ...]] = {}
    greatest = dict(before)
    for key, values in now.items():
        held = before.get(key, (0.0,) * len(values))
        greatest[key] = tuple(map(max, values, held))
        more = tuple(one - then for one, then in zip(greatest[key], held, strict=True))
        if any(more):
            moved[key] = more
    return moved, greatest


def _start(one: Interval) -> int:
    return one.start_s
