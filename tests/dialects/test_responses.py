"""OpenAI responses: requests read, answers judged, JSON and streams converted."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from routecache_middleware.core.dialect import Dialect, Judgement, ParsedRequest, Role
from routecache_middleware.core.models import BypassReason, DiscardReason, ResponseMode
from routecache_middleware.core.sse import EventSplitter
from routecache_middleware.dialects.responses import OpenAIResponses
from routecache_middleware.dialects.responses_judge import judge_json, judge_stream
from routecache_middleware.dialects.responses_stream import aggregate, replay
from routecache_middleware.dialects.table import match
from tests.support.wire import (
    FIXTURES,
    asked,
    events_of,
    files,
    hashes,
    loaded,
    mode_of,
    mutations,
    names_of_pairs,
    variants,
)

JSON, STREAM = ResponseMode.JSON, ResponseMode.STREAM
DIALECT: Dialect = OpenAIResponses()
NAME = "openai.responses"
PAIRS = names_of_pairs(NAME)
MINIMAL: dict[str, object] = {"model": "gpt", "input": "hi", "store": False}


def answer(name: str) -> bytes:
    return (FIXTURES / NAME / "answers" / name).read_bytes()


def stream(*events: object) -> bytes:
    """Return a stream of JSON values."""
    return b"".join(b"data: " + json.dumps(event).encode() + b"\n\n" for event in events)


# Requests


def parsed(**fields: object) -> ParsedRequest | None:
    return DIALECT.parse(MINIMAL | fields)


def test_the_smallest_request_is_read() -> None:
    assert parsed() == ParsedRequest(model="gpt", mode=JSON, shape="json")


def test_a_full_request_is_read() -> None:
    found = parsed(stream=True, temperature=0, stream_options={"include_obfuscation": False})
    assert found == ParsedRequest(
        model="gpt", mode=STREAM, shape="stream", temperature=0, is_deterministic=True
    )


@pytest.mark.parametrize("path", files(NAME, "requests"), ids=lambda path: path.stem)
def test_requests_as_clients_send_them_are_read(path: Path) -> None:
    found = DIALECT.parse(json.loads(path.read_bytes()))
    assert found is not None
    assert found.bypass is None


@pytest.mark.parametrize(
    "fields",
    [
        {"model": None},
        {"input": None},
        {"input": []},
        {"input": ["hi"]},
        {"input": {"role": "user"}},
        {"input": 7, "prompt": {"id": "p"}},
        {"stream": "true"},
        {"stream_options": []},
        {"temperature": "0"},
        {"tools": "x"},
        {"tools": ["x"]},
    ],
)
def test_what_is_not_this_api_is_not_read(fields: dict[str, object]) -> None:
    assert parsed(**fields) is None


def item(*parts: object, **fields: object) -> dict[str, object]:
    return {"input": [{"role": "user", "content": list(parts)} | fields]}


IMAGE = {"type": "input_image", "image_url": "https://example.org/a.png"}
TEMPLATE = {"id": "pmpt_1", "version": "2"}


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"store": True}, BypassReason.STORE),
        ({"store": None}, BypassReason.STORE),
        ({"store": 0}, BypassReason.STORE),
        ({"previous_response_id": "resp_1"}, BypassReason.STATEFUL),
        ({"conversation": {"id": "conv_1"}}, BypassReason.STATEFUL),
        ({"input": [{"type": "item_reference", "id": "msg_1"}]}, BypassReason.STATEFUL),
        ({"input": [{"id": "msg_1"}]}, BypassReason.STATEFUL),
        ({"input": [{"type": "reasoning", "id": "rs_1", "summary": []}]}, BypassReason.STATEFUL),
        ({"input": [{"type": "reasoning", "encrypted_content": "g"}]}, None),
        ({"input": [{"type": "reasoning", "content": [{"text": "hm"}]}]}, None),
        ({"background": True}, BypassReason.BACKGROUND),
        ({"background": False}, None),
        ({"prompt": {"id": "pmpt_1"}}, BypassReason.MUTABLE_PROMPT),
        ({"prompt": "pmpt_1"}, BypassReason.MUTABLE_PROMPT),
        ({"prompt": TEMPLATE}, None),
        ({"prompt": TEMPLATE, "input": None}, None),
        ({"prompt": TEMPLATE | {"variables": {"x": "https://example.org"}}}, None),
        ({"prompt": TEMPLATE | {"variables": {"x": IMAGE}}}, BypassReason.REMOTE_MEDIA),
        ({"tools": [{"type": "function"}, {"type": "custom"}]}, None),
        ({"tools": [{"type": "web_search"}]}, BypassReason.SERVER_TOOLS),
        ({"tools": [{"type": "mcp"}]}, BypassReason.SERVER_TOOLS),
        ({"tools": [{}]}, BypassReason.SERVER_TOOLS),
        (item(type="additional_tools", tools=[{"type": "shell"}]), BypassReason.SERVER_TOOLS),
        (item(type="additional_tools", tools=[{"type": "function"}]), None),
        (item(tools="x"), BypassReason.SERVER_TOOLS),
        (item(IMAGE), BypassReason.REMOTE_MEDIA),
        (item(type="function_call_output", output=[IMAGE]), BypassReason.REMOTE_MEDIA),
        (item(type="computer_call_output", output=IMAGE), BypassReason.REMOTE_MEDIA),
        (item({"type": "input_file", "file_url": " HTTPS://x/y"}), BypassReason.REMOTE_MEDIA),
        (item({"type": "input_image", "image_url": "data:image/png;base64,aHR0cDovLw=="}), None),
        (item({"type": "input_file", "file_id": "file_1"}), None),
        (item({"type": "input_text", "text": "https://example.org/a.png"}), None),
        (item(type="function_call_output", output="https://example.org"), None),
        (item(content="https://example.org"), None),
        ({"input": "https://example.org", "instructions": "https://example.org"}, None),
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
    found = parsed(**item({"type": "x", "x": part}))
    assert found is not None
    assert found.bypass is BypassReason.REMOTE_MEDIA


@pytest.mark.parametrize(
    ("path", "is_ours"),
    [
        ("/v1/responses", True),
        ("/openai/v1/responses", True),
        ("/openai/responses", True),
        ("/responses", True),
        ("/survey/responses", False),
        ("/v1/responses/resp_1/cancel", False),
        ("/v1/responses/compact", False),
        ("/v1/responses/input_tokens", False),
    ],
)
def test_only_its_own_paths_are_in_the_dialect(
    path: str,
    is_ours: bool,  # noqa: FBT001 - a parameter of the table
) -> None:
    found = match("POST", path)
    assert (found is not None and found.name == NAME) is is_ours


# Keys


def same_key(one: dict[str, object], other: dict[str, object]) -> bool:
    return hashes(DIALECT, MINIMAL | one) == hashes(DIALECT, MINIMAL | other)


TEXT = {"type": "input_text", "text": "hi"}
MARKED = TEXT | {"prompt_cache_breakpoint": {"mode": "explicit"}}


def test_marks_for_the_prompt_cache_do_not_count() -> None:
    assert same_key(item(TEXT), item(MARKED))
    assert same_key(item(type="f", output=[TEXT]), item(type="f", output=[MARKED]))
    assert same_key(item(TEXT, "x"), item(MARKED, "x"))
    plain = MINIMAL | item(TEXT)
    assert DIALECT.keyed(plain) is plain
    marked = MINIMAL | item(MARKED)
    before = json.dumps(marked)
    DIALECT.keyed(marked)
    assert json.dumps(marked) == before


@pytest.mark.parametrize("path", files(NAME, "requests"), ids=lambda path: path.stem)
def test_any_change_at_any_depth_changes_the_key_unless_the_table_says_otherwise(
    path: Path,
) -> None:
    payload = json.loads(path.read_bytes())
    before = hashes(DIALECT, payload)
    count = 0
    for where, changed in mutations(payload):
        after = hashes(DIALECT, changed)
        is_mark = where[0] == "input" and "prompt_cache_breakpoint" in where
        is_result_kept = where[0] in DIALECT.ignored_fields or is_mark
        is_decision_kept = is_result_kept or where[0] in DIALECT.sampling_fields
        assert (after.result == before.result) is is_result_kept, where
        assert (after.decision == before.decision) is is_decision_kept, where
        count += 1
    assert count > 5


def test_the_table_knows_every_field_of_the_sdk() -> None:
    known = openai.types.responses.response_create_params.ResponseCreateParamsBase.__annotations__
    assert {*known, "stream"} == set(DIALECT.fields)


@pytest.mark.parametrize("name", [n for n, f in DIALECT.fields.items() if f.role is Role.BYPASS])
def test_the_table_says_when_a_field_makes_a_request_uncacheable(name: str) -> None:
    assert DIALECT.fields[name].note


@pytest.mark.parametrize("name", ["metadata", "user", "safety_identifier", "prompt_cache_key"])
def test_what_the_answer_repeats_of_the_request_is_in_the_result_s_key_only(name: str) -> None:
    one, other = hashes(DIALECT, MINIMAL), hashes(DIALECT, MINIMAL | {name: "x"})
    assert one.decision == other.decision
    assert one.result != other.result
    assert name in openai.types.responses.Response.model_fields


# Conversations

USER = {"role": "user", "content": "hi"}
TURN = [{"role": "assistant", "content": "hello"}, {"role": "user", "content": "more"}]


def conversation(*items: object, **fields: object) -> object:
    return DIALECT.conversation(DIALECT.keyed(MINIMAL | {"input": list(items)} | fields))


def test_later_turns_are_the_same_conversation() -> None:
    assert conversation(USER) == conversation(USER, *TURN) == conversation(input="hi")


@pytest.mark.parametrize(
    "other",
    [
        conversation({"role": "user", "content": "ho"}),
        conversation(USER, {"role": "developer", "content": "x"}),
        conversation(USER, {"role": "user", "content": [{"type": "input_image"}]}),
        conversation(USER, {"role": "user", "content": "x" * 20_000}),
        conversation(USER, instructions="be kind"),
        conversation(USER, prompt=TEMPLATE),
        conversation(USER, model="other"),
        conversation(USER, tools=[{"type": "function"}]),
        conversation(USER, text={"format": {"type": "json_object"}}),
    ],
)
def test_another_prompt_tool_or_capability_is_another_conversation(other: object) -> None:
    assert conversation(USER) != other


def test_the_schema_of_the_output_does_not_matter_its_type_does() -> None:
    one = conversation(USER, text={"format": {"type": "json_schema", "schema": {}}})
    assert one == conversation(USER, text={"format": {"type": "json_schema"}})
    assert conversation(USER, text={"verbosity": "low"}) == conversation(USER)


def test_a_conversation_without_input_has_a_value_too() -> None:
    assert DIALECT.conversation({})


# Judgement


def judged(path: Path) -> Judgement:
    return DIALECT.judge(path.read_bytes(), mode_of(path), asked(mode_of(path)))


@pytest.mark.parametrize("name", PAIRS)
def test_a_complete_answer_is_kept_whatever_its_form(name: str) -> None:
    of_json, of_stream = judge_json(answer(f"{name}.json")), judge_stream(answer(f"{name}.sse"))
    assert of_json == of_stream
    assert of_json.discard is None
    assert of_json.has_usage
    assert of_json.has_tool_calls is (name == "tools")


def test_an_answer_is_described() -> None:
    assert judge_json(answer("tools.json")) == Judgement(
        model="gpt-4.1-2025-04-14",
        has_usage=True,
        has_tool_calls=True,
        finish_reasons=("tool_calls",),
        input_tokens=328,
        output_tokens=52,
    )
    assert judge_json(answer("text.json")).finish_reasons == ("stop",)


@pytest.mark.parametrize("path", files(NAME, "recorded"), ids=lambda path: path.name)
def test_what_real_servers_send_is_kept_and_converted(path: Path) -> None:
    assert judged(path).discard is None
    other = STREAM if mode_of(path) is JSON else JSON
    converted = DIALECT.render(path.read_bytes(), mode_of(path), asked(other))
    if path.name == "litellm.sse":
        assert converted is None  # its JSON answers name the model as the client does
        return
    assert DIALECT.judge(converted or b"", other, asked(other)) == judged(path)


@pytest.mark.parametrize("path", files(NAME, "discarded"), ids=lambda path: path.name)
def test_what_must_not_be_stored_is_discarded(path: Path) -> None:
    assert judged(path).discard == path.name.partition(".")[0]


def part(text: object = "a", kind: str = "output_text", **fields: object) -> dict[str, object]:
    return {"type": kind, "text": text} | fields


def message(*parts: object, **fields: object) -> dict[str, object]:
    content = list(parts) or [part()]
    return {"type": "message", "id": "msg_1", "role": "assistant", "content": content} | fields


def response(*output: object, **fields: object) -> bytes:
    items = list(output) or [message()]
    return json.dumps(
        {"id": "resp_1", "model": "gpt", "status": "completed", "output": items} | fields
    ).encode()


CALL = {"type": "function_call", "id": "fc_1", "name": "f", "arguments": "{}"}


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (response(), None),
        (response(message(status="completed")), None),
        (response({"type": "of_next_year"}), None),
        (response(CALL), None),
        (response({"type": "custom_tool_call", "input": ""}), None),
        (response(error=None, incomplete_details=None), None),
        (response(error={}), DiscardReason.ERROR_BODY),
        (response(incomplete_details={"reason": "content_filter"}), DiscardReason.INCOMPLETE),
        (response(status="in_progress"), DiscardReason.INCOMPLETE),
        (response(status=None), DiscardReason.INCOMPLETE),
        (response(message(status="incomplete")), DiscardReason.INCOMPLETE),
        (response(message(part(""))), DiscardReason.EMPTY),
        (response(message(content=None)), DiscardReason.EMPTY),
        (response(output=None), DiscardReason.EMPTY),
        (response(message(part(None, "refusal"))), DiscardReason.FINISH_REASON),
        (response(CALL | {"arguments": ""}), DiscardReason.INCOMPLETE),
        (response(CALL | {"arguments": "{"}), DiscardReason.INCOMPLETE),
        (response(CALL | {"arguments": None}), DiscardReason.INCOMPLETE),
        (response(CALL | {"arguments": "[" * 100_000}), DiscardReason.INCOMPLETE),
        (response({"content": []}), DiscardReason.INCOMPLETE),
        (response("a"), DiscardReason.INCOMPLETE),
        (response(usage=7), DiscardReason.INCOMPLETE),
        (b"", DiscardReason.INCOMPLETE),
        (b"[]", DiscardReason.INCOMPLETE),
        (b"{}", DiscardReason.INCOMPLETE),
        (b'{"x":' + b"[" * 100_000, DiscardReason.INCOMPLETE),
        (response()[:-1], DiscardReason.INCOMPLETE),
        (b"<html>", DiscardReason.INCOMPLETE),
    ],
)
def test_json_answers_are_judged(body: bytes, reason: DiscardReason | None) -> None:
    assert judge_json(body).discard is reason


def test_tokens_that_are_missing_or_null_count_as_none() -> None:
    found = judge_json(response(usage={"input_tokens": None, "output_tokens": 3.0}))
    assert (found.has_usage, found.input_tokens, found.output_tokens) == (True, 0, 3)
    assert not judge_json(response()).has_usage


END = {"type": "response.completed", "response": json.loads(response())}
CREATED = {"type": "response.created", "response": {}}


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (stream(CREATED, END), None),
        (stream(END), None),
        (stream(CREATED, {"type": "of_next_year"}, END), None),
        (stream(END) + b"data: [DONE]\n\n", None),
        (stream(END) + b": bye\n\n", None),
        (stream(CREATED), DiscardReason.INCOMPLETE),
        (stream(END, END), DiscardReason.INCOMPLETE),
        (stream(END, CREATED), DiscardReason.INCOMPLETE),
        (stream(END)[:-1], DiscardReason.INCOMPLETE),
        (stream(END) + b"data: x", DiscardReason.INCOMPLETE),
        (b"data: [DONE]\n\n" + stream(END), DiscardReason.INCOMPLETE),
        (stream(CREATED, {"type": "response.cancelled"}), DiscardReason.INCOMPLETE),
        (stream({"type": "response.completed"}), DiscardReason.INCOMPLETE),
        (stream(END | {"response": None}), DiscardReason.INCOMPLETE),
        (stream(END | {"response": {}}), DiscardReason.INCOMPLETE),
        (stream({}, END), DiscardReason.INCOMPLETE),
        (stream("x", END), DiscardReason.INCOMPLETE),
        (stream({"type": "x", "error": {}}, END), DiscardReason.ERROR_BODY),
        (stream(END, {"type": "error"}), DiscardReason.ERROR_BODY),
        (b'event: error\ndata: {"type":"x"}\n\n' + stream(END), DiscardReason.ERROR_BODY),
        (b"", DiscardReason.INCOMPLETE),
    ],
)
def test_streams_are_judged(body: bytes, reason: DiscardReason | None) -> None:
    assert judge_stream(body).discard is reason


@pytest.mark.parametrize("name", PAIRS)
def test_however_a_stream_is_written_it_reads_the_same(name: str) -> None:
    body = answer(f"{name}.sse")
    for other in variants(body):
        assert judge_stream(other) == judge_stream(body)
        assert loaded(aggregate(other)) == loaded(aggregate(body))


@pytest.mark.parametrize("name", PAIRS)
def test_a_stream_cut_off_anywhere_is_not_kept_before_its_end(name: str) -> None:
    body = answer(f"{name}.sse")
    end = body.index(b"response.completed")
    for length in {*range(0, end, 37), end, end + 5, end + 90}:
        assert judge_stream(body[:length]).discard is DiscardReason.INCOMPLETE


@pytest.mark.parametrize("name", PAIRS)
def test_a_stream_split_at_every_byte_has_the_same_events(name: str) -> None:
    body = answer(f"{name}.sse")
    whole = EventSplitter().feed(body)
    for cut in range(len(body)):
        splitter = EventSplitter()
        assert splitter.feed(body[:cut]) + splitter.feed(body[cut:]) == whole


# Conversions


@pytest.mark.parametrize("name", PAIRS)
def test_a_stream_adds_up_to_the_json_of_the_same_answer(name: str) -> None:
    rendered = DIALECT.render(answer(f"{name}.sse"), STREAM, asked(JSON))
    assert loaded(rendered) == loaded(answer(f"{name}.json"))


@pytest.mark.parametrize("name", PAIRS)
def test_replayed_json_adds_up_to_itself(name: str) -> None:
    body = answer(f"{name}.json")
    assert loaded(aggregate(replay(body) or b"")) == loaded(body)


def merged(events: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return events, deltas that follow each other joined.

    What may differ of two streams of one answer is how its texts are cut, what pads them, their
    numbers, and of what is begun the price class and what is not known yet.
    """
    found: list[dict[str, Any]] = []
    for event in events:
        kept = {n: v for n, v in event.items() if n not in ("sequence_number", "obfuscation")}
        if kept["type"].endswith(".delta") and found and found[-1]["type"] == kept["type"]:
            found[-1]["delta"] += kept["delta"]
            continue
        if kept["type"] in ("response.created", "response.in_progress"):
            kept["response"] = kept["response"] | {"service_tier": None}
        found.append(kept)
    return found


def as_json(body: bytes) -> list[dict[str, Any]]:
    events = EventSplitter().feed(body)
    return [json.loads(event.data) for event in events if event.data != b"[DONE]"]


@pytest.mark.parametrize("name", PAIRS)
def test_replayed_json_has_the_events_of_the_stream_of_the_same_answer(name: str) -> None:
    live = as_json(answer(f"{name}.sse"))
    made = events_of(DIALECT.render(answer(f"{name}.json"), JSON, asked(STREAM)))
    assert merged(made) == merged(live)
    assert [event["sequence_number"] for event in made] == list(range(len(made)))


def test_numbers_of_an_answer_stay_as_they_are_written() -> None:
    body = b'{"id":"r","created_at":1.0,\n "big":123456789012345678901234567890,\r\n"output":[]}'
    made = replay(body) or b""
    assert aggregate(made) == body.replace(b"\n ", b"").replace(b"\r\n", b"")


def test_json_for_json_and_a_stream_for_a_stream_are_the_body_itself() -> None:
    body = answer("text.json")
    assert DIALECT.render(body, JSON, asked(JSON)) is body
    assert DIALECT.render(body, STREAM, asked(STREAM)) is body


def test_a_shape_that_nobody_can_make_is_not_made() -> None:
    other = ParsedRequest(model="m", mode=STREAM, shape="stream+other")
    assert DIALECT.render(answer("text.json"), JSON, other) is None


def test_a_refusal_is_replayed_as_such() -> None:
    found = events_of(replay(response(message({"type": "refusal", "refusal": "no"}))))
    assert [event["type"] for event in found if "refusal" in event["type"]] == [
        "response.refusal.delta",
        "response.refusal.done",
    ]
    assert [event["refusal"] for event in found if "refusal" in event] == ["no"]


def test_an_empty_text_has_no_delta() -> None:
    found = [event["type"] for event in events_of(replay(response(message(part("")))))]
    assert "response.output_text.done" in found
    assert "response.output_text.delta" not in found


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        response(output="a"),
        response({"type": "of_next_year", "id": "x"}),
        response({"type": "web_search_call", "id": "ws_1"}),
        response(message(id=None)),
        response(message(part(logprobs=[{"token": "a", "logprob": -0.1}]))),
        response(message(part(kind="of_next_year"))),
        response(message({"type": ["output_text"], "text": "a"})),
        response(message(part(None))),
        response(message("a")),
        response(CALL | {"arguments": None}),
        response({"type": "reasoning", "id": "rs_1", "summary": [{"type": "x", "text": "a"}]}),
    ],
)
def test_json_that_cannot_be_replayed_truthfully_is_not(body: bytes) -> None:
    assert replay(body) is None


@pytest.mark.parametrize(
    "body",
    [
        b"",
        stream("x"),
        stream(END, CREATED),
        stream({"type": "response.completed"}),
        stream(END | {"response": 1}),
        stream(END | {"model": "other"}),
    ],
)
def test_a_stream_without_its_end_or_its_model_adds_up_to_nothing(body: bytes) -> None:
    assert aggregate(body) is None


def test_a_model_that_is_named_twice_alike_does_no_harm() -> None:
    assert loaded(aggregate(stream(END | {"model": "gpt"}))) == END["response"]


texts = st.text(max_size=12)
json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=6,
)
extras = st.dictionaries(texts.map(lambda text: f"x_{text}"), json_values, max_size=2)
text_parts = st.fixed_dictionaries(
    {"type": st.just("output_text"), "text": texts},
    optional={
        "annotations": st.lists(st.dictionaries(texts, texts), max_size=2),
        "logprobs": st.just([]),
    },
)
refusals = st.fixed_dictionaries({"type": st.just("refusal"), "refusal": texts})
thoughts = st.fixed_dictionaries({"type": st.just("reasoning_text"), "text": texts})
summaries = st.fixed_dictionaries({"type": st.just("summary_text"), "text": texts})
arguments = st.dictionaries(texts, json_values, max_size=2).map(json.dumps)
items = st.one_of(
    st.fixed_dictionaries(
        {
            "type": st.just("message"),
            "role": st.just("assistant"),
            "content": st.lists(text_parts | refusals, max_size=3),
        },
        optional={"status": st.just("completed")},
    ),
    st.fixed_dictionaries(
        {"type": st.just("reasoning"), "summary": st.lists(summaries, max_size=2)},
        optional={
            "content": st.none() | st.lists(thoughts, max_size=2),
            "encrypted_content": st.none() | texts,
            "status": st.none(),
        },
    ),
    st.fixed_dictionaries(
        {"type": st.just("function_call"), "name": texts, "arguments": arguments}
    ),
    st.fixed_dictionaries({"type": st.just("custom_tool_call"), "name": texts, "input": texts}),
)
responses = st.builds(
    lambda fixed, more: fixed | more,
    st.fixed_dictionaries(
        {
            "id": texts,
            "object": st.just("response"),
            "model": texts,
            "status": st.just("completed"),
            "output": st.lists(
                st.builds(lambda i, x, name: i | x | {"id": name}, items, extras, texts), max_size=4
            ),
        },
        optional={
            "usage": st.none() | st.fixed_dictionaries({"input_tokens": st.integers(0)}),
            "completed_at": st.none() | st.integers(0),
            "error": st.none(),
        },
    ),
    extras,
)


@given(responses, st.sampled_from([None, 2]))
def test_aggregating_a_replay_gives_the_answer_back(
    whole: dict[str, Any], indent: int | None
) -> None:
    body = json.dumps(whole, indent=indent).encode()
    made = replay(body) or b""
    assert loaded(aggregate(made)) == whole
    assert judge_stream(made) == judge_json(body)


@given(st.binary() | st.text().map(str.encode), st.sampled_from(list(ResponseMode)))
def test_no_bytes_make_judge_or_render_raise(body: bytes, mode: ResponseMode) -> None:
    for wanted in ResponseMode:
        assert DIALECT.judge(body, mode, asked(wanted)).discard is not None
        DIALECT.render(body, mode, asked(wanted))


names = st.sampled_from(
    [
        "type",
        "output",
        "content",
        "text",
        "summary",
        "arguments",
        "input",
        "annotations",
        "logprobs",
        "status",
        "error",
        "usage",
        "response",
        "id",
        "tools",
        "prompt",
        "variables",
        "version",
        "role",
    ]
)
kinds = st.sampled_from(
    ["message", "reasoning", "function_call", "output_text", "refusal", "summary_text", "completed"]
)
shaped = st.recursive(
    st.none() | st.booleans() | st.integers(-1, 2) | texts | kinds,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=4),
    max_leaves=15,
)


@given(st.dictionaries(names, shaped, max_size=5))
def test_no_json_makes_judge_or_render_raise(value: dict[str, Any]) -> None:
    body = json.dumps(value).encode()
    judge_json(body)
    replay(body)
    ended = stream(value, END | {"response": value})
    judge_stream(ended)
    aggregate(ended)


@given(st.dictionaries(names, shaped))
def test_no_request_makes_parse_or_keyed_raise(payload: dict[str, object]) -> None:
    for request in (payload, MINIMAL | payload):
        DIALECT.parse(request)
        DIALECT.conversation(DIALECT.keyed(request))


# The official SDK


def transport(body: bytes) -> httpx.MockTransport:
    kind = "application/json" if body.startswith(b"{") else "text/event-stream"
    return httpx.MockTransport(
        lambda request: httpx.Response(200, headers={"content-type": kind}, content=body)
    )


def client_of(body: bytes) -> openai.OpenAI:
    return openai.OpenAI(api_key="k", http_client=httpx.Client(transport=transport(body)))


def data(value: BaseModel) -> dict[str, Any]:
    return value.model_dump(mode="json")


def read_whole(body: bytes) -> dict[str, Any]:
    with client_of(body) as client:
        return data(client.responses.create(model="gpt", input="hi"))


def read_stream(body: bytes) -> tuple[dict[str, Any], list[str]]:
    """Return the final answer and the types of the events, deltas counted once."""
    with client_of(body) as client, client.responses.stream(model="gpt", input="hi") as found:
        kinds: list[str] = [event.type for event in found]
        final = data(found.get_final_response())
    once = [kind for place, kind in enumerate(kinds) if kind not in kinds[place - 1 : place]]
    return final, once


async def read_stream_async(body: bytes) -> dict[str, Any]:
    http = httpx.AsyncClient(transport=transport(body))
    async with (
        openai.AsyncOpenAI(api_key="k", http_client=http) as client,
        client.responses.stream(model="gpt", input="hi") as found,
    ):
        return data(await found.get_final_response())


@pytest.mark.parametrize("name", PAIRS)
async def test_the_sdk_reads_the_same_answer_live_and_converted(name: str) -> None:
    whole, live = answer(f"{name}.json"), answer(f"{name}.sse")
    from_json = DIALECT.render(whole, JSON, asked(STREAM)) or b""
    from_stream = DIALECT.render(live, STREAM, asked(JSON)) or b""
    assert read_whole(from_stream) == read_whole(whole)
    assert read_stream(from_json) == read_stream(live)
    assert await read_stream_async(from_json) == await read_stream_async(live)


class Person(BaseModel):
    name: str
    age: int


def test_the_sdk_parses_structured_output_live_and_converted() -> None:
    name = "crlf_comments_annotations"
    made = DIALECT.render(answer(f"{name}.sse"), STREAM, asked(JSON)) or b""
    for body in (answer(f"{name}.json"), made):
        with client_of(body) as client:
            found = client.responses.parse(model="gpt", input="hi", text_format=Person)
        assert found.output_parsed == Person(name="Ada", age=36)
    replayed = DIALECT.render(answer(f"{name}.json"), JSON, asked(STREAM)) or b""
    for body in (answer(f"{name}.sse"), replayed):
        with (
            client_of(body) as client,
            client.responses.stream(model="gpt", input="hi", text_format=Person) as events,
        ):
            assert events.get_final_response().output_parsed == Person(name="Ada", age=36)


@pytest.mark.parametrize("path", files(NAME, "recorded"), ids=lambda path: path.name)
def test_the_sdk_reads_what_real_servers_send_and_its_conversion_alike(path: Path) -> None:
    body = path.read_bytes()
    if mode_of(path) is JSON:
        final, _ = read_stream(replay(body) or b"")
        whole = read_whole(body)
        # The stream helper adds a member of its own.
        assert final["output"][0]["content"][0].pop("parsed") is None
        assert final == whole
        return
    with client_of(body) as client:
        events = list(client.responses.create(model="gpt", input="hi", stream=True))
    last = events[-1]
    assert last.type == "response.completed"
    made = aggregate(body)
    assert made is None or read_whole(made) == data(last.response)


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
