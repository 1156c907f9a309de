"""The log as one process has read it."""

import pytest

from routecache_middleware.coordinators.redis.mirror import Mirror
from routecache_middleware.core.invalidation import LoggedRow
from routecache_middleware.core.models import START, Position
from tests.coordinators.redis.support import row


def rows(*positions: int) -> list[LoggedRow]:
    return [LoggedRow(Position(position), row(str(position))) for position in positions]


@pytest.fixture
def mirror() -> Mirror:
    mirror = Mirror()
    mirror.reset(rows(10, 20, 30))
    return mirror


def test_a_tail_is_what_follows_a_row(mirror: Mirror) -> None:
    assert mirror.tail(Position(20)) == (rows(30), 30, False)
    mirror.extend(rows(40))
    assert mirror.tail(Position(20)) == (rows(30, 40), 40, False)
    assert mirror.tail(START) == (rows(10, 20, 30, 40), 40, False)


def test_at_the_end_there_is_nothing_new(mirror: Mirror) -> None:
    assert mirror.tail(Position(30)) == ((), 30, False)


def test_who_has_read_further_stays_there(mirror: Mirror) -> None:
    assert mirror.tail(Position(31)) == ((), 31, False)


@pytest.mark.parametrize("after", [1, 9, 15, 29])
def test_who_stands_on_a_row_that_is_not_there_starts_over(mirror: Mirror, after: int) -> None:
    """It was lost, or dropped: what else was lost with it cannot be known."""
    assert mirror.tail(Position(after)).is_rewound


def test_a_new_log_replaces_the_old_one(mirror: Mirror) -> None:
    mirror.reset(rows(50))
    assert mirror.tail(Position(30)) == (rows(50), 50, True)
    assert mirror.tail(START) == (rows(50), 50, False)


def test_a_long_log_is_cut_and_says_so() -> None:
    mirror = Mirror(max_rows=10)
    mirror.reset(rows(*range(1, 9)))
    assert not mirror.tail(START).is_rewound
    mirror.extend(rows(*range(9, 13)))
    assert len(mirror) == 5
    assert mirror.tail(START).is_rewound
    assert mirror.tail(Position(3)).is_rewound
    assert mirror.tail(Position(9)) == (rows(10, 11, 12), 12, False)
