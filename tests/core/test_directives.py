"""Request directives: RFC 9111 section 5.2.1, and Pragma: section 5.4."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from routecache_middleware.core.directives import (
    NO_DIRECTIVES,
    Directives,
    both,
    parse_directives,
    parse_ttl,
)


@pytest.mark.parametrize(
    ("cache_control", "expected"),
    [
        (b"", NO_DIRECTIVES),
        (b" , ,", NO_DIRECTIVES),
        (b"foo, bar=1", NO_DIRECTIVES),
        (b"no-transform, foo", Directives(no_transform=True)),  # 5.2.1.6
        (b"min-fresh=60", Directives(min_fresh_s=60)),  # 5.2.1.3
        (b"min-fresh=soon", Directives(min_fresh_s=2**31)),
        (b"min-fresh", Directives(min_fresh_s=2**31)),
        (b"max-stale=60", Directives(max_stale_s=60)),  # 5.2.1.2
        (b"max-stale", Directives(max_stale_s=math.inf)),
        (b"max-stale, max-age=5", Directives(max_stale_s=math.inf, max_age_s=5)),
        (b"max-stale=soon", Directives(max_stale_s=0)),
        (b"max-stale=", Directives(max_stale_s=0)),
        (b'max-stale=""', Directives(max_stale_s=0)),
        (b"max-age", Directives(no_cache=True, max_age_s=0)),
        (b"no-cache", Directives(no_cache=True)),  # 5.2.1.4
        (b"No-Cache", Directives(no_cache=True)),
        (b"no-store", Directives(no_store=True)),  # 5.2.1.5
        (b"only-if-cached", Directives(only_if_cached=True)),  # 5.2.1.7
        (b"max-age=60", Directives(max_age_s=60)),  # 5.2.1.1
        (b"max-age = 60 ", Directives(max_age_s=60)),
        (b'max-age="60"', Directives(max_age_s=60)),
        (b"max-age=0", Directives(no_cache=True, max_age_s=0)),
        (b"no-cache,no-store,max-age=5", Directives(no_cache=True, no_store=True, max_age_s=5)),
        (b"max-age=5, max-age=10", Directives(max_age_s=5)),
        (b'foo="a, only-if-cached", no-store', Directives(no_store=True)),
        (b'foo="a\\", no-cache", no-store', Directives(no_store=True)),
        (b'foo="unfinished, no-store', Directives(no_store=True)),
        (b"private=no-cache", NO_DIRECTIVES),
        (b"\xff\xfe, no-store", Directives(no_store=True)),
    ],
)
def test_directives_are_read(cache_control: bytes, expected: Directives) -> None:
    assert parse_directives(cache_control) == expected


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (b"2147483648", 2**31),
        (b"2147483649", 2**31),
        (b"9" * 5000, 2**31),
        (b"0" * 5000 + b"7", 7),
        (b"000", 0),
        (b"", 0),
        (b"-1", 0),
        (b"1.5", 0),
        (b"\xb2", 0),  # a digit to str.isdigit
        (b"soon", 0),
    ],
)
def test_delta_seconds_are_capped_and_what_is_none_is_zero(value: bytes, seconds: int) -> None:
    """RFC 9111 section 1.2.2."""
    assert parse_directives(b"max-age=" + value).max_age_s == seconds


@pytest.mark.parametrize(
    ("cache_control", "pragma", "no_cache"),
    [
        (b"", b"no-cache", True),
        (b"", b" NO-CACHE ", True),
        (b"", b"foo, no-cache", True),
        (b"", b"foo", False),
        (b"max-age=5", b"no-cache", False),
    ],
)
def test_pragma_counts_only_without_cache_control(
    cache_control: bytes, pragma: bytes, *, no_cache: bool
) -> None:
    """RFC 9111 section 5.4."""
    assert parse_directives(cache_control, pragma).no_cache is no_cache


@given(st.binary(max_size=200), st.binary(max_size=50))
def test_no_bytes_raise(cache_control: bytes, pragma: bytes) -> None:
    parse_directives(cache_control, pragma)


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (b"600", 600),
        (b"0", 0),
        (b"600;why=demo", 600),
        (b"999999999999999", 2**31),
        (b"-1", None),
        (b"", None),
        (b"600s", None),
        (b"6e2", None),
        (b"600, 700", None),
    ],
)
def test_a_ttl_is_a_structured_integer(value: bytes, seconds: int | None) -> None:
    """RFC 9651 section 3.3.1."""
    assert parse_ttl(value) == seconds


EVERYTHING = Directives(
    no_cache=True,
    no_store=True,
    only_if_cached=True,
    no_transform=True,
    max_age_s=1,
    max_stale_s=2,
    min_fresh_s=3,
)


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        (NO_DIRECTIVES, NO_DIRECTIVES, NO_DIRECTIVES),
        (NO_DIRECTIVES, EVERYTHING, EVERYTHING),
        (
            Directives(no_cache=True),
            Directives(no_store=True),
            Directives(no_cache=True, no_store=True),
        ),
        (Directives(max_age_s=5), Directives(max_age_s=9), Directives(max_age_s=5)),
        (Directives(min_fresh_s=5), Directives(min_fresh_s=9), Directives(min_fresh_s=9)),
        (Directives(max_stale_s=5), Directives(max_stale_s=9), Directives(max_stale_s=5)),
        (Directives(max_stale_s=5), NO_DIRECTIVES, Directives(max_stale_s=5)),
    ],
)
def test_two_sets_of_directives_are_both_honoured(
    one: Directives, other: Directives, expected: Directives
) -> None:
    assert both(one, other) == both(other, one) == expected
