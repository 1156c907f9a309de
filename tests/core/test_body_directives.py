"""LiteLLM's ``cache`` object in a request body."""

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from routecache_middleware.core.body_directives import BodyDirectives, read_body_directives
from routecache_middleware.core.directives import Directives
from routecache_middleware.core.splice import remove_member


@pytest.mark.parametrize(
    ("cache", "expected"),
    [
        ({"ttl": 60}, BodyDirectives(ttl_s=60.0)),
        ({"ttl": 0.5}, BodyDirectives(ttl_s=0.5)),
        ({"ttl": 1e300}, BodyDirectives(ttl_s=2.0**31)),
        ({"ttl": "60"}, BodyDirectives(ttl_s=60.0)),
        ({"ttl": "soon"}, BodyDirectives(ttl_s=0.0)),
        ({"ttl": -1}, BodyDirectives(ttl_s=0.0)),
        ({"ttl": True}, BodyDirectives(ttl_s=0.0)),
        ({"ttl": None}, BodyDirectives()),
        ({"ttl": math.nan}, BodyDirectives(ttl_s=0.0)),
        ({"s-maxage": 30}, BodyDirectives(Directives(max_age_s=30))),
        ({"s-max-age": 30.9}, BodyDirectives(Directives(max_age_s=30))),
        ({"s-maxage": 40, "s-max-age": 30}, BodyDirectives(Directives(max_age_s=30))),
        ({"s-maxage": 0}, BodyDirectives(Directives(no_cache=True, max_age_s=0))),
        ({"no-cache": True}, BodyDirectives(Directives(no_cache=True))),
        ({"no-cache": "true"}, BodyDirectives(Directives(no_cache=True))),
        ({"no-store": 1}, BodyDirectives(Directives(no_store=True))),
        ({"no-store": {}}, BodyDirectives(Directives(no_store=True))),
        ({"no-store": "False", "no-cache": 0}, BodyDirectives()),
        ({"no-store": None, "no-cache": ""}, BodyDirectives()),
        ({"s-maxage": "30"}, BodyDirectives(Directives(max_age_s=30))),
        ({"s-maxage": "soon"}, BodyDirectives(Directives(no_cache=True, max_age_s=0))),
        ({"s-maxage": [1]}, BodyDirectives(Directives(no_cache=True, max_age_s=0))),
        ({"s-maxage": -1}, BodyDirectives(Directives(no_cache=True, max_age_s=0))),
        ({"s-maxage": None}, BodyDirectives()),
        ({"no-store": True, "x": 2}, BodyDirectives(Directives(no_store=True))),
        ({"ttl": 1, "x": 2}, BodyDirectives(ttl_s=1.0)),
        ({}, BodyDirectives()),
        ({"no-store": True, "no-cache": False}, BodyDirectives(Directives(no_store=True))),
        ({"namespace": "blue"}, BodyDirectives(namespace="blue")),
        ({"namespace": 7}, BodyDirectives(namespace="7")),
        ({"namespace": None}, BodyDirectives()),
        ({"namespace": ["a"]}, BodyDirectives(Directives(no_cache=True, no_store=True))),
        ({"use-cache": True}, BodyDirectives(is_opted_in=True)),
        ({"use-cache": False}, BodyDirectives(is_opted_in=False)),
        ({"use-cache": 1}, BodyDirectives()),
        ({"use-cache": "false"}, BodyDirectives(is_opted_in=False)),
        ({"use-cache": 0}, BodyDirectives(is_opted_in=False)),
        ({"use-cache": None}, BodyDirectives()),
    ],
)
def test_the_object_is_read(cache: dict[str, object], expected: BodyDirectives) -> None:
    assert read_body_directives({"model": "m", "cache": cache}) == expected


@pytest.mark.parametrize("cache", [None, True, "no-cache", [], {"type": "ephemeral"}])
def test_something_else_under_the_same_name_is_left_alone(cache: object) -> None:
    assert read_body_directives({"cache": cache}) is None
    assert read_body_directives({}) is None


plain = st.none() | st.booleans() | st.integers() | st.text(max_size=3)
json_values = plain | st.floats()


@given(
    st.dictionaries(
        st.sampled_from(["ttl", "s-maxage", "no-cache", "namespace"]),
        json_values | st.lists(json_values) | st.dictionaries(st.text(), json_values),
    )
)
def test_no_object_raises(cache: dict[str, object]) -> None:
    read_body_directives({"cache": cache})


REMOVED = [
    (b'{"cache":{"ttl":1}}', b"{}"),
    (b'{"cache":{"ttl":1},"model":"m"}', b'{"model":"m"}'),
    (b'{ "cache" : {"ttl":1} ,\n "model":"m" }', b'{ "model":"m" }'),
    (b'{"model":"m","cache":{"ttl":1}}', b'{"model":"m"}'),
    (b'{"model":"m" , "cache":{"ttl":1} }', b'{"model":"m"  }'),
    (b'{"a":1.0,"cache":{"ttl":1},"b":{"cache":2}}', b'{"a":1.0,"b":{"cache":2}}'),
    (b'{"\\u0063ache":1,"b":2}', b'{"b":2}'),
]


@pytest.mark.parametrize(("body", "expected"), REMOVED)
def test_it_is_cut_out_and_nothing_else_changes(body: bytes, expected: bytes) -> None:
    assert remove_member(body, "cache") == expected


@pytest.mark.parametrize(
    "body", [b"{}", b"[]", b'{"a":{"cache":1}}', b'{"cache"', b'{"a":' + b"[" * 100_000]
)
def test_what_is_not_there_cannot_be_cut_out(body: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        remove_member(body, "cache")


members = st.dictionaries(st.text(max_size=3), plain | st.floats(allow_nan=False), max_size=3)


@given(members, members, st.sampled_from([None, 2]))
def test_cutting_out_equals_decoding_removing_and_encoding(
    before: dict[str, object], after: dict[str, object], indent: int | None
) -> None:
    whole = {**before, "cache": {"ttl": 1}} | after
    cut = remove_member(json.dumps(whole, indent=indent).encode(), "cache")
    assert json.loads(cut) == {name: value for name, value in whole.items() if name != "cache"}
    if indent is None:
        del whole["cache"]
        assert cut == json.dumps(whole).encode()
