"""Keys: whatever a part contains, a key can be taken apart again, and no two parts share one."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from routecache_middleware.core.keys import (
    CacheKey,
    KeyParts,
    Layer,
    _escaped,
    escape,
    model_key,
    parse_key,
    result_key,
    route_key,
)

# Any Unicode, lone surrogates included, with the separators and escapes far more often than chance.
PARTS = st.one_of(
    st.text(st.characters()),
    st.text(":@/% \t\n\x00a1\ud800\udfff\U0001f99c"),
    st.sampled_from(["", "@", ":", "%3A", "%253A", "a@b", "a:b", "\udcff", "é", "e\u0301"]),
)
PARTS_OF_KEYS = st.one_of(
    st.builds(KeyParts, st.just(Layer.ROUTING), PARTS, PARTS, st.just("")),
    st.builds(KeyParts, st.just(Layer.RESULT), PARTS, PARTS, PARTS),
    st.builds(KeyParts, st.sampled_from([Layer.METADATA, Layer.LOAD]), PARTS, st.just(""), PARTS),
)


def build(parts: KeyParts) -> CacheKey:
    match parts.layer:
        case Layer.ROUTING:
            return route_key(parts.query_hash, parts.tenant)
        case Layer.RESULT:
            return result_key(parts.query_hash, parts.model_id, parts.tenant)
        case Layer.METADATA | Layer.LOAD:
            return model_key(parts.layer, parts.model_id, parts.tenant)


@pytest.mark.parametrize(
    ("key", "text"),
    [
        (route_key("ab12"), "route:ab12"),
        (route_key("ab12", "acme"), "route:acme@ab12"),
        (result_key("ab12", "gpt-4o"), "result:ab12:gpt-4o"),
        (
            result_key("ab12", "openai/gpt-4o:x", "a@b c"),
            "result:a%40b%20c@ab12:openai%2Fgpt-4o%3Ax",
        ),
        (model_key(Layer.METADATA, "gpt-4o"), "meta:gpt-4o"),
        (model_key(Layer.LOAD, "Ü"), "load:%C3%9C"),
        (model_key(Layer.LOAD, "m", "acme"), "load:acme@m"),
    ],
)
def test_keys_look_as_documented(key: CacheKey, text: str) -> None:
    assert key == text


@given(PARTS_OF_KEYS)
def test_a_key_can_be_taken_apart_again(parts: KeyParts) -> None:
    assert parse_key(build(parts)) == parts


@given(PARTS_OF_KEYS, PARTS_OF_KEYS)
def test_no_two_part_tuples_share_a_key(one: KeyParts, other: KeyParts) -> None:
    assert (build(one) == build(other)) == (one == other)


@given(PARTS)
def test_escaped_parts_hold_only_unreserved_characters(part: str) -> None:
    """RFC 3986 section 2.3; so a separator inside a part can never be taken for one of ours."""
    escaped = escape(part)
    assert escaped.isascii()
    assert all(character.isalnum() or character in "-._~%" for character in escaped)


def test_a_surrogate_pair_is_not_the_character_it_stands_for() -> None:
    """They are different requests, and nothing here folds Unicode."""
    assert route_key("\ud83e\udd9c") != route_key("\U0001f99c")


@pytest.mark.parametrize(
    "key",
    [
        "",
        "bogus:x",
        "route:a:b",
        "result:a",
        "result:a:b:c",
        "meta:a:b",
        "route:%ff",
    ],
)
def test_what_is_not_a_key_of_ours_is_refused(key: str) -> None:
    with pytest.raises(ValueError, match=r"key|Layer|decode"):
        parse_key(key)


def test_what_is_remembered_of_names_is_bounded_in_number_and_in_length() -> None:
    """Clients choose names of models, up to a megabyte of them."""
    for number in range(5000):
        assert escape(f"model:{number}") == f"model%3A{number}"
    assert 0 < len(_escaped) <= 4096
    long = ":" * 257
    assert escape(long) == escape(long) == "%3A" * 257
    assert long not in _escaped
    assert "model:4999" in _escaped


def test_what_is_no_key_is_not_quoted() -> None:
    """A key names a tenant, and may come from a store that others write to."""
    with pytest.raises(ValueError, match="not a cache key") as said:
        parse_key(CacheKey("route:a-customer@hash:more"))
    assert "customer" not in str(said.value)
