"""LeaseTable: bounded even when leaders die without a word."""

from routecache_middleware.coordinators.leases import HeldLease, LeaseTable


def test_the_leases_of_dead_leaders_are_freed() -> None:
    leases = LeaseTable()
    for number in range(100):
        assert leases.acquire(f"{number}", "dead", 5.0, now_s=0.0) is None
    leases.acquire("a", "t", 5.0, now_s=50.0)
    assert len(leases) == 37
    leases.acquire("b", "t", 5.0, now_s=50.0)
    assert len(leases) == 2


def test_a_renewed_lease_is_not_swept_at_its_old_time() -> None:
    leases = LeaseTable()
    leases.acquire("k", "t", 5.0, now_s=0.0)
    assert leases.renew("k", "t", 100.0, now_s=1.0)
    leases.acquire("other", "t", 5.0, now_s=50.0)
    assert leases.is_held("k", "t", now_s=50.0)
    assert leases.acquire("k", "u", 5.0, now_s=51.0) == HeldLease("t", 101.0)


def test_released_and_cleared_leases_leave_nothing() -> None:
    leases = LeaseTable()
    leases.acquire("a", "t", 5.0, now_s=0.0)
    leases.acquire("b", "t", 5.0, now_s=0.0)
    assert not leases.release("a", "u", 0.0)
    assert len(leases) == 2
    assert leases.release("a", "t", 0.0)
    assert len(leases) == 1
    leases.clear()
    assert len(leases) == 0
    assert leases._expiry.pop_due(100.0, 10) == []
