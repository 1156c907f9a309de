"""Breaker: when it opens, and what closes it."""

import pytest

from routecache_middleware.coordinators.breaker import Breaker


def fail(breaker: Breaker, *times_s: float) -> list[bool]:
    return [breaker.failed(now_s) for now_s in times_s]


def test_three_failures_in_a_row_open_it_however_far_apart() -> None:
    breaker = Breaker()
    assert fail(breaker, 0.0, 100.0, 200.0) == [False, False, True]
    assert breaker.is_open
    assert not breaker.admits()


def test_a_success_ends_the_row() -> None:
    breaker = Breaker()
    for start_s in (0.0, 10.0, 20.0):
        assert fail(breaker, start_s, start_s + 1.0) == [False, False]
        breaker.succeeded()
    assert breaker.admits()


@pytest.mark.parametrize(("apart_s", "opens"), [(0.25, True), (0.26, False)])
def test_five_failures_within_a_second_open_it_whatever_comes_between(
    *, apart_s: float, opens: bool
) -> None:
    breaker = Breaker()
    for number in range(5):
        breaker.failed(1_000.0 + number * apart_s)
        breaker.succeeded()
    assert breaker.is_open is opens


def test_it_tells_of_its_opening_once() -> None:
    breaker = Breaker()
    assert sum(fail(breaker, *[0.0] * 20)) == 1


def test_a_success_that_was_under_way_does_not_close_it() -> None:
    breaker = Breaker()
    breaker.open()
    breaker.succeeded()
    assert not breaker.admits()


def test_closed_again_it_counts_from_zero() -> None:
    breaker = Breaker()
    fail(breaker, 0.0, 0.0, 0.0)
    breaker.close()
    assert breaker.admits()
    assert fail(breaker, 0.1, 0.1) == [False, False]
    assert fail(breaker, 0.2) == [True]


def test_one_call_is_let_through_on_trial_and_its_success_closes_it() -> None:
    breaker = Breaker()
    breaker.open()
    breaker.allow_trial()
    assert [breaker.admits() for _ in range(3)] == [True, False, False]
    breaker.succeeded()
    assert breaker.admits()


def test_a_failed_trial_keeps_it_open_and_what_succeeds_later_proves_nothing() -> None:
    breaker = Breaker()
    breaker.open()
    breaker.allow_trial()
    assert breaker.admits()
    assert not breaker.failed(0.0)
    breaker.succeeded()
    assert not breaker.admits()


def test_there_is_no_trial_of_what_is_not_open() -> None:
    breaker = Breaker()
    breaker.allow_trial()
    breaker.open()
    assert not breaker.admits()
