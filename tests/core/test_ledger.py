import msgspec
import pytest

from routecache_middleware.core.keys import Layer
from routecache_middleware.core.ledger import (
    EMPTY,
    Ledger,
    WorkerRecord,
    read_ledger,
    read_record,
)
from routecache_middleware.core.metrics import FLIGHTS, LOOKUPS
from routecache_middleware.core.models import Entry
from routecache_middleware.core.snapshot import MetricsSnapshot, Series

NOW_S = 1_700_000_000.0


def counted(hits: int, *, flights: int = 0) -> MetricsSnapshot:
    series = {LOOKUPS.name: (Series(("result", "hit", "lmdb"), hits),)}
    if flights:
        series[FLIGHTS.name] = (Series(("result",), flights),)
    return MetricsSnapshot(series)


def hits(snapshot: MetricsSnapshot) -> float:
    return snapshot.value(LOOKUPS)


def entry(body: bytes) -> Entry:
    return Entry(Layer.LOAD, body, NOW_S, 60.0)


def test_the_total_is_the_same_before_and_after_a_process_is_folded() -> None:
    records = {"a": WorkerRecord(3, counted(5, flights=2)), "b": WorkerRecord(1, counted(7))}
    ledger = EMPTY.with_worker("a").with_worker("b")
    before = ledger.total(records)
    assert (hits(before), before.value(FLIGHTS), before.workers) == (12, 2, 2)
    folded = ledger.fold({"a": records["a"]}, NOW_S)
    assert folded.workers == ("b",)
    assert folded.folded == {"a": (3, NOW_S)}
    after = folded.total(records)  # a's own record is still there, and does not count again
    assert (hits(after), after.value(FLIGHTS), after.workers) == (12, 0, 1)
    assert folded.fold({"a": records["a"]}, NOW_S) is folded
    assert folded.with_worker("a") is folded


def test_of_who_has_closed_no_gauge_counts() -> None:
    ledger = EMPTY.with_worker("a").with_worker("a")
    assert ledger.workers == ("a",)
    total = ledger.total({"a": WorkerRecord(1, counted(5, flights=2), is_over=True)})
    assert (hits(total), total.value(FLIGHTS), total.workers) == (5, 0, 0)


def test_names_are_forgotten_when_none_of_them_can_return() -> None:
    ledger = EMPTY.with_worker("a").fold({"a": WorkerRecord(1, counted(5))}, NOW_S)
    assert ledger.forget(NOW_S) is ledger
    assert ledger.forget(NOW_S + 1).folded == {}
    assert hits(ledger.forget(NOW_S + 1).total({})) == 5


def test_a_lost_ledger_is_added_to_the_next_one_once() -> None:
    lost = EMPTY.with_worker("a").begun("one").fold({"a": WorkerRecord(1, counted(5))}, NOW_S)
    assert lost.begun("two") is lost
    other = EMPTY.with_worker("a").with_worker("b").begun("two")
    both = other.with_lost(lost)
    assert (
        hits(both.total({"a": WorkerRecord(2, counted(6)), "b": WorkerRecord(1, counted(7))})) == 12
    )
    assert both.workers == ("b",)
    assert both.folded == lost.folded
    assert both.with_lost(lost) is both
    assert both.with_lost(EMPTY) is both
    assert both.with_lost(both) is both
    third = EMPTY.begun("three").with_lost(both)
    assert third.with_lost(lost) is third
    assert hits(third.total({})) == 5


def test_whoever_was_counted_in_a_lost_ledger_still_is() -> None:
    """Some of them may be gone, and what they had written with the ledger."""
    lost = EMPTY.with_worker("a").with_worker("b").with_worker("c").begun("one")
    lost = lost.fold({"c": WorkerRecord(1, counted(1))}, NOW_S)
    other = EMPTY.with_worker("b").with_worker("d").begun("two")
    other = other.fold({"d": WorkerRecord(1, counted(2))}, NOW_S)
    both = other.with_lost(lost)
    assert both.workers == ("b", "a")
    remembered = {"a": WorkerRecord(4, counted(5)), "b": WorkerRecord(2, counted(7))}
    assert hits(both.total(remembered)) == 15
    assert both.with_lost(lost) is both


def test_records_survive_the_store() -> None:
    record = WorkerRecord(2, counted(5), is_over=True)
    assert read_record(entry(msgspec.json.encode(record))) == record
    ledger = Ledger(counted(5), {"a": (2, NOW_S)}, ("b",), "epoch", ("lost",))
    assert read_ledger(entry(msgspec.json.encode(ledger))) == ledger


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\xff",
        b"[1]",
        b"{}",
        b'{"sequence": 1, "snapshot": 5, "retired": 5}',
        b'{"sequence": "x", "snapshot": {}, "retired": {}, "folded": 1}',
        b"[" * 100_000,
    ],
)
def test_what_is_damaged_is_not_there(body: bytes) -> None:
    assert read_record(entry(body)) is None
    assert read_ledger(entry(body)) is None
    assert read_record(None) is None
    assert read_ledger(None) is None
