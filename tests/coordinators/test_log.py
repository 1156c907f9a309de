"""InvalidationLog: ordered, bounded, and a reader who missed a row is always told."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from routecache_middleware.coordinators.log import InvalidationLog
from routecache_middleware.core.invalidation import InvalidationRow
from routecache_middleware.core.models import Position, Scope
from routecache_middleware.testing.clock import FakeClock


def rows(count: int) -> list[InvalidationRow]:
    return [InvalidationRow(Scope(f"tag:{number}")) for number in range(count)]


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


def test_positions_are_consecutive(clock: FakeClock) -> None:
    log = InvalidationLog(clock=clock, max_age_s=100.0)
    assert [logged.position for logged in log.append(rows(2))] == [1, 2]
    assert [logged.position for logged in log.append(rows(1))] == [3]
    assert log.append(()) == []
    assert log.position == 3


def test_the_tail_is_what_the_reader_has_not_seen(clock: FakeClock) -> None:
    log = InvalidationLog(clock=clock, max_age_s=100.0)
    logged = log.append(rows(5))
    assert log.tail(Position(2)) == (logged[2:], 5, False)
    assert log.tail(Position(0)) == (logged, 5, False)
    assert log.tail(Position(5)) == ((), 5, False)


def test_a_position_that_was_never_reached_is_rewound_and_passed(clock: FakeClock) -> None:
    """Positions never go back, or entries captured in an earlier life would seem current."""
    log = InvalidationLog(clock=clock, max_age_s=100.0)
    before = log.append(rows(5))
    assert log.tail(Position(8)) == ((), 9, True)
    after = log.append(rows(1))
    assert after[0].position == 10
    assert log.tail(Position(9)) == (after, 10, False)
    assert log.tail(Position(3)) == ([*before[3:], *after], 10, False)


def test_rows_older_than_any_entry_are_dropped(clock: FakeClock) -> None:
    """On the monotonic clock: a stepped wall clock neither drops rows early nor keeps them."""
    log = InvalidationLog(clock=clock, max_age_s=100.0)
    log.append(rows(2))
    clock.advance(60.0)
    log.append(rows(1))
    clock.step_wall(1_000_000.0)
    clock.advance(60.0)
    last = log.append(rows(1))
    assert log.tail(Position(0)).is_rewound
    assert log.tail(Position(1)).is_rewound
    assert [logged.position for logged in log.tail(Position(2)).rows] == [3, 4]
    assert log.tail(Position(3)).rows == last


def test_too_many_rows_are_dropped(clock: FakeClock) -> None:
    log = InvalidationLog(clock=clock, max_age_s=100.0, max_rows=3)
    log.append(rows(2))
    log.append(rows(2))
    assert log.tail(Position(0)).is_rewound
    assert len(log.tail(Position(1)).rows) == 3
    log.append(rows(10))
    assert log.tail(Position(10)).is_rewound
    assert [logged.position for logged in log.tail(Position(11)).rows] == [12, 13, 14]


def test_forgetting_rewinds_readers_and_keeps_counting(clock: FakeClock) -> None:
    log = InvalidationLog(clock=clock, max_age_s=100.0)
    log.append(rows(3))
    log.forget()
    assert log.tail(Position(2)) == ((), 3, True)
    assert log.tail(Position(3)) == ((), 3, False)
    assert log.append(rows(1))[0].position == 4


@given(
    st.lists(st.tuples(st.integers(0, 6), st.floats(0, 60))),
    st.integers(0, 60),
    st.integers(1, 8),
)
def test_a_reader_gets_every_row_it_missed_or_is_rewound(
    appends: list[tuple[int, float]], after: int, max_rows: int
) -> None:
    clock = FakeClock()
    log = InvalidationLog(clock=clock, max_age_s=100.0, max_rows=max_rows)
    for count, pause_s in appends:
        log.append(rows(count))
        clock.advance(pause_s)
    got, position, is_rewound = log.tail(Position(after))
    assert position == sum(count for count, _ in appends) or position == after + 1
    assert len(log._rows) <= max_rows
    if not is_rewound:
        assert [logged.position for logged in got] == list(range(after + 1, position + 1))
