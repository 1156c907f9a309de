"""Rings of intervals: what was counted when."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from routecache_middleware.core import metrics
from routecache_middleware.core.history import (
    CHUNK,
    RINGS,
    History,
    Interval,
    Ring,
    decode_chunk,
    encode_chunk,
    figures_of,
)
from routecache_middleware.core.snapshot import MetricsSnapshot, Series

HIT = ("routecache.lookups", "result", "hit")
NOW_S = 1_800_000_000


def lookups(hits: float) -> MetricsSnapshot:
    series = (Series(("result", "hit", "memory"), hits),)
    return MetricsSnapshot({metrics.LOOKUPS.name: series})


def hits_of(ring: Ring) -> list[tuple[int, float]]:
    return [(one.start_s - NOW_S, one.figures[HIT][0]) for one in ring if HIT in one.figures]


def test_an_interval_holds_by_how_much_a_counter_has_moved() -> None:
    history = History()
    for second, hits in enumerate((100, 103, 103, 110)):
        history.add(lookups(hits), NOW_S + second)
    assert hits_of(history.rings["5m"]) == [(1, 3), (3, 7)]
    assert hits_of(history.rings["1h"]) == [(0, 10)]
    assert history.rings["24h"].total == {HIT: (10,)}
    assert history.latest == lookups(110)
    assert history.latest_s == NOW_S + 3


def test_what_was_counted_before_the_first_snapshot_belongs_to_no_interval() -> None:
    history = History()
    history.add(lookups(1_000_000), NOW_S)
    assert all(len(ring) == 0 for ring in history.rings.values())


def test_a_counter_that_was_not_there_before_has_moved_from_nothing() -> None:
    history = History()
    history.add(MetricsSnapshot(), NOW_S)
    history.add(lookups(5), NOW_S + 1)
    assert history.rings["5m"].total == {HIT: (5,)}


def test_a_total_that_falls_back_and_catches_up_counts_nothing_twice() -> None:
    history = History()
    for second, hits in enumerate((0, 10, 4, 10, 11)):
        history.add(lookups(hits), NOW_S + second)
    assert hits_of(history.rings["5m"]) == [(1, 10), (4, 1)]


@pytest.mark.parametrize(("name", "length"), [(name, RINGS[name][1]) for name in RINGS])
def test_a_ring_reaches_back_as_far_as_it_says_and_no_further(name: str, length: int) -> None:
    step_s, _ = RINGS[name]
    ring = Ring(step_s, length)
    for number in range(length + 7):
        ring.add({HIT: (1.0,)}, NOW_S + number * step_s)
    assert len(ring) == length
    assert ring.total == {HIT: (length,)}
    ring.add({}, NOW_S + 10 * length * step_s)
    assert len(ring) == 1
    assert ring.total == {}


@given(st.lists(st.tuples(st.integers(0, 30), st.floats(0, 1e6)), min_size=1, max_size=60))
def test_the_total_is_the_sum_of_the_intervals(moves: list[tuple[int, float]]) -> None:
    ring, now_s = Ring(1, 20), NOW_S
    for wait_s, value in moves:
        now_s += wait_s
        ring.add({HIT: (value,)} if value else {}, now_s)
    expected = sum(one.figures.get(HIT, (0.0,))[0] for one in ring)
    assert ring.total.get(HIT, (0.0,))[0] == pytest.approx(expected, abs=1e-3)


def test_what_is_next_to_nothing_can_be_taken_away_twice() -> None:
    ring = Ring(1, 20)
    for second, value in ((0, 1.0), (1, 5e-324), (21, 0.0)):
        ring.add({HIT: (value,)} if value else {}, NOW_S + second)
    assert ring.total == {}


def test_a_clock_that_is_set_back_adds_to_the_latest_interval() -> None:
    ring = Ring(1, 10)
    ring.add({HIT: (1.0,)}, NOW_S)
    ring.add({HIT: (2.0,)}, NOW_S - 100)
    assert hits_of(ring) == [(0, 3.0)]


def test_a_clock_that_was_a_day_ahead_holds_nothing_up_when_it_is_put_right() -> None:
    """Else five minutes would be one interval until that day is over."""
    history = History()
    day_s = 86_400 - 60
    for second, hits in ((0, 0), (1, 1), (day_s, 3), (2, 7), (3, 15)):
        history.add(lookups(hits), NOW_S + second)
    assert hits_of(history.rings["5m"]) == [(2, 4), (3, 8)]
    assert history.rings["5m"].total == {HIT: (12,)}
    assert history.rings["1h"].total == {HIT: (12,)}
    assert history.rings["24h"].total == {HIT: (15,)}  # it reaches so far


def test_only_what_somebody_looks_at_is_kept() -> None:
    counts = (1, *(0 for _ in metrics.LOOKUP_DURATION.bounds))
    snapshot = MetricsSnapshot(
        {
            metrics.LOOKUP_DURATION.name: (Series(("result", "redis", "hit"), 0.5, counts),),
            metrics.WRITES.name: (Series(("result", "redis", "stored"), 3),),
            metrics.REQUESTS.name: (
                Series(("m", "chat", "hit"), 1),
                Series(("m", "embeddings", "stale"), 2),
                Series(("m", "chat", "miss"), 4),
                Series(("m", "chat", "bypass"), 8),
            ),
            metrics.ENTRY_COUNT.name: (Series(("result", "redis"), 7),),
            metrics.SAVED_TOKENS.name: (
                Series(("input", "a"), 5),
                Series(("input", "b"), 6),
            ),
        }
    )
    assert figures_of(snapshot) == {
        ("routecache.lookup.duration", "result", "hit"): (0.5, *counts),
        ("routecache.writes", "result", "stored"): (3,),
        ("routecache.requests", "m", "served"): (3,),
        ("routecache.requests", "m", "asked"): (4,),
        ("routecache.saved.tokens", "input"): (11,),
    }


def test_what_was_written_is_read_again() -> None:
    intervals = [Interval(NOW_S, {HIT: (3.0,)}), Interval(NOW_S + 1, {})]
    assert decode_chunk(encode_chunk(intervals)) == intervals


@pytest.mark.parametrize("packed", [b"", b"\xc1", b"\x91" * 5000, msgspec.msgpack.encode([[1]])])
def test_what_cannot_be_read_is_nothing(packed: bytes) -> None:
    assert decode_chunk(packed) == []


@pytest.mark.parametrize(
    ("key", "values"),
    [
        (("routecache.newer",), (1.0,)),
        ((), (1.0,)),
        (HIT, (1.0, 2.0)),
        (HIT, (-1.0,)),
        (HIT, (float("nan"),)),
        (HIT, (float("inf"),)),
    ],
)
def test_what_this_version_would_not_have_written_is_left_out(
    key: tuple[str, ...], values: tuple[float, ...]
) -> None:
    packed = encode_chunk(
        [Interval(NOW_S, {key: values, HIT: (1.0,)} if key != HIT else {key: values})]
    )
    (read,) = decode_chunk(packed)
    assert read.figures == ({} if key == HIT else {HIT: (1.0,)})


def test_intervals_of_others_fill_in_what_is_not_there() -> None:
    ring = Ring(10, 6)
    ring.add({HIT: (5.0,)}, NOW_S + 30)
    theirs = [(-60, 9.0), (-20, 9.0), (0, 1.0), (10, 2.0), (30, 9.0), (35, 9.0), (40, 9.0)]
    ring.put([Interval(NOW_S + at, {HIT: (value,)}) for at, value in theirs], NOW_S + 30)
    assert hits_of(ring) == [(-20, 9.0), (0, 1.0), (10, 2.0), (30, 5.0)]
    assert ring.total == {HIT: (17.0,)}
    ring.put([], NOW_S + 30)
    assert len(ring) == 4


def test_intervals_are_written_in_chunks_that_reach_as_far_as_the_ring() -> None:
    ring = Ring(1, 300)
    for second in range(300):
        ring.add({HIT: (1.0,)}, NOW_S + second)
    numbers = ring.numbers(NOW_S + 299)
    chunks = [ring.chunk(number) for number in numbers]
    assert [one for chunk in chunks for one in chunk] == list(ring)
    assert all(len(chunk) <= CHUNK for chunk in chunks)
    assert len(numbers) <= 300 // CHUNK + 1
