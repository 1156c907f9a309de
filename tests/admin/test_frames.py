"""What the dashboard is told, made of the history."""

import pytest

from routecache_middleware.admin import frames
from routecache_middleware.admin.frames import Frame, Point, Points, Saved, quantiles
from routecache_middleware.core import metrics
from routecache_middleware.core.history import History
from routecache_middleware.core.metrics import Metric
from routecache_middleware.core.snapshot import MetricsSnapshot, Series

NOW_S = 1_800_000_000


def frame(history: History, window: str, since_s: int = 0, **more: str) -> Frame:
    points = Points(history.rings[window])
    while points.grow():
        pass
    return frames.frame(history, window, points.since(since_s), **more)


def bucketed(metric: Metric, *values: float) -> tuple[int, ...]:
    counts = [0] * (len(metric.bounds) + 1)
    for value in values:
        counts[sum(value > bound for bound in metric.bounds)] += 1
    return tuple(counts)


def snapshot(factor: int) -> MetricsSnapshot:
    hits = bucketed(metrics.LOOKUP_DURATION, *[0.0002] * (8 * factor))
    waits = bucketed(metrics.WAIT_DURATION, *[0.3] * (2 * factor))
    writes = bucketed(metrics.WRITE_DURATION, *[0.02] * factor)
    found: dict[Metric, list[tuple[tuple[str, ...], float]]] = {
        metrics.LOOKUPS: [
            (("result", "hit", "redis"), 8),
            (("result", "stale", "redis"), 2),
            (("result", "miss", "none"), 5),
            (("result", "coalesced", "none"), 2),
            (("result", "bypass", "none"), 100),
            (("route", "hit", "redis"), 3),
        ],
        metrics.REQUESTS: [(("gpt", "chat", "hit"), 10), (("gpt", "chat", "miss"), 5)],
        metrics.BYPASSES: [(("no-store",), 100)],
        metrics.MISSES: [(("result", "absent"), 4), (("result", "expired"), 1)],
        metrics.EVICTIONS: [(("result", "redis", "capacity"), 6)],
        metrics.BACKEND_ERRORS: [(("redis", "get", "TimeoutError"), 7)],
        metrics.WRITES: [(("result", "redis", "stored"), 5), (("result", "redis", "error"), 2)],
        metrics.SAVED_TOKENS: [(("input", "gpt"), 1000), (("output", "gpt"), 500)],
        metrics.SAVED_COST: [(("gpt",), 0.25)],
        metrics.SAVED_TIME: [(("result",), 20.0), (("route",), 1.0)],
        metrics.SAVED_VALUES: [(("result",), 10), (("route",), 3)],
    }
    series = {
        metric.name: tuple(Series(labels, value * factor) for labels, value in every)
        for metric, every in found.items()
    }
    series[metrics.LOOKUP_DURATION.name] = (
        Series(("result", "redis", "hit"), 0.0016 * factor, hits),
        Series(("result", "redis", "error"), 0.0016 * factor, hits),
    )
    series[metrics.WAIT_DURATION.name] = (Series(("result", "shared"), 0.6 * factor, waits),)
    series[metrics.WRITE_DURATION.name] = (Series(("result", "redis"), 0.02 * factor, writes),)
    series[metrics.ENTRY_COUNT.name] = (
        Series(("result", "memory"), 50),
        Series(("result", "redis"), 900, is_shared=True),
        Series(("route", "redis"), 100, is_shared=True),
        Series(("load", "redis"), 7, is_shared=True),
    )
    series[metrics.STORAGE_USAGE.name] = (Series(("result", "redis"), 4096, is_shared=True),)
    series[metrics.STORAGE_LIMIT.name] = (Series(("result", "redis"), 8192, is_shared=True),)
    series[metrics.BACKEND_UP.name] = (Series(("redis",), 1),)
    return MetricsSnapshot(series, workers=3)


@pytest.fixture
def history() -> History:
    found = History()
    for second, factor in enumerate((1, 2, 3)):
        found.add(snapshot(factor), NOW_S + second)
    return found


def test_a_point_says_what_happened_in_its_second(history: History) -> None:
    _, point = frame(history, "5m", coordinator="redis").points
    assert point.t == NOW_S + 2
    assert point.lookups["result"] == {
        "hit": 8,
        "stale": 2,
        "miss": 5,
        "coalesced": 2,
        "bypass": 100,
    }
    assert point.lookups["route"] == {"hit": 3}
    assert point.bypasses == {"no-store": 100}
    assert point.misses == {"result": {"absent": 4, "expired": 1}}
    assert point.models == {"gpt": (10, 15)}
    assert (point.evictions, point.errors, point.write_errors, point.waits) == (6, 7, 2, 2)
    assert point.saved == Saved(input_tokens=1000, output_tokens=500, usd=0.25, time_s=21.0)


def test_what_hits_took_stands_beside_what_their_answers_once_took(history: History) -> None:
    _, point = frame(history, "5m").points
    assert point.with_s == pytest.approx(0.0002)
    assert point.without_s == pytest.approx(2.0)  # 20 s for 10 answers
    assert point.latency["result"]["hit"] == pytest.approx((0.000175, 0.0002425, 0.0002485))
    assert set(point.latency["result"]) == {"hit"}
    assert point.wait == pytest.approx((0.24, 0.312, 0.3184))
    assert point.write == pytest.approx((0.0175, 0.02425, 0.02485))


def test_answers_of_other_processes_do_not_make_those_of_hits_seem_slower() -> None:
    """A second answer that was shared took 9 s and is no hit: the mean is of both."""
    history = History()
    for hits in (0, 1):
        series = {
            metrics.LOOKUPS.name: (Series(("result", "hit", "redis"), hits),),
            metrics.SAVED_TIME.name: (Series(("result",), 10.0 * hits),),
            metrics.SAVED_VALUES.name: (Series(("result",), 2 * hits),),
        }
        history.add(MetricsSnapshot(series), NOW_S + hits)
    assert frame(history, "5m").points[-1].without_s == pytest.approx(5.0)


def test_hit_rates_leave_out_bypasses_and_count_all_layers(history: History) -> None:
    cards = frame(history, "5m", coordinator="redis").cards
    rate = (10 + 3) / (10 + 3 + 5 + 2)
    assert cards.hit_rate == pytest.approx({"5m": rate, "1h": rate, "24h": rate})


def test_the_figures_at_the_top_are_of_all_time_and_of_the_shared_store(history: History) -> None:
    made = frame(history, "1h", coordinator="redis", mode="on")
    cards = made.cards
    assert (cards.served, cards.entries, cards.bytes, cards.limit_bytes) == (39, 1000, 4096, 8192)
    assert cards.saved == Saved(input_tokens=3000, output_tokens=1500, usd=0.75, time_s=63.0)
    assert (cards.is_up, cards.workers, made.mode) == (True, 3, "on")
    assert [(one.cache, one.place, one.bytes) for one in made.held] == [
        ("result", "memory", None),
        ("result", "redis", 4096),
        ("route", "redis", None),
        ("load", "redis", None),
    ]


def test_without_a_store_of_its_own_this_process_is_the_store() -> None:
    history = History()
    series = {metrics.ENTRY_COUNT.name: (Series(("result", "memory"), 50),)}
    history.add(MetricsSnapshot(series), NOW_S)
    cards = frame(history, "5m", coordinator="memory").cards
    assert (cards.entries, cards.bytes, cards.limit_bytes) == (50, None, None)


def test_before_anything_was_counted_there_is_nothing_to_say() -> None:
    made = frame(History(), "24h")
    assert made.cards.hit_rate == {"5m": None, "1h": None, "24h": None}
    assert made.points == ()
    assert made.total.lookups == {}


def test_the_total_is_of_the_whole_window(history: History) -> None:
    total = frame(history, "1h").total
    assert total.lookups["result"]["miss"] == 10
    assert total.models == {"gpt": (20, 30)}


def test_points_that_the_reader_has_are_left_out(history: History) -> None:
    assert [point.t for point in frame(history, "5m", since_s=NOW_S + 2).points] == [NOW_S + 2]


def test_a_day_is_told_in_no_more_points_than_there_are_dots() -> None:
    history = History()
    for minute in range(1441):
        lookups = (Series(("result", "hit", "redis"), minute),)
        history.add(MetricsSnapshot({metrics.LOOKUPS.name: lookups}), NOW_S + 60 * minute)
    made = frame(history, "24h")
    assert made.step_s == 240
    assert len(made.points) <= 361
    assert sum(point.lookups["result"]["hit"] for point in made.points) == 1440


def test_beyond_the_last_bound_nothing_is_known() -> None:
    counts = bucketed(metrics.LOOKUP_DURATION, 5.0)
    assert quantiles(metrics.LOOKUP_DURATION, counts) == (1.0, 1.0, 1.0)
    assert quantiles(metrics.LOOKUP_DURATION, ()) == ()


def test_a_point_of_nothing_is_short() -> None:
    import msgspec  # noqa: PLC0415 - only here

    assert msgspec.json.encode(Point(t=5)) == b'{"t":5}'


def test_points_are_made_once_and_those_that_are_not_over_anew() -> None:
    history = History()
    points = Points(history.rings["24h"])
    assert not points.grow()
    assert points.since(0) == ()
    for minute in range(200):
        lookups = (Series(("result", "hit", "redis"), minute),)
        history.add(MetricsSnapshot({metrics.LOOKUPS.name: lookups}), NOW_S + 60 * minute)
    assert points.grow()
    assert not points.grow()
    before = points.since(0)
    lookups = (Series(("result", "hit", "redis"), 1000),)
    history.add(MetricsSnapshot({metrics.LOOKUPS.name: lookups}), NOW_S + 60 * 199)
    after = points.since(0)
    assert all(one is other for one, other in zip(before[:-1], after[:-1], strict=True))
    assert after[-1].lookups["result"]["hit"] == before[-1].lookups["result"]["hit"] + 801


def test_points_that_are_out_of_sight_are_forgotten() -> None:
    history = History()
    points = Points(history.rings["5m"])
    for second in (0, 1, 2, 1000, 1001):
        lookups = (Series(("result", "hit", "redis"), second),)
        history.add(MetricsSnapshot({metrics.LOOKUPS.name: lookups}), NOW_S + second)
        points.grow()
    assert [point.t - NOW_S for point in points.since(0)] == [1000, 1001]
    assert list(points._made) == [NOW_S + 1000]
