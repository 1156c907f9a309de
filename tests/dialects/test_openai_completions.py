"""Legacy completions: requests read, answers judged, JSON and streams converted."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from openai.types.completion_create_params import CompletionCreateParamsBase

from routecache_middleware.core.dialect import Dialect, Judgement, ParsedRequest
from routecache_middleware.core.models import DiscardReason, ResponseMode
from routecache_middleware.core.sse import split_events
from routecache_middleware.dialects.openai_completions import OpenAICompletions
from tests.support.wire import FIXTURES, files, hashes, loaded, mode_of, mutations, names_of_pairs

JSON, STREAM = ResponseMode.JSON, ResponseMode.STREAM
NAME = "openai.completions"
DIALECT: Dialect = OpenAICompletions()
PAIRS = names_of_pairs(NAME)
SHAPES = ("json", "stream", "stream+usage")
USAGE: dict[str, object] = {"choices": [], "usage": {"total_tokens": 1}}


def fixture(name: str) -> bytes:
    return (FIXTURES / NAME / name).read_bytes()


def asked(shape: str, choices: int = 1) -> ParsedRequest:
    mode = JSON if shape == "json" else STREAM
    return ParsedRequest(model="m", mode=mode, shape=shape, choices=choices)


def choices_of(name: str) -> int:
    return 4 if "two_prompts" in name else 1


def part(text: object = "", finish: object = None, **members: object) -> dict[str, object]:
    return {"choices": [{"index": 0, "text": text, "finish_reason": finish} | members]}


def stream(*chunks: dict[str, object]) -> bytes:
    frames = [json.dumps(chunk).encode() for chunk in chunks]
    return b"".join(b"data: " + frame + b"\n\n" for frame in [*frames, b"[DONE]"])


def chunks(body: bytes | None) -> list[dict[str, Any]]:
    events = split_events(body or b"")
    assert events[-1].data == b"[DONE]"
    return [json.loads(event.data) for event in events[:-1]]


# Requests


@pytest.mark.parametrize(
    ("prompt", "count"),
    [
        ("hi", 1),
        ("", 1),
        (None, 1),
        (["hi", "ho"], 2),
        ([1, 2, 3], 1),
        ([[1, 2], [3]], 2),
        ([], None),
        ([[]], None),
        ([1, "a"], None),
        (["a", [1]], None),
        ([1.5], None),
        ([True], None),
        ([None], None),
        (7, None),
        ({"text": "hi"}, None),
    ],
)
def test_each_prompt_has_n_answers(prompt: object, count: int | None) -> None:
    found = DIALECT.parse({"model": "m", "prompt": prompt, "n": 3})
    assert (None if found is None else found.choices) == (None if count is None else count * 3)


@pytest.mark.parametrize(
    "fields",
    [{"model": None}, {"n": 0}, {"stream": 1}, {"temperature": "0"}, {"stream_options": []}],
)
def test_what_is_not_this_api_is_not_read(fields: dict[str, object]) -> None:
    assert DIALECT.parse({"model": "m", "prompt": "hi"} | fields) is None
    assert DIALECT.parse({}) is None


@pytest.mark.parametrize("path", files(NAME, "requests"), ids=lambda path: path.stem)
def test_requests_as_clients_send_them_are_read(path: Path) -> None:
    found = DIALECT.parse(json.loads(path.read_bytes()))
    assert found is not None
    assert found.bypass is None
    assert found.choices == (2 if path.stem == "tokens" else choices_of(path.stem))


def test_a_full_request_is_read() -> None:
    assert DIALECT.parse(json.loads(fixture("requests/full.json"))) == ParsedRequest(
        model="gpt-3.5-turbo-instruct",
        mode=STREAM,
        shape="stream+usage",
        temperature=0,
        is_deterministic=True,
    )


@pytest.mark.parametrize("path", files(NAME, "requests"), ids=lambda path: path.stem)
def test_any_change_at_any_depth_changes_the_key_unless_the_table_says_otherwise(
    path: Path,
) -> None:
    payload = json.loads(path.read_bytes())
    before = hashes(DIALECT, payload)
    for where, changed in mutations(payload):
        after = hashes(DIALECT, changed)
        is_ignored = where[0] in DIALECT.ignored_fields
        assert (after.result == before.result) is is_ignored, where
        is_kept = is_ignored or where[0] in DIALECT.sampling_fields
        assert (after.decision == before.decision) is is_kept, where


def test_the_table_knows_every_field_of_the_sdk() -> None:
    known = set(CompletionCreateParamsBase.__annotations__) | {"stream"}
    assert known <= set(DIALECT.fields)


def test_the_prompt_stands_for_the_conversation() -> None:
    one = DIALECT.conversation({"model": "m", "prompt": "hi", "temperature": 1})
    assert one == DIALECT.conversation({"model": "m", "prompt": "hi", "n": 2})
    assert one != DIALECT.conversation({"model": "m", "prompt": "ho"})
    assert DIALECT.conversation({}) is not None


# Judgement


@pytest.mark.parametrize("folder", ["answers", "recorded"])
def test_complete_answers_are_kept(folder: str) -> None:
    for path in files(NAME, folder):
        count = choices_of(path.stem)
        found = DIALECT.judge(path.read_bytes(), mode_of(path), asked("json", count))
        assert found.discard is None, path
        assert set(found.finish_reasons) <= {"stop", "length"}, path
        assert len(found.finish_reasons) == count, path
        assert found.has_usage is ("without_usage" not in path.stem), path


def test_model_and_tokens_are_read() -> None:
    for name in ("text.json", "text.sse"):
        found = DIALECT.judge(fixture(f"answers/{name}"), mode_of(Path(name)), asked("json"))
        assert found == Judgement(
            model="gpt-3.5-turbo-instruct:20230824-v2",
            has_usage=True,
            finish_reasons=("stop",),
            input_tokens=5,
            output_tokens=7,
        )


@pytest.mark.parametrize("path", files(NAME, "discarded"), ids=lambda path: path.name)
def test_what_must_not_be_stored_is_not_stored(path: Path) -> None:
    found = DIALECT.judge(path.read_bytes(), mode_of(path), asked("json"))
    reason = path.name.partition(".")[0]
    if reason == "finish-reason":  # for policy to refuse
        assert found.finish_reasons == ("content_filter",)
    else:
        assert found.discard == reason


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (stream(part("a"), part("", "stop")), None),
        (stream(part("a", "stop")), None),
        (stream(part("", "stop")), DiscardReason.EMPTY),
        (stream(part(None, "stop")), DiscardReason.EMPTY),
        (stream(part("a")), DiscardReason.INCOMPLETE),
        (stream(part(["a"], "stop")), DiscardReason.INCOMPLETE),
        (stream(part("a", "stop"), {"choices": [{"index": 1}]}), DiscardReason.INCOMPLETE),
        (stream(part("a", "stop"))[:-1], DiscardReason.INCOMPLETE),
        (stream(part("a", "stop")) + b"data: [DONE]\n\n", DiscardReason.INCOMPLETE),
        (
            stream({"choices": [{"delta": {"content": "a"}, "finish_reason": "stop"}]}),
            DiscardReason.EMPTY,
        ),
    ],
)
def test_streams_are_judged(body: bytes, reason: DiscardReason | None) -> None:
    assert DIALECT.judge(body, STREAM, asked("stream")).discard is reason


@pytest.mark.parametrize("name", PAIRS)
def test_no_part_of_a_stream_passes_for_the_whole(name: str) -> None:
    body = fixture(f"answers/{name}.sse")
    for end in range(0, len(body), 1 if len(body) < 3000 else 7):
        found = DIALECT.judge(body[:end], STREAM, asked("stream", choices_of(name)))
        assert found.discard is not None, end


@given(st.binary() | st.text().map(str.encode), st.sampled_from(list(ResponseMode)))
def test_no_bytes_make_judge_or_render_raise(body: bytes, mode: ResponseMode) -> None:
    assert DIALECT.judge(body, mode, asked("json")).discard is not None
    for shape in SHAPES:
        DIALECT.render(body, mode, asked(shape))


words = ["choices", "index", "text", "logprobs", "tokens", "text_offset", "usage", "finish_reason"]
json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-1, 3) | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(words), inner, max_size=4)
    ),
    max_leaves=15,
)


@given(st.lists(st.dictionaries(st.sampled_from(words), json_values), max_size=4))
def test_no_json_makes_judge_or_render_raise(values: list[dict[str, object]]) -> None:
    for body, mode in ((stream(*values), STREAM), (json.dumps(values[:1])[1:-1].encode(), JSON)):
        DIALECT.judge(body, mode, asked("json"))
        for shape in SHAPES:
            DIALECT.render(body, mode, asked(shape))


# Conversions


@pytest.mark.parametrize("name", PAIRS)
def test_a_recorded_stream_adds_up_to_the_recorded_json(name: str) -> None:
    rendered = DIALECT.render(fixture(f"answers/{name}.sse"), STREAM, asked("json"))
    assert loaded(rendered) == json.loads(fixture(f"answers/{name}.json"))


@pytest.mark.parametrize(
    "path", [p for f in ("answers", "recorded") for p in files(NAME, f)], ids=lambda p: p.name
)
def test_every_conversion_is_a_complete_answer(path: Path) -> None:
    body, mode, count = path.read_bytes(), mode_of(path), choices_of(path.stem)
    before = DIALECT.judge(body, mode, asked("json", count))
    for shape in SHAPES:
        rendered = DIALECT.render(body, mode, asked(shape, count))
        if rendered is None:
            assert not before.has_usage
            continue
        after = DIALECT.judge(rendered, JSON if shape == "json" else STREAM, asked(shape, count))
        assert after.discard is None
        assert after.finish_reasons == before.finish_reasons
        assert after.has_usage is (shape != "stream")


def test_json_is_replayed_as_text_finish_and_usage() -> None:
    body = fixture("answers/text.json")
    whole = json.loads(body)
    found = chunks(DIALECT.render(body, JSON, asked("stream+usage")))
    text = whole["choices"][0]["text"]
    assert [chunk["choices"] for chunk in found] == [
        [{"index": 0, "text": text, "finish_reason": None, "logprobs": None}],
        [{"index": 0, "text": "", "finish_reason": "stop", "logprobs": None}],
        [],
    ]
    assert [chunk["usage"] for chunk in found] == [None, None, whole["usage"]]
    for chunk in found:
        for name in ("id", "object", "created", "model"):
            assert chunk[name] == whole[name]


def test_usage_that_was_never_carried_is_not_invented() -> None:
    bare = fixture("recorded/without_usage.sse")
    assert DIALECT.render(bare, STREAM, asked("json")) is None
    assert DIALECT.render(bare, STREAM, asked("stream+usage")) is None
    assert DIALECT.render(stream(), JSON, asked("stream")) is None


def test_json_for_json_is_the_body_itself_and_other_shapes_are_not_made() -> None:
    body = fixture("answers/text.json")
    assert DIALECT.render(body, JSON, asked("json")) is body
    assert DIALECT.render(body, JSON, asked("stream+other")) is None


def logprobs(tokens: list[str], *offsets: object, **members: object) -> dict[str, object]:
    return {"logprobs": {"tokens": tokens, "text_offset": list(offsets)} | members}


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (logprobs(["a"], 0), logprobs(["b"], 0, 1)),
        (logprobs(["a"], 7), logprobs(["b"], 8)),
        (logprobs(["a"], 7, top_logprobs=None), logprobs(["b"], 8, top_logprobs=[1])),
        ({"logprobs": None}, {"logprobs": None}),
        ({"logprobs": {}}, {}),
        ({}, {}),
    ],
)
def test_log_probabilities_are_joined(first: dict[str, Any], second: dict[str, Any]) -> None:
    body = stream(part("a", **first), part("b", "stop", **second), USAGE)
    found = loaded(DIALECT.render(body, STREAM, asked("json")))["choices"][0]
    assert found["text"] == "ab"
    if not first.get("logprobs"):
        assert found.get("logprobs") == first.get("logprobs")
        return
    for name in ("tokens", "text_offset"):
        assert found["logprobs"][name] == first["logprobs"][name] + second["logprobs"][name]
    assert found["logprobs"].get("top_logprobs") == second["logprobs"].get("top_logprobs")


@pytest.mark.parametrize(
    "pieces",
    [
        [part("a", **logprobs(["a"], 5)), part("b", **logprobs(["b"], 0))],  # of its own chunk
        [part("a", **logprobs(["a"], "x"))],
        [part("a", logprobs=[1])],
        [part(["a"])],
        [{"choices": [{"index": "x", "text": ""}]}],
        [{"choices": "x"}],
    ],
)
def test_pieces_that_do_not_fit_together_are_not_joined(pieces: list[dict[str, object]]) -> None:
    assert DIALECT.render(stream(*pieces, USAGE), STREAM, asked("json")) is None


texts = st.text(max_size=10)
log_lists = st.fixed_dictionaries(
    {
        "tokens": st.lists(texts, min_size=1, max_size=2),
        "token_logprobs": st.lists(st.none() | st.floats(-9, 0), min_size=1),
        "top_logprobs": st.none() | st.lists(st.dictionaries(texts, st.floats(-9, 0)), min_size=1),
        "text_offset": st.lists(st.integers(0, 99), min_size=1).map(sorted),
    }
)
completions = st.fixed_dictionaries(
    {
        "id": texts,
        "object": st.just("text_completion"),
        "created": st.integers(0),
        "model": texts,
        "choices": st.lists(
            st.fixed_dictionaries(
                {"text": texts, "finish_reason": st.sampled_from(["stop", "length"])},
                optional={
                    "logprobs": st.none() | log_lists,
                    "stop_reason": st.none() | texts,
                    "content_filter_results": st.dictionaries(texts, texts),
                },
            ),
            min_size=1,
            max_size=3,
        ).map(lambda parts: [{"index": index} | part for index, part in enumerate(parts)]),
        "usage": st.fixed_dictionaries(
            {"prompt_tokens": st.integers(0), "completion_tokens": st.integers(0)}
        ),
    },
    optional={
        "system_fingerprint": st.none() | texts,
        "prompt_filter_results": st.lists(st.dictionaries(texts, texts)),
    },
)


@given(completions)
def test_aggregating_a_replay_gives_the_answer_back(whole: dict[str, Any]) -> None:
    body, count = json.dumps(whole).encode(), len(whole["choices"])
    replayed = DIALECT.render(body, JSON, asked("stream+usage", count))
    assert loaded(DIALECT.render(replayed or b"", STREAM, asked("json"))) == whole
    again = DIALECT.render(replayed or b"", STREAM, asked("stream+usage"))
    assert loaded(DIALECT.render(again or b"", STREAM, asked("json"))) == whole
    judge = DIALECT.judge
    assert judge(replayed or b"", STREAM, asked("stream", count)) == judge(
        body, JSON, asked("json", count)
    )


def test_errors_have_the_shape_of_openai() -> None:
    body = DIALECT.error_body("nothing stored", kind="cache_miss", code="only_if_cached")
    assert json.loads(body)["error"]["code"] == "only_if_cached"
