"""Every value is a Cache-Status list (RFC 9211) to a parser that is not ours."""

from typing import Any

import http_sf
import pytest

from routecache_middleware.core import cache_status
from routecache_middleware.core.models import BypassReason, MissReason


def parsed(value: bytes) -> dict[str, Any]:
    members: Any = http_sf.parse(value, tltype="list")
    ((cache, parameters),) = members
    assert isinstance(cache, http_sf.Token)
    assert str(cache) == "routecache"
    return {
        name: str(held) if isinstance(held, http_sf.Token) else held
        for name, held in parameters.items()
    }


@pytest.mark.parametrize(
    ("ttl", "seconds"), [(0.9, 0), (599.99, 599), (0.0, 0), (-0.1, -1), (-3.0, -3)]
)
def test_a_hit_says_how_long_it_stays_fresh(ttl: float, seconds: int) -> None:
    """RFC 9211 sections 2.1 and 2.4: negative when stale."""
    expected = {"hit": True, "ttl": seconds, "detail": "memory"}
    assert parsed(cache_status.hit(ttl, "memory")) == expected


@pytest.mark.parametrize(
    ("name", "detail"),
    [
        ("redis+cluster", "redis+cluster"),
        ("my cache", "my cache"),
        ('a"b\\c', 'a"b\\c'),
        ("3rd", "3rd"),
        ("", ""),
        ("käse\x00\ud800", "k?se??"),
    ],
)
def test_a_name_that_is_no_token_becomes_a_string(name: str, detail: str) -> None:
    """RFC 9211 section 2.8, RFC 9651 sections 3.3.3 and 3.3.4."""
    assert parsed(cache_status.hit(1.0, name))["detail"] == detail


@pytest.mark.parametrize(
    ("reason", "expected"),
    [
        (None, {"fwd": "miss"}),
        (MissReason.ABSENT, {"fwd": "miss"}),
        (MissReason.EXPIRED, {"fwd": "stale"}),
        (MissReason.INVALIDATED, {"fwd": "miss", "detail": "invalidated"}),
        (MissReason.REQUEST, {"fwd": "request"}),
        (MissReason.CONVERSION, {"fwd": "miss", "detail": "conversion"}),
        (MissReason.INELIGIBLE, {"fwd": "miss", "detail": "ineligible"}),
        (MissReason.UNAUTHORISED, {"fwd": "miss", "detail": "unauthorised"}),
        (MissReason.PARTIAL, {"fwd": "partial"}),
    ],
)
def test_a_miss_says_why_it_was_forwarded(
    reason: MissReason | None, expected: dict[str, str]
) -> None:
    """RFC 9211 section 2.2."""
    assert parsed(cache_status.forwarded(reason)) == expected


def test_parts_that_were_there_and_are_not_in_the_answer_are_a_detail() -> None:
    """RFC 9211 section 2.8: what is answered does not come from the cache, not even in part."""
    assert parsed(cache_status.unjoined()) == {"fwd": "miss", "detail": "partial"}


def test_every_miss_reason_has_its_value() -> None:
    for reason in MissReason:
        assert parsed(cache_status.forwarded(reason))["fwd"] in {
            "miss",
            "stale",
            "request",
            "partial",
        }


def test_a_follower_says_that_it_was_collapsed() -> None:
    """RFC 9211 section 2.6: with fwd, never with hit."""
    assert parsed(cache_status.collapsed()) == {"fwd": "miss", "collapsed": True}


@pytest.mark.parametrize("reason", BypassReason)
def test_a_bypass_says_why(reason: BypassReason) -> None:
    """RFC 9211 section 2.2."""
    assert parsed(cache_status.bypassed(reason)) == {"fwd": "bypass", "detail": reason.value}
