"""Replacing the model, and only the model, in the bytes of a request."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from routecache_middleware.core.splice import replace_model

CASES = [
    (b'{"model":"old"}', b'{"model":"new"}'),
    (b' { "model" : "old" , "n" : 1.0 } \n', b' { "model" : "new" , "n" : 1.0 } \n'),
    (b'{"a":{"model":"x"},"model":"old"}', b'{"a":{"model":"x"},"model":"new"}'),
    (b'{"a":[{"model":"x"}],\r\n"model":"old"}', b'{"a":[{"model":"x"}],\r\n"model":"new"}'),
    (b'{"a":"\\"model\\":\\"x\\"","model":"o"}', b'{"a":"\\"model\\":\\"x\\"","model":"new"}'),
    (b'{"a":"\\\\","model":"o"}', b'{"a":"\\\\","model":"new"}'),
    (b'{"mod\\u0065l":"old","b":2}', b'{"mod\\u0065l":"new","b":2}'),
    (b'{"model":"o\\"ld","x":1}', b'{"model":"new","x":1}'),
    (b'{"Model":"x","model":"old"}', b'{"Model":"x","model":"new"}'),
    (b'{"model":null}', b'{"model":"new"}'),
    ('{"ü😀":"\\ud83d","model":"ö"}'.encode(), '{"ü😀":"\\ud83d","model":"new"}'.encode()),
    (b'{"a":-1.50e+3,"b":[],"model":"o"}', b'{"a":-1.50e+3,"b":[],"model":"new"}'),
]


@pytest.mark.parametrize(("body", "expected"), CASES)
def test_only_the_top_level_model_changes(body: bytes, expected: bytes) -> None:
    assert replace_model(body, "new") == expected


def test_a_model_name_is_escaped() -> None:
    body = replace_model(b'{"model":"a"}', 'we"ird\\ü\n')
    assert json.loads(body) == {"model": 'we"ird\\ü\n'}


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{}",
        b"[]",
        b'"model"',
        b'{"a":1}',
        b'{"a":{"model":"x"}}',
        b'{"a":"model"}',
        b'{"a":1 "model":"x"}',
        b'{"model"}',
        b'{"model":}',
        b'{"a":1,}',
        b'{"model',
        b"{model:1}",
        b'\xef\xbb\xbf{"model":"x"}',
        b'{"a":"\xff","model":"x"}',
        b'{"a":' + b"[" * 100_000,
    ],
)
def test_without_a_top_level_model_it_is_an_error(body: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        replace_model(body, "new")


members = st.dictionaries(
    st.text().filter(lambda name: name != "model"),
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.just("model") | st.text(), inner),
        max_leaves=5,
    ),
    max_size=4,
)


@given(members, members, st.text(), st.text(), st.sampled_from([None, 2]))
def test_splicing_equals_decoding_replacing_and_encoding(
    before: dict[str, object], after: dict[str, object], old: str, new: str, indent: int | None
) -> None:
    def written(model: str) -> bytes:
        return json.dumps({**before, "model": model} | after, indent=indent).encode()

    assert replace_model(written(old), new) == written(new)
