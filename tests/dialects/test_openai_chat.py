"""OpenAI chat completions: requests read, answers judged, JSON and streams converted."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from routecache_middleware.core.dialect import Dialect, Judgement, ParsedRequest
from routecache_middleware.core.models import BypassReason, DiscardReason, ResponseMode
from routecache_middleware.core.sse import split_events
from routecache_middleware.dialects.openai_chat import OpenAIChat
from routecache_middleware.dialects.openai_judge import judge_json, judge_stream
from routecache_middleware.dialects.openai_stream import aggregate, replay, reshape
from tests.support.wire import names_of_pairs

JSON, STREAM = ResponseMode.JSON, ResponseMode.STREAM
FIXTURES = Path(__file__).parents[1] / "fixtures" / "openai.chat"
DIALECT: Dialect = OpenAIChat()
MINIMAL: dict[str, object] = {"model": "gpt", "messages": [{"role": "user", "content": "hi"}]}


def fixture(name: str) -> bytes:
    return (FIXTURES / name).read_bytes()


def asked(shape: str, choices: int = 1) -> ParsedRequest:
    mode = JSON if shape == "json" else STREAM
    return ParsedRequest(model="gpt", mode=mode, shape=shape, choices=choices)


def chunks(body: bytes | None) -> list[dict[str, Any]]:
    """Return the chunks of a stream that has to end with [DONE]."""
    events = split_events(body or b"")
    assert events[-1].data == b"[DONE]"
    return [json.loads(event.data) for event in events[:-1]]


def stream(*data: object) -> bytes:
    """Return a stream of JSON values, ``[DONE]`` at its end."""
    frames = [json.dumps(item).encode() for item in data]
    return b"".join(b"data: " + frame + b"\n\n" for frame in [*frames, b"[DONE]"])


def delta(finish: str | None = None, index: int = 0, **members: object) -> dict[str, object]:
    return {"choices": [{"index": index, "delta": members, "finish_reason": finish}]}


def loaded(body: bytes | None) -> object:
    assert body is not None
    return json.loads(body)


# Requests


def parsed(**fields: object) -> ParsedRequest | None:
    return DIALECT.parse(MINIMAL | fields)


def test_the_smallest_request_is_read() -> None:
    assert parsed() == ParsedRequest(model="gpt", mode=JSON, shape="json")


def test_a_full_request_is_read() -> None:
    found = parsed(stream=True, n=3, temperature=0.5, seed=7, tools=[{"type": "function"}])
    assert found == ParsedRequest(
        model="gpt",
        mode=STREAM,
        shape="stream",
        choices=3,
        temperature=0.5,
        is_deterministic=True,
    )


@pytest.mark.parametrize(
    "fields",
    [
        {"model": None},
        {"model": 1},
        {"messages": None},
        {"messages": []},
        {"messages": "hi"},
        {"messages": ["hi"]},
        {"messages": {"role": "user"}},
        {"stream": 1},
        {"stream": "true"},
        {"stream_options": []},
        {"stream_options": True, "stream": True},
        {"n": 0},
        {"n": -1},
        {"n": 1.5},
        {"n": "1"},
        {"n": True},
        {"temperature": "0"},
        {"temperature": False},
        {"tools": "x"},
        {"tools": ["x"]},
    ],
)
def test_what_is_not_this_api_is_not_read(fields: dict[str, object]) -> None:
    assert parsed(**fields) is None


def test_an_empty_object_is_not_read() -> None:
    assert DIALECT.parse({}) is None


@pytest.mark.parametrize(
    ("fields", "shape"),
    [
        ({}, "json"),
        ({"stream": None}, "json"),
        ({"stream": False, "stream_options": None}, "json"),
        ({"stream": True}, "stream"),
        ({"stream": True, "stream_options": None}, "stream"),
        ({"stream": True, "stream_options": {}}, "stream"),
        ({"stream": True, "stream_options": {"include_usage": False}}, "stream"),
        ({"stream": True, "stream_options": {"include_usage": True}}, "stream+usage"),
        ({"stream": True, "stream_options": {"include_obfuscation": True}}, "stream"),
        (
            {
                "stream": True,
                "stream_options": {"include_usage": True, "continuous_usage_stats": True},
            },
            "stream+continuous_usage_stats+usage",
        ),
    ],
)
def test_the_wire_form_asked_for_has_a_token(fields: dict[str, object], shape: str) -> None:
    found = parsed(**fields)
    assert found is not None
    assert found.shape == shape
    assert found.mode is (JSON if shape == "json" else STREAM)


@pytest.mark.parametrize(
    ("fields", "is_deterministic"),
    [
        ({}, False),
        ({"temperature": 0}, True),
        ({"temperature": None, "seed": None}, False),
        ({"temperature": 1}, False),
        ({"temperature": 1, "seed": 0}, True),
    ],
)
def test_temperature_zero_or_a_seed_is_deterministic(
    fields: dict[str, object],
    is_deterministic: bool,  # noqa: FBT001 - a parameter of the table
) -> None:
    found = parsed(**fields)
    assert found is not None
    assert found.is_deterministic is is_deterministic


def content(*parts: object) -> dict[str, object]:
    return {"messages": [{"role": "user", "content": list(parts)}]}


def image(url: str) -> dict[str, object]:
    return content({"type": "image_url", "image_url": {"url": url}})


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"store": True}, BypassReason.STORE),
        ({"store": False}, None),
        ({"store": None}, None),
        ({"web_search_options": {}}, BypassReason.WEB_SEARCH),
        ({"web_search_options": None}, None),
        ({"search_parameters": {"mode": "auto"}}, BypassReason.WEB_SEARCH),
        ({"model": "gpt-4o-search-preview"}, BypassReason.WEB_SEARCH),
        ({"model": "openai/gpt-4o-mini-search-preview-2025-03-11"}, BypassReason.WEB_SEARCH),
        ({"model": "gpt-5-search-api"}, BypassReason.WEB_SEARCH),
        ({"model": "meta/llama-3:online"}, BypassReason.WEB_SEARCH),
        ({"model": "research-online"}, None),
        ({"model": "gpt-4o-preview"}, None),
        ({"data_sources": [{"type": "azure_search"}]}, BypassReason.SERVER_TOOLS),
        ({"plugins": [{"id": "web"}], "data_sources": None}, BypassReason.SERVER_TOOLS),
        ({"modalities": ["text", "audio"]}, BypassReason.AUDIO),
        ({"modalities": ["text"]}, None),
        ({"modalities": None}, None),
        ({"audio": {"voice": "alloy"}}, BypassReason.AUDIO),
        ({"messages": [{"role": "assistant", "audio": {"id": "a"}}]}, BypassReason.AUDIO),
        ({"tools": None}, None),
        ({"tools": [{"type": "function"}, {"type": "custom"}]}, None),
        ({"tools": [{"type": "function"}, {"type": "web_search"}]}, BypassReason.SERVER_TOOLS),
        ({"tools": [{"function": {}}]}, BypassReason.SERVER_TOOLS),
        (image("https://example.org/a.png"), BypassReason.REMOTE_MEDIA),
        (image(" HTTP://example.org/a.png"), BypassReason.REMOTE_MEDIA),
        (image("s3://bucket/a.png"), BypassReason.REMOTE_MEDIA),
        (image("data:image/png;base64,aHR0cDovLw=="), None),
        (image("iVBORw0KGgo"), None),
        (
            content({"type": "image_url", "image_url": "https://example.org"}),
            BypassReason.REMOTE_MEDIA,
        ),
        (
            content({"type": "file", "file": {"file_url": "https://example.org/a.pdf"}}),
            BypassReason.REMOTE_MEDIA,
        ),
        (
            content({"type": "video", "frames": ["https://example.org/1.png"]}),
            BypassReason.REMOTE_MEDIA,
        ),
        (content({"type": "text", "text": "https://example.org/a.png"}, "https://x", 1), None),
        (content({"type": "x", "x": [1, {"type": "text", "text": "https://example.org"}]}), None),
        ({"messages": [{"role": "user", "content": "https://example.org/a.png"}]}, None),
    ],
)
def test_what_must_not_be_answered_from_a_cache_is_bypassed(
    fields: dict[str, object], reason: BypassReason | None
) -> None:
    found = parsed(**fields)
    assert found is not None
    assert found.bypass is reason


def test_no_nesting_is_too_deep_to_look_for_remote_media() -> None:
    part: object = "https://example.org"
    for _ in range(5000):
        part = [part]
    found = parsed(**content({"type": "x", "x": part}))
    assert found is not None
    assert found.bypass is BypassReason.REMOTE_MEDIA


MARK = {"prompt_cache_breakpoint": {"mode": "explicit"}}


def test_marks_for_the_prompt_cache_are_not_in_the_key() -> None:
    text: dict[str, object] = {"type": "text", "text": "hi"}
    marked = MINIMAL | content(text | MARK, text, "prompt_cache_breakpoint") | {"x": MARK}
    before = json.dumps(marked)
    plain = content(text, text, "prompt_cache_breakpoint")
    assert DIALECT.keyed(marked) == MINIMAL | plain | {"x": MARK}
    assert json.dumps(marked) == before
    messages = [{"role": "user", "content": "hi"}, *cast("list[object]", marked["messages"])]
    assert len(cast("list[object]", DIALECT.keyed({"messages": messages})["messages"])) == 2


@pytest.mark.parametrize("messages", [None, "x", ["x"], [{"content": MARK}], [MARK]])
def test_other_requests_are_keyed_as_they_are(messages: object) -> None:
    payload = MINIMAL | {"messages": messages}
    assert DIALECT.keyed(payload) is payload


# Conversations

SYSTEM = {"role": "system", "content": "be kind"}
FIRST = {"role": "user", "content": "hi"}
TURN = [{"role": "assistant", "content": "hello"}, {"role": "user", "content": "more"}]


def conversation(*messages: object, **fields: object) -> object:
    return DIALECT.conversation(MINIMAL | {"messages": list(messages)} | fields)


def test_later_turns_are_the_same_conversation() -> None:
    assert conversation(SYSTEM, FIRST) == conversation(SYSTEM, FIRST, TURN[0])


@pytest.mark.parametrize(
    "other",
    [
        conversation(FIRST),
        conversation(SYSTEM, {"role": "user", "content": "ho"}),
        conversation({"role": "developer", "content": "be kind"}, FIRST),
        conversation(SYSTEM, FIRST, {"role": "user", "content": [{"type": "image_url"}]}),
        conversation(SYSTEM, FIRST, {"role": "user", "content": "x" * 20_000}),
        conversation(SYSTEM, FIRST, model="other"),
        conversation(SYSTEM, FIRST, tools=[{"type": "function"}]),
        conversation(SYSTEM, FIRST, functions=[{"name": "f"}]),
        conversation(SYSTEM, FIRST, response_format={"type": "json_object"}),
    ],
)
def test_another_prompt_tool_or_capability_is_another_conversation(other: object) -> None:
    assert conversation(SYSTEM, FIRST) != other


def test_the_schema_of_the_response_format_does_not_matter_its_type_does() -> None:
    one = conversation(FIRST, response_format={"type": "json_schema", "json_schema": {"a": 1}})
    assert one == conversation(FIRST, response_format={"type": "json_schema"})


def test_the_context_size_counts_in_powers_of_four() -> None:
    sizes = [
        cast("dict[str, int]", conversation({"role": "user", "content": "x" * length}))["size"]
        for length in (0, 4_000, 16_000, 17_000, 65_000, 66_000)
    ]
    assert sizes == [6, 6, 6, 7, 7, 8]


def test_a_conversation_without_user_or_messages_has_a_value_too() -> None:
    assert conversation(SYSTEM)
    assert DIALECT.conversation({})


# Judgement

OK = Judgement(
    model="gpt-4o-mini-2024-07-18",
    has_usage=True,
    finish_reasons=("stop",),
    input_tokens=19,
    output_tokens=10,
)


@pytest.mark.parametrize("name", ["answers/text.json", "answers/text.sse"])
def test_a_complete_answer_is_kept(name: str) -> None:
    mode = JSON if name.endswith("json") else STREAM
    assert DIALECT.judge(fixture(name), mode, asked("json")) == OK


def test_a_complete_stream_without_usage_says_so() -> None:
    found = judge_stream(fixture("recorded/without_usage.sse"), 1)
    assert found == Judgement(model=OK.model, finish_reasons=("stop",))


def test_crlf_comments_event_names_and_reasoning_are_understood() -> None:
    body = fixture("recorded/crlf_comments_reasoning.sse")
    assert b"\r\n\r\n" in body  # a checkout may not convert it
    assert judge_stream(body, 1) == OK


@pytest.mark.parametrize("name", ["answers/tool_calls.json", "answers/tool_calls.sse"])
def test_tool_calls_are_reported(name: str) -> None:
    judge = judge_json if name.endswith("json") else judge_stream
    found = judge(fixture(name), 1)
    assert found.discard is None
    assert found.has_tool_calls
    assert found.finish_reasons == ("tool_calls",)


@pytest.mark.parametrize(
    "name", ["answers/two_choices_logprobs.json", "answers/two_choices_logprobs.sse"]
)
def test_every_choice_is_reported_in_order(name: str) -> None:
    judge = judge_json if name.endswith("json") else judge_stream
    found = judge(fixture(name), 2)
    assert found.discard is None
    assert found.finish_reasons == ("stop", "length")
    assert judge(fixture(name), 1).discard is DiscardReason.INCOMPLETE
    assert judge(fixture(name), 3).discard is DiscardReason.INCOMPLETE
    assert judge(fixture(name), 10**12).discard is DiscardReason.INCOMPLETE


@pytest.mark.parametrize(
    "name", ["discarded/finish-reason.refusal.json", "discarded/finish-reason.refusal.sse"]
)
def test_a_refusal_is_not_kept(name: str) -> None:
    judge = judge_json if name.endswith("json") else judge_stream
    assert judge(fixture(name), 1).discard is DiscardReason.FINISH_REASON


def test_errors_in_place_of_an_answer_are_found() -> None:
    assert (
        judge_json(fixture("discarded/error-body.server.json"), 1).discard
        is DiscardReason.ERROR_BODY
    )
    assert (
        judge_stream(fixture("discarded/error-body.midway.sse"), 1).discard
        is DiscardReason.ERROR_BODY
    )
    named = b"event: error\ndata: overloaded\n\n" + fixture("recorded/without_usage.sse")
    assert judge_stream(named, 1).discard is DiscardReason.ERROR_BODY
    cut_short = stream(delta(content="a"), {"error": "x"}).removesuffix(b"data: [DONE]\n\n")
    assert judge_stream(cut_short, 1).discard is DiscardReason.ERROR_BODY


def answer(*choices: dict[str, object], **fields: object) -> bytes:
    return json.dumps({"model": "gpt", "choices": choices} | fields).encode()


def choice(finish: object = "stop", index: int = 0, **message: object) -> dict[str, object]:
    return {"index": index, "message": {"role": "assistant"} | message, "finish_reason": finish}


def call(arguments: object, **members: object) -> dict[str, object]:
    return {
        "id": "c",
        "type": "function",
        "function": {"name": "f", "arguments": arguments},
    } | members


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (answer(choice(content="a")), None),
        (answer(choice(content="a"), error=None), None),
        (answer(choice(content=[{"type": "text"}])), None),
        (answer(choice(content="a", refusal="")), None),
        (answer(choice(tool_calls=[call("{}")])), None),
        (answer(choice(tool_calls=[{"type": "custom", "custom": {"input": "{"}}])), None),
        (answer(choice(function_call={"name": "f", "arguments": "{}"})), None),
        (answer(choice(content="a"), error={}), DiscardReason.ERROR_BODY),
        (answer(), DiscardReason.EMPTY),
        (b"{}", DiscardReason.EMPTY),
        (answer(choice(content="")), DiscardReason.EMPTY),
        (answer(choice(content=None)), DiscardReason.EMPTY),
        (answer(choice(tool_calls=[])), DiscardReason.EMPTY),
        (answer({"finish_reason": "stop"}), DiscardReason.EMPTY),
        (answer(choice(finish=None, content="a")), DiscardReason.INCOMPLETE),
        (answer(choice(finish="", content="a")), DiscardReason.INCOMPLETE),
        (answer(choice(index=1, content="a")), DiscardReason.INCOMPLETE),
        (answer(choice(tool_calls=[call('{"a":')])), DiscardReason.INCOMPLETE),
        (answer(choice(tool_calls=[call("{}"), call("")])), DiscardReason.INCOMPLETE),
        (answer(choice(tool_calls=[call("[" * 100_000)])), DiscardReason.INCOMPLETE),
        (answer(choice(tool_calls=[call({})])), DiscardReason.INCOMPLETE),
        (answer(choice(function_call={"name": "f"})), DiscardReason.INCOMPLETE),
        (answer(choice(content="a"), usage=7), DiscardReason.INCOMPLETE),
        (b"", DiscardReason.INCOMPLETE),
        (b"[]", DiscardReason.INCOMPLETE),
        (b"null", DiscardReason.INCOMPLETE),
        (b'{"choices":[', DiscardReason.INCOMPLETE),
        (b'{"x":' + b"[" * 100_000, DiscardReason.INCOMPLETE),
        (answer(choice(content="a"))[:-1] + b" ,", DiscardReason.INCOMPLETE),
        (b"<html>", DiscardReason.INCOMPLETE),
    ],
)
def test_json_answers_are_judged(body: bytes, reason: DiscardReason | None) -> None:
    assert judge_json(body, 1).discard is reason


def test_with_two_choices_both_indexes_have_to_be_there() -> None:
    twice = answer(choice(content="a"), choice(content="b"))
    assert judge_json(twice, 2).discard is DiscardReason.INCOMPLETE
    assert judge_json(answer(choice(content="a"), choice(index=-1)), 2).discard is (
        DiscardReason.INCOMPLETE
    )
    assert judge_json(answer(choice(content="a"), choice(index=1)), 2).discard is (
        DiscardReason.EMPTY
    )


END = delta("stop")


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (stream(delta(content="a"), END), None),
        (stream(delta("stop", content="a")), None),
        (stream({"choices": [], "prompt_filter_results": []}, delta(content="a"), END), None),
        (stream(delta(content="a"), END) + b": bye\n\n", None),
        (stream(delta(tool_calls=[call('{"a"')]), delta("x", tool_calls=[call(":1}")])), None),
        (stream(delta(tool_calls=[{"index": 0, "id": "x"}]), END), None),
        (stream(), DiscardReason.EMPTY),
        (stream(delta(content=""), END), DiscardReason.EMPTY),
        (stream({"choices": [{"delta": None, "finish_reason": "x"}]}), DiscardReason.EMPTY),
        (stream(delta(content="a")), DiscardReason.INCOMPLETE),
        (stream(delta(content="a"), END, "text"), DiscardReason.INCOMPLETE),
        (stream(delta(tool_calls=[call('{"a"')]), END), DiscardReason.INCOMPLETE),
        (stream(delta(content="a"), END) + stream(), DiscardReason.INCOMPLETE),
        (stream(delta(content="a"), END)[:-1], DiscardReason.INCOMPLETE),
        (stream(delta(content="a"), END) + b"data: x", DiscardReason.INCOMPLETE),
        (stream(delta(content="a"), END) + b"data: [DONE]\n\n", DiscardReason.INCOMPLETE),
        (stream(delta(content="a"), END).replace(b"[DONE]", b"[DONE] "), DiscardReason.INCOMPLETE),
        (
            stream(delta(content="a"), END).removesuffix(b"data: [DONE]\n\n"),
            DiscardReason.INCOMPLETE,
        ),
        (fixture("discarded/incomplete.truncated.sse"), DiscardReason.INCOMPLETE),
        (b"", DiscardReason.INCOMPLETE),
        (b'data: {"choices":[{"delta":{"content":"\\ud83d"}}]}\n\n', DiscardReason.INCOMPLETE),
        (b"data: {\xff}\n\n", DiscardReason.INCOMPLETE),
    ],
)
def test_streams_are_judged(body: bytes, reason: DiscardReason | None) -> None:
    assert judge_stream(body, 1).discard is reason


def test_tokens_that_are_missing_or_null_count_as_none() -> None:
    body = answer(choice(content="a"), usage={"prompt_tokens": None, "completion_tokens": 3.0})
    found = judge_json(body, 1)
    assert (found.has_usage, found.input_tokens, found.output_tokens) == (True, 0, 3)


@given(st.binary() | st.text().map(str.encode), st.sampled_from(list(ResponseMode)))
def test_no_bytes_make_judge_or_render_raise(body: bytes, mode: ResponseMode) -> None:
    assert DIALECT.judge(body, mode, asked("json")).discard is not None
    for shape in ("json", "stream", "stream+usage"):
        DIALECT.render(body, mode, asked(shape))


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-1, 3) | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                [
                    "choices",
                    "index",
                    "delta",
                    "message",
                    "content",
                    "tool_calls",
                    "function",
                    "function_call",
                    "arguments",
                    "logprobs",
                    "usage",
                    "finish_reason",
                    "refusal",
                    "error",
                    "model",
                ]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=15,
)


@given(st.lists(json_values, max_size=4))
def test_no_json_makes_judge_or_render_raise(values: list[object]) -> None:
    for body, mode in ((stream(*values), STREAM), (json.dumps(values[:1])[1:-1].encode(), JSON)):
        DIALECT.judge(body, mode, asked("json"))
        for shape in ("json", "stream", "stream+usage"):
            DIALECT.render(body, mode, asked(shape))


# Conversions

PAIRS = [
    *(f"answers/{name}" for name in names_of_pairs("openai.chat")),
    "discarded/finish-reason.refusal",
]


@pytest.mark.parametrize("name", PAIRS)
def test_a_recorded_stream_adds_up_to_the_recorded_json(name: str) -> None:
    rendered = DIALECT.render(fixture(name + ".sse"), STREAM, asked("json"))
    assert loaded(rendered) == json.loads(fixture(name + ".json"))


@pytest.mark.parametrize("name", PAIRS)
def test_replayed_json_adds_up_to_itself(name: str) -> None:
    body = fixture(name + ".json")
    assert loaded(aggregate(replay(body, with_usage=True) or b"")) == json.loads(body)


def test_json_is_replayed_as_role_content_finish_and_usage() -> None:
    body = fixture("answers/text.json")
    whole = json.loads(body)
    found = chunks(DIALECT.render(body, JSON, asked("stream+usage")))
    assert [chunk["choices"] for chunk in found] == [
        [
            {
                "index": 0,
                "logprobs": None,
                "delta": {"role": "assistant", "content": "", "refusal": None, "annotations": []},
                "finish_reason": None,
            }
        ],
        [
            {
                "index": 0,
                "logprobs": None,
                "delta": {"content": whole["choices"][0]["message"]["content"]},
                "finish_reason": None,
            }
        ],
        [{"index": 0, "logprobs": None, "delta": {}, "finish_reason": "stop"}],
        [],
    ]
    assert [chunk["usage"] for chunk in found] == [None, None, None, whole["usage"]]
    for chunk in found:
        assert chunk["object"] == "chat.completion.chunk"
        for name in ("id", "created", "model", "system_fingerprint", "service_tier"):
            assert chunk[name] == whole[name]


def test_json_is_replayed_without_usage_when_none_is_asked_for() -> None:
    found = chunks(DIALECT.render(fixture("answers/text.json"), JSON, asked("stream")))
    assert len(found) == 3
    assert not any("usage" in chunk for chunk in found)


def test_replayed_json_is_a_complete_stream() -> None:
    body = DIALECT.render(fixture("answers/text.json"), JSON, asked("stream+usage"))
    assert body is not None
    assert judge_stream(body, 1) == OK


def test_all_log_probabilities_are_with_the_text_or_else_at_the_end() -> None:
    found = chunks(replay(fixture("answers/two_choices_logprobs.json")))
    counts = [
        len((chunk["choices"][0]["logprobs"] or {"content": []})["content"]) for chunk in found
    ]
    assert counts == [0, 2, 0, 0, 1, 0]
    no_text = choice(tool_calls=[call("{}")]) | {"logprobs": {"content": [], "refusal": None}}
    found = chunks(replay(answer(no_text)))
    assert [c["choices"][0]["logprobs"] for c in found] == [None, None, no_text["logprobs"]]


def test_moderation_has_a_chunk_of_its_own_behind_the_choices() -> None:
    body = fixture("answers/moderation.json")
    found = chunks(replay(body, with_usage=True))
    assert [bool(c["choices"]) for c in found] == [True, True, True, False, False]
    assert [c.get("moderation") for c in found] == [None] * 3 + [
        json.loads(body)["moderation"],
        None,
    ]
    assert chunks(replay(answer(choice(content="a"), moderation=None)))[0]["moderation"] is None


def test_padding_is_dropped_on_conversion() -> None:
    stored = fixture("answers/moderation.sse")
    assert b"obfuscation" in stored
    for shape in ("json", "stream"):
        assert b"obfuscation" not in (
            DIALECT.render(stored, STREAM, asked(shape)) or b"obfuscation"
        )


def test_unknown_top_level_members_are_in_the_first_chunk_only() -> None:
    found = chunks(replay(answer(choice(content="a"), x=[1])))
    assert [chunk.get("x") for chunk in found] == [[1], None, None]


def test_usage_that_was_never_carried_is_not_invented() -> None:
    no_usage = answer(choice(content="a"), usage=None)
    assert DIALECT.render(no_usage, JSON, asked("stream+usage")) is None
    assert DIALECT.render(fixture("recorded/without_usage.sse"), STREAM, asked("json")) is None
    assert (
        DIALECT.render(fixture("recorded/without_usage.sse"), STREAM, asked("stream+usage")) is None
    )


def test_a_stream_loses_its_usage_when_none_is_asked_for() -> None:
    stored = fixture("answers/text.sse")
    found = chunks(DIALECT.render(stored, STREAM, asked("stream")))
    assert not any("usage" in chunk for chunk in found)
    assert [c["choices"] for c in found] == [c["choices"] for c in chunks(stored) if c["choices"]]


def test_a_stream_that_carries_usage_anywhere_gets_it_in_its_place() -> None:
    stored = stream(
        {"id": "", "choices": [], "prompt_filter_results": [1]},
        {"id": "i", "obfuscation": "zz"} | delta(content="a"),
        {"id": "i", "usage": {"prompt_tokens": 1}} | delta("stop"),
    )
    found = chunks(DIALECT.render(stored, STREAM, asked("stream+usage")))
    assert found == [
        {"id": "", "choices": [], "prompt_filter_results": [1], "usage": None},
        {"id": "i", "usage": None} | delta(content="a"),
        {"id": "i", "usage": None} | delta("stop"),
        {"id": "i", "choices": [], "usage": {"prompt_tokens": 1}},
    ]


def test_a_shape_that_nobody_can_make_is_not_made() -> None:
    assert DIALECT.render(fixture("answers/text.json"), JSON, asked("stream+other")) is None


def test_json_for_json_is_the_body_itself() -> None:
    body = fixture("answers/text.json")
    assert DIALECT.render(body, JSON, asked("json")) is body


def added_up(*data: dict[str, object]) -> dict[str, Any] | None:
    body = aggregate(stream(*data, {"choices": [], "usage": {"total_tokens": 1}}))
    return None if body is None else cast("dict[str, Any]", json.loads(body))


def test_nothing_empty_replaces_a_value_and_the_last_value_counts() -> None:
    found = added_up(
        {"id": "", "x": 1, "y": None} | delta(role="assistant", content=None),
        {"id": "i", "x": 2} | delta(role="assistant", content="a", score=1),
        {"id": "", "x": None, "obfuscation": "zz"} | delta("stop", role="", content=None, score=2),
    )
    assert found == {
        "id": "i",
        "x": 2,
        "y": None,
        "object": "chat.completion",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": "a", "score": 2},
                "finish_reason": "stop",
            }
        ],
        "usage": {"total_tokens": 1},
    }


def test_calls_are_merged_by_index_or_else_by_place() -> None:
    found = added_up(
        delta(tool_calls=[call('{"a"', index=1), call("{", index=None, function=None)]),
        delta(tool_calls=[{"index": 1, "id": "", "function": {"name": None, "arguments": ":1}"}}]),
        delta(tool_calls=[{"index": 0, "type": "custom", "custom": {"input": "x"}}]),
        delta("tool_calls", tool_calls=[{"index": 0, "custom": {"input": "y"}, "extra": {"z": 1}}]),
    )
    assert found is not None
    assert found["choices"][0]["message"]["tool_calls"] == [
        {"type": "custom", "custom": {"input": "xy"}, "extra": {"z": 1}},
        call('{"a":1}') | {"function": {"name": "f", "arguments": '{"a":1}'}},
    ]


def test_a_function_call_is_joined() -> None:
    found = added_up(
        delta(function_call={"name": "f", "arguments": ""}),
        delta(function_call={"arguments": '{"a":'}),
        delta("function_call", function_call={"arguments": "1}"}),
    )
    assert found is not None
    assert found["choices"][0]["message"] == {
        "function_call": {"name": "f", "arguments": '{"a":1}'}
    }


def test_log_probabilities_are_joined() -> None:
    def part(**logprobs: object) -> dict[str, object]:
        return {"choices": [{"index": 0, "delta": {}, "logprobs": logprobs or None}]}

    found = added_up(
        part(),
        part(content=[1], refusal=None),
        part(),
        part(content=[2], refusal=[3]),
        part(content=None, refusal=[4]),
    )
    assert found is not None
    assert found["choices"][0]["logprobs"] == {"content": [1, 2], "refusal": [3, 4]}


@pytest.mark.parametrize(
    "data",
    [
        [delta(blocks=[1]), delta(blocks=[2])],
        [delta(blocks={"a": 1}), delta(blocks={"a": 2})],
        [delta(content=[1]), delta(content="a")],
        [delta(content="a"), delta(content=[1])],
        [delta(tool_calls=[1])],
        [delta(tool_calls={"a": 1})],
        [delta(tool_calls=[{"index": "x"}])],
        [delta(function_call="f")],
        [{"choices": [{"index": "x"}]}],
        [{"choices": [{"delta": "x"}]}],
        [{"choices": "x"}],
    ],
)
def test_pieces_that_nobody_knows_how_to_join_are_not_joined(data: list[dict[str, object]]) -> None:
    assert added_up(*data) is None


def test_a_list_that_comes_once_survives() -> None:
    found = added_up(delta(blocks=[1], content=[2]), delta("stop", blocks=[], content=""))
    assert found is not None
    assert found["choices"][0]["message"] == {"blocks": [1], "content": [2]}


@pytest.mark.parametrize(
    "body", [b"", b"[]", b'{"choices":[{"message":1}]}', b'{"choices":[{"index":"a"}]}']
)
def test_json_without_the_right_form_is_not_replayed(body: bytes) -> None:
    assert replay(body) is None


@pytest.mark.parametrize("body", [b"data: x\n\n", b"data: []\n\n", b'data: {"choices":1}\n\n'])
def test_a_stream_without_the_right_form_is_not_reshaped(body: bytes) -> None:
    assert reshape(body) is None


texts = st.text(max_size=20)
usages = st.fixed_dictionaries(
    {"prompt_tokens": st.integers(0), "completion_tokens": st.integers(0)}
)
tool_calls = st.one_of(
    st.fixed_dictionaries(
        {
            "id": st.text(min_size=1),
            "type": st.just("function"),
            "function": st.fixed_dictionaries(
                {"name": texts, "arguments": st.dictionaries(texts, texts).map(json.dumps)}
            ),
        },
        optional={"extra_content": st.dictionaries(texts, texts)},
    ),
    st.fixed_dictionaries(
        {
            "id": st.text(min_size=1),
            "type": st.just("custom"),
            "custom": st.fixed_dictionaries({"name": texts, "input": texts}),
        }
    ),
)
messages = st.fixed_dictionaries(
    {"role": st.just("assistant"), "content": st.none() | texts},
    optional={
        "refusal": st.none() | texts,
        "reasoning_content": st.none() | texts,
        "tool_calls": st.none() | st.lists(tool_calls, max_size=3),
        "function_call": st.none()
        | st.fixed_dictionaries({"name": texts, "arguments": st.just("{}")}),
        "annotations": st.lists(st.dictionaries(texts, texts), max_size=2),
        "vendor": st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False),
        "name": texts,
    },
)
token_lists = st.none() | st.lists(
    st.fixed_dictionaries({"token": texts, "logprob": st.floats(-9, 0)})
)
choice_parts = st.fixed_dictionaries(
    {"message": messages, "finish_reason": st.sampled_from(["stop", "length", "tool_calls"])},
    optional={
        "logprobs": st.none()
        | st.fixed_dictionaries({"content": token_lists, "refusal": token_lists}),
        "content_filter_results": st.dictionaries(texts, texts),
        "stop_reason": st.none() | texts,
    },
)
completions = st.fixed_dictionaries(
    {
        "id": st.text(),
        "object": st.just("chat.completion"),
        "created": st.integers(0),
        "model": texts,
        "choices": st.lists(choice_parts, min_size=1, max_size=3).map(
            lambda parts: [{"index": index} | part for index, part in enumerate(parts)]
        ),
        "usage": usages,
    },
    optional={
        "system_fingerprint": st.none() | texts,
        "service_tier": st.none() | texts,
        "vendor": st.dictionaries(texts, st.none() | texts),
    },
)


def replays(body: bytes) -> Iterator[bytes | None]:
    """Yield streams with usage made on different ways."""
    straight = replay(body, with_usage=True)
    yield straight
    yield reshape(straight or b"", with_usage=True)


@given(completions)
def test_aggregating_a_replay_gives_the_answer_back(whole: dict[str, object]) -> None:
    body = json.dumps(whole).encode()
    for replayed in replays(body):
        assert loaded(aggregate(replayed or b"")) == whole


@given(completions)
def test_a_replay_is_judged_as_the_answer_is(whole: dict[str, Any]) -> None:
    body = json.dumps(whole).encode()
    count = len(whole["choices"])
    assert judge_stream(replay(body, with_usage=True) or b"", count) == judge_json(body, count)


# Errors


def test_errors_have_the_shape_of_openai() -> None:
    body = DIALECT.error_body("nothing stored", kind="cache_miss", code="only_if_cached")
    assert json.loads(body) == {
        "error": {
            "message": "nothing stored",
            "type": "cache_miss",
            "param": None,
            "code": "only_if_cached",
        }
    }
