"""``RouteCache-Control``, a targeted field: RFC 9213."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from routecache_middleware.core.targeted import ResponseDirectives, parse_response_directives

Found = ResponseDirectives


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (b"max-age=60", Found(max_age_s=60)),
        (b"max-age=60;foo", Found(max_age_s=60)),
        (b"no-store", Found(no_store=True)),
        (b"no-store=?0, max-age=5", Found(max_age_s=5)),
        (b"private", Found(private=True)),
        (b'private="set-cookie"', Found(private=True)),
        (
            b"max-age=1, stale-while-revalidate=2, stale-if-error=3",
            Found(max_age_s=1, stale_while_revalidate_s=2, stale_if_error_s=3),
        ),
        (b"something=new", Found()),
        (b"max-age=60, max-age=5", Found(max_age_s=5)),  # RFC 9651 section 4.2.2: the last
        (b"max-age=-1", Found(max_age_s=0)),
        (b'max-age="60"', Found(max_age_s=0)),
        (b"max-age", Found(max_age_s=0)),
        (b"max-age=1.5", Found(max_age_s=0)),
        (b"max-age=999999999999999", Found(max_age_s=2**31)),
        (b"max-age=?1", Found(max_age_s=0)),
        (b"max-age=(60)", Found(max_age_s=0)),
        (b"max-age=5, max-age", Found(max_age_s=0)),
        (b"Max-Age=60", Found(max_age_s=60)),  # RFC 9111 section 5.2: in any case
        (b"No-Store", Found(no_store=True)),
        (b"NO-STORE;Why=This, Private", Found(no_store=True, private=True)),
        (b"max-age=5, MAX-AGE=7", Found(max_age_s=7)),  # the same name
        (b"no-store, No-Store=?0", Found()),
        (b'x="No-Store, private"', Found()),
        (b"no-cache", Found(no_store=True)),  # section 5.2.2.4, and nothing is ever asked again
        (b"No-Cache, max-age=60", Found(no_store=True, max_age_s=60)),
        (b'no-cache="set-cookie"', Found(no_store=True)),
        (b"no-cache=?0", Found()),
        (b"no-cache=()", Found(no_store=True)),
        (b"s-maxage=5, max-age=60", Found(max_age_s=5)),  # section 5.2.2.10
        (b"s-maxage=?0, max-age=60", Found(max_age_s=0)),
        (b"s-maxage=60", Found(max_age_s=60)),
    ],
)
def test_directives_are_read(text: bytes, expected: ResponseDirectives) -> None:
    assert parse_response_directives(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"  ",
        b"max-age = 60",
        b"max-age=60,",
        b"no-store, \xff",
        b"no-store=",
        b"no-store=true;=",
        b'private="set-cookie',
        b"no-store private",
        b"no-store=?T",
        b"_No-Store",
    ],
)
def test_a_field_that_is_empty_or_cannot_be_read_does_not_count(text: bytes) -> None:
    """RFC 9213 section 2.1."""
    assert parse_response_directives(text) is None


@given(st.binary(max_size=100))
def test_no_bytes_raise(text: bytes) -> None:
    parse_response_directives(text)
