"""What is found when the nodes' logs are compared. Positions are small numbers here."""

from collections.abc import Mapping, Sequence

import pytest

from routecache_middleware.coordinators.ring.merged import EVERYTHING, MergedLog, Plan
from routecache_middleware.coordinators.ring.node import SPENT_S, NodeTail, position_at
from routecache_middleware.core.invalidation import InvalidationRow, LoggedRow, model_scope
from routecache_middleware.core.models import START, Position


def at(position: int, model: str = "", **condition: float | str) -> LoggedRow:
    """A row for a model, or for everything."""
    row = InvalidationRow(model_scope(model), **condition) if model else EVERYTHING  # type: ignore[arg-type]
    return LoggedRow(Position(position), row)


def tails(**logs: Sequence[LoggedRow]) -> dict[str, NodeTail]:
    return {name: NodeTail(rows) for name, rows in logs.items()}


def settled(**logs: Sequence[LoggedRow]) -> MergedLog:
    """A merged log that has read these, which are in line."""
    log = MergedLog()
    read = tails(**logs)
    plan = log.plan(read)
    assert plan.is_settled
    log.commit(plan, read)
    return log


def nothing_new(log: MergedLog, *names: str) -> Mapping[str, NodeTail]:
    return tails(**dict.fromkeys(names, ()))


def by_clock(spent: int, rows: Sequence[LoggedRow] = ()) -> NodeTail:
    """The tail of a node by whose clock rows up to ``spent`` are spent."""
    return NodeTail(rows, now=Position(position_at(SPENT_S) + spent))


FIRST = at(1)
"""What a log begins with."""


def test_logs_that_are_alike_need_nothing() -> None:
    log = settled(a=[FIRST, at(2, "m")], b=[FIRST, at(2, "m")])
    assert log.reached == 2
    assert log.after(START) == [FIRST, at(2, "m")]
    assert log.plan(nothing_new(log, "a", "b")) == Plan()


def test_nodes_are_asked_for_what_follows_the_last_row_read() -> None:
    log = settled(a=[FIRST], b=[FIRST])
    assert (log.seen("a"), log.seen("b"), log.seen("c")) == (1, 1, START)
    read = tails(a=[at(2, "m")], b=[at(2, "m")])
    assert log.commit(log.plan(read), read) == [at(2, "m")]
    assert (log.seen("a"), log.seen("b")) == (2, 2)
    log.forget("a")
    assert log.seen("a") == START


def test_a_row_that_one_node_lacks_is_pushed_at_its_own_position() -> None:
    log = settled(a=[FIRST], b=[FIRST], c=[FIRST])
    plan = log.plan(tails(a=[at(2, "m")], b=[at(2, "m")], c=[]))
    assert plan.pushes == {"c": [at(2, "m")]}
    assert not plan.repeats
    assert not plan.is_settled


def test_a_row_below_the_top_of_a_node_that_lacks_it_is_repeated() -> None:
    """That node takes it only above its top, and there it has to be everywhere."""
    log = settled(a=[FIRST], b=[FIRST])
    plan = log.plan(tails(a=[at(2, "m")], b=[at(3, "x")]))
    assert plan.pushes == {"a": [at(3, "x")]}
    assert plan.repeats == (at(2, "m").row,)


def test_an_empty_node_gets_all_rows_in_order() -> None:
    log = settled(a=[FIRST, at(2, "m"), at(3, "x")])
    plan = log.plan({**nothing_new(log, "a"), **tails(b=[])})
    assert plan.pushes == {"b": [FIRST, at(2, "m"), at(3, "x")]}


def test_a_node_that_was_away_gets_what_it_missed() -> None:
    log = settled(a=[FIRST], b=[FIRST])
    read = tails(a=[at(2, "m")])
    log.commit(log.plan(read), read)
    assert log.plan(nothing_new(log, "a", "b")).pushes == {"b": [at(2, "m")]}


def test_rows_that_a_later_one_covers_are_not_missed() -> None:
    rows = [FIRST, at(2, "m"), at(3, "x"), at(4, "m")]
    log = settled(a=rows)
    plan = log.plan({**nothing_new(log, "a"), **tails(b=[])})
    assert plan.pushes == {"b": [FIRST, at(3, "x"), at(4, "m")]}


def test_a_later_row_for_everything_covers_all_rows() -> None:
    log = settled(a=[FIRST, at(2, "m"), at(3)])
    assert log.plan({**nothing_new(log, "a"), **tails(b=[])}).pushes == {"b": [at(3)]}


def test_a_condition_is_covered_by_the_same_scope_without_one_and_not_the_other_way_round() -> None:
    narrow, wide = at(2, "m", router_version="v1"), at(3, "m")
    log = settled(a=[FIRST, narrow, wide])
    assert log.plan({**nothing_new(log, "a"), **tails(b=[FIRST])}).pushes == {"b": [wide]}
    wide, narrow = at(2, "m"), at(3, "m", router_version="v1")
    log = settled(a=[FIRST, wide, narrow])
    assert log.plan({**nothing_new(log, "a"), **tails(b=[FIRST])}).pushes == {"b": [wide, narrow]}


def test_a_row_that_turns_up_below_what_was_handed_out_is_repeated() -> None:
    """Even where nobody else is: callers have read past it, and captured."""
    log = settled(a=[FIRST, at(5, "x")])
    plan = log.plan(tails(b=[FIRST, at(3, "m"), at(5, "x")]))
    assert plan.repeats == (at(3, "m").row,)


def test_an_equal_row_that_callers_have_read_before_does_not_cover_a_late_one() -> None:
    """The late one may have been appended after it: only a row they have not read tells them."""
    log = settled(a=[FIRST, at(5, "m")])
    assert log.plan(tails(b=[FIRST, at(3, "m"), at(5, "m")])).repeats == (at(3, "m").row,)
    read = tails(a=[at(6, "m")], b=[FIRST, at(3, "m"), at(5, "m"), at(6, "m")])
    plan = log.plan(read)
    assert plan.is_settled
    assert log.commit(plan, read) == [at(6, "m")]


def test_a_late_row_is_repeated_once() -> None:
    log = settled(a=[FIRST, at(5, "x")])
    read = tails(a=[at(7, "m")], b=[FIRST, at(3, "m"), at(5, "x"), at(7, "m")])
    log.commit(log.plan(read), read)
    assert log.plan(nothing_new(log, "a", "b")) == Plan()
    log.forget("b")  # its log is read anew
    assert log.plan({**nothing_new(log, "a"), **tails(b=read["b"].rows)}).is_settled


def test_logs_without_any_row_begin() -> None:
    assert MergedLog().plan(tails(a=[], b=[])) == Plan(begins=True)


def test_when_nobody_holds_what_was_reached_everything_is_void() -> None:
    log = settled(a=[FIRST, at(2, "m")], b=[FIRST, at(2, "m")])
    for name in ("a", "b"):
        log.forget(name)
    assert log.plan(tails(a=[], b=[])) == Plan(begins=True)
    assert log.plan(tails(a=[], b=[at(9, "x")])) == Plan(repeats=(EVERYTHING,))
    assert log.plan(tails(a=[FIRST], b=[FIRST])) == Plan(repeats=(EVERYTHING,))


def test_when_somebody_else_has_voided_everything_nobody_does_it_again() -> None:
    log = settled(a=[FIRST, at(2, "m")])
    log.forget("a")
    read = tails(a=[at(9)])
    plan = log.plan(read)
    assert plan.is_settled
    assert log.commit(plan, read) == [at(9)]


def test_a_row_for_everything_that_callers_have_read_past_does_not_count() -> None:
    log = settled(a=[FIRST, at(5, "m")])
    log.forget("a")
    assert log.plan(tails(a=[at(3)])).repeats == (EVERYTHING,)


def test_one_node_that_holds_what_was_reached_is_enough() -> None:
    log = settled(a=[FIRST, at(2, "m")], b=[FIRST, at(2, "m")])
    log.forget("a")
    plan = log.plan({**tails(a=[]), **nothing_new(log, "b")})
    assert plan.pushes == {"a": [FIRST, at(2, "m")]}


def test_a_node_never_met_before_may_hold_what_was_reached() -> None:
    log = settled(a=[FIRST, at(2, "m")])
    assert log.plan(tails(b=[FIRST, at(2, "m")])).is_settled


def test_rows_that_are_spent_are_not_missed() -> None:
    log = settled(a=[FIRST, at(2, "m"), at(9, "x")])
    plan = log.plan({**nothing_new(log, "a"), "b": by_clock(5)})
    assert plan.pushes == {"b": [at(9, "x")]}
    assert not plan.repeats


def test_only_the_clock_of_the_node_that_lacks_a_row_tells_that_it_is_spent() -> None:
    log = settled(a=[FIRST, at(2, "m"), at(9, "x")])
    plan = log.plan({"a": by_clock(99), "b": by_clock(2), "c": NodeTail([])})
    assert plan.pushes == {"b": [at(9, "x")], "c": [FIRST, at(2, "m"), at(9, "x")]}


def test_a_spent_row_below_the_top_of_a_node_that_lacks_it_is_not_repeated() -> None:
    """The node may have held it, and trimmed it."""
    log = settled(a=[FIRST, at(2, "m"), at(9, "x")])
    for spent, repeats in (1, (at(2, "m").row,)), (2, ()):
        plan = log.plan({"a": by_clock(9), "b": by_clock(spent, [at(9, "x")])})
        assert plan.repeats == repeats
        assert not plan.pushes


def test_the_last_row_is_given_to_every_node_however_old_it_is() -> None:
    """Its position is handed out: an append at a node that ends before it could come before it."""
    log = settled(a=[FIRST, at(2, "m"), at(9, "x")])
    plan = log.plan({"a": by_clock(99), "b": by_clock(99, [FIRST])})
    assert plan.pushes == {"b": [at(9, "x")]}
    assert not plan.repeats


def test_a_late_row_is_let_go_when_it_is_spent_for_all_nodes_that_hold_it() -> None:
    log = settled(a=[FIRST, at(5, "x")])
    rows = [FIRST, at(3, "m"), at(5, "x")]
    assert log.plan({"b": by_clock(3, rows)}).is_settled
    assert log.plan({"a": by_clock(9), "b": by_clock(2, rows)}).repeats == (at(3, "m").row,)
    assert log.plan({"b": by_clock(3, rows), "c": by_clock(2, rows)}).repeats == (at(3, "m").row,)


def test_a_clock_that_shows_the_beginning_of_time_spends_nothing() -> None:
    assert NodeTail([]).spent == START
    assert NodeTail([], now=Position(7)).spent == START
    assert position_at(-1.0) == START


def test_the_time_in_a_condition_is_no_part_of_what_a_row_is() -> None:
    """It is told on each node's clock, and read to within what is known of that clock."""
    log = settled(a=[FIRST, at(2, "m", older_than_s=100.0)])
    plan = log.plan({**nothing_new(log, "a"), **tails(b=[FIRST, at(2, "m", older_than_s=100.25)])})
    assert plan.is_settled


def test_too_many_rows_are_dropped_and_that_is_remembered() -> None:
    log = MergedLog(max_rows=8)
    read = tails(a=[at(position, f"m{position}") for position in range(1, 12)])
    log.commit(log.plan(read), read)
    assert log.floor == 4
    assert [one.position for one in log.after(log.floor)] == list(range(5, 12))
    log.forget("a")  # what was dropped is neither missed nor late when it is read again
    assert log.plan(read).is_settled


@pytest.mark.parametrize("position", [2, 3, 99])
def test_nothing_follows_the_end(position: int) -> None:
    log = settled(a=[FIRST, at(2, "m")])
    assert not log.after(Position(position))
