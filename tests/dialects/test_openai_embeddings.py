"""Embeddings: each input an entry of its own, either form of vector from one entry."""

import base64
import json
import struct
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from openai import OpenAI

from routecache_middleware.core.batch import Batched
from routecache_middleware.core.dialect import ParsedRequest, field_table
from routecache_middleware.core.fingerprint import KeyContext, fingerprint
from routecache_middleware.core.models import DiscardReason, ResponseMode
from routecache_middleware.dialects.openai_embeddings import OpenAIEmbeddings
from routecache_middleware.dialects.vectors import as_base64, as_numbers

DIALECT = OpenAIEmbeddings()
JSON = ResponseMode.JSON
CONTEXT = KeyContext(DIALECT.name, "", "/v1/embeddings", b"", ())

floats = st.floats(width=32, allow_nan=False, allow_infinity=False)


def request(value: object = "hello", **fields: object) -> dict[str, object]:
    return {"model": "e", "input": value, **fields}


def parsed(value: object = "hello", **fields: object) -> ParsedRequest:
    found = DIALECT.parse(request(value, **fields))
    assert found is not None
    return found


def packed(numbers: list[float]) -> str:
    return base64.b64encode(struct.pack(f"<{len(numbers)}f", *numbers)).decode()


def answer(*vectors: object, tokens: int | None = 4, **more: object) -> bytes:
    data = [
        {"object": "embedding", "index": index, "embedding": vector}
        for index, vector in enumerate(vectors)
    ]
    usage = {} if tokens is None else {"usage": {"prompt_tokens": tokens, "total_tokens": tokens}}
    whole = {"object": "list", "data": data, "model": "e-1", **usage, **more}
    return json.dumps(whole).encode()


def key_of(payload: dict[str, object]) -> str:
    return fingerprint(payload, dialect=DIALECT, context=CONTEXT).result


@pytest.mark.parametrize(
    ("value", "count"),
    [("a", 1), (["a"], 1), (["a", "b"], 2), ([1, 2, 3], 1), ([[1, 2], [3]], 2), (["a", [1]], 2)],
)
def test_inputs_are_counted(value: object, count: int) -> None:
    found = parsed(value)
    assert (found.choices, found.mode, found.shape) == (count, JSON, "float")
    assert (found.model, found.is_deterministic, found.bypass) == ("e", True, None)


@pytest.mark.parametrize(
    "payload",
    [
        {"input": "a"},
        {"model": 1, "input": "a"},
        request(None),
        request([]),
        request([[]]),
        request([1.5]),
        request([True]),
        request([{"type": "text"}]),
        request({"text": "a"}),
        request(encoding_format="int8"),
        request(encoding_format=1),
    ],
)
def test_what_is_no_request_is_none(payload: dict[str, object]) -> None:
    assert DIALECT.parse(payload) is None


def test_one_input_is_the_same_alone_and_in_a_list() -> None:
    assert key_of(request("a")) == key_of(request(["a"])) == key_of(request("a", user="u"))
    assert key_of(request("a")) == key_of(request("a", encoding_format="base64"))
    assert key_of(request("a")) != key_of(request(["a", "a"]))
    assert key_of(request("a")) != key_of(request("a", dimensions=8))
    assert key_of(request("a")) != key_of(request("a", unheard_of=1))
    assert key_of(request([1, 2])) != key_of(request([[1], [2]]))


def test_with_an_unknown_field_nothing_is_taken_for_the_same() -> None:
    """Not the form, nor one input and a list of it, nor that the inputs are apart."""
    keys = [
        key_of(request(value, unheard_of=1, **form))
        for value in ("a", ["a"], ["a", "b"])
        for form in ({}, {"encoding_format": "float"}, {"encoding_format": "base64"})
    ]
    assert len(set(keys)) == len(keys)
    payload = request(["a", "b"], unheard_of=None)
    assert DIALECT.split(payload) == [payload]
    assert key_of(request("a", unheard_of=1, user="u")) == keys[0]


def test_fields_about_the_request_count_and_leave_the_inputs_apart() -> None:
    payload = request(["a", "b"], metadata={"a": 1}, priority=1, tags=["x"], user="u")
    assert [part["input"] for part in DIALECT.split(payload)] == ["a", "b"]
    for name in ("metadata", "priority", "safety_identifier", "service_tier", "tags"):
        assert key_of(request(**{name: 1})) != key_of(request())
        assert key_of(request(["hello"], **{name: 1}, encoding_format="base64")) == key_of(
            request(**{name: 1})
        )


def test_each_input_has_the_key_that_it_has_alone() -> None:
    assert isinstance(DIALECT, Batched)
    payload = request(["a", [1, 2], "b"], dimensions=8)
    keys = [key_of(dict(part)) for part in DIALECT.split(payload)]
    assert keys == [key_of(request(item, dimensions=8)) for item in ("a", [1, 2], "b")]


def test_some_of_the_inputs_are_asked_for() -> None:
    body = DIALECT.only(request(["a", "b", "c"], user="u"), [0, 2])
    assert json.loads(body) == request(["a", "c"], user="u")


def test_a_list_is_taken_apart_and_put_together() -> None:
    whole = answer([0.5], [0.25], [1.0], tokens=7, extra=1)
    three = parsed(["a", "b", "c"])
    parts = DIALECT.take_apart(whole, three)
    assert parts is not None
    assert [json.loads(part)["data"][0]["index"] for part in parts] == [0, 0, 0]
    assert [json.loads(part)["usage"]["prompt_tokens"] for part in parts] == [3, 2, 2]
    assert DIALECT.judge(parts[0], JSON, parsed("a")).discard is None
    again = DIALECT.put_together(parts, three)
    assert again is not None
    assert json.loads(again) == json.loads(whole)


def test_the_order_is_that_of_the_indexes() -> None:
    whole = json.loads(answer([0.5], [0.25]))
    whole["data"].reverse()
    parts = DIALECT.take_apart(json.dumps(whole).encode(), parsed(["a", "b"]))
    assert parts is not None
    assert [json.loads(part)["data"][0]["embedding"] for part in parts] == [[0.5], [0.25]]


def test_usage_that_one_part_lacks_is_not_made_up() -> None:
    parts = [answer([0.5]), answer([0.25], tokens=None)]
    made = DIALECT.put_together(parts, parsed(["a", "b"]))
    assert made is not None
    assert "usage" not in json.loads(made)


def test_an_answer_without_usage_is_taken_apart_all_the_same() -> None:
    parts = DIALECT.take_apart(answer([0.5], [1.0], tokens=None), parsed(["a", "b"]))
    assert parts is not None
    assert "usage" not in json.loads(parts[0])


@pytest.mark.parametrize("parts", [[], [b"x"], [answer()], [answer(["x"])]])
def test_nothing_is_put_together_of_what_is_no_answer(parts: list[bytes]) -> None:
    assert DIALECT.put_together(parts, parsed(["a", "b"], encoding_format="base64")) is None


@pytest.mark.parametrize(
    ("body", "discard"),
    [
        (answer([0.5]), None),
        (answer(packed([0.5])), None),
        (answer(), DiscardReason.INCOMPLETE),
        (answer([]), DiscardReason.INCOMPLETE),
        (answer([0.5], [0.5]), DiscardReason.INCOMPLETE),
        (b"{}", DiscardReason.INCOMPLETE),
        (b"[", DiscardReason.INCOMPLETE),
        (b"[" * 100_000, DiscardReason.INCOMPLETE),
        (b'{"error": {"message": "no"}}', DiscardReason.ERROR_BODY),
        (b'{"data": [1]}', DiscardReason.INCOMPLETE),
        (b'{"data": [{"index": true, "embedding": [1]}]}', DiscardReason.INCOMPLETE),
        (b'{"data": [{"index": 1, "embedding": [1]}]}', DiscardReason.INCOMPLETE),
    ],
)
def test_only_complete_answers_are_kept(body: bytes, discard: DiscardReason | None) -> None:
    judgement = DIALECT.judge(body, JSON, parsed())
    assert judgement.discard is discard
    if discard is None:
        assert (judgement.model, judgement.has_usage, judgement.input_tokens) == ("e-1", True, 4)
    assert DIALECT.judge(body, ResponseMode.STREAM, parsed()).discard is DiscardReason.INCOMPLETE


def test_two_vectors_for_one_input_are_not_kept() -> None:
    whole = json.loads(answer([0.5], [0.25]))
    whole["data"][1]["index"] = 0
    body = json.dumps(whole).encode()
    assert DIALECT.judge(body, JSON, parsed(["a", "b"])).discard is DiscardReason.INCOMPLETE
    assert DIALECT.take_apart(body, parsed(["a", "b"])) is None


def test_a_model_without_a_name_is_no_reason_to_discard() -> None:
    assert DIALECT.judge(b'{"data": [{"embedding": [1.0]}]}', JSON, parsed()).model == ""


@given(st.lists(floats, min_size=1, max_size=40))
def test_either_form_is_made_of_the_other_to_the_digit(numbers: list[float]) -> None:
    text = packed(numbers)
    shown = as_numbers(text)
    assert shown is not None
    assert as_base64(shown) == text
    assert [len(repr(one)) <= len(repr(two)) for one, two in zip(shown, numbers, strict=True)]


def test_numbers_are_printed_as_servers_do() -> None:
    shown = [0.104274996, 0.0023064255, -0.009327292, 0.1, 1.0, -2.5e-08]
    assert as_numbers(packed(shown)) == shown


@pytest.mark.parametrize(
    "value", [None, "x", [], ["a"], [None], [1e39], [float("inf")], [float("nan")], [10**400]]
)
def test_what_is_no_vector_has_no_base64(value: object) -> None:
    assert as_base64(value) is None


@pytest.mark.parametrize(
    "value",
    [None, [1.0], "", "####", "AAA=", "AAAAAAA=", packed([float("inf")]), packed([float("nan")])],
)
def test_what_is_no_base64_has_no_numbers(value: object) -> None:
    assert as_numbers(value) is None


def test_the_other_form_is_rendered() -> None:
    numbers, text = [0.5, -0.1], packed([0.5, -0.1])
    to_text = DIALECT.render(answer(numbers), JSON, parsed(encoding_format="base64"))
    to_numbers = DIALECT.render(answer(text), JSON, parsed())
    assert to_text is not None
    assert to_numbers is not None
    assert json.loads(to_text) == json.loads(answer(text))
    assert json.loads(to_numbers) == json.loads(answer(numbers))


@pytest.mark.parametrize("body", [b"x", answer(), answer(["x"])])
def test_what_cannot_be_converted_is_a_miss(body: bytes) -> None:
    assert DIALECT.render(body, JSON, parsed(encoding_format="base64")) is None
    assert DIALECT.render(body, ResponseMode.STREAM, parsed()) is None


@pytest.mark.parametrize("form", ["float", "base64"])
def test_the_sdk_reads_what_was_converted_as_it_reads_the_original(form: str) -> None:
    numbers = [0.0023064255, -0.009327292, 0.25]
    original = answer(numbers if form == "float" else packed(numbers))
    other = answer(packed(numbers) if form == "float" else numbers)
    converted = DIALECT.render(other, JSON, parsed(encoding_format=form))
    assert converted is not None

    def read(body: bytes) -> Any:
        def reply(_: httpx.Request) -> httpx.Response:
            return httpx.Response(200, content=body, headers={"content-type": "application/json"})

        http = httpx.Client(transport=httpx.MockTransport(reply))
        with OpenAI(api_key="k", http_client=http) as client:
            made = client.embeddings.create(model="e", input="a", encoding_format=form)  # type: ignore[arg-type]
        return made.model_dump(warnings=False)

    assert read(converted) == read(original)


def test_the_rest_of_a_dialect() -> None:
    assert json.loads(DIALECT.error_body("m", kind="k", code="c"))["error"]["code"] == "c"
    assert DIALECT.conversation(request("a", user="u")) == {
        "model": "e",
        "input": "a",
        "dimensions": None,
    }
    assert "`input`" in field_table(DIALECT.fields)


def test_what_is_taken_apart_is_what_was_sent() -> None:
    """Digits, unknown members and their order are the upstream's own."""
    body = (
        b'{"id":"x","object":"list","data":['
        b'{"object":"embedding","embedding":[1.50, -0.0,1e-7],"index":0,"more":{"b":1,"a":2}},'
        b'{"object":"embedding","embedding":[2.0],"index":1}],'
        b'"model":"e-1","usage":{"total_tokens":5,"prompt_tokens":5}}'
    )
    two = parsed(["a", "b"])
    parts = DIALECT.take_apart(body, two)
    assert parts is not None
    assert b'"embedding":[1.50, -0.0,1e-7],"index":0,"more":{"b":1,"a":2}' in parts[0]
    assert DIALECT.put_together(parts, two) == body


@given(st.lists(st.integers(0, 40), min_size=2, max_size=9), st.integers(0, 10**6))
def test_shares_add_up_whatever_is_counted(lengths: list[int], total: int) -> None:
    value = ["x" * length for length in lengths]
    request_of_all = parsed(value)
    usage = {"prompt_tokens": total, "total_tokens": total}
    parts = DIALECT.take_apart(answer(*[[0.5]] * len(value), usage=usage), request_of_all)
    assert parts is not None
    shares = [json.loads(part)["usage"]["prompt_tokens"] for part in parts]
    assert sum(shares) == total
    assert min(shares) >= 0
    again = DIALECT.put_together(parts, request_of_all)
    assert again is not None
    assert json.loads(again)["usage"] == usage


def test_inputs_of_tokens_have_their_own_number_of_tokens() -> None:
    value = [[1, 2, 3], [4], [5, 6]]
    parts = DIALECT.take_apart(answer([0.5], [0.5], [0.5], tokens=6), parsed(value))
    assert parts is not None
    assert [json.loads(part)["usage"]["prompt_tokens"] for part in parts] == [3, 1, 2]


def test_length_is_that_of_the_bytes_and_of_about_as_many_tokens() -> None:
    assert parsed(["abcd", "äöü", [1, 2], "\ud800"]).sizes == (4, 6, 8, 3)
    assert parsed("abc").sizes == ()


def test_of_usage_only_counts_are_shared_and_nothing_stays_nothing() -> None:
    usage = {"prompt_tokens": 4, "completion_tokens": 0, "details": None, "rest": {"cached": 1}}
    parts = DIALECT.take_apart(answer([0.5], [1.0], usage=usage), parsed(["a", "b"]))
    assert parts is not None
    share = {"prompt_tokens": 2, "completion_tokens": 0, "details": None}
    assert [json.loads(part)["usage"] for part in parts] == [share, share]
    alone = answer([0.5], usage=usage)
    for order in ([parts[0], alone], [alone, parts[0]]):
        made = DIALECT.put_together(order, parsed(["a", "b"]))
        assert made is not None
        assert json.loads(made)["usage"] == share | {"prompt_tokens": 6}


@pytest.mark.parametrize("usage", [5, "x", [1]])
def test_usage_that_is_none_is_left_out(usage: object) -> None:
    parts = DIALECT.take_apart(answer([0.5], [1.0], usage=usage), parsed(["a", "b"]))
    assert parts is not None
    assert "usage" not in json.loads(parts[0])


@pytest.mark.parametrize("count", ["-1", "1.0", "true", '"3"', "9" * 400])
def test_a_count_that_is_none_is_not_shared(count: str) -> None:
    body = answer([0.5], [1.0], usage={"prompt_tokens": 77}).replace(b"77", count.encode())
    parts = DIALECT.take_apart(body, parsed(["a", "b"]))
    assert parts is not None
    assert json.loads(parts[0])["usage"] == {}
    assert not DIALECT.judge(body, JSON, parsed(["a", "b"])).has_usage


def test_without_lengths_all_shares_are_equal() -> None:
    anybody = ParsedRequest(model="e", mode=JSON, shape="float", choices=2)
    parts = DIALECT.take_apart(answer([0.5], [1.0], tokens=5), anybody)
    assert parts is not None
    assert [json.loads(part)["usage"]["prompt_tokens"] for part in parts] == [3, 2]


def test_answers_of_two_models_are_not_put_together() -> None:
    parts = [answer([0.5]), answer([0.25], model="e-2")]
    assert DIALECT.put_together(parts, parsed(["a", "b"])) is None
    nameless = b'{"data":[{"embedding":[1.0]}]}'
    assert DIALECT.put_together([nameless, nameless], parsed(["a", "b"])) is not None
    assert DIALECT.put_together([nameless, answer([0.5])], parsed(["a", "b"])) is None


def test_what_has_the_form_already_stays_as_it_is() -> None:
    """An entry that was taken out of a list is served as it is to who asks in the same form."""
    body = answer([0.5])
    assert DIALECT.render(body, JSON, parsed()) is body


@pytest.mark.parametrize("name", ["1", "null", '["e"]', '"\\ud800"', '"\xff"'])
def test_a_model_that_has_no_name_is_nobody(name: str) -> None:
    body = b'{"data": [{"embedding": [1.0]}], "model": %s}' % name.encode("latin-1")
    judgement = DIALECT.judge(body, JSON, parsed())
    assert (judgement.model, judgement.discard in {None, DiscardReason.INCOMPLETE}) == ("", True)


@pytest.mark.parametrize("vector", ['"\\ud800"', "[1" + "0" * 400 + "]", '"\xff"'])
def test_a_vector_that_cannot_be_read_has_no_other_form(vector: str) -> None:
    body = b'{"data":[{"embedding":%s}]}' % vector.encode("latin-1")
    form = "float" if vector[0] == '"' else "base64"
    assert DIALECT.render(body, JSON, parsed(encoding_format=form)) is None


@given(st.binary(max_size=60))
def test_no_bytes_make_it_raise(noise: bytes) -> None:
    two, form = parsed(["a", "b"]), parsed(encoding_format="base64")
    for body in (noise, b'{"data":[{"embedding":' + noise + b"}]}"):
        DIALECT.judge(body, JSON, two)
        DIALECT.take_apart(body, two)
        DIALECT.put_together([body, body], two)
        DIALECT.render(body, JSON, form)
        DIALECT.render(body, JSON, parsed())


@pytest.mark.parametrize("names", ["", "object,model", "model,data", "data,usage", "x,data,usage"])
@pytest.mark.parametrize("count", [2, 64, 65, 128, 129])
def test_a_long_list_is_written_in_steps_as_a_short_one_is_at_once(names: str, count: int) -> None:
    first: dict[str, Any] = {
        name: {"data": []} if name == "x" else "m" for name in names.split(",") if name
    }
    first.pop("usage", None)
    parts = []
    for number in range(count):
        row = {"object": "embedding", "index": 0, "embedding": [number]}
        usage = {"usage": {"prompt_tokens": 1}} if "usage" in names else {}
        answer = {**first, "data": [row], **usage}
        parts.append(json.dumps(answer, separators=(",", ":")).encode())
    asked = DIALECT.parse({"model": "m", "input": ["a"] * count})
    assert asked is not None
    made = DIALECT.put_together(parts, asked)
    assert made is not None
    said = json.loads(made)
    assert [row["embedding"] for row in said["data"]] == [[number] for number in range(count)]
    assert [row["index"] for row in said["data"]] == list(range(count))
    assert said.get("usage", {}).get("prompt_tokens", count) == count
    assert {name: value for name, value in said.items() if name in first and name != "data"} == {
        name: value for name, value in first.items() if name != "data"
    }
    assert json.dumps(said, separators=(",", ":")).encode() == made
