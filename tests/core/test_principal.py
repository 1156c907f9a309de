"""Who is asking: every credential counts, in full."""

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from routecache_middleware.core.principal import (
    CREDENTIAL_HEADERS,
    principal,
    query_credentials,
)

NAMES = st.sampled_from(sorted(CREDENTIAL_HEADERS))
PAIRS = st.lists(st.tuples(NAMES, st.binary(min_size=1).filter(bytes.strip)), min_size=1)
SECRET = b"0123456789abcdef"


@given(PAIRS, st.randoms())
def test_order_does_not_matter(pairs: list[tuple[bytes, bytes]], random: object) -> None:
    assert principal(pairs) == principal(reversed(pairs)) == principal(sorted(pairs))


@given(PAIRS, st.data())
def test_any_change_of_any_credential_changes_it(
    pairs: list[tuple[bytes, bytes]], data: st.DataObject
) -> None:
    index = data.draw(st.integers(0, len(pairs) - 1))
    other = data.draw(st.tuples(NAMES, st.binary(min_size=1).filter(bytes.strip)))
    assume(other != pairs[index])
    assert principal(pairs) != principal([*pairs[:index], other, *pairs[index + 1 :]])
    assert principal(pairs) != principal([*pairs, other])


def test_tokens_with_the_same_long_beginning_are_two_principals() -> None:
    beginning = b"Bearer " + b"x" * 200
    one = principal([(b"authorization", beginning + b"1")])
    other = principal([(b"authorization", beginning + b"2")])
    assert one != other


def test_a_name_and_its_value_do_not_run_together() -> None:
    assert principal([(b"ab", b"c")]) != principal([(b"a", b"bc")])
    assert principal([(b"a", b"b"), (b"c", b"d")]) != principal([(b"a", b"bcd")])


@pytest.mark.parametrize("value", [b"", b" ", b"\t "])
def test_an_empty_value_is_no_credential(value: bytes) -> None:
    assert principal([(b"authorization", value)]) == ""
    known = [(b"x-api-key", b"k")]
    assert principal([*known, (b"authorization", value)]) == principal(known)


def test_it_is_opaque_and_keyed_by_the_secret() -> None:
    pairs = [(b"authorization", b"Bearer canary")]
    names = {principal(pairs), principal(pairs, SECRET), principal(pairs, SECRET + b"x")}
    assert len(names) == 3
    for name in names:
        assert len(name) == 32
        int(name, 16)


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        (b"", []),
        (b"model=x", []),
        (b"key", [(b"?key", b"")]),
        (b"key=abc", [(b"?key", b"abc")]),
        (b"a=1&key=abc&b", [(b"?key", b"abc")]),
        (b"api_key=a%20b+c", [(b"?api_key", b"a b c")]),
        (b"access_token=a=b", [(b"?access_token", b"a=b")]),
        (b"%6bey=abc", [(b"?key", b"abc")]),
        (b"key=1&key=2", [(b"?key", b"1"), (b"?key", b"2")]),
        (b"Key=abc", []),
        (b"key=%FF", [(b"?key", b"\xff")]),
        (b"key=\xff", [(b"?key", b"\xff")]),
    ],
)
def test_credentials_of_a_query_string(query: bytes, expected: list[tuple[bytes, bytes]]) -> None:
    assert query_credentials(query) == expected


def test_values_that_are_not_utf_8_stay_different() -> None:
    assert principal(query_credentials(b"key=%ff")) != principal(query_credentials(b"key=%fe"))


def test_a_key_in_the_query_is_not_the_header_of_that_name() -> None:
    in_query = query_credentials(b"key=abc")
    assert principal(in_query) != principal([(b"key", b"abc")])
