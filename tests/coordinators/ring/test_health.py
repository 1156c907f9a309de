"""A node's health, step by step."""

import pytest

from routecache_middleware.coordinators.ring.health import Health
from routecache_middleware.core.cluster import NodeState


def up() -> Health:
    health = Health(0.0)
    health.answers()
    health.joined()
    return health


def test_a_new_node_is_down_until_it_answers_and_is_up_to_date() -> None:
    health = Health(0.0)
    assert (health.state, health.is_serving) == (NodeState.DOWN, False)
    health.succeeded()
    assert health.state is NodeState.DOWN
    health.answers()
    assert (health.state, health.is_serving) == (NodeState.JOINING, False)
    health.joined()
    assert (health.state, health.is_serving) == (NodeState.UP, True)


def test_one_failure_is_a_suspicion_and_a_success_ends_it() -> None:
    health = up()
    health.failed(1.0, 1.1)
    assert (health.state, health.is_serving) == (NodeState.SUSPECT, True)
    health.succeeded()
    assert health.state is NodeState.UP


def test_three_failures_in_a_row_make_it_down() -> None:
    health = up()
    for begun_s in (1.0, 2.0):
        health.failed(begun_s, begun_s + 0.5)
        assert health.is_serving
    health.failed(3.0, 3.5)
    assert health.state is NodeState.DOWN


def test_failures_with_a_success_in_between_are_not_in_a_row() -> None:
    health = up()
    for begun_s in (1.0, 2.0, 3.0, 4.0, 5.0):
        health.failed(begun_s, begun_s + 0.5)
        health.succeeded()
    assert health.state is NodeState.UP


def test_what_failed_at_the_same_time_is_one_failure() -> None:
    """A hiccup of a millisecond hits every request that is under way."""
    health = up()
    for _ in range(50):
        health.failed(1.0, 1.5)
    assert health.state is NodeState.SUSPECT


def test_a_refused_connection_makes_it_down_at_once() -> None:
    health = up()
    health.failed(1.0, 1.0, was_refused=True)
    assert health.state is NodeState.DOWN


def test_a_node_that_fails_while_joining_is_down_again() -> None:
    health = Health(0.0)
    health.answers()
    health.failed(1.0, 1.5)
    assert health.state is NodeState.DOWN
    health.joined()  # too late
    assert health.state is NodeState.DOWN


def test_a_probe_does_not_send_a_node_that_serves_to_join() -> None:
    health = up()
    health.answers()
    assert health.state is NodeState.UP


@pytest.mark.parametrize(("now_s", "is_removable"), [(60.0, False), (129.9, False), (130.0, True)])
def test_it_is_removed_after_120_seconds_down(now_s: float, *, is_removable: bool) -> None:
    health = up()
    health.failed(9.0, 10.0, was_refused=True)
    health.failed(70.0, 71.0, was_refused=True)  # the first failure counts
    assert health.is_removable(now_s) is is_removable


def test_a_node_that_serves_is_never_removable() -> None:
    assert not up().is_removable(1e9)
