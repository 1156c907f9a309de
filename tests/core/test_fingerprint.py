"""What two requests must have in common to share a decision or an answer."""

import copy
import json
from collections import UserDict
from pathlib import Path
from typing import Any, cast

import pytest
import xxhash
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from routecache_middleware.core import canonical, fingerprint, keys
from routecache_middleware.core.canonical import DoubtfulJSONError
from routecache_middleware.core.choices import DecisionScope
from routecache_middleware.core.fingerprint import (
    Domain,
    Fingerprint,
    KeyContext,
    hash_query,
    new_hash,
    result_hashes,
)
from routecache_middleware.dialects.openai_chat import OpenAIChat
from routecache_middleware.dialects.openai_embeddings import OpenAIEmbeddings
from routecache_middleware.errors import ConfigurationError

DIALECT = OpenAIChat()
CONTEXT = KeyContext(
    dialect="openai.chat",
    root_path="",
    path="/v1/chat/completions",
    query=b"",
    headers=((b"openai-beta", b"x=1"),),
)
PAYLOAD: dict[str, object] = {
    "model": "gpt",
    "messages": [
        {"role": "system", "content": "be kind"},
        {"role": "user", "content": [{"type": "text", "text": "hi"}]},
    ],
    "max_tokens": 5,
    "temperature": 0.5,
    "tools": [{"type": "function", "function": {"name": "f", "parameters": {"a": 1}}}],
    "something_new": {"deep": [1, {"deeper": True}]},
    "user": "u1",
    "stream": True,
}
CONVERSATION = DecisionScope.CONVERSATION
VECTORS = json.loads(
    (Path(__file__).parents[1] / "fixtures" / "xxh3_collision_vectors.json").read_text()
)


def made(
    payload: dict[str, object] | None = None,
    *,
    context: KeyContext = CONTEXT,
    ignored: frozenset[str] = frozenset(),
    scope: DecisionScope = DecisionScope.REQUEST,
    router_version: str = "",
    secret: bytes = b"",
) -> Fingerprint:
    return fingerprint.fingerprint(
        PAYLOAD if payload is None else payload,
        dialect=DIALECT,
        context=context,
        ignored=ignored,
        scope=scope,
        router_version=router_version,
        secret=secret,
    )


def with_field(name: str, value: object) -> dict[str, object]:
    return PAYLOAD | {name: value}


def test_a_hash_is_32_hex_digits_and_stays_the_same_for_ever() -> None:
    """A change of these values makes every stored entry unreachable: change the domains then."""
    assert made() == Fingerprint(
        decision="31b557024548772bd53ff160622e5e8f",
        result="2a8e007a6c8982c8a1281cf312ebc7de",
    )


def test_decision_and_result_never_have_the_same_hash() -> None:
    both = made({"model": "gpt", "messages": []})
    assert both.decision != both.result


def test_ignored_fields_count_in_neither_hash() -> None:
    for name in DIALECT.ignored_fields:
        assert made(with_field(name, {"any": "thing"})) == made()


def test_sampling_fields_count_in_the_result_hash_only() -> None:
    for name in DIALECT.sampling_fields:
        changed = made(with_field(name, 7))
        assert changed.decision == made().decision
        assert changed.result != made().result


@pytest.mark.parametrize("name", ["model", "messages", "tools", "max_tokens", "never_heard_of"])
def test_every_other_field_counts_in_both_hashes(name: str) -> None:
    changed = made(with_field(name, "else"))
    assert changed.decision != made().decision
    assert changed.result != made().result


def test_the_deny_list_can_be_extended() -> None:
    ignored = frozenset({"something_new", "temperature"})
    other = PAYLOAD | {"something_new": 1, "temperature": 2}
    assert made(other, ignored=ignored) == made(ignored=ignored)


def test_the_router_version_counts_in_the_decision_hash_only() -> None:
    for scope in DecisionScope:
        changed = made(router_version="2", scope=scope)
        assert changed.decision != made(scope=scope).decision
        assert changed.result == made(scope=scope).result


CONTEXTS = [
    CONTEXT,
    replace(CONTEXT, dialect="other"),
    replace(CONTEXT, root_path="/v1", path="/chat/completions"),
    replace(CONTEXT, root_path="/v1/chat", path="/completions"),
    replace(CONTEXT, path="/v1/chat/completions\udc80"),
    replace(CONTEXT, query=b"a=1"),
    replace(CONTEXT, headers=()),
    replace(CONTEXT, headers=((b"openai-beta", b"x=2"),)),
    replace(CONTEXT, headers=((b"openai-betax", b"=1"),)),
    replace(CONTEXT, headers=((b"openai-beta", b"x"), (b"openai-beta", b"=1"))),
    replace(CONTEXT, headers=((b"openai-beta", b"x=1"), (b"openai-beta", b""))),
]


@pytest.mark.parametrize("scope", list(DecisionScope))
def test_all_of_the_context_counts_in_both_hashes(scope: DecisionScope) -> None:
    found = [made(context=context, scope=scope) for context in CONTEXTS]
    assert len({both.decision for both in found}) == len(CONTEXTS)
    assert len({both.result for both in found}) == len(CONTEXTS)


def test_with_conversation_scope_later_turns_keep_their_decision() -> None:
    turns = cast("list[object]", PAYLOAD["messages"])
    later = with_field("messages", [*turns, {"role": "assistant", "content": "yo"}])
    now = made(scope=CONVERSATION)
    then = made(later, scope=CONVERSATION)
    assert then.decision == now.decision != made().decision
    assert then.result != now.result == made().result


def test_with_conversation_scope_another_conversation_has_another_decision() -> None:
    other = with_field("messages", [{"role": "user", "content": "something else"}])
    assert made(other, scope=CONVERSATION).decision != made(scope=CONVERSATION).decision


def test_a_secret_changes_every_hash() -> None:
    keyed = made(secret=b"0123456789abcdef")
    assert keyed.decision != made().decision
    assert keyed.result != made().result
    assert hash_query("a", secret=b"s") != hash_query("a")


def test_a_secret_longer_than_the_key_of_blake2b_is_refused() -> None:
    assert hash_query("a", secret=b"s" * 64)
    for call in (lambda: hash_query("a", secret=b"s" * 65), lambda: made(secret=b"s" * 65)):
        with pytest.raises(ConfigurationError, match=r"secret is <65 bytes>.*64"):
            call()


def test_unencodable_payloads_are_doubtful() -> None:
    for scope in DecisionScope:
        with pytest.raises(DoubtfulJSONError):
            made(with_field("messages", [{"role": "user", "content": "\ud800"}]), scope=scope)


def test_hashes_for_different_purposes_never_meet() -> None:
    assert len({new_hash(domain).hexdigest() for domain in Domain}) == len(Domain)
    assert all(len(domain.value) <= 16 for domain in Domain)


@pytest.mark.parametrize("width", ["xxh3_64", "xxh3_128"])
def test_bodies_that_collide_under_xxh3_have_different_hashes(width: str) -> None:
    one, other = VECTORS["a"].encode(), VECTORS["b"].encode()
    weak = getattr(xxhash, width + "_hexdigest")
    assert one != other
    assert weak(one) == weak(other)
    assert hash_query(one) != hash_query(other)
    assert hash_query(one.decode()) != hash_query(other.decode())
    first, second = made(canonical.decode(one)), made(canonical.decode(other))
    assert first.decision != second.decision
    assert first.result != second.result


def test_key_code_uses_no_weak_hash() -> None:
    for module in (canonical, fingerprint, keys):
        source = Path(str(module.__file__)).read_text()
        assert not [word for word in ("xxhash", "md5", " hash(") if word in source]


Steps = tuple[str | int, ...]


def places(value: object, at: Steps = ()) -> list[Steps]:
    """Return the way to every value inside of ``value``."""
    if isinstance(value, dict):
        inner = [place for name in value for place in places(value[name], (*at, name))]
    elif isinstance(value, list):
        inner = [place for i, item in enumerate(value) for place in places(item, (*at, i))]
    else:
        inner = []
    return [at, *inner] if at else inner


def mutated(payload: dict[str, object], place: Steps, value: object) -> dict[str, object]:
    changed = copy.deepcopy(payload)
    target: object = changed
    for step in place[:-1]:
        target = cast("dict[str | int, object]", target)[step]
    cast("dict[str | int, object]", target)[place[-1]] = value
    return changed


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3)
    ),
    max_leaves=5,
)
payloads = st.dictionaries(st.text(max_size=5), json_values, max_size=3).map(
    lambda extra: extra | PAYLOAD
)


@given(payloads, json_values, st.data())
def test_any_change_at_any_depth_changes_the_result_hash_unless_the_deny_list_names_it(
    payload: dict[str, object], value: object, data: st.DataObject
) -> None:
    place = data.draw(st.sampled_from(places(payload)))
    changed = mutated(payload, place, value)
    is_same = canonical.encode(changed) == canonical.encode(payload)
    is_ignored = place[0] in DIALECT.ignored_fields
    assert (made(changed).result == made(payload).result) == (is_same or is_ignored)
    is_sampling = place[0] in DIALECT.sampling_fields
    keeps_decision = is_same or is_ignored or is_sampling
    assert (made(changed).decision == made(payload).decision) == keeps_decision


@given(payloads, st.sampled_from([None, 1]), st.data())
def test_key_order_and_white_space_never_change_a_hash(
    payload: dict[str, object], indent: int | None, data: st.DataObject
) -> None:
    names = data.draw(st.permutations(list(payload)))
    text = json.dumps({name: payload[name] for name in names}, indent=indent)
    decoded = canonical.decode(text.encode())
    for scope in DecisionScope:
        assert made(decoded, scope=scope) == made(payload, scope=scope)
    assert hash_query(text.encode()) == hash_query(payload)


def test_hash_query_takes_a_mapping_or_its_json_alike() -> None:
    found = hash_query({"b": [1, {"c": None}], "a": 1.0})
    assert found == hash_query(b' {"a": 1, "b": [1.0, {"c": null}]} ')
    assert found == hash_query(UserDict({"a": 1, "b": (1, UserDict({"c": None}))}))
    assert len(found) == 32
    assert int(found, 16)


def test_hash_query_applies_no_deny_list() -> None:
    assert hash_query({"messages": [], "user": "a"}) != hash_query({"messages": [], "user": "b"})


OPAQUE = [
    b"",
    b"{",
    b"[]",
    b'{"a":1,"a":1}',
    b'{"a":"\\ud800"}',
    b'{"a":NaN}',
    b"\xff",
    b"text",
    b'"text"',
]


def test_hash_query_takes_any_bytes_and_any_text_and_keeps_them_apart() -> None:
    texts = ["", "{", "text", '{"a":1}', "\ud800", "\ufffd", "tex\u0301t"]
    found = [*map(hash_query, OPAQUE), *map(hash_query, texts), hash_query({"a": 1})]
    assert len(set(found)) == len(found)


def test_hash_query_knows_tenants_apart() -> None:
    pairs = [("", "ab"), ("a", "b"), ("ab", ""), ("a\ud800", "b")]
    assert len({hash_query(text, tenant=tenant) for tenant, text in pairs}) == len(pairs)
    for payload in ({"a": 1}, b"x", "x"):
        assert hash_query(payload, tenant="t") != hash_query(payload)


@pytest.mark.parametrize(
    ("payload", "lesson"),
    [
        ({"a": object()}, "object is not JSON"),
        ({1: "a"}, "int is not a JSON key; use strings"),
        ({"a": float("nan")}, "not finite"),
        ({"a": "\ud800"}, "lone surrogate"),
        ({"a": 2**70}, "64 bits"),
    ],
)
def test_hash_query_teaches_what_is_wrong_with_a_mapping(
    payload: dict[str, object], lesson: str
) -> None:
    with pytest.raises(ValueError, match=lesson):
        hash_query(payload)


def test_hash_query_refuses_other_types_and_says_what_to_do() -> None:
    with pytest.raises(TypeError, match=r"got list; wrap a list of messages"):
        hash_query([{"role": "user"}])  # type: ignore[arg-type]


@given(st.binary() | st.text())
def test_hash_query_never_raises_for_bytes_or_text(payload: bytes | str) -> None:
    assert len(hash_query(payload)) == 32


def test_results_of_several_requests_are_those_of_each() -> None:
    dialect, context = OpenAIEmbeddings(), KeyContext("d", "", "/v1/embeddings", b"q=1", ())
    payloads = [{"model": "e", "input": item, "user": "u", "n": 1} for item in ("a", ["b"], [1])]
    ways: list[dict[str, Any]] = [{}, {"secret": b"s" * 16}, {"ignored": frozenset({"n"})}]
    for way in ways:
        alone = tuple(
            fingerprint.fingerprint(payload, dialect=dialect, context=context, **way).result
            for payload in payloads
        )
        assert result_hashes(payloads, dialect=dialect, context=context, **way) == alone
        assert len(set(alone)) == 3
