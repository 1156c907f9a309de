"""Which principals the app itself has accepted lately (design 5)."""

import pytest

from routecache_middleware.engine.acceptance import Acceptance
from routecache_middleware.testing.clock import FakeClock


@pytest.mark.parametrize("status", [200, 201, 204, 299])
def test_a_2xx_vouches_for_a_while(status: int) -> None:
    """``auth_ttl_s`` from the latest one."""
    clock = FakeClock()
    acceptance = Acceptance(60.0, clock)
    assert not acceptance.is_accepted("a")
    acceptance.observe("a", status)
    clock.advance(59)
    assert acceptance.is_accepted("a")
    assert not acceptance.is_accepted("b")
    acceptance.observe("a", status)
    clock.advance(59)
    assert acceptance.is_accepted("a")
    clock.advance(1)
    assert not acceptance.is_accepted("a")


@pytest.mark.parametrize(
    ("status", "is_accepted"), [(401, False), (403, False), (500, True), (404, True)]
)
def test_only_a_refusal_revokes(status: int, *, is_accepted: bool) -> None:
    """401 and 403, at once; other errors say nothing about the caller."""
    acceptance = Acceptance(60.0, FakeClock())
    acceptance.observe("a", 200)
    acceptance.observe("a", status)
    assert acceptance.is_accepted("a") is is_accepted


def test_the_wall_clock_does_not_matter() -> None:
    """A step of NTP must not extend a lease."""
    clock = FakeClock()
    acceptance = Acceptance(60.0, clock)
    acceptance.observe("a", 200)
    clock.step_wall(-1000)
    clock.advance(61)
    assert not acceptance.is_accepted("a")
