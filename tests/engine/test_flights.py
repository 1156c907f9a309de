"""Which upstream calls are under way, and when not to share one."""

from routecache_middleware.core.models import Position
from routecache_middleware.engine.flights import Flights


class Plane:
    position = Position(0)


def test_a_flight_is_found_until_it_closes() -> None:
    """Under its own key only."""
    flights: Flights[Plane] = Flights()
    plane = Plane()
    flights.open("k", plane)
    assert flights.find("k") is plane
    assert flights.find("other") is None
    assert len(flights) == 1
    flights.close("k", plane)
    flights.close("k", plane)
    assert flights.find("k") is None


def test_a_flight_that_was_replaced_closes_only_itself() -> None:
    """The newer one is left alone."""
    flights: Flights[Plane] = Flights()
    old, new = Plane(), Plane()
    flights.open("k", old)
    flights.open("k", new)
    flights.close("k", old)
    assert flights.find("k") is new


def test_the_second_failure_with_followers_sends_everybody_alone_for_a_second() -> None:
    """Design 9: one promotion."""
    flights: Flights[Plane] = Flights()
    assert not flights.is_parallel("k", 0.0)
    flights.failed("k", had_followers=True, now_s=10.0)
    assert not flights.is_parallel("k", 10.0)
    flights.failed("k", had_followers=True, now_s=11.0)
    assert flights.is_parallel("k", 11.9)
    assert not flights.is_parallel("other", 11.9)
    assert not flights.is_parallel("k", 12.0)
    assert not flights.is_parallel("k", 11.9), "once over, it is forgotten"
    flights.failed("k", had_followers=True, now_s=13.0)
    assert not flights.is_parallel("k", 13.0), "counting starts anew"


def test_failures_without_followers_do_not_count() -> None:
    """Nobody was kept waiting."""
    flights: Flights[Plane] = Flights()
    for _ in range(5):
        flights.failed("k", had_followers=False, now_s=0.0)
    assert not flights.is_parallel("k", 0.0)


def test_a_success_forgets_the_failures() -> None:
    """The upstream answers again."""
    flights: Flights[Plane] = Flights()
    flights.succeeded("k")
    flights.failed("k", had_followers=True, now_s=0.0)
    flights.succeeded("k")
    flights.failed("k", had_followers=True, now_s=0.0)
    assert not flights.is_parallel("k", 0.0)


def test_what_cannot_be_shared_is_not_waited_for_during_ten_seconds() -> None:
    """Hit-for-miss (design 9)."""
    flights: Flights[Plane] = Flights()
    flights.unshareable("k", 5.0)
    assert flights.is_parallel("k", 14.9)
    assert not flights.is_parallel("k", 15.0)


def test_the_memory_for_failures_is_bounded() -> None:
    """Keys come from clients."""
    flights: Flights[Plane] = Flights()
    for n in range(10_000):
        flights.failed(str(n), had_followers=True, now_s=0.0)
        flights.unshareable(str(n), 0.0)
    assert len(flights._failures) == len(flights._parallel_until) == 4096
