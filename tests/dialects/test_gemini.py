"""Gemini: requests read, answers judged, one form made of another."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from routecache_middleware.core.dialect import Dialect, ParsedRequest, Place, Role, place_of
from routecache_middleware.core.models import BypassReason, DiscardReason, ResponseMode
from routecache_middleware.core.sse import split_events
from routecache_middleware.dialects.gemini import Gemini
from routecache_middleware.dialects.gemini_convert import in_shape
from routecache_middleware.dialects.openai_chat import OpenAIChat
from routecache_middleware.dialects.table import match, path_model
from tests.support.wire import FIXTURES, files, hashes, loaded, mode_of, mutations, names_of_pairs

JSON, STREAM = ResponseMode.JSON, ResponseMode.STREAM
DIALECT: Dialect = Gemini()
NAME = "gemini"
PAIRS = names_of_pairs(NAME)
PATH = "/v1beta/models/gemini-2.5-flash:generateContent"
STREAM_PATH = "/v1beta/models/gemini-2.5-flash:streamGenerateContent"
USER: dict[str, object] = {"role": "user", "parts": [{"text": "hi"}]}
MINIMAL: dict[str, object] = {"model": "g", "stream": "json", "contents": [USER]}


def answer(name: str) -> bytes:
    return (FIXTURES / NAME / "answers" / name).read_bytes()


def parsed(**fields: object) -> ParsedRequest | None:
    return DIALECT.parse(MINIMAL | fields)


def asked(shape: str, choices: int = 1) -> ParsedRequest:
    mode = STREAM if shape == "stream" else JSON
    return ParsedRequest(model="g", mode=mode, shape=shape, choices=choices)


def choices_of(path: Path | str) -> int:
    return 2 if "two_candidates" in str(path) else 1


# Requests


@pytest.mark.parametrize(
    ("path", "model"),
    [
        (PATH, "gemini-2.5-flash"),
        (STREAM_PATH, "gemini-2.5-flash"),
        ("/models/azure/gpt-4:generateContent", "azure/gpt-4"),
        (f"/gemini{PATH}", "gemini-2.5-flash"),
        (
            "/v1/projects/p/locations/l/publishers/google/models/gemini-3:streamGenerateContent",
            "gemini-3",
        ),
        ("/v1/models/a:b:generateContent", "a:b"),
    ],
)
def test_the_path_names_the_model(path: str, model: str) -> None:
    found = match("POST", path)
    assert found is not None
    assert found.name == NAME
    assert path_model(path) == model


@pytest.mark.parametrize(
    "path",
    [
        "/v1beta/models/gemini:countTokens",
        "/v1beta/models/gemini:xgenerateContent",
        "/v1beta/models/gemini/generateContent",
        "/v1beta/models/:generateContent",
        "/v1beta/models/gemini:generateContent/",
        "/v1beta/tunedModels/t:generateContent",
        "/v1/publishers/anthropic/models/claude:rawPredict",
        "/v1beta/models/gemini:batchGenerateContent",
        "/models:generateContent",
        "/xmodels/g:generateContent",
    ],
)
def test_other_paths_are_not_in_the_dialect(path: str) -> None:
    assert match("POST", path) is None


@pytest.mark.parametrize(
    ("path", "query", "place"),
    [
        (PATH, b"", Place(PATH, b"", "json")),
        (PATH, b"alt=json", Place(PATH, b"", "json")),
        (PATH, b"key=k", Place(PATH, b"key=k", "json")),
        (STREAM_PATH, b"alt=sse", Place(PATH, b"", "stream")),
        (STREAM_PATH, b"alt=sse&key=k&x", Place(PATH, b"key=k&x", "stream")),
        (STREAM_PATH, b"key=k&%61lt=sse", Place(PATH, b"key=k", "stream")),
        (STREAM_PATH, b"$alt=sse", Place(PATH, b"", "stream")),
        (STREAM_PATH, b"", Place(PATH, b"", "array")),
        (STREAM_PATH, b"key=k&alt=json", Place(PATH, b"key=k", "array")),
        (PATH, b"alt=sse", Place(PATH, b"alt=sse", "other")),
        (PATH, b"alt=proto", Place(PATH, b"alt=proto", "other")),
        (PATH, b"alt=json%3Benum-encoding%3Dint", None),
        (STREAM_PATH, b"alt=SSE", None),
        (STREAM_PATH, b"alt=%73se", None),
        (STREAM_PATH, b"alt=sse&alt=json", None),
        (STREAM_PATH, b"alt=sse&$alt=sse", None),
        ("/mine", b"alt=sse", None),
    ],
)
def test_path_and_query_say_the_form(path: str, query: bytes, place: Place | None) -> None:
    assert place_of(DIALECT, path, query) == (place or Place(path, query, "other"))


def test_other_apis_say_it_in_the_body() -> None:
    assert place_of(OpenAIChat(), STREAM_PATH, b"alt=sse") == Place(STREAM_PATH, b"alt=sse")


@pytest.mark.parametrize(("shape", "mode"), [("json", JSON), ("array", JSON), ("stream", STREAM)])
def test_the_smallest_request_is_read(shape: str, mode: ResponseMode) -> None:
    assert parsed(stream=shape) == ParsedRequest(model="g", mode=mode, shape=shape)


@pytest.mark.parametrize("shape", [None, "", True, "other"])
def test_forms_that_are_not_understood_are_bypassed(shape: object) -> None:
    found = parsed(stream=shape)
    assert found is not None
    assert found.bypass is BypassReason.CONTENT_TYPE


@pytest.mark.parametrize(
    "config",
    [
        {"temperature": 0.0, "candidateCount": 3},
        {"temperature": 0, "candidate_count": 3},
        {"seed": 7, "candidateCount": 3},
    ],
)
@pytest.mark.parametrize("spelling", ["generationConfig", "generation_config"])
def test_either_spelling_is_read(spelling: str, config: dict[str, object]) -> None:
    found = parsed(**{spelling: config})
    assert found is not None
    assert (found.choices, found.is_deterministic) == (3, True)
    assert found.temperature == config.get("temperature")


@pytest.mark.parametrize("path", files(NAME, "requests"), ids=lambda path: path.stem)
def test_requests_as_clients_send_them_are_read(path: Path) -> None:
    found = DIALECT.parse(json.loads(path.read_bytes()) | {"model": "g", "stream": "json"})
    assert found is not None
    assert found.bypass is None


@pytest.mark.parametrize(
    "fields",
    [
        {"model": None},
        {"contents": None},
        {"contents": []},
        {"contents": "hi"},
        {"contents": USER},
        {"contents": ["hi"]},
        {"tools": "x"},
        {"tools": ["x"]},
        {"generationConfig": []},
        {"generationConfig": "x"},
        {"generationConfig": {}, "generation_config": {}},
        {"generationConfig": {"candidateCount": 1, "candidate_count": 1}},
        {"cachedContent": "", "cached_content": ""},
        {"generationConfig": {"candidateCount": 0}},
        {"generationConfig": {"candidateCount": "1"}},
        {"generationConfig": {"candidateCount": True}},
        {"generationConfig": {"temperature": "0"}},
        {"generationConfig": {"temperature": False}},
    ],
)
def test_what_is_not_this_api_is_not_read(fields: dict[str, object]) -> None:
    assert parsed(**fields) is None


def contents(*parts: object) -> dict[str, object]:
    return {"contents": [USER, {"role": "user", "parts": list(parts)}]}


FILE = {"fileData": {"fileUri": "gs://bucket/a.png", "mimeType": "image/png"}}


def config(**members: object) -> dict[str, object]:
    return {"generationConfig": members}


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"cachedContent": "cachedContents/1"}, BypassReason.STATEFUL),
        ({"cached_content": "cachedContents/1"}, BypassReason.STATEFUL),
        ({"cachedContent": ""}, None),
        (config(continuationToken="t"), BypassReason.STATEFUL),
        ({"store": True}, BypassReason.STORE),
        ({"store": False}, None),
        (config(responseModalities=["TEXT", "IMAGE"]), None),
        (config(responseModalities=[]), None),
        (config(responseModalities=["AUDIO"]), BypassReason.AUDIO),
        (config(response_modalities=["TEXT", "AUDIO"]), BypassReason.AUDIO),
        (config(responseModalities=[3]), BypassReason.AUDIO),
        (config(responseModalities="AUDIO"), BypassReason.AUDIO),
        (config(speechConfig={}), BypassReason.AUDIO),
        (config(speech_config={}), BypassReason.AUDIO),
        ({"tools": [{"functionDeclarations": []}, {"computerUse": {}}]}, None),
        ({"tools": [{"function_declarations": []}, {"computer_use": {}}, {}]}, None),
        ({"tools": [{"googleSearch": None}]}, None),
        ({"tools": [{"googleSearch": {}}]}, BypassReason.SERVER_TOOLS),
        ({"tools": [{"google_search": {}}]}, BypassReason.SERVER_TOOLS),
        ({"tools": [{"googleSearchRetrieval": {}}]}, BypassReason.SERVER_TOOLS),
        ({"tools": [{"codeExecution": {}}]}, BypassReason.SERVER_TOOLS),
        ({"tools": [{"urlContext": {}}]}, BypassReason.SERVER_TOOLS),
        ({"tools": [{"googleMaps": {}}]}, BypassReason.SERVER_TOOLS),
        ({"tools": [{"retrieval": {}}]}, BypassReason.SERVER_TOOLS),
        ({"tools": [{"fileSearch": {}}]}, BypassReason.SERVER_TOOLS),
        ({"tools": [{"mcpServers": []}]}, BypassReason.SERVER_TOOLS),
        (
            {"tools": [{"functionDeclarations": [], "toolOfNextYear": {}}]},
            BypassReason.SERVER_TOOLS,
        ),
        (contents(FILE), BypassReason.REMOTE_MEDIA),
        (contents({"file_data": {"file_uri": "https://x"}}), BypassReason.REMOTE_MEDIA),
        ({"systemInstruction": {"parts": [FILE]}}, BypassReason.REMOTE_MEDIA),
        ({"system_instruction": {"parts": [FILE]}}, BypassReason.REMOTE_MEDIA),
        (
            contents({"functionResponse": {"name": "f", "parts": [FILE]}}),
            BypassReason.REMOTE_MEDIA,
        ),
        (contents({"inlineData": {"data": "aHR0cDovLw=="}}), None),
        (contents({"text": "https://example.org"}, "fileData", 1), None),
    ],
)
def test_what_must_not_be_answered_from_a_cache_is_bypassed(
    fields: dict[str, object], reason: BypassReason | None
) -> None:
    found = parsed(**fields)
    assert found is not None
    assert found.bypass is reason


def test_no_nesting_is_too_deep_to_look_for_files() -> None:
    deep: object = FILE
    for _ in range(5000):
        deep = [deep]
    found = parsed(**contents(deep))
    assert found is not None
    assert found.bypass is BypassReason.REMOTE_MEDIA


@pytest.mark.parametrize("path", files(NAME, "requests"), ids=lambda path: path.stem)
def test_any_change_at_any_depth_changes_the_key_unless_the_table_says_otherwise(
    path: Path,
) -> None:
    payload = json.loads(path.read_bytes())
    before = hashes(DIALECT, payload)
    count = 0
    for where, changed in mutations(payload):
        after = hashes(DIALECT, changed)
        assert (after == before) is (where[0] in DIALECT.ignored_fields), where
        count += 1
    assert count > 3


def test_the_table_says_when_a_field_makes_a_request_uncacheable() -> None:
    assert all(field.note for field in DIALECT.fields.values() if field.role is Role.BYPASS)


def test_later_turns_are_the_same_conversation() -> None:
    more = [USER, {"role": "model", "parts": [{"text": "ho"}]}, {"role": "user", "parts": []}]
    first = DIALECT.conversation(MINIMAL)
    assert DIALECT.conversation(MINIMAL | {"contents": more}) == first
    others: tuple[dict[str, object], ...] = (
        {"model": "h"},
        {"contents": [{"parts": [{"text": "ho"}]}]},
        {"systemInstruction": {"parts": []}},
        {"tools": [{"functionDeclarations": []}]},
        config(responseMimeType="application/json"),
        contents({"inline_data": {}}),
    )
    for fields in others:
        assert DIALECT.conversation(MINIMAL | fields) != first
    assert DIALECT.conversation(MINIMAL | {"generationConfig": 1}) == first
    assert DIALECT.conversation({"contents": "x"})


# Answers


@pytest.mark.parametrize("name", PAIRS)
@pytest.mark.parametrize("mode", [JSON, STREAM])
def test_whole_answers_are_kept(name: str, mode: ResponseMode) -> None:
    request = asked(mode.value, choices_of(name))
    found = DIALECT.judge(answer(f"{name}.{'json' if mode is JSON else 'sse'}"), mode, request)
    usage = loaded(answer(f"{name}.json"))["usageMetadata"]
    assert found.discard is None
    assert found.model == "gemini-2.5-flash"
    assert found.has_usage
    assert found.has_tool_calls is (name == "tools")
    assert found.finish_reasons in {("stop",), ("stop", "length")}
    assert found.input_tokens == usage["promptTokenCount"]
    thoughts = usage.get("thoughtsTokenCount", 0)
    assert found.output_tokens == usage["candidatesTokenCount"] + thoughts


@pytest.mark.parametrize("path", files(NAME, "discarded"), ids=lambda path: path.name)
def test_what_must_not_be_stored_is_discarded(path: Path) -> None:
    mode = mode_of(path)
    found = DIALECT.judge(path.read_bytes(), mode, asked(mode.value))
    assert found.discard is not None
    assert path.name.startswith(f"{found.discard}.")


@pytest.mark.parametrize("path", files(NAME, "streams"), ids=lambda path: path.stem)
def test_a_stream_that_json_tells_differently_stays_a_stream(path: Path) -> None:
    body = path.read_bytes()
    assert DIALECT.judge(body, STREAM, asked("stream")).discard is None
    assert DIALECT.render(body, STREAM, asked("json")) is None
    array = DIALECT.render(body, STREAM, asked("array"))
    assert loaded(array) == [json.loads(event.data) for event in split_events(body)]


def test_fewer_candidates_than_asked_for_are_no_answer() -> None:
    found = DIALECT.judge(answer("text.json"), JSON, asked("json", 2))
    assert found.discard is DiscardReason.INCOMPLETE


def test_only_arrays_answer_requests_for_arrays() -> None:
    whole = answer("text.json")
    assert DIALECT.judge(whole, JSON, asked("array")).discard is DiscardReason.INCOMPLETE
    assert DIALECT.judge(b"[%b]" % whole, JSON, asked("array")).discard is None
    assert DIALECT.judge(b"[]", JSON, asked("array")).discard is DiscardReason.INCOMPLETE


@given(st.binary())
@pytest.mark.parametrize("shape", ["json", "array", "stream"])
def test_no_bytes_make_anything_raise(shape: str, body: bytes) -> None:
    request = asked(shape)
    for hostile in (body, b"[" + body, b"data: " + body + b"\n\n", b"[" * 100_000):
        assert DIALECT.judge(hostile, request.mode, request).discard is not None
        for mode in (JSON, STREAM):
            DIALECT.render(hostile, mode, request)


# One form of another


@pytest.mark.parametrize("name", PAIRS)
def test_json_is_made_of_a_stream(name: str) -> None:
    made = DIALECT.render(answer(f"{name}.sse"), STREAM, asked("json", choices_of(name)))
    assert loaded(made) == loaded(answer(f"{name}.json"))


@pytest.mark.parametrize("name", PAIRS)
@pytest.mark.parametrize("shape", ["stream", "array"])
def test_what_is_made_of_json_is_that_json_again(name: str, shape: str) -> None:
    """``aggregate(replay(x)) == x``, and it is an answer by the same rules."""
    choices = choices_of(name)
    body, request = answer(f"{name}.json"), asked(shape, choices)
    made = DIALECT.render(body, JSON, request)
    assert made is not None
    judged = DIALECT.judge(made, request.mode, request)
    assert judged == DIALECT.judge(body, JSON, asked("json", choices))
    again = DIALECT.render(made, request.mode, asked("json", choices))
    assert loaded(again) == loaded(body)


@pytest.mark.parametrize("path", sorted((FIXTURES / NAME).glob("*/*.sse")), ids=lambda p: p.stem)
def test_arrays_and_streams_have_the_same_chunks(path: Path) -> None:
    body = path.read_bytes()
    request = asked("stream", choices_of(path))
    if DIALECT.judge(body, STREAM, request).discard is not None:
        return
    array = in_shape(body, STREAM, "array")
    assert array is not None
    stream = in_shape(array, JSON, "stream")
    assert stream is not None
    chunks = [[json.loads(event.data) for event in split_events(one)] for one in (body, stream)]
    assert chunks[0] == chunks[1] == json.loads(array)
    assert DIALECT.judge(stream, STREAM, request) == DIALECT.judge(body, STREAM, request)


def test_numbers_and_signatures_stay_as_they_were_written() -> None:
    body = b'{"candidates": [{"avgLogprobs": -0.10000000149011612000, "s": "CiQB0e2Kb9k+/w=="}]}'
    made = in_shape(body, JSON, "stream")
    assert made is not None
    assert made.startswith(b"data: ")
    assert made.endswith(b"\r\n\r\n")
    assert b"-0.10000000149011612000" in made
    assert b'"CiQB0e2Kb9k+/w=="' in made
    assert made.count(b"\n") == 2


CHUNK: dict[str, Any] = {"candidates": [], "usageMetadata": {}}


@pytest.mark.parametrize(
    "candidates",
    [
        None,
        "x",
        ["x"],
        [{"index": "0"}],
        [{"content": "x", "finishReason": "STOP"}],
        [{"content": {"parts": "x"}, "finishReason": "STOP"}],
        [{"content": {"parts": ["x"]}, "finishReason": "STOP"}],
        [{"content": {"parts": [{"text": 1}]}, "finishReason": "STOP"}],
    ],
)
def test_what_is_no_answer_is_not_merged(candidates: object) -> None:
    chunks = [CHUNK, CHUNK | {"candidates": candidates}]
    assert in_shape(json.dumps(chunks).encode(), JSON, "json") is None


@pytest.mark.parametrize("shape", ["json", "array", "stream"])
def test_nothing_is_made_of_nothing(shape: str) -> None:
    assert in_shape(b"[]", JSON, shape) is None
    assert in_shape(b"", STREAM, shape) is None


texts = st.lists(st.text(), min_size=1, max_size=6)


@given(texts)
def test_texts_are_put_together_however_they_were_cut(pieces: list[str]) -> None:
    chunks = [
        {"candidates": [{"content": {"parts": [{"text": piece}], "role": "model"}, "index": 0}]}
        for piece in pieces
    ]
    chunks[-1]["candidates"][0]["finishReason"] = "STOP"
    chunks[-1]["usageMetadata"] = {}  # type: ignore[assignment]
    stream = b"".join(b"data: " + json.dumps(chunk).encode() + b"\r\n\r\n" for chunk in chunks)
    made = loaded(in_shape(stream, STREAM, "json"))
    parts = made["candidates"][0]["content"]["parts"]
    assert "".join(part["text"] for part in parts) == "".join(pieces)
    assert len(parts) <= 1 or len(pieces) == 1


def test_an_error_has_google_s_shape() -> None:
    made = loaded(DIALECT.error_body("not there", kind="cache_miss", code="only_if_cached"))
    assert made["error"]["code"] == 504
    assert made["error"]["message"] == "not there"
    assert made["error"]["status"] == "DEADLINE_EXCEEDED"
    assert made["error"]["details"][0]["reason"] == "ONLY_IF_CACHED"
