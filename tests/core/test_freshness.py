"""Age and freshness: RFC 9111 section 4.2, stale windows: RFC 5861 sections 3 and 4."""

import pytest

from routecache_middleware.core.freshness import (
    MAX_CLOCK_SKEW_S,
    Freshness,
    age_s,
    classify,
    lifetime_s,
    ttl_s,
)
from routecache_middleware.core.keys import Layer
from routecache_middleware.core.models import Entry

NOW_S = 1_700_000_000.0
FRESH, STALE, EXPIRED = Freshness.FRESH, Freshness.STALE, Freshness.EXPIRED


def entry(age: float, lifetime: float, revalidate: float = 0.0, if_error: float = 0.0) -> Entry:
    return Entry(Layer.RESULT, b"", NOW_S - age, lifetime, revalidate, if_error)


@pytest.mark.parametrize(
    ("made", "age", "ttl"),
    [
        (entry(0, 10), 0, 10),
        (entry(4, 10), 4, 6),
        (entry(10, 10), 10, 0),
        (entry(25, 10), 25, -15),
        (entry(-1, 10), 0, 10),  # clocks differ a little: an age is never negative
        (entry(-500, 10), 0, 10),
    ],
)
def test_age_is_time_elapsed_and_ttl_is_time_left(made: Entry, age: float, ttl: float) -> None:
    """RFC 9111 section 4.2.3 and RFC 9211 section 2.4: negative when stale."""
    assert age_s(made, NOW_S) == age
    assert ttl_s(made, NOW_S) == ttl


@pytest.mark.parametrize(
    ("made", "expected"),
    [
        (entry(0, 10), FRESH),
        (entry(9.999, 10), FRESH),
        (entry(10, 10), EXPIRED),  # RFC 9111 section 4.2: fresh while lifetime > age
        (entry(0, 0), EXPIRED),
        (entry(-1, 0), EXPIRED),
        (entry(10, 10, revalidate=5), STALE),
        (entry(14.999, 10, revalidate=5), STALE),
        (entry(15, 10, revalidate=5), EXPIRED),
        (entry(14, 10, if_error=5), STALE),
        (entry(16, 10, revalidate=5, if_error=7), STALE),  # the longer window counts
        (entry(17, 10, revalidate=5, if_error=7), EXPIRED),
        (entry(-MAX_CLOCK_SKEW_S, 10), FRESH),
        (entry(-MAX_CLOCK_SKEW_S - 0.001, 10), EXPIRED),  # its age cannot be known
    ],
)
def test_what_an_age_allows(made: Entry, expected: Freshness) -> None:
    assert classify(made, NOW_S) is expected


@pytest.mark.parametrize(
    ("default", "asked", "most", "granted"),
    [
        (600, None, None, 600),
        (600, None, 3600, 600),
        (600, 60, None, 60),  # less is always granted
        (600, 0, None, 0),
        (600, -1, None, 0),
        (600, 900, None, 600),
        (600, 900, 3600, 900),
        (600, 9000, 3600, 3600),
        (600, 500, 300, 500),  # a client that asks is not worse off than one that does not
        (0, 60, None, 0),  # the operator stores nothing
    ],
)
def test_a_client_may_ask_for_a_lifetime_within_what_the_operator_allows(
    default: float, asked: float | None, most: float | None, granted: float
) -> None:
    assert lifetime_s(default, asked, most_s=most) == granted
