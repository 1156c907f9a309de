"""What is part of a key, and what is not."""

import enum
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from litellm.types.utils import Message
from pydantic import BaseModel

from routecache_middleware.adapters.litellm.options import Isolation, Options
from routecache_middleware.adapters.litellm.results.apis import CALL_TYPES, Api, api_of
from routecache_middleware.adapters.litellm.results.controls import NO_CONTROLS, read_controls
from routecache_middleware.adapters.litellm.results.fields import Counts, counts
from routecache_middleware.adapters.litellm.results.keying import Identified, Keyer
from routecache_middleware.core.body_directives import BodyDirectives
from routecache_middleware.core.dialect import Role
from routecache_middleware.core.keys import parse_key
from routecache_middleware.core.models import BypassReason
from routecache_middleware.core.policy import CachePolicy
from routecache_middleware.core.settings import Settings
from routecache_middleware.dialects.table import load

Json = dict[str, Any]

CHAT: Json = {
    "model": "openai/gpt-4o",
    "messages": [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": [{"type": "text", "text": "hello"}]},
    ],
    "temperature": 0,
    "seed": 1,
    "n": 1,
    "max_tokens": 10,
    "top_p": 0.5,
    "stop": ["x", "y"],
    "tools": [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}],
    "tool_choice": "auto",
    "response_format": {"type": "json_object"},
    "logit_bias": {"50256": -100},
    "reasoning_effort": "low",
    "extra_body": {"guided": {"choice": ["a", "b"]}},
    "extra_headers": {"X-Model-Variant": "b", "traceparent": "00-1-2-01"},
    "a_parameter_of_next_year": {"deep": [1, {"deeper": "value"}]},
    "api_base": "http://127.0.0.1/v1",
    "api_key": "one",
}


def keyer(*, is_proxy: bool = False, options: Options | None = None, **given: Any) -> Keyer:
    return Keyer(Settings(**given), CachePolicy(), options or Options(), is_proxy=is_proxy)


KEYER = keyer()


def api(name: str = "acompletion") -> Api:
    found = api_of(name)
    assert found is not None
    return found


def found(kwargs: Json, *, call_type: str = "acompletion", by: Keyer = KEYER) -> Identified:
    identified = by.identify(api(call_type), kwargs, NO_CONTROLS)
    assert isinstance(identified, Identified), identified
    return identified


def key(kwargs: Json, *, call_type: str = "acompletion", by: Keyer = KEYER) -> str:
    return found(kwargs, call_type=call_type, by=by).keys().key


def changed(**arguments: Any) -> str:
    return key({**CHAT, **arguments})


def paths(value: object, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Where every leaf of a JSON value is."""
    if isinstance(value, dict):
        return [path for name, item in value.items() for path in paths(item, (*at, name))]
    if isinstance(value, list):
        return [path for place, item in enumerate(value) for path in paths(item, (*at, place))]
    return [at]


def replaced(value: Any, path: tuple[Any, ...], leaf: object) -> Any:
    """The same value with another leaf."""
    if not path:
        return leaf
    copy = dict(value) if isinstance(value, dict) else list(value)
    copy[path[0]] = replaced(copy[path[0]], path[1:], leaf)
    return copy


LEAVES = [path for path in paths(CHAT) if path[-1] != "traceparent"]


@given(path=st.sampled_from(LEAVES), leaf=st.sampled_from(["other", "2"]))
@settings(max_examples=200)
def test_any_change_at_any_depth_changes_the_key(path: tuple[Any, ...], leaf: str) -> None:
    """The deny-list is the only exception; what makes no sense any more has no key at all."""
    identified = KEYER.identify(api(), replaced(CHAT, path, leaf), NO_CONTROLS)
    if isinstance(identified, Identified):
        assert identified.keys().key != key(CHAT)
    else:
        assert identified in set(BypassReason)


@given(st.randoms(use_true_random=False))
def test_the_order_of_arguments_and_fields_makes_no_difference(random: Any) -> None:
    def shuffled(value: Any) -> Any:
        if isinstance(value, dict):
            names = random.sample(list(value), len(value))
            return {name: shuffled(value[name]) for name in names}
        return [shuffled(item) for item in value] if isinstance(value, list) else value

    assert key(shuffled(CHAT)) == key(CHAT)


def test_one_and_one_point_zero_are_the_same_number() -> None:
    assert changed(temperature=1, top_p=1) == changed(temperature=1.0, top_p=1.0)
    assert changed(temperature=0) == changed(temperature=0.0)


def test_true_is_not_one() -> None:
    assert changed(logprobs=True) != changed(logprobs=1)


def test_what_is_none_is_absent() -> None:
    assert changed(frequency_penalty=None, tools=CHAT["tools"]) == key(CHAT)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("user", "ann"),
        ("metadata", {"trace": 1}),
        ("litellm_metadata", {"trace": 1}),
        ("stream", True),
        ("stream_options", {"include_usage": True}),
        ("timeout", 3),
        ("request_timeout", 3),
        ("num_retries", 3),
        ("max_retries", 3),
        ("client", object()),
        ("litellm_logging_obj", object()),
        ("litellm_call_id", "1"),
        ("litellm_trace_id", "1"),
        ("caching", False),
        ("cache", {"ttl": 3}),
        ("fallbacks", ["other"]),
        ("input_cost_per_token", 1.0),
        ("tpm", 3),
        ("no-log", True),
        ("proxy_server_request", {"body": {}}),
        ("service_tier", "flex"),
        ("prompt_cache_key", "a"),
        ("safety_identifier", "a"),
        ("mock_testing_fallbacks", True),
        ("_litellm_of_its_own", object()),
    ],
)
def test_who_asks_and_how_it_is_delivered_makes_no_difference(name: str, value: object) -> None:
    assert changed(**{name: value}) == key(CHAT)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("mock_response", "canned"),
        ("guardrails", ["pii"]),
        ("prompt_id", "p"),
        ("roles", {"user": "USER"}),
        ("api_version", "2"),
        ("organization", "o"),
        ("custom_llm_provider", "azure"),
        ("aws_region_name", "eu-1"),
        ("vertex_project", "p"),
        ("drop_params", True),
        ("anthropic_version", "2026-01-01"),
        ("thinking", {"type": "enabled"}),
    ],
)
def test_what_changes_an_answer_counts_although_litellm_takes_it_for_its_own(
    name: str, value: object
) -> None:
    assert changed(**{name: value}) != key(CHAT)


def test_headers_that_trace_a_request_do_not_count_and_names_have_no_case() -> None:
    headers = {
        "x-model-variant": "b",
        "Tracestate": "a=b",
        "Baggage": "a=b",
        "X-Request-ID": "1",
        "User-Agent": "me",
        "X-B3-TraceId": "1",
    }
    assert changed(extra_headers=headers) == key(CHAT)
    assert changed(extra_headers={**headers, "X-Other": "1"}) != key(CHAT)
    only_tracing = {name: headers[name] for name in headers if name != "x-model-variant"}
    assert changed(extra_headers=only_tracing) == changed(extra_headers=None)


def test_headers_for_one_provider_count_without_those_that_trace() -> None:
    def sent(**headers: str) -> str:
        named = {"custom_llm_provider": "anthropic", "extra_headers": headers}
        return changed(provider_specific_header=named)

    assert sent(beta="1") == sent(beta="1", traceparent="00-1-2-01") != sent(beta="2")


def test_parameters_of_next_year_count() -> None:
    assert counts("something_new") is Counts.ALWAYS
    assert changed(something_new=1) != changed(something_new=2) != key(CHAT)


def test_ignored_fields_of_the_policy_do_not_count() -> None:
    by = Keyer(Settings(), CachePolicy(ignored_fields=frozenset({"x"})), Options(), is_proxy=False)
    assert key({**CHAT, "x": 1}, by=by) == key(CHAT)


def test_a_callers_own_cache_key_is_a_field_and_not_the_key() -> None:
    def named(own: object) -> object:
        identified = KEYER.identify(api(), CHAT, NO_CONTROLS, own)
        return identified.keys().key if isinstance(identified, Identified) else None

    assert named("mine") != named("yours") != key(CHAT)
    assert "mine" not in str(named("mine"))


def test_namespaces_never_meet() -> None:
    def within(controls: BodyDirectives) -> str:
        identified = KEYER.identify(api(), CHAT, controls)
        assert isinstance(identified, Identified)
        return identified.keys().key

    one, two = read_controls({"namespace": "one"}), read_controls({"namespace": "two"})
    assert len({within(one), within(two), key(CHAT)}) == 3
    assert within(read_controls(None, "one")) == within(one)


REQUESTS: dict[str, Json] = {
    "acompletion": {"model": "m", "messages": [{"role": "user", "content": "x"}]},
    "atext_completion": {"model": "m", "prompt": "x"},
    "aembedding": {"model": "m", "input": ["x"]},
    "aresponses": {"model": "m", "input": "x"},
    "anthropic_messages": {
        "model": "m",
        "messages": [{"role": "user", "content": "x"}],
        "max_tokens": 5,
    },
}
DIALECTS = {
    "acompletion": "openai.chat",
    "atext_completion": "openai.completions",
    "aembedding": "openai.embeddings",
    "aresponses": "openai.responses",
    "anthropic_messages": "anthropic.messages",
}
# What LiteLLM does differently: it keeps each form of a message, and takes `model` and `fallbacks`
# for its own.
_LITELLMS = {
    ("anthropic_messages", "stream"): Role.KEY,
    ("anthropic_messages", "fallbacks"): Role.IGNORED,
}
_SENSIBLE = {"stream": True, "stream_options": {"include_usage": True}, "store": False}
FIELDS = [
    (call_type, name, _LITELLMS.get((call_type, name), field.role))
    for call_type, dialect in DIALECTS.items()
    for name, field in load(dialect).fields.items()
    if name != "model" and name not in REQUESTS[call_type]
]


@pytest.mark.parametrize(("call_type", "name", "role"), FIELDS)
@pytest.mark.parametrize("value", ["other", 3, {"a": "b"}, [{"type": "function", "name": "f"}]])
def test_a_field_counts_as_its_dialect_says(
    call_type: str, name: str, role: Role, value: object
) -> None:
    plain = REQUESTS[call_type]
    value = _SENSIBLE.get(name, value)
    identified = KEYER.identify(api(call_type), {**plain, name: value}, NO_CONTROLS)
    if not isinstance(identified, Identified):
        assert role is not Role.IGNORED  # it makes no sense, so it is not cached
    elif role is Role.IGNORED:
        assert identified.keys() == found(plain, call_type=call_type).keys()
    elif call_type != "aembedding":
        assert identified.keys() != found(plain, call_type=call_type).keys()
    else:
        assert identified.keys_of("x") != found(plain, call_type=call_type).keys_of("x")


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"dimensions": 8, "encoding_format": "base64", "user": "u"},
        {"timeout": 3, "num_retries": 2, "extra_headers": {"x": "y"}, "api_base": "u"},
        {"input_type": None},
        {"input_type": "query"},
        {"merge_reasoning_content_in_choices": False, "allowed_openai_params": ["dimensions"]},
    ],
)
def test_inputs_of_known_fields_are_kept_one_by_one(fields: Json) -> None:
    asked = {"model": "m", "input": "x", **fields}
    for inputs in (["x", "y"], ["x"], "x"):
        said = KEYER.identify(api("aembedding"), asked, NO_CONTROLS, inputs=inputs)
        assert isinstance(said, Identified)


@pytest.mark.parametrize(
    "fields",
    [{"late_chunking": True}, {"embedding_type": "int8"}, {"extra_body": {"output_dtype": "int8"}}],
)
def test_inputs_that_may_depend_on_one_another_are_not_kept_one_by_one(fields: Json) -> None:
    """LiteLLM asks for the rest of a list; alone an input depends on nothing else."""
    asked = {"model": "m", "input": "x", **fields}
    said = KEYER.identify(api("aembedding"), asked, NO_CONTROLS, inputs=["x", "y"])
    assert said is BypassReason.DISABLED
    for inputs in (["x"], "x"):
        alone = KEYER.identify(api("aembedding"), asked, NO_CONTROLS, inputs=inputs)
        assert isinstance(alone, Identified)


def test_what_only_steers_a_providers_prompt_cache_does_not_count() -> None:
    def said(**mark: Any) -> Json:
        part = {"type": "text", "text": "x", **mark}
        return {**REQUESTS["anthropic_messages"], "messages": [{"role": "user", "content": [part]}]}

    name, mark = "anthropic_messages", {"type": "ephemeral"}
    assert key(said(cache_control=mark), call_type=name) == key(said(), call_type=name)
    assert key(said(), call_type=name) == key(REQUESTS[name], call_type=name)
    assert key(said(citations=mark), call_type=name) != key(said(), call_type=name)
    marked = [{"role": "user", "content": [{"type": "text", "text": "x"}]}]
    plain = key({"model": "m", "messages": marked})
    marked[0]["content"][0]["prompt_cache_breakpoint"] = {"mode": "explicit"}  # type: ignore[index]
    assert key({"model": "m", "messages": marked}) == plain


def test_who_reads_what_they_wrote_in_an_answer_gets_their_own() -> None:
    """OpenAI's Responses repeat these; where they do, LiteLLM's own metadata stands elsewhere."""
    asked = REQUESTS["aresponses"]
    for name in ("user", "safety_identifier", "prompt_cache_key", "metadata"):
        value = {"a": "b"} if name == "metadata" else "a"
        assert key({**asked, name: value}, call_type="aresponses") != key(
            asked, call_type="aresponses"
        )


def test_no_two_apis_share_a_key() -> None:
    same = {
        "model": "m",
        "messages": CHAT["messages"],
        "input": "hello",
        "prompt": None,
        "max_tokens": 1,
    }
    keys = {name: key({**same}, call_type=name) for name in CALL_TYPES if "text" not in name}
    assert len(set(keys.values())) == 4
    assert keys["completion"] == keys["acompletion"]
    assert keys["embedding"] == keys["aembedding"]


def test_messages_of_anthropic_have_an_entry_per_wire_form() -> None:
    """What came as a stream cannot be had in one piece there."""
    asked = {"model": "m", "messages": CHAT["messages"], "max_tokens": 1}
    name = "anthropic_messages"
    assert key(asked, call_type=name) != key({**asked, "stream": True}, call_type=name)


class Weather(BaseModel):
    degrees: int


def test_objects_count_as_what_they_dump_and_classes_as_their_schema() -> None:
    message = Message(role="user", content="hello")
    plain = {"messages": [message.model_dump(exclude_none=True)]}
    assert changed(messages=[message]) == changed(**plain)
    other = type("Weather", (BaseModel,), {"__annotations__": {"degrees": str}})
    assert changed(response_format=Weather) != changed(response_format=other)
    assert changed(response_format=Weather) == changed(response_format=Weather)


class Colour(enum.StrEnum):
    RED = "red"


def test_a_word_of_an_enum_is_that_word() -> None:
    assert changed(colour=Colour.RED) == changed(colour="red")


class Unreadable(BaseModel):
    def model_dump(self, **_: Any) -> Any:
        raise RuntimeError("the prompt")


@pytest.mark.parametrize(
    "value",
    [object(), {1: 2}, float("nan"), 2**70, "\ud800", b"bytes", {"deep": {1, 2}}, Unreadable()],
)
def test_what_is_no_json_is_not_cached(value: object) -> None:
    identified = KEYER.identify(api(), {**CHAT, "x": value}, NO_CONTROLS)
    assert identified is BypassReason.INVALID_JSON


def test_endless_nesting_is_not_cached() -> None:
    endless: list[object] = []
    endless.append(endless)
    with_message: list[object] = [Message(role="user", content="x")]
    with_message.append(with_message)
    for value in (endless, with_message):
        identified = KEYER.identify(api(), {**CHAT, "x": value}, NO_CONTROLS)
        assert identified in {BypassReason.INVALID_JSON, BypassReason.BODY_TOO_LARGE}


def test_a_large_request_is_not_cached() -> None:
    by = keyer(max_request_bytes=1000)
    asked = {**CHAT, "messages": [{"role": "user", "content": "x" * 1001}]}
    assert by.identify(api(), asked, NO_CONTROLS) is BypassReason.BODY_TOO_LARGE


def test_prompts_do_not_stand_in_keys() -> None:
    assert "hello" not in key(CHAT)
    assert key(CHAT) != key(CHAT, by=keyer(secret=b"s" * 16))


def test_former_secrets_give_former_keys() -> None:
    now = keyer(secret=b"b" * 16, previous_secrets=(b"a" * 16,))
    keys = found(CHAT, by=now).keys()
    assert keys.former == (key(CHAT, by=keyer(secret=b"a" * 16)),)


# In a Router.

ROUTED: Json = {
    **CHAT,
    "metadata": {
        "model_group": "asked",
        "deployment_model_name": "group",
        "api_base": CHAT["api_base"],
        "model_info": {"id": "d1"},
    },
}


def routed(**arguments: Any) -> Json:
    metadata = {**ROUTED["metadata"], **arguments.pop("metadata", {})}
    return {**ROUTED, "metadata": metadata, **arguments}


def test_deployments_of_a_group_share_answers() -> None:
    other = routed(
        model="azure/gpt-4o",
        api_base="http://other/v1",
        api_key="two",
        api_version="3",
        metadata={"api_base": "http://other/v1", "model_info": {"id": "d2"}},
    )
    assert key(other) == key(ROUTED)
    assert parse_key(key(ROUTED)).model_id == "group"


def test_the_group_that_answers_counts_and_not_the_one_that_was_asked_for() -> None:
    fallback = routed(metadata={"deployment_model_name": "fallback"})
    assert parse_key(key(fallback)).model_id == "fallback"


def test_a_deployment_for_many_models_keeps_them_apart() -> None:
    def wild(model: str) -> str:
        return key(routed(model=model, metadata={"deployment_model_name": "openai/*"}))

    assert wild("openai/a") != wild("openai/b")


def test_caching_groups_share_answers() -> None:
    groups = [("a", "b"), ("c",)]

    def of(group: str) -> str:
        return key(routed(metadata={"deployment_model_name": group, "caching_groups": groups}))

    assert of("a") == of("b") != of("d")


def test_every_name_of_a_model_invalidates_its_answers() -> None:
    assert set(found(ROUTED).models) == {"group", "openai/gpt-4o", "d1"}


@pytest.mark.parametrize(
    "own",
    [
        {"api_base": "http://mine/v1"},
        {"api_key": "mine", "proxy_server_request": {"body": {"api_key": "mine"}}},
        {"api_key": "mine", "metadata": {"model_info": {"id": "x", "original_model_id": "d1"}}},
    ],
)
def test_an_endpoint_of_the_clients_own_counts(own: Json) -> None:
    assert key(routed(**own)) != key(ROUTED)
    assert key(routed(**own, organization="o")) != key(ROUTED)


def test_what_a_client_writes_where_the_router_does_not_is_not_believed() -> None:
    """For the Responses API the Router notes its choice elsewhere; ``metadata`` is the client's."""
    forged = {
        "model": "openai/cheap",
        "input": "hello",
        "metadata": {"deployment_model_name": "expensive"},
        "litellm_metadata": {"deployment_model_name": "cheap", "model_info": {"id": "d"}},
    }
    assert parse_key(key(forged, call_type="aresponses")).model_id == "cheap"


# Tenants: `tenancy.py` has tests of its own.


def test_two_keys_never_share_behind_the_proxy() -> None:
    def of(name: str, team: str) -> str:
        metadata = {"user_api_key": name, "user_api_key_team_id": team}
        return key({**CHAT, "metadata": metadata}, by=keyer(is_proxy=True))

    assert len({of("a", "t"), of("b", "t"), of("c", "u")}) == 3


def test_keys_of_a_team_share_when_they_are_told_to() -> None:
    by = keyer(is_proxy=True, options=Options(isolation=Isolation.TEAM))

    def of(name: str, team: str | None) -> str:
        metadata = {"user_api_key": name, "user_api_key_team_id": team}
        return key({**CHAT, "metadata": metadata}, by=by)

    assert of("a", "t") == of("b", "t") != of("c", "u")
    assert of("a", None) != of("b", None)


def test_nobody_is_not_served_behind_the_proxy() -> None:
    identified = keyer(is_proxy=True).identify(api(), CHAT, NO_CONTROLS)
    assert identified is BypassReason.NO_PRINCIPAL
    assert key(CHAT, by=keyer(is_proxy=True, allow_anonymous=True))


# Inputs of embeddings.


def test_each_input_of_an_embedding_has_a_key_of_its_own() -> None:
    def of(item: object, **more: Any) -> str:
        asked = found({"model": "e", "input": [item, "more"], **more}, call_type="aembedding")
        return asked.keys_of(item).key

    assert of("a") != of("b")
    assert of("a") == of("a", user="ann") != of("a", dimensions=3)
    assert of([1, 2]) != of([1, 3])
    assert of([1, 2]) == of([1.0, 2.0])


# What a caller asks of the cache.


@pytest.mark.parametrize(
    ("asked", "max_age_s"),
    [
        ({"s-maxage": 5}, 5),
        ({"s-max-age": 5.9}, 5),
        ({"s-maxage": "7"}, 7),
        ({"s-maxage": "soon"}, 0),
        ({"s-maxage": 10**400}, 0),
        ({"s-maxage": 5, "a word of next year": 1}, 5),
        ({"s-maxage": -1}, 0),
        ({}, None),
    ],
)
def test_the_age_that_is_asked_for_is_honoured(asked: Json, max_age_s: int | None) -> None:
    assert read_controls(asked).directives.max_age_s == max_age_s


@pytest.mark.parametrize(("ttl", "ttl_s"), [(3, 3.0), ("4", 4.0), (-1, None), (None, None)])
def test_the_lifetime_that_is_asked_for_is_honoured(ttl: object, ttl_s: float | None) -> None:
    assert read_controls({"ttl": ttl}).ttl_s == ttl_s
