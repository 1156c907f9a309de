"""The canonical form: what is doubtful, what is equal, what is not."""

import json
from collections import UserDict
from contextlib import suppress
from enum import IntEnum, StrEnum

import pytest
from hypothesis import given
from hypothesis import strategies as st

from routecache_middleware.core.canonical import DoubtfulJSONError, decode, encode, normalise

SECRET = "the prompt"  # must not appear in any error text

DOUBTFUL = {
    "empty": b"",
    "byte order mark": b'\xef\xbb\xbf{"a":1}',
    "UTF-16": '{"a":1}'.encode("utf-16"),
    "broken UTF-8": b'{"a":"the prompt \xff"}',
    "encoded surrogate": b'{"a":"\xed\xa0\x80"}',
    "array": b'["the prompt"]',
    "string": b'"the prompt"',
    "null": b"null",
    "truncated": b'{"a":"the prompt',
    "trailing comma": b'{"a":1,}',
    "two documents": b'{"a":1}{"a":2}',
    "single quotes": b"{'the prompt':1}",
    "comment": b'{"a":1}//the prompt',
    "control character": b'{"a":"the prompt\n"}',
    "duplicate key": b'{"the prompt":1,"the prompt":1}',
    "duplicate key by escape": b'{"model":1,"mod\\u0065l":2}',
    "duplicate key inside": b'{"a":[{"b":{"c":1,"c":2}}]}',
    "NaN": b'{"a":NaN}',
    "infinity": b'{"a":Infinity}',
    "negative infinity": b'{"a":-Infinity}',
    "overflow to infinity": b'{"a":1e400}',
    "overflow to negative infinity": b'{"a":-1e400}',
    "integer above uint64": b'{"a":18446744073709551616}',
    "integer below int64": b'{"a":-9223372036854775809}',
    "integer of 5,000 digits": b'{"a":' + b"9" * 5000 + b"}",
    "deep arrays": b'{"a":' + b"[" * 100_000,
    "deep objects": b'{"a":' * 100_000,
    "valid but deep": b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
}


@pytest.mark.parametrize("body", DOUBTFUL.values(), ids=DOUBTFUL.keys())
def test_doubtful_json_is_refused_without_quoting_it(body: bytes) -> None:
    with pytest.raises(DoubtfulJSONError) as caught:
        decode(body)
    assert SECRET not in str(caught.value)
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None or SECRET not in str(vars(caught.value.__context__))


def test_an_error_does_not_hold_the_document_it_was_raised_for() -> None:
    """json.JSONDecodeError has the whole text in ``doc``: it must not hang on our error."""
    with pytest.raises(DoubtfulJSONError) as caught:
        decode(b'{"a":"the prompt')
    assert caught.value.__context__ is None


EQUAL = [
    (b'{"a":1,"b":2}', b' {\n"b" : 2,\t"a":1 }\r\n'),
    (b'{"a":1}', b'{"a":1.0}'),
    (b'{"a":1}', b'{"a":1e0}'),
    (b'{"a":100}', b'{"a":1E2}'),
    (b'{"a":0}', b'{"a":-0.0}'),
    (b'{"a":0}', b'{"a":-0}'),
    (b'{"a":0.5}', b'{"a":0.50}'),
    (b'{"a":1e30}', b'{"a":1000000000000000000000000000000.0}'),
    (b'{"a":"e"}', b'{"\\u0061":"\\u0065"}'),
    ('{"a":"😀"}'.encode(), b'{"a":"\\ud83d\\ude00"}'),
]


@pytest.mark.parametrize(("one", "other"), EQUAL)
def test_two_ways_of_writing_one_value_are_equal(one: bytes, other: bytes) -> None:
    assert encode(decode(one)) == encode(decode(other))


DIFFERENT = [
    b"{}",
    b'{"a":1}',
    b'{"a":true}',
    b'{"a":"1"}',
    b'{"a":null}',
    b'{"a":0}',
    b'{"a":false}',
    b'{"a":""}',
    b'{"a":[]}',
    b'{"a":{}}',
    b'{"a":[1]}',
    b'{"a":0.1}',
    b'{"a":0.10000000000000002}',
    b'{"a":9007199254740993}',
    b'{"a":9007199254740992}',
    b'{"a":18446744073709551615}',
    b'{"a":-9223372036854775808}',
    b'{"a":1e300}',
    b'{"a":"x"}',
    b'{"a":"x "}',
    b'{"a":"X"}',
    '{"a":"é"}'.encode(),
    '{"a":"e\u0301"}'.encode(),
    b'{"b":1}',
    b'{"a":1,"b":null}',
]


def test_different_values_have_different_bytes() -> None:
    assert len({encode(decode(body)) for body in DIFFERENT}) == len(DIFFERENT)


def test_numbers_come_out_as_plain_as_they_can_be() -> None:
    value = decode(b'{"a":1.0,"b":-0.0,"c":0.5,"d":1e19,"e":9223372036854774784.0}')
    assert value == {"a": 1, "b": 0, "c": 0.5, "d": 1e19, "e": 9223372036854774784}
    kinds = [type(number) for number in value.values()]
    assert kinds == [int, int, float, float, int]


@pytest.mark.parametrize("body", [b'{"a":"\\ud800"}', b'{"\\udfff":1}', b'{"a":["x\\ud83dy"]}'])
def test_lone_surrogates_are_found_at_the_latest_by_encode(body: bytes) -> None:
    with pytest.raises(DoubtfulJSONError) as caught:
        encode(decode(body))
    assert caught.value.__context__ is None


def test_encode_normalises_floats_given_directly() -> None:
    assert encode({"a": 1.0}) == encode({"a": 1})
    assert encode({"a": 1.5}) != encode({"a": 1})
    assert encode([True]) != encode([1.0])


def test_text_that_looks_like_a_float_tag_is_left_alone() -> None:
    text = {"a": "\u02c0\u02ff"}  # both have the byte that marks a float in msgpack
    assert encode(text) == encode(dict(text))
    assert encode(text) != encode({"a": "\u02c0"})


CYCLE: list[object] = []
CYCLE.append(CYCLE)


@pytest.mark.parametrize(
    "value",
    [object(), {1: 2}, {None: 1}, {"a": 1, 2: 3}, 2**64, float("nan"), float("inf"), CYCLE],
)
def test_what_is_not_json_cannot_be_encoded(value: object) -> None:
    with pytest.raises(DoubtfulJSONError):
        encode(value)


@pytest.mark.parametrize(
    "value",
    [
        {1: 2},
        UserDict({b"a": 1}),
        float("nan"),
        float("-inf"),
        2**64,
        -(2**63) - 1,
        b"bytes",
        {"a": {1, 2}},
        CYCLE,
    ],
)
def test_what_is_not_json_cannot_be_normalised(value: object) -> None:
    with pytest.raises(DoubtfulJSONError):
        normalise(value)


def test_python_values_are_normalised_as_if_they_had_been_json() -> None:
    colour = StrEnum("colour", {"RED": "red"})
    size = IntEnum("size", {"BIG": 3})
    value = UserDict(
        {colour["RED"]: (1.0, size["BIG"], True, None), "x": UserDict({"y": colour["RED"]})}
    )
    assert encode(normalise(value)) == encode(decode(b'{"red":[1,3,true,null],"x":{"y":"red"}}'))
    assert encode(normalise({colour["RED"]: 1})) == encode({"red": 1})


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)
json_objects = st.dictionaries(st.text(), json_values, max_size=5)


def shuffled(value: object) -> object:
    if isinstance(value, dict):
        return {name: shuffled(value[name]) for name in reversed(value)}
    return [shuffled(item) for item in value] if isinstance(value, list) else value


@given(json_objects, st.sampled_from([None, 0, 3]), st.booleans())
def test_key_order_white_space_and_escapes_never_change_the_bytes(
    value: dict[str, object],
    indent: int | None,
    ascii_only: bool,  # noqa: FBT001 - a parameter of the table
) -> None:
    text = json.dumps(shuffled(value), indent=indent, ensure_ascii=ascii_only)
    assert encode(decode(text.encode())) == encode(normalise(value))


@given(json_objects)
def test_normalising_twice_changes_nothing(value: dict[str, object]) -> None:
    once = normalise(value)
    assert once == value
    assert encode(once) == encode(normalise(once)) == encode(value)


@given(st.binary())
def test_any_bytes_decode_or_are_doubtful(body: bytes) -> None:
    with suppress(DoubtfulJSONError):
        encode(decode(body))
