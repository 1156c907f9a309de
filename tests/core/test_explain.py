"""Why two requests do not share an answer: by name, never by value."""

import copy
import json
from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from routecache_middleware.core.choices import DecisionScope
from routecache_middleware.core.explain import Explanation, difference, explain
from routecache_middleware.core.fingerprint import NAMESPACE, KeyContext, fingerprint
from routecache_middleware.dialects.openai_chat import OpenAIChat

DIALECT = OpenAIChat()
CONTEXT = KeyContext(
    dialect="openai.chat",
    root_path="",
    path="/v1/chat/completions",
    query=b"",
    headers=((b"openai-beta", b"x=1"), (b"openai-project", b"p")),
)
PAYLOAD: dict[str, object] = {
    "model": "gpt",
    "messages": [
        {"role": "system", "content": "be kind"},
        {"role": "user", "content": [{"type": "text", "text": "hi"}]},
    ],
    "temperature": 0.5,
    "stop": ["a", "b"],
    "something_new": {"deep": [1]},
    "user": "u1",
    "stream": True,
}


def explained(payload: dict[str, object] = PAYLOAD, context: KeyContext = CONTEXT) -> Explanation:
    return explain(payload, dialect=DIALECT, context=context)


def test_what_counted_is_named_and_no_value_is_shown() -> None:
    context = replace(CONTEXT, query=b"key=sk-secret")
    found = explain(
        PAYLOAD,
        dialect=DIALECT,
        context=context,
        ignored=frozenset({"something_new"}),
        router_version="7",
    )
    assert found == Explanation(
        fingerprint=fingerprint(
            PAYLOAD,
            dialect=DIALECT,
            context=context,
            ignored=frozenset({"something_new"}),
            router_version="7",
        ),
        scope=DecisionScope.REQUEST,
        counted=("model", "messages"),
        sampling=("temperature", "stop"),
        ignored=("something_new", "user", "stream"),
        context=("dialect", "path", "query", "openai-beta", "openai-project"),
    )
    shown = repr(found) + json.dumps(dict(found.digests))
    for value in ("sk-secret", "be kind", 'gpt"'):
        assert value not in shown


def test_a_namespace_has_the_name_that_clients_give_it() -> None:
    """It is kept among the headers, where clients would look for it in vain."""
    named = [(*CONTEXT.headers, (NAMESPACE, name)) for name in (b"blue", b"red")]
    blue, red = (explained(context=replace(CONTEXT, headers=headers)) for headers in named)
    assert blue.context == (*explained().context, "cache.namespace")
    assert not any("header.:" in name for name in blue.digests)
    for one, other in ((blue, red), (blue, explained()), (explained(), red)):
        assert difference(one, other) == ("cache.namespace",)
    alone = replace(CONTEXT, headers=((NAMESPACE, b"blue"),))
    assert "context.headers" not in explained(context=alone).digests


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({}, ()),
        ({"user": "u2", "stream": False, "metadata": {}}, ()),
        ({"temperature": 0.6}, ("temperature",)),
        ({"seed": 1, "model": "other"}, ("model", "seed")),
        ({"something_new": {"deep": [2]}}, ("something_new",)),
        ({"stop": ["a", "c"]}, ("stop",)),  # not a list of objects
        ({"messages": [{"role": "system", "content": "be kind"}]}, ("messages[1]",)),
        ({"messages": []}, ("messages",)),
        ({"messages": "text"}, ("messages",)),
        (
            {"messages": [{"role": "user"}, {"role": "user", "content": "x"}, {"role": "user"}]},
            ("messages[0]", "messages[1]", "messages[2]"),
        ),
    ],
)
def test_what_differs_is_named(changes: dict[str, object], named: tuple[str, ...]) -> None:
    assert difference(explained(), explained(PAYLOAD | changes)) == named
    assert difference(explained(PAYLOAD | changes), explained()) == named


def test_a_field_that_only_one_has_is_named() -> None:
    less = {name: value for name, value in PAYLOAD.items() if name not in ("messages", "stop")}
    assert difference(explained(), explained(less)) == ("messages", "stop")


@pytest.mark.parametrize(
    ("context", "named"),
    [
        (replace(CONTEXT, path="/x/v1/chat/completions"), ("context.path",)),
        (replace(CONTEXT, path="/\udc80"), ("context.path",)),
        (replace(CONTEXT, root_path="/x"), ("context.root_path",)),
        (replace(CONTEXT, query=b"a=1"), ("context.query",)),
        (replace(CONTEXT, dialect="other"), ("context.dialect",)),
        (replace(CONTEXT, headers=CONTEXT.headers[:1]), ("header.openai-project",)),
        (
            replace(CONTEXT, headers=()),
            ("context.headers", "header.openai-beta", "header.openai-project"),
        ),
        (replace(CONTEXT, headers=CONTEXT.headers[::-1]), ("context.headers",)),
        (
            replace(CONTEXT, headers=((b"openai-beta", b"y"), *CONTEXT.headers[1:])),
            ("header.openai-beta",),
        ),
    ],
)
def test_what_differs_in_the_context_is_named(context: KeyContext, named: tuple[str, ...]) -> None:
    assert set(difference(explained(), explained(context=context))) <= set(named)
    assert difference(explained(), explained(context=context))


def test_a_mark_that_is_not_in_the_key_is_no_difference() -> None:
    marked = copy.deepcopy(PAYLOAD)
    messages = cast("list[dict[str, list[dict[str, object]]]]", marked["messages"])
    messages[1]["content"][0]["prompt_cache_breakpoint"] = {"mode": "explicit"}
    assert difference(explained(), explained(marked)) == ()


def test_equal_values_in_different_fields_have_different_digests() -> None:
    found = explained({"a": 1, "b": 1})
    assert found.digests["a"] != found.digests["b"]
    keyed = explain({"a": 1}, dialect=DIALECT, context=CONTEXT, secret=b"0123456789abcdef")
    assert keyed.digests["a"] != found.digests["a"]


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 3) | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3)
    ),
    max_leaves=6,
)
payloads = st.dictionaries(
    st.sampled_from(["model", "messages", "temperature", "user", "x"]), json_values
)


@given(payloads, payloads)
def test_something_is_named_just_when_the_result_hash_differs(
    one: dict[str, object], other: dict[str, object]
) -> None:
    first, second = explained(one), explained(other)
    is_same = first.fingerprint.result == second.fingerprint.result
    assert (difference(first, second) == ()) == is_same
