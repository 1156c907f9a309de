"""Leases: for whom, for what, and for how long."""

import pytest

from routecache_middleware.adapters.asgi.gate import Slot
from routecache_middleware.adapters.litellm.fastlane import leases as module
from routecache_middleware.adapters.litellm.fastlane.leases import Accepted, Lease, Leases
from routecache_middleware.core.keys import Layer
from routecache_middleware.core.models import Entry
from routecache_middleware.testing.clock import FakeClock

WHO = Accepted("hash", "m", "", {})
SLOT = Slot("alice", ("here", "m", ""))


def entry(body: bytes = b"{}") -> Entry:
    return Entry(Layer.RESULT, body, 0.0, 60.0)


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def leases(clock: FakeClock) -> Leases:
    return Leases(clock, 60.0)


def test_there_is_none_before_litellm_has_let_somebody_in(leases: Leases) -> None:
    assert leases.admit(SLOT) is None


def test_one_lasts_for_its_time_and_no_longer(leases: Leases, clock: FakeClock) -> None:
    leases.grant(SLOT, WHO)
    clock.advance(59.9)
    assert leases.admit(SLOT) is not None
    clock.advance(0.1)
    assert leases.admit(SLOT) is None


def test_a_clock_that_is_set_back_makes_none_longer(leases: Leases, clock: FakeClock) -> None:
    leases.grant(SLOT, WHO)
    clock.step_wall(-3600)
    clock.advance(60)
    assert leases.admit(SLOT) is None


def test_letting_somebody_in_again_renews_it(leases: Leases, clock: FakeClock) -> None:
    leases.grant(SLOT, WHO)
    clock.advance(40)
    leases.grant(SLOT, replace_model(WHO))
    clock.advance(40)
    lease = leases.admit(SLOT)
    assert lease is not None
    assert lease.accepted.model == "other"
    assert len(leases) == 1


def replace_model(who: Accepted) -> Accepted:
    return Accepted(who.key, "other", who.user, who.metadata)


@pytest.mark.parametrize(
    "other",
    [
        Slot("bob", SLOT.what),
        Slot("alice", ("elsewhere", "m", "")),
        Slot("alice", ("here", "m2", "")),
        Slot("alice", ("here", "m", "u")),
    ],
    ids=["caller", "way", "model", "user"],
)
def test_one_is_good_for_nothing_else(leases: Leases, other: Slot) -> None:
    leases.grant(SLOT, WHO)
    assert leases.admit(other) is None


def test_revoking_ends_all_of_a_caller_and_nobody_elses(leases: Leases) -> None:
    bob = Slot("bob", SLOT.what)
    more = Slot("alice", ("here", "m2", ""))
    for slot in (SLOT, more, bob):
        leases.grant(slot, WHO)
    leases.revoke("alice")
    assert [leases.admit(slot) is None for slot in (SLOT, more, bob)] == [True, True, False]
    assert len(leases) == 1
    leases.revoke("nobody")


def test_ending_one_leaves_the_others(leases: Leases) -> None:
    more = Slot("alice", ("here", "m2", ""))
    leases.grant(SLOT, WHO)
    leases.grant(more, WHO)
    leases.end(SLOT)
    leases.end(SLOT)
    leases.end(Slot("bob", ()))
    assert leases.admit(SLOT) is None
    assert leases.admit(more) is not None
    assert len(leases) == 1


def test_without_a_time_there_are_none(clock: FakeClock) -> None:
    leases = Leases(clock, 0.0)
    leases.grant(SLOT, WHO)
    assert leases.admit(SLOT) is None


def test_there_are_never_more_than_so_many(
    clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_MAX_LEASES", 10)
    leases = Leases(clock, 60.0)
    for number in range(100):
        leases.grant(Slot(f"c{number}", ("here", "m", "")), WHO)
        assert len(leases) <= 10
    assert leases.admit(Slot("c99", ("here", "m", ""))) is not None
    for number in range(100):  # nor by one caller alone
        leases.grant(Slot("many", ("here", "m", str(number))), WHO)
        assert len(leases) <= 10
    leases.clear()
    assert len(leases) == 0


def test_a_lease_counts_and_speaks_up_once(clock: FakeClock) -> None:
    spoke: list[Lease] = []
    leases = Leases(clock, 60.0, spoke.append)
    leases.grant(SLOT, WHO)
    lease = leases.admit(SLOT)
    assert lease is not None
    one, other = entry(), entry(b"[]")
    for served in (one, one, other, None):
        lease.served(served)
    assert lease.hits == 4
    assert spoke == [lease]
    assert {count for _, count in lease.entries.values()} == {2, 1}


def test_a_lease_remembers_so_many_answers_only(clock: FakeClock) -> None:
    lease = Lease(WHO, 1.0, lambda _: None)
    kept = [entry() for _ in range(1000)]
    for one in kept:
        lease.served(one)
    assert lease.hits == 1000
    assert len(lease.entries) == module._MAX_ENTRIES
