from itertools import permutations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from routecache_middleware.core.metrics import (
    BACKEND_UP,
    ENTRY_AGE,
    ENTRY_COUNT,
    FLIGHTS,
    INVALIDATIONS,
    LOOKUP_DURATION,
    LOOKUPS,
    SAVED_COST,
    SAVED_TIME,
    Metric,
)
from routecache_middleware.core.snapshot import (
    NO_METRICS,
    MetricsSnapshot,
    Series,
    decode_snapshot,
    even,
    merged,
)

HIT = ("result", "hit", "memory")
MISS = ("result", "miss", "none")
BUCKETS = len(LOOKUP_DURATION.bounds) + 1


def snapshot(*pairs: tuple[Metric, Series]) -> MetricsSnapshot:
    series: dict[str, tuple[Series, ...]] = {}
    for metric, one in pairs:
        series[metric.name] = (*series.get(metric.name, ()), one)
    return MetricsSnapshot(series)


def lookups(hits: int, misses: int = 0) -> MetricsSnapshot:
    return snapshot((LOOKUPS, Series(HIT, hits)), (LOOKUPS, Series(MISS, misses)))


def buckets(*counts: int) -> tuple[int, ...]:
    return (*counts, *([0] * (BUCKETS - len(counts))))


def test_counters_and_buckets_add_up() -> None:
    labels = ("result", "memory", "hit")
    one = snapshot((LOOKUP_DURATION, Series(labels, 0.5, buckets(1, 2))))
    other = snapshot((LOOKUP_DURATION, Series(labels, 0.25, buckets(0, 3))))
    total = merged([lookups(2, 1), lookups(3), one, other])
    assert total.value(LOOKUPS, "result", "hit") == 5
    assert total.value(LOOKUPS, "result") == 6
    assert total.of(LOOKUP_DURATION) == (Series(labels, 0.75, buckets(1, 5)),)
    assert total.workers == 4


def test_what_is_held_by_each_adds_up_and_what_all_share_does_not() -> None:
    def worker(near: int, shared: int, *, up: int) -> MetricsSnapshot:
        return snapshot(
            (ENTRY_COUNT, Series(("result", "memory"), near)),
            (ENTRY_COUNT, Series(("result", "redis"), shared, is_shared=True)),
            (FLIGHTS, Series(("result",), 1)),
            (BACKEND_UP, Series(("redis",), up)),
        )

    total = merged([worker(3, 100, up=1), worker(4, 101, up=0)])
    assert total.value(ENTRY_COUNT, "result", "memory") == 7
    assert total.value(ENTRY_COUNT, "result", "redis") == 101
    assert total.value(FLIGHTS) == 2
    assert total.value(BACKEND_UP) == 0  # down for one is worth knowing


def test_nothing_is_nothing() -> None:
    assert merged([]) == NO_METRICS
    assert NO_METRICS.of(LOOKUPS) == ()
    assert NO_METRICS.value(LOOKUPS) == 0


def test_of_who_is_gone_only_what_it_has_done_counts() -> None:
    gone = merged(
        [
            lookups(2),
            snapshot(
                (FLIGHTS, Series(("result",), 1)),
                (BACKEND_UP, Series(("redis",), 1)),
                (INVALIDATIONS, Series((), 4, is_shared=True)),
            ),
        ]
    ).cumulative()
    assert set(gone.series) == {LOOKUPS.name}
    assert gone.workers == 0


def test_what_was_counted_before_can_be_taken_out_again() -> None:
    labels = ("result", "memory", "hit")
    earlier = merged(
        [lookups(2, 1), snapshot((LOOKUP_DURATION, Series(labels, 0.5, buckets(1, 2))))]
    )
    later = merged(
        [
            earlier,
            lookups(1),
            snapshot(
                (LOOKUP_DURATION, Series(labels, 0.25, buckets(0, 1))),
                (FLIGHTS, Series(("result",), 2)),
                (INVALIDATIONS, Series((), 1)),
            ),
        ]
    )
    rest = later.since(earlier)
    assert rest.value(LOOKUPS, *HIT) == 1
    assert rest.value(LOOKUPS, *MISS) == 0
    assert rest.of(LOOKUP_DURATION) == (Series(labels, 0.25, buckets(0, 1)),)
    assert rest.value(FLIGHTS) == 2
    assert rest.value(INVALIDATIONS) == 1


def test_a_snapshot_survives_json() -> None:
    labels = ("result", "memory", "hit")
    made = snapshot((LOOKUPS, Series(HIT, 2)), (LOOKUP_DURATION, Series(labels, 0.5, buckets(1))))
    assert decode_snapshot(msgspec.json.decode(msgspec.json.encode(made))) == made


@pytest.mark.parametrize(
    "one",
    [
        [["result", "hit"], 1],
        [["result", "hit", "memory"], 1, [1]],
        [["result", "hit", "memory"], -1],
        [["result", "hit", "memory"], float("nan")],
        [["result", "hit", "memory"], float("inf")],
    ],
)
def test_what_this_version_cannot_understand_is_left_out(one: object) -> None:
    """Workers of two versions run side by side during a deployment."""
    good = [["result", "miss", "none"], 3]
    packed = {"series": {LOOKUPS.name: [one, good], "routecache.unheard.of": [good]}}
    read = decode_snapshot(packed)
    assert read.of(LOOKUPS) == (Series(MISS, 3),)
    assert set(read.series) == {LOOKUPS.name}


@pytest.mark.parametrize("packed", [None, [], {"series": 1}, {"series": {LOOKUPS.name: [["x"]]}}])
def test_what_is_no_snapshot_says_so(packed: object) -> None:
    with pytest.raises(ValueError, match="E"):
        decode_snapshot(packed)


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), max_size=4))
def test_the_order_in_which_workers_are_added_does_not_matter(pairs: list[tuple[int, int]]) -> None:
    workers = [lookups(*pair) for pair in pairs]
    totals = [merged(order) for order in permutations(workers)]
    assert all(total == totals[0] for total in totals)
    halves = merged([merged(workers[:2]), merged(workers[2:])])
    assert halves == totals[0]


SUMMED = (LOOKUP_DURATION, ENTRY_AGE, SAVED_TIME, SAVED_COST)


@pytest.mark.parametrize("metric", SUMMED, ids=lambda metric: metric.name)
@given(values=st.lists(st.floats(0, 1e6), min_size=2, max_size=5))
def test_sums_of_floats_do_not_depend_on_the_order_either(
    metric: Metric, values: list[float]
) -> None:
    """Else a total falls when a process that is gone is added elsewhere."""
    evened = [even(metric, value) for value in values]
    assert len({sum(order) for order in permutations(evened)}) == 1
    assert sum(evened) - evened[0] + evened[0] == sum(evened)
    for value, near in zip(values, evened, strict=True):
        assert 0 <= value - near < (metric.bounds or (1e-3,))[0] / 1000


@given(st.lists(st.floats(0, 1e300), min_size=2, max_size=2))
def test_what_grows_never_falls_when_it_is_made_even(pair: list[float]) -> None:
    less, more = sorted(pair)
    assert even(SAVED_TIME, less) <= even(SAVED_TIME, more)


def test_what_cannot_be_made_even_stays() -> None:
    assert even(SAVED_COST, float("inf")) == float("inf")
    assert even(LOOKUPS, 2**70) == 2**70
    assert even(SAVED_TIME, 0.1) == 104857 / 2**20
    assert even(SAVED_COST, 4e-6) == 4294 / 2**30


def test_a_snapshot_is_made_even_as_a_whole() -> None:
    labels = ("result", "memory", "hit")
    one = Series(labels, 1.1e-5, buckets(0, 1), is_shared=True)
    found = snapshot((LOOKUP_DURATION, one), (LOOKUPS, Series(HIT, 3))).evened()
    assert found.of(LOOKUPS) == (Series(HIT, 3),)
    (evened,) = found.of(LOOKUP_DURATION)
    assert evened == Series(labels, even(LOOKUP_DURATION, 1.1e-5), buckets(0, 1), is_shared=True)
    assert evened.value != 1.1e-5
