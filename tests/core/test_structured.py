"""Structured fields (RFC 9651), held against a parser that is not ours."""

from typing import Any

import http_sf
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from routecache_middleware.core.structured import OPAQUE, parse_dictionary, parse_integer

MEMBERS = [
    b"a",
    b"a=1",
    b"a=-1",
    b"a=-0",
    b"a=007",
    b"a=999999999999999",
    b"a=1.5",
    b"a=?0",
    b"a=?1",
    b"a=tok/en:*",
    b'a="x\\"y\\\\z"',
    b"a=:YQ==:",
    b"a=:YQ:",
    b"a=::",
    b"a=@12",
    b'a=%"%c3%a9 x"',
    b"a=()",
    b"a=( 1  2;x )",
    b'a=("x" ?1 @1 :YQ==:);p;q=1',
    b"a;p;  q=tok;r=?0",
    b"*a_b-c.d*=1",
]
BROKEN = [
    b"A=1",
    b"=1",
    b"a=",
    b"a =1",
    b"a= 1",
    b"a=1.",
    b"a=.5",
    b"a=1.2345",
    b"a=1234567890123.1",
    b"a=9999999999999999",
    b"a=--1",
    b"a=?2",
    b"a=@1.5",
    b'a="x',
    b'a="\\n"',
    b'a="\xe9"',
    b"a='x'",
    b"a=:Y:",
    b"a=:Y=Q=:",
    b"a=:YQ",
    b"a=:Y_:",
    b'a=%"%c3"',
    b'a=%"%C3%A9"',
    b'a=%"%4"',
    b'a=%"x',
    b"a=(1,2)",
    b"a=(1 2",
    b"a=(1;)",
    b"a=((1))",
    b"a;",
    b"a;B",
    b"a ;b",
    b"a;b=",
    b"a b",
    b"a\x00",
    b"a=1\n",
]


def theirs(text: bytes) -> dict[str, object] | None:
    """Return what http-sf makes of a dictionary, in our types."""
    try:
        members: Any = http_sf.parse(text, tltype="dictionary")
    except http_sf.StructuredFieldError:
        return None
    plain = (bool, int)
    return {name: value if type(value) in plain else OPAQUE for name, (value, _) in members.items()}


def test_dictionaries_are_read() -> None:
    assert parse_dictionary(b"a=1, b, c=?0;x, d=tok,a=2") == {
        "a": 2,
        "b": True,
        "c": False,
        "d": OPAQUE,
    }
    assert parse_dictionary(b"") == {}
    assert parse_dictionary(b"  ") == {}


def test_keys_may_be_taken_in_any_case() -> None:
    assert parse_dictionary(b"A=1, b;C=D, *X, a=2", folds_case=True) == {
        "a": 2,
        "b": True,
        "*x": True,
    }
    assert parse_dictionary(b"A=1", folds_case=False) is None


@pytest.mark.parametrize(
    "text", [*MEMBERS, b" \t", b"a,", b"a ,\tb", b"a,,b", b"a\t", b" a ", b"a;b"]
)
@pytest.mark.parametrize("rest", [b"", b" ", b",z", b" , z=1 "])
def test_a_dictionary_is_read_as_others_read_it(text: bytes, rest: bytes) -> None:
    """RFC 9651 section 4.2.2."""
    assert parse_dictionary(text + rest) == theirs(text + rest)


@pytest.mark.parametrize("text", MEMBERS)
def test_every_type_of_value_is_known(text: bytes) -> None:
    """RFC 9651 section 3."""
    assert parse_dictionary(text)


@pytest.mark.parametrize("text", BROKEN)
def test_one_wrong_byte_fails_the_whole_field(text: bytes) -> None:
    """RFC 9651 section 4.2: parsing is strict."""
    assert parse_dictionary(text) is None
    assert parse_dictionary(b"ok=1, " + text) is None
    assert theirs(text) is None


pieces = st.sampled_from(
    [*MEMBERS, *BROKEN, b",", b", ", b" ", b"\t", b"=", b";", b"(", b")", b'"', b"1", b"a", b"?1"]
)


@example(text=b"a=:YR==:")
@given(text=st.lists(pieces, max_size=6).map(b"".join) | st.binary(max_size=12))
def test_any_bytes_are_read_as_others_read_them(text: bytes) -> None:
    assert parse_dictionary(text) == theirs(text)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        (b"600", 600),
        (b"-1", -1),
        (b" 600 ", 600),
        (b"600;x=1;y", 600),
        (b"", None),
        (b"600, 1", None),
        (b"6 0", None),
        (b"600.0", None),
        (b"?1", None),
        (b'"600"', None),
        (b"(600)", None),
        (b"1000000000000000", None),
    ],
)
def test_an_integer_is_an_integer_and_nothing_else(text: bytes, value: int | None) -> None:
    """RFC 9651 section 4.2.3."""
    assert parse_integer(text) == value
