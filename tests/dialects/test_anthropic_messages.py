"""Anthropic messages: requests read, answers judged, JSON and streams converted."""

import json
from collections.abc import Iterable
from itertools import groupby
from pathlib import Path
from typing import Any

import anthropic
import httpx2
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

from routecache_middleware.core.dialect import Dialect, Judgement, ParsedRequest, Role
from routecache_middleware.core.models import BypassReason, DiscardReason, ResponseMode
from routecache_middleware.core.sse import EventSplitter
from routecache_middleware.dialects.anthropic_judge import judge_json, judge_stream
from routecache_middleware.dialects.anthropic_messages import AnthropicMessages
from routecache_middleware.dialects.anthropic_stream import aggregate, replay
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
DIALECT: Dialect = AnthropicMessages()
NAME = "anthropic.messages"
PAIRS = names_of_pairs(NAME)
USER: dict[str, object] = {"role": "user", "content": "hi"}
MINIMAL: dict[str, object] = {"model": "claude", "max_tokens": 9, "messages": [USER]}


def answer(name: str) -> bytes:
    return (FIXTURES / NAME / "answers" / name).read_bytes()


def stream(*events: dict[str, Any]) -> bytes:
    """Return a stream of events, named after their types."""
    return b"".join(
        b"event: %b\ndata: %b\n\n" % (str(event.get("type")).encode(), json.dumps(event).encode())
        for event in events
    )


# Requests


def parsed(**fields: object) -> ParsedRequest | None:
    return DIALECT.parse(MINIMAL | fields)


def test_the_smallest_request_is_read() -> None:
    assert parsed() == ParsedRequest(model="claude", mode=JSON, shape="json")


def test_a_full_request_is_read() -> None:
    found = parsed(stream=True, temperature=0, tools=[{"name": "f", "input_schema": {}}])
    assert found == ParsedRequest(
        model="claude", mode=STREAM, shape="stream", temperature=0, is_deterministic=True
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
        {"model": 1},
        {"messages": None},
        {"messages": []},
        {"messages": "hi"},
        {"messages": ["hi"]},
        {"stream": 1},
        {"stream": "true"},
        {"max_tokens": -1},
        {"max_tokens": True},
        {"max_tokens": "9"},
        {"max_tokens": 1.5},
        {"temperature": "0"},
        {"temperature": False},
        {"tools": "x"},
        {"tools": ["x"]},
    ],
)
def test_what_is_not_this_api_is_not_read(fields: dict[str, object]) -> None:
    assert parsed(**fields) is None


def test_gateways_may_have_a_default_for_max_tokens() -> None:
    assert DIALECT.parse({"model": "claude", "messages": [USER]}) is not None


def content(*blocks: object) -> dict[str, object]:
    return {"messages": [{"role": "user", "content": list(blocks)}]}


def source(kind: str = "image", **members: object) -> dict[str, object]:
    return {"type": kind, "source": members}


def tool(kind: object) -> dict[str, object]:
    return {"tools": [{"name": "f", "input_schema": {}}, {"type": kind, "name": "g"}]}


REMOTE = source(type="url", url="https://example.org/a.png")


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"container": "c_1"}, BypassReason.STATEFUL),
        ({"container": None}, None),
        ({"thread": {"type": "create"}}, BypassReason.STATEFUL),
        ({"diagnostics": {"previous_message_id": None}}, BypassReason.STATEFUL),
        ({"fallback_credit_token": "t"}, BypassReason.STATEFUL),
        ({"mcp_servers": [{"type": "url"}]}, BypassReason.SERVER_TOOLS),
        ({"mcp_servers": []}, None),
        (tool("custom"), None),
        (tool(None), None),
        (tool("bash_20250124"), None),
        (tool("text_editor_20250728"), None),
        (tool("computer_toolset_20260801"), None),
        (tool("browser_toolset_20260801"), None),
        (tool("memory_20250818"), None),
        (tool("web_search_20260318"), BypassReason.SERVER_TOOLS),
        (tool("web_fetch_20250910"), BypassReason.SERVER_TOOLS),
        (tool("code_execution_20250825"), BypassReason.SERVER_TOOLS),
        (tool("tool_search_tool_bm25_20251119"), BypassReason.SERVER_TOOLS),
        (tool("mcp_toolset"), BypassReason.SERVER_TOOLS),
        (tool("of_next_year_20290101"), BypassReason.SERVER_TOOLS),
        (tool(7), BypassReason.SERVER_TOOLS),
        ({"tools": None}, None),
        ({"max_tokens": 0}, BypassReason.PREWARM),
        (content(REMOTE), BypassReason.REMOTE_MEDIA),
        ({"system": [REMOTE]}, BypassReason.REMOTE_MEDIA),
        (content({"type": "tool_result", "content": [REMOTE]}), BypassReason.REMOTE_MEDIA),
        (content(source("document", type="content", content=[REMOTE])), BypassReason.REMOTE_MEDIA),
        (content(source(type="s3", uri="s3://bucket/a.png")), BypassReason.REMOTE_MEDIA),
        (content(source(type="base64", data="aHR0cDovLw==")), None),
        (content(source("document", type="text", data="https://example.org")), None),
        (content(source("document", type="file", file_id="file_1")), None),
        (content({"type": "text", "text": "https://example.org/a.png"}, "https://x", 1), None),
        (content({"type": "search_result", "source": "https://example.org", "content": []}), None),
        (
            content({"type": "tool_use", "input": {"source": {"type": "url", "url": "https://x"}}}),
            None,
        ),
        ({"system": "https://example.org"}, None),
    ],
)
def test_what_must_not_be_answered_from_a_cache_is_bypassed(
    fields: dict[str, object], reason: BypassReason | None
) -> None:
    found = parsed(**fields)
    assert found is not None
    assert found.bypass is reason


def nested(block: object, depth: int) -> object:
    for _ in range(depth):
        block = {"type": "tool_result", "content": [block]}
    return block


def test_no_nesting_is_too_deep_to_look_for_remote_media() -> None:
    found = parsed(**content(nested(REMOTE, 5000)))
    assert found is not None
    assert found.bypass is BypassReason.REMOTE_MEDIA


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("/v1/messages", NAME),
        ("/anthropic/v1/messages", NAME),
        ("/v1/messages/count_tokens", "anthropic.count_tokens"),
        ("/v1/messages/batches", None),
        ("/v1/threads/thread_1/messages", None),
        ("/messages", None),
    ],
)
def test_only_its_own_paths_are_in_the_dialect(path: str, name: str | None) -> None:
    found = match("POST", path)
    assert (found and found.name) == name


# Keys


def same_key(one: dict[str, object], other: dict[str, object]) -> bool:
    return hashes(DIALECT, MINIMAL | one) == hashes(DIALECT, MINIMAL | other)


MARK = {"type": "ephemeral"}


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({}, content({"type": "text", "text": "hi"})),
        ({}, content({"type": "text", "text": "hi", "cache_control": MARK})),
        ({}, content({"type": "text", "text": "hi", "cache_control": None})),
        ({}, {"cache_control": MARK}),
        ({}, {"metadata": {"user_id": "u"}, "service_tier": "auto", "stream": True}),
        (
            {"tools": [{"name": "f"}], "system": [{"type": "text", "text": "x"}]},
            {
                "tools": [{"name": "f", "cache_control": MARK}],
                "system": [{"type": "text", "text": "x", "cache_control": MARK}],
            },
        ),
        (
            content(nested({"type": "text", "text": "x"}, 3)),
            content(nested({"type": "text", "text": "x", "cache_control": MARK}, 3)),
        ),
        (
            content({"type": "tool_search_tool_result", "content": {"tool_references": [{}]}}),
            content(
                {
                    "type": "tool_search_tool_result",
                    "content": {"tool_references": [{"cache_control": MARK}]},
                }
            ),
        ),
    ],
)
def test_requests_that_mean_the_same_have_one_key(
    one: dict[str, object], other: dict[str, object]
) -> None:
    assert same_key(one, other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({}, {"messages": [{"role": "assistant", "content": "hi"}]}),
        ({}, content({"type": "text", "text": "hi", "citations": None})),
        ({"system": "x"}, {"system": [{"type": "text", "text": "x"}]}),  # nothing says they equal
        ({}, {"messages": [{"role": "user"}]}),
        ({"messages": [{"role": "user", "content": None}]}, {"messages": [{"role": "user"}]}),
        (
            content({"type": "tool_use", "input": {}}),
            content({"type": "tool_use", "input": {"cache_control": "no-store"}}),
        ),
        (
            {"tools": [{"input_schema": {"properties": {}}}]},
            {"tools": [{"input_schema": {"properties": {"cache_control": {}}}}]},
        ),
        (content({"type": "text", "text": ["a"]}), content({"type": "text", "text": "a"})),
    ],
)
def test_requests_that_may_differ_in_meaning_have_two_keys(
    one: dict[str, object], other: dict[str, object]
) -> None:
    assert not same_key(one, other)


def test_marks_deeper_than_the_api_nests_are_left_alone() -> None:
    marked = content(nested({"type": "text", "text": "x", "cache_control": MARK}, 20))
    assert not same_key(marked, content(nested({"type": "text", "text": "x"}, 20)))
    keyed = DIALECT.keyed(content(nested(marked, 5000)))  # and nobody walks down there
    assert keyed


def test_the_payload_itself_is_never_changed() -> None:
    payload = MINIMAL | content({"type": "text", "text": "hi", "cache_control": MARK})
    before = json.dumps(payload)
    DIALECT.keyed(payload)
    assert json.dumps(payload) == before


def test_what_has_not_the_form_of_a_request_has_a_key_too() -> None:
    assert DIALECT.keyed({"messages": "x", "tools": "y", "system": 1})


@pytest.mark.parametrize("path", files(NAME, "requests"), ids=lambda path: path.stem)
def test_any_change_at_any_depth_changes_the_key_unless_the_table_says_otherwise(
    path: Path,
) -> None:
    payload = json.loads(path.read_bytes())
    before = hashes(DIALECT, payload)
    count = 0
    for where, changed in mutations(payload):
        after = hashes(DIALECT, changed)
        is_result_kept = where[0] in DIALECT.ignored_fields or _is_mark(where)
        is_decision_kept = is_result_kept or where[0] in DIALECT.sampling_fields
        assert (after.result == before.result) is is_result_kept, where
        assert (after.decision == before.decision) is is_decision_kept, where
        count += 1
    assert count > 10


def _is_mark(where: tuple[Any, ...]) -> bool:
    """Whether a place is in a prompt-cache mark, and not in what a tool calls by that name."""
    if where[0] not in ("messages", "system", "tools") or "cache_control" not in where:
        return False
    above = where[: where.index("cache_control")]
    return not {"input", "input_schema"} & set(above)


def test_the_table_knows_every_field_of_the_sdk() -> None:
    known = set(anthropic.types.message_create_params.MessageCreateParamsBase.__annotations__)
    beta = anthropic.types.beta.message_create_params.MessageCreateParamsBase.__annotations__
    in_headers = {"betas", "workspace_id"}
    assert (known | set(beta)) - in_headers <= set(DIALECT.fields)


@pytest.mark.parametrize("name", [n for n, f in DIALECT.fields.items() if f.role is Role.BYPASS])
def test_the_table_says_when_a_field_makes_a_request_uncacheable(name: str) -> None:
    assert DIALECT.fields[name].note


# Conversations

TURN = [{"role": "assistant", "content": "hello"}, {"role": "user", "content": "more"}]


def conversation(*messages: object, **fields: object) -> object:
    return DIALECT.conversation(DIALECT.keyed(MINIMAL | {"messages": list(messages)} | fields))


def test_later_turns_are_the_same_conversation() -> None:
    assert conversation(USER) == conversation(USER, *TURN)
    in_blocks = {"role": "user", "content": [{"type": "text", "text": "hi"}]}
    assert conversation(USER) == conversation(in_blocks)


@pytest.mark.parametrize(
    "other",
    [
        conversation({"role": "user", "content": "ho"}),
        conversation(USER, system="be kind"),
        conversation(USER, model="other"),
        conversation(USER, tools=[{"name": "f"}]),
        conversation(USER, output_config={"format": {"type": "json_schema"}}),
        conversation(USER, {"role": "user", "content": [source(type="base64", data="")]}),
        conversation(USER, {"role": "user", "content": "x" * 20_000}),
    ],
)
def test_another_prompt_tool_or_capability_is_another_conversation(other: object) -> None:
    assert conversation(USER) != other


def test_the_schema_of_the_output_does_not_matter_its_type_does() -> None:
    one = conversation(USER, output_config={"format": {"type": "json_schema", "schema": {}}})
    assert one == conversation(USER, output_config={"format": {"type": "json_schema"}})
    assert conversation(USER, output_config={"effort": "low"}) == conversation(USER)


def test_a_conversation_without_messages_has_a_value_too() -> None:
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
    assert of_json.model
    assert of_json.output_tokens


@pytest.mark.parametrize("path", files(NAME, "recorded"), ids=lambda path: path.name)
def test_what_real_servers_send_is_kept_and_converted(path: Path) -> None:
    assert judged(path).discard is None
    other = STREAM if mode_of(path) is JSON else JSON
    converted = DIALECT.render(path.read_bytes(), mode_of(path), asked(other))
    assert DIALECT.judge(converted or b"", other, asked(other)) == judged(path)


@pytest.mark.parametrize("path", files(NAME, "discarded"), ids=lambda path: path.name)
def test_what_must_not_be_stored_is_discarded(path: Path) -> None:
    assert judged(path).discard == path.name.partition(".")[0]


def test_tokens_from_the_provider_s_cache_are_input_too() -> None:
    assert judge_json(answer("text.json")) == Judgement(
        model="claude-sonnet-4-5-20250929",
        has_usage=True,
        finish_reasons=("stop",),
        input_tokens=25 + 2048,
        output_tokens=15,
    )


def message(*blocks: object, **fields: object) -> bytes:
    return json.dumps(
        {
            "type": "message",
            "model": "claude",
            "content": blocks or [{"type": "text", "text": "a"}],
            "stop_reason": "end_turn",
            "usage": {"input_tokens": 1, "output_tokens": 1},
        }
        | fields
    ).encode()


@pytest.mark.parametrize(
    ("reason", "finish"),
    [
        ("end_turn", "stop"),
        ("stop_sequence", "stop"),
        ("max_tokens", "length"),
        ("model_context_window_exceeded", "length"),
        ("tool_use", "tool_calls"),
        ("of_next_year", "of_next_year"),  # which the policy does not know
    ],
)
def test_stop_reasons_are_put_into_the_words_of_the_policy(reason: str, finish: str) -> None:
    found = judge_json(message(stop_reason=reason))
    assert (found.discard, found.finish_reasons) == (None, (finish,))


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (message(), None),
        (message({"type": "of_next_year"}), None),
        (message({"type": "tool_use", "input": {}}), None),
        (message(error=None), None),
        (message(error={}), DiscardReason.ERROR_BODY),
        (message(type="error"), DiscardReason.ERROR_BODY),
        (message({"type": "text", "text": ""}), DiscardReason.EMPTY),
        (message({"type": "text"}), DiscardReason.EMPTY),
        (message(content=None), DiscardReason.EMPTY),
        (message(stop_reason=None), DiscardReason.INCOMPLETE),
        (message(stop_reason=""), DiscardReason.INCOMPLETE),
        (message({"type": "tool_use"}), DiscardReason.INCOMPLETE),
        (message({"type": "tool_use", "input": "{}"}), DiscardReason.INCOMPLETE),
        (message({"text": "a"}), DiscardReason.INCOMPLETE),
        (message("a"), DiscardReason.INCOMPLETE),
        (message(usage=7), DiscardReason.INCOMPLETE),
        (message({"type": "mcp_tool_result"}), DiscardReason.TOOL_CALLS),
        (b"", DiscardReason.INCOMPLETE),
        (b"[]", DiscardReason.INCOMPLETE),
        (b"null", DiscardReason.INCOMPLETE),
        (b"{}", DiscardReason.INCOMPLETE),
        (b'{"x":' + b"[" * 100_000, DiscardReason.INCOMPLETE),
        (message()[:-1], DiscardReason.INCOMPLETE),
        (b"<html>", DiscardReason.INCOMPLETE),
    ],
)
def test_json_answers_are_judged(body: bytes, reason: DiscardReason | None) -> None:
    assert judge_json(body).discard is reason


def test_tokens_that_are_missing_or_null_count_as_none() -> None:
    found = judge_json(message(usage={"input_tokens": None, "output_tokens": 3.0}))
    assert (found.has_usage, found.input_tokens, found.output_tokens) == (True, 0, 3)
    assert not judge_json(message(usage=None)).has_usage


START: dict[str, Any] = {
    "type": "message_start",
    "message": {"id": "m", "content": [], "stop_reason": None, "usage": {"input_tokens": 1}},
}
OPEN: dict[str, Any] = {
    "type": "content_block_start",
    "index": 0,
    "content_block": {"type": "text", "text": ""},
}
TOOL: dict[str, Any] = OPEN | {"content_block": {"type": "tool_use", "id": "t", "input": {}}}
CLOSE: dict[str, Any] = {"type": "content_block_stop", "index": 0}
CHANGE: dict[str, Any] = {
    "type": "message_delta",
    "delta": {"stop_reason": "end_turn"},
    "usage": {"output_tokens": 2},
}
STOP: dict[str, Any] = {"type": "message_stop"}


def delta(kind: str = "text_delta", index: object = 0, **members: object) -> dict[str, Any]:
    return {
        "type": "content_block_delta",
        "index": index,
        "delta": {"type": kind} | (members or {"text": "a"}),
    }


@pytest.mark.parametrize(
    ("events", "reason"),
    [
        ([START, OPEN, delta(), CLOSE, CHANGE, STOP], None),
        ([START, {"type": "ping"}, OPEN, delta(), CLOSE, CHANGE, {"type": "of_2029"}, STOP], None),
        ([START, OPEN, delta(), CLOSE, CHANGE, STOP, {"type": "ping"}], None),
        ([START, TOOL, CLOSE, CHANGE, STOP], None),
        ([START, OPEN, delta(), CLOSE, STOP], DiscardReason.INCOMPLETE),
        ([START, OPEN, delta(), CHANGE, STOP], DiscardReason.INCOMPLETE),
        ([START, OPEN, delta(), CLOSE, CHANGE], DiscardReason.INCOMPLETE),
        ([OPEN, delta(), CLOSE, CHANGE, STOP], DiscardReason.INCOMPLETE),
        ([START, START, OPEN, delta(), CLOSE, CHANGE, STOP], DiscardReason.INCOMPLETE),
        ([{"type": "message_start"}, CHANGE, STOP], DiscardReason.INCOMPLETE),
        ([START, delta(), CHANGE, STOP], DiscardReason.INCOMPLETE),
        ([START, OPEN, delta(index=1), CLOSE, CHANGE, STOP], DiscardReason.INCOMPLETE),
        ([START, OPEN, delta(index=None), CLOSE, CHANGE, STOP], DiscardReason.INCOMPLETE),
        ([START, OPEN, CLOSE, delta(), CHANGE, STOP], DiscardReason.INCOMPLETE),
        ([START, OPEN, delta() | {"delta": None}, CLOSE, CHANGE, STOP], DiscardReason.INCOMPLETE),
        ([START, OPEN, CLOSE, OPEN, CLOSE, CHANGE, STOP], DiscardReason.INCOMPLETE),
        ([START, OPEN, CLOSE, CLOSE, CHANGE, STOP], DiscardReason.INCOMPLETE),
        ([START, OPEN | {"index": None}, CHANGE, STOP], DiscardReason.INCOMPLETE),
        ([START, OPEN | {"content_block": None}, CHANGE, STOP], DiscardReason.INCOMPLETE),
        (
            [START, TOOL, delta("input_json_delta", partial_json="[]"), CLOSE, CHANGE, STOP],
            DiscardReason.INCOMPLETE,
        ),
        ([START, CHANGE, STOP], DiscardReason.EMPTY),
        ([START, CHANGE | {"delta": None, "usage": None}, STOP], DiscardReason.INCOMPLETE),
        ([START, OPEN, delta(), CLOSE, CHANGE, STOP, CHANGE], DiscardReason.INCOMPLETE),
        ([START, STOP, {"type": "error", "error": {}}], DiscardReason.ERROR_BODY),
        ([START, {"error": {}, "type": "x"}], DiscardReason.ERROR_BODY),
        (
            [START, OPEN, delta(), CLOSE, CHANGE | {"delta": {"container": {}}}, CHANGE, STOP],
            DiscardReason.TOOL_CALLS,
        ),
        ([], DiscardReason.INCOMPLETE),
    ],
)
def test_streams_are_judged(events: list[dict[str, Any]], reason: DiscardReason | None) -> None:
    assert judge_stream(stream(*events)).discard is reason


def test_an_error_counts_by_its_name_or_by_its_type() -> None:
    body = answer("text.sse")
    assert judge_stream(b"event: error\ndata: overloaded\n\n" + body).discard == "error-body"
    assert judge_stream(b'data: {"type":"error"}\n\n' + body).discard == "error-body"


def test_the_end_mark_of_another_api_counts_only_after_the_end() -> None:
    body = answer("text.sse")
    assert judge_stream(body + b"data: [DONE]\n\n").discard is None
    assert judge_stream(b"data: [DONE]\n\n" + body).discard is DiscardReason.INCOMPLETE


@pytest.mark.parametrize("name", PAIRS)
def test_however_a_stream_is_written_it_reads_the_same(name: str) -> None:
    body = answer(f"{name}.sse")
    for other in variants(body):
        assert judge_stream(other) == judge_stream(body)
        assert loaded(aggregate(other)) == loaded(aggregate(body))


@pytest.mark.parametrize("name", PAIRS)
def test_a_stream_cut_off_anywhere_is_not_kept_before_its_end(name: str) -> None:
    body = answer(f"{name}.sse")
    end = body.index(b"message_stop")
    for length in {*range(0, end, 37), end, end + 5}:
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
    """Return events without pings, texts that follow each other joined, citations at the end.

    What may differ of two streams of one answer is how its texts are cut, where pings are, and how
    much output the start counts.
    """
    found: list[dict[str, Any]] = []
    kept = (event for event in events if event["type"] not in ("ping", "[DONE]"))
    for is_delta, group in groupby(kept, lambda event: event["type"] == "content_block_delta"):
        if not is_delta:
            found += group
            continue
        deltas: dict[str, list[Any]] = {}
        for event in group:
            kind, value = event["delta"].values()
            deltas.setdefault(kind, []).append(value)
        found.append({kind: _together(kind, values) for kind, values in deltas.items()})
    return found


def _together(kind: str, values: list[Any]) -> Any:
    if kind == "citations_delta":
        return values
    text = "".join(values)
    return json.loads(text) if kind == "input_json_delta" and text else text


def as_json(body: bytes) -> list[dict[str, Any]]:
    events = EventSplitter().feed(body)
    return [json.loads(event.data) for event in events if event.data != b"[DONE]"]


@pytest.mark.parametrize("name", PAIRS)
def test_replayed_json_has_the_events_of_the_stream_of_the_same_answer(name: str) -> None:
    live = merged(as_json(answer(f"{name}.sse")))
    made = merged(events_of(DIALECT.render(answer(f"{name}.json"), JSON, asked(STREAM))))
    for events in (live, made):
        events[0]["message"]["usage"]["output_tokens"] = "a few"
        # Whether totals that have not changed are repeated differs from model to model.
        usage = events[-2].pop("usage")
        events.append({"output_tokens": usage["output_tokens"]})
    assert made == live


def test_an_answer_without_output_starts_with_none() -> None:
    events = events_of(replay(message(usage={"output_tokens": 0})))
    assert events[0]["message"]["usage"] == {"output_tokens": 0}


def test_json_for_json_and_a_stream_for_a_stream_are_the_body_itself() -> None:
    body = answer("text.json")
    assert DIALECT.render(body, JSON, asked(JSON)) is body
    assert DIALECT.render(body, STREAM, asked(STREAM)) is body


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        message(usage=None),
        message(usage={}),
        message(usage={"output_tokens": None}),
        message(content="a"),
        message({"type": "of_next_year", "text": "a"}),
        message({"type": "server_tool_use", "input": {}}),
        message({"type": "text"}),
        message({"type": ["text"], "text": "a"}),
        message({"type": "thinking", "thinking": None}),
        message({"type": "tool_use", "input": None}),
        message({"type": "text", "text": "\ud83d"}),
    ],
)
def test_json_that_cannot_be_replayed_truthfully_is_not(body: bytes) -> None:
    assert replay(body) is None


ENDED = [CLOSE, CHANGE, STOP]


@pytest.mark.parametrize(
    "events",
    [
        [START, OPEN, delta(), CLOSE, CHANGE],
        [START, OPEN, delta(), CLOSE, STOP],
        [START, OPEN, delta(), CLOSE, CHANGE | {"usage": None}, STOP],
        [START, OPEN, delta(), CLOSE, CHANGE | {"usage": {"input_tokens": 1}}, STOP],
        [OPEN, delta(), *ENDED],
        [START, START, OPEN, delta(), *ENDED],
        [START, OPEN, delta(), *ENDED, STOP],
        [START, OPEN, delta(), {"type": "of_next_year"}, *ENDED],
        [START, OPEN, delta(), {}, *ENDED],
        [START, {}, OPEN, delta(), *ENDED],
        [{}, START, OPEN, delta(), *ENDED],
        [START, OPEN, delta(), {"type": None}, *ENDED],
        [START, OPEN, delta(), {"type": "message_stop", "extra": 1}, *ENDED],
        [START, OPEN, delta("text_delta", text="a", extra=1), *ENDED],
        [START, OPEN, delta("of_next_year", text="a"), *ENDED],
        [START, OPEN, delta("input_json_delta", partial_json="{}"), *ENDED],
        [START, OPEN, delta(text=1), *ENDED],
        [START, OPEN, delta(index=1), *ENDED],
        [START, OPEN, delta(index=-1), *ENDED],
        [START, OPEN, delta(index="0"), *ENDED],
        [START, OPEN | {"index": 1}, delta(index=1), *ENDED],
        [START, TOOL, delta("input_json_delta", partial_json='{"a'), *ENDED],
        [START, TOOL, delta("input_json_delta", partial_json="[]"), *ENDED],
        [START | {"message": None}, OPEN, delta(), CLOSE, STOP],
        [START | {"message": []}, OPEN, delta(), *ENDED],
        [START | {"message": {"usage": 1}}, OPEN, delta(), *ENDED],
    ],
)
def test_a_stream_that_cannot_be_added_up_truthfully_is_not(events: list[dict[str, Any]]) -> None:
    assert aggregate(stream(*events)) is None


def test_a_signature_in_pieces_is_not_put_together() -> None:
    thinking = OPEN | {"content_block": {"type": "thinking", "thinking": "", "signature": ""}}
    one, two = (delta("signature_delta", signature=text) for text in "ab")
    whole = loaded(aggregate(stream(START, thinking, one, *ENDED)))
    assert whole["content"] == [{"type": "thinking", "thinking": "", "signature": "a"}]
    assert aggregate(stream(START, thinking, one, two, *ENDED)) is None


def test_blocks_of_unknown_types_are_kept_when_they_come_whole() -> None:
    block = {"type": "of_next_year", "data": [1]}
    whole = loaded(aggregate(stream(START, OPEN | {"content_block": block}, *ENDED)))
    assert whole["content"] == [block]


def test_input_that_came_with_the_start_of_a_call_is_kept() -> None:
    call = {"type": "tool_use", "id": "t", "name": "f", "input": {"a": 1}}
    whole = loaded(aggregate(stream(START, OPEN | {"content_block": call}, *ENDED)))
    assert whole["content"] == [call]


def test_a_ping_without_a_name_is_one_too() -> None:
    body = answer("text.sse")
    nameless = body.replace(b"event: ping\n", b"")
    assert nameless != body
    assert judge_stream(nameless) == judge_stream(body)
    assert aggregate(nameless) == aggregate(body)


def test_null_at_the_end_replaces_nothing() -> None:
    change = CHANGE | {
        "delta": {"stop_reason": "end_turn", "container": None, "stop_details": None},
        "usage": {"input_tokens": None, "output_tokens": 2},
        "context_management": None,
    }
    start = START | {"message": START["message"] | {"container": {"id": "c"}}}
    assert loaded(aggregate(stream(start, OPEN, delta(), CLOSE, change, STOP))) == {
        "id": "m",
        "content": [{"type": "text", "text": "a"}],
        "stop_reason": "end_turn",
        "stop_details": None,
        "container": {"id": "c"},
        "context_management": None,
        "usage": {"input_tokens": 1, "output_tokens": 2},
    }


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
blocks = st.one_of(
    st.fixed_dictionaries(
        {"type": st.just("text"), "text": texts},
        optional={"citations": st.none() | st.lists(st.dictionaries(texts, texts), max_size=2)},
    ),
    st.fixed_dictionaries(
        {"type": st.just("thinking"), "thinking": texts}, optional={"signature": texts}
    ),
    st.fixed_dictionaries({"type": st.just("redacted_thinking"), "data": texts}),
    st.fixed_dictionaries(
        {
            "type": st.just("tool_use"),
            "id": texts,
            "name": texts,
            "input": st.dictionaries(texts, json_values, max_size=3),
        }
    ),
)
messages = st.builds(
    lambda fixed, more: fixed | more,
    st.fixed_dictionaries(
        {
            "id": texts,
            "type": st.just("message"),
            "role": st.just("assistant"),
            "model": texts,
            "content": st.lists(st.builds(lambda b, x: b | x, blocks, extras), max_size=4),
            "stop_reason": st.sampled_from(["end_turn", "max_tokens", "tool_use"]),
            "usage": st.builds(
                lambda fixed, more: fixed | more,
                st.fixed_dictionaries(
                    {"input_tokens": st.integers(0), "output_tokens": st.integers(0, 2**40)},
                    optional={
                        "cache_read_input_tokens": st.none() | st.integers(0),
                        "server_tool_use": st.none() | st.dictionaries(texts, st.integers(0)),
                        "output_tokens_details": st.none() | st.dictionaries(texts, st.integers(0)),
                    },
                ),
                extras,
            ),
        },
        optional={
            "stop_sequence": st.none() | texts,
            "stop_details": st.none() | st.dictionaries(texts, texts),
            "container": st.none() | st.dictionaries(texts, texts),
            "context_management": st.none() | st.dictionaries(texts, texts),
        },
    ),
    extras,
)


@given(messages)
def test_aggregating_a_replay_gives_the_answer_back(whole: dict[str, Any]) -> None:
    body = json.dumps(whole).encode()
    made = replay(body)
    assert loaded(aggregate(made or b"")) == whole
    found, expected = judge_stream(made or b""), judge_json(body)
    assert found == expected


@given(st.binary() | st.text().map(str.encode), st.sampled_from(list(ResponseMode)))
def test_no_bytes_make_judge_or_render_raise(body: bytes, mode: ResponseMode) -> None:
    for wanted in ResponseMode:
        assert DIALECT.judge(body, mode, asked(wanted)).discard is not None
        DIALECT.render(body, mode, asked(wanted))


names = st.sampled_from(
    [
        "type",
        "message",
        "index",
        "content",
        "content_block",
        "delta",
        "usage",
        "text",
        "thinking",
        "signature",
        "input",
        "citations",
        "partial_json",
        "stop_reason",
        "error",
        "container",
        "output_tokens",
        "model",
        "cache_control",
        "source",
    ]
)
kinds = st.sampled_from(
    [
        "message_start",
        "content_block_start",
        "content_block_delta",
        "content_block_stop",
        "message_delta",
        "text",
        "message_stop",
        "text_delta",
        "thinking",
        "tool_use",
        "input_json_delta",
        "message",
        "error",
        "url",
    ]
)
shaped = st.recursive(
    st.none() | st.booleans() | st.integers(-1, 2) | texts | kinds,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=4),
    max_leaves=15,
)
events = st.dictionaries(names, shaped, max_size=4).flatmap(
    lambda event: kinds.map(lambda kind: event | {"type": kind})
)


@given(st.lists(events, max_size=6))
def test_no_json_makes_judge_or_render_raise(values: list[dict[str, Any]]) -> None:
    for body in (stream(*values), stream(START, OPEN, delta(), *values, *ENDED)):
        judge_stream(body)
        aggregate(body)
    for value in values:
        body = json.dumps(value).encode()
        judge_json(body)
        replay(body)


@given(st.dictionaries(names | st.sampled_from(["messages", "tools", "system"]), shaped))
def test_no_request_makes_parse_or_keyed_raise(payload: dict[str, object]) -> None:
    for request in (payload, MINIMAL | payload):
        DIALECT.parse(request)
        DIALECT.conversation(DIALECT.keyed(request))


# The official SDK


def _kind(body: bytes) -> dict[str, str]:
    return {"content-type": "application/json" if body.startswith(b"{") else "text/event-stream"}


def transport(body: bytes) -> httpx2.MockTransport:
    return httpx2.MockTransport(
        lambda request: httpx2.Response(200, headers=_kind(body), content=body)
    )


def client_of(body: bytes) -> anthropic.Anthropic:
    return anthropic.Anthropic(api_key="k", http_client=httpx2.Client(transport=transport(body)))


ASK: Any = {"model": "claude", "max_tokens": 9, "messages": [{"role": "user", "content": "hi"}]}


def final(value: Any) -> Any:
    """Return a parsed message as data, without what the stream helper adds."""
    added = {"content": {"__all__": {"parsed_output"}}}
    return value.model_dump(mode="json", exclude=added, warnings=False)


def read_whole(body: bytes) -> Any:
    with client_of(body) as client:
        return final(client.messages.create(**ASK))


def read_stream(body: bytes) -> tuple[Any, str]:
    with (
        client_of(body) as client,
        client.messages.stream(**ASK) as found,
    ):
        text = "".join(found.text_stream)
        return final(found.get_final_message()), text


async def read_stream_async(body: bytes) -> Any:
    async with (
        anthropic.AsyncAnthropic(
            api_key="k", http_client=httpx2.AsyncClient(transport=transport(body))
        ) as client,
        client.messages.stream(**ASK) as found,
    ):
        return final(await found.get_final_message())


def read_beta_stream(body: bytes) -> Any:
    with (
        client_of(body) as client,
        client.beta.messages.stream(**ASK) as found,
    ):
        return final(found.get_final_message())


@pytest.mark.parametrize("name", PAIRS)
async def test_the_sdk_reads_the_same_message_live_and_converted(name: str) -> None:
    whole, live = answer(f"{name}.json"), answer(f"{name}.sse")
    from_json = DIALECT.render(whole, JSON, asked(STREAM)) or b""
    from_stream = DIALECT.render(live, STREAM, asked(JSON)) or b""
    expected = read_whole(whole)
    assert read_whole(from_stream) == expected
    assert read_stream(from_json) == read_stream(live)
    assert await read_stream_async(from_json) == await read_stream_async(live)
    assert read_beta_stream(from_json) == read_beta_stream(live)
    assert read_stream(from_json)[0]["usage"] == expected["usage"]
    assert read_stream(from_json)[0]["content"] == expected["content"]


@pytest.mark.parametrize("path", files(NAME, "recorded"), ids=lambda path: path.name)
def test_the_sdk_reads_what_real_servers_send_and_its_conversion_alike(path: Path) -> None:
    body = path.read_bytes()
    if mode_of(path) is JSON:
        assert read_stream(replay(body) or b"")[0] == read_whole(body)
    else:
        assert read_whole(aggregate(body) or b"") == read_stream(body)[0]


class Person(BaseModel):
    name: str
    age: int


def test_the_sdk_parses_structured_output_live_and_converted() -> None:
    whole, live = answer("structured.json"), answer("structured.sse")
    for body in (whole, DIALECT.render(live, STREAM, asked(JSON)) or b""):
        with client_of(body) as client:
            parsed = client.messages.parse(**ASK, output_format=Person)
        assert parsed.parsed_output == Person(name="Ada", age=36)
    for body in (live, DIALECT.render(whole, JSON, asked(STREAM)) or b""):
        with (
            client_of(body) as client,
            client.messages.stream(**ASK, output_format=Person) as found,
        ):
            assert found.get_final_message().parsed_output == Person(name="Ada", age=36)


@anthropic.beta_tool
def get_weather(location: str, unit: str, days: list[float], exact: float) -> str:
    """Tell the weather."""
    return f"{location} {unit} {days} {exact}"


@anthropic.beta_tool
def now() -> str:
    """Tell the time."""
    return "noon"


def asked_back(first: bytes, then: bytes, *, is_stream: bool) -> tuple[Any, list[Any]]:
    """Run a tool loop over two answers; return the last message and what the second was asked."""
    bodies, sent = iter([first, then]), []

    def respond(request: httpx2.Request) -> httpx2.Response:
        sent.append(json.loads(request.content))
        return next(answered)

    answered = iter(httpx2.Response(200, headers=_kind(body), content=body) for body in bodies)
    http = httpx2.Client(transport=httpx2.MockTransport(respond))
    with anthropic.Anthropic(api_key="k", http_client=http) as client:
        asking: Any = client.beta.messages.tool_runner
        last = asking(**ASK, tools=[get_weather, now], stream=is_stream).until_done()
    return last.model_dump(mode="json", warnings=False), sent[-1]["messages"]


def test_a_tool_loop_of_the_sdk_runs_the_same_live_and_converted() -> None:
    names = ("tools", "text")
    wholes, lives = ([answer(f"{name}{end}") for name in names] for end in (".json", ".sse"))
    made_wholes = [aggregate(live) or b"" for live in lives]
    made_lives = [replay(whole) or b"" for whole in wholes]
    expected = asked_back(*wholes, is_stream=False)
    assert "noon" in json.dumps(expected)
    assert asked_back(*made_wholes, is_stream=False) == expected
    assert asked_back(*made_lives, is_stream=True) == asked_back(*lives, is_stream=True)


@settings(max_examples=25, deadline=None)
@given(messages)
def test_the_sdk_adds_a_replay_up_to_the_answer(whole: dict[str, Any]) -> None:
    whole.pop("context_management", None)  # only the beta client knows it
    body = json.dumps(whole).encode()
    assert read_stream(replay(body) or b"")[0] == read_whole(body)


# Errors


def test_errors_have_the_shape_of_anthropic() -> None:
    body = DIALECT.error_body("nothing stored", kind="cache_miss", code="only_if_cached")
    assert json.loads(body) == {
        "type": "error",
        "error": {"type": "cache_miss", "message": "nothing stored"},
        "request_id": None,
    }


def test_the_sdk_understands_our_errors() -> None:
    body = DIALECT.error_body("nothing stored", kind="cache_miss", code="only_if_cached")
    fail = httpx2.MockTransport(lambda request: httpx2.Response(504, content=body))
    client = anthropic.Anthropic(
        api_key="k", max_retries=0, http_client=httpx2.Client(transport=fail)
    )
    with client, pytest.raises(anthropic.APIStatusError) as caught:
        client.messages.create(**ASK)
    assert caught.value.status_code == 504
    assert caught.value.body == json.loads(body)
