"""How a stored answer compares with the live one: bytes, text, or something else."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from routecache_middleware.core.shadow import Comparison, ShadowCounts, ShadowReport, compare
from tests.core.test_savings import entry
from tests.support.chat import chunk, chunks, completion

FIXTURES = Path(__file__).parents[1] / "fixtures"
ANSWERS = sorted(FIXTURES.glob("*/answers/*.json")) + sorted(FIXTURES.glob("*/answers/*.sse"))
SAME, TEXT, OTHER = Comparison.EQUAL_BYTES, Comparison.EQUAL_TEXT, Comparison.DIFFERENT


def with_id(body: bytes) -> bytes:
    """Return the answer as of another run."""
    return body.replace(b'"chatcmpl-1"', b'"chatcmpl-2"').replace(b'"created": 1', b'"created": 9')


def test_equal_bytes_are_equal() -> None:
    assert compare(b"\xff not an answer", b"\xff not an answer") is SAME


def test_identifiers_and_times_are_not_what_is_said() -> None:
    assert compare(completion(), with_id(completion())) is TEXT
    assert compare(completion("one"), completion("two")) is OTHER


def test_a_stream_may_be_cut_otherwise() -> None:
    one, two = b"".join(chunks(["hi there"])), b"".join(chunks(["hi", " the", "re"]))
    assert compare(one, with_id(two)) is TEXT
    assert compare(one, b"".join(chunks(["hi here"]))) is OTHER


def test_the_arguments_of_a_call_are_said() -> None:
    def call(arguments: str) -> bytes:
        function = {"name": "f", "arguments": arguments}
        return chunk({"tool_calls": [{"index": 0, "id": arguments, "function": function}]})

    assert compare(call('{"a": 1}'), call('{"a": 2}')) is OTHER


@pytest.mark.parametrize(
    ("one", "two"),
    [
        (
            {"content": [{"type": "tool_use", "input": {"x": 1}}]},
            {"content": [{"type": "tool_use", "input": {"x": 2}}]},
        ),
        ({"results": [{"index": 0}, {"index": 1}]}, {"results": [{"index": 1}, {"index": 0}]}),
        ({"choices": [{"finish_reason": "stop"}]}, {"choices": [{"finish_reason": "length"}]}),
        ({"what": {"is": ["not", "known"]}}, {"what": {"is": ["not", "known", 1]}}),
    ],
)
def test_what_is_not_known_to_differ_by_chance_counts(one: object, two: object) -> None:
    assert compare(json.dumps(one).encode(), json.dumps(two).encode()) is OTHER


def test_googles_arguments_are_whole_in_an_event() -> None:
    def event(**args: int) -> bytes:
        call = {"functionCall": {"name": "f", "args": args}}
        return b"data: " + json.dumps({"candidates": [call], "responseId": "x"}).encode() + b"\n\n"

    assert compare(event(a=1, b=2), event(b=2, a=1)) is TEXT
    assert compare(event(a=1, b=2), event(a=1, b=3)) is OTHER


def test_vectors_and_ranks_are_numbers_that_are_said() -> None:
    def vector(*numbers: float, tokens: int = 1) -> bytes:
        row = {"object": "embedding", "index": 0, "embedding": numbers}
        return json.dumps({"data": [row], "usage": {"prompt_tokens": tokens}}).encode()

    assert compare(vector(0.1, 0.2), vector(0.1, 0.2, tokens=2)) is TEXT
    assert compare(vector(0.1, 0.2), vector(0.1, 0.3)) is OTHER


@pytest.mark.parametrize("path", ANSWERS, ids=lambda path: f"{path.parts[-3]}/{path.name}")
def test_an_answer_of_any_api_can_be_compared(path: Path) -> None:
    """What differs in white space alone says the same; what is cut off does not."""
    body = path.read_bytes()
    if path.suffix == ".json":
        again = json.dumps(json.loads(body), indent=3).encode()
    else:
        again = body.replace(b"data: {", b"data:{")
    expected = SAME if again == body else TEXT
    assert compare(body, again) is expected
    assert compare(body, body[: len(body) // 4]) is OTHER


@given(st.binary(max_size=200), st.binary(max_size=200))
def test_nothing_makes_it_fail(stored: bytes, live: bytes) -> None:
    assert compare(stored, live) in (SAME, OTHER)


@pytest.mark.parametrize("body", [b"[" * 100_000, b"{}", b"data: {}\n\n", b"data: x\n\n", b""])
def test_what_says_nothing_is_not_the_same_as_anything(body: bytes) -> None:
    assert compare(body, completion()) is OTHER
    assert compare(completion(), body) is OTHER
    assert compare(body, body + b" ") is OTHER


def test_the_report_adds_up() -> None:
    counts = ShadowCounts()
    assert counts.report() == ShadowReport()
    assert counts.report().same_rate() == 0.0
    for comparison in (SAME, TEXT, OTHER, OTHER):
        counts.compared(entry(), comparison)
    said = counts.report()
    assert (said.served, said.equal_bytes, said.equal_text, said.different) == (4, 1, 1, 2)
    assert (said.input_tokens, said.output_tokens, said.upstream_s) == (40, 80, 2.0)
    assert said.same_rate() == 0.5
