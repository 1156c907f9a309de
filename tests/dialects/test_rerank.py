"""Rerank: requests read, answers judged; there is one form of answer."""

import json
from pathlib import Path
from typing import Any

import cohere
import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from litellm.types.rerank import RerankRequest, RerankResponse

from routecache_middleware.core.dialect import Dialect, ParsedRequest, Role
from routecache_middleware.core.models import BypassReason, ResponseMode
from routecache_middleware.dialects.rerank import Rerank
from routecache_middleware.dialects.table import match
from tests.support.wire import files, hashes, mutations

JSON, STREAM = ResponseMode.JSON, ResponseMode.STREAM
DIALECT: Dialect = Rerank()
NAME = "rerank"
MINIMAL: dict[str, object] = {"model": "m", "query": "q", "documents": ["a", "b", "c"]}
ANSWERS = files(NAME, "answers")


def parsed(**fields: object) -> ParsedRequest | None:
    return DIALECT.parse(MINIMAL | fields)


def asked(**fields: object) -> ParsedRequest:
    found = parsed(**fields)
    assert found is not None
    return found


@pytest.mark.parametrize(("top_n", "count"), [(None, 3), (0, 3), (1, 1), (2, 2), (3, 3), (9, 3)])
def test_as_many_results_are_expected_as_there_can_be(top_n: object, count: int) -> None:
    found = asked(top_n=top_n)
    assert found == ParsedRequest(
        model="m",
        mode=JSON,
        shape="json",
        choices=count,
        inputs=3,
        temperature=0.0,
        is_deterministic=True,
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
        {"query": None},
        {"query": ["q"]},
        {"documents": None},
        {"documents": []},
        {"documents": "a"},
        {"documents": {"text": "a"}},
        {"documents": ["a", 1]},
        {"documents": ["a", ["b"]]},
        {"top_n": "1"},
        {"top_n": 1.5},
        {"top_n": True},
        {"top_n": -1},
    ],
)
def test_what_is_not_this_api_is_not_read(fields: dict[str, object]) -> None:
    assert parsed(**fields) is None


URL = "https://example.org/a.png"


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"query": URL, "documents": [URL]}, None),
        ({"query": {"text": URL}, "documents": [{"text": URL}]}, None),
        ({"documents": [{"image": "iVBORw0KGgo="}]}, None),
        ({"documents": [{"content": [{"type": "text", "text": URL}]}]}, None),
        ({"documents": ["a", {"image": URL}]}, BypassReason.REMOTE_MEDIA),
        ({"query": {"image": URL}}, BypassReason.REMOTE_MEDIA),
        (
            {"documents": [{"content": [{"type": "image_url", "image_url": {"url": URL}}]}]},
            BypassReason.REMOTE_MEDIA,
        ),
    ],
)
def test_what_is_fetched_later_is_bypassed(
    fields: dict[str, object], reason: BypassReason | None
) -> None:
    assert asked(**fields).bypass is reason


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("/v1/rerank", NAME),
        ("/jina/v1/rerank", NAME),
        ("/v2/rerank", NAME),
        ("/rerank", NAME),
        ("/v1/reranking", NAME),
        ("/x/rerank", None),
        ("/v3/rerank", None),
        ("/v1/rerank/jobs", None),
    ],
)
def test_only_its_own_paths_are_in_the_dialect(path: str, name: str | None) -> None:
    found = match("POST", path)
    assert (found and found.name) == name


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
    assert count > 10
    turned = payload | {"documents": payload["documents"][::-1]}
    assert hashes(DIALECT, turned) != before


def test_the_table_knows_every_field_of_litellm() -> None:
    assert set(RerankRequest.model_fields) <= set(DIALECT.fields)
    assert all(field.note for field in DIALECT.fields.values() if field.role is Role.BYPASS)


def test_requests_of_about_one_size_are_one_conversation() -> None:
    assert DIALECT.keyed(MINIMAL) == MINIMAL
    one = DIALECT.conversation(MINIMAL)
    assert one == DIALECT.conversation(MINIMAL | {"documents": ["d"], "query": "p"})
    assert one != DIALECT.conversation(MINIMAL | {"documents": ["d" * 100_000]})
    assert one != DIALECT.conversation(MINIMAL | {"model": "n"})


TOKENS = {"cohere_v2": 33, "jina": 815, "llama_cpp": 40}
MODELS = {"jina": "jina-reranker-m0", "llama_cpp": "m"}


@pytest.mark.parametrize("path", ANSWERS, ids=lambda path: path.stem)
def test_whole_answers_are_kept(path: Path) -> None:
    found = DIALECT.judge(path.read_bytes(), JSON, asked())
    assert found.discard is None
    assert found.model == MODELS.get(path.stem, "")
    assert found.input_tokens == TOKENS.get(path.stem, 0)
    assert found.has_usage is (path.stem in TOKENS)
    assert DIALECT.render(path.read_bytes(), JSON, asked()) == path.read_bytes()


@pytest.mark.parametrize("path", files(NAME, "discarded"), ids=lambda path: path.stem)
def test_what_is_not_whole_is_not_kept(path: Path) -> None:
    found = DIALECT.judge(path.read_bytes(), JSON, asked())
    assert found.discard is not None
    assert path.name.startswith(f"{found.discard}.")


def test_an_answer_to_a_request_for_less_is_none() -> None:
    body = ANSWERS[0].read_bytes()
    assert DIALECT.judge(body, JSON, asked(top_n=2)).discard is not None
    assert DIALECT.judge(body, JSON, asked(documents=["a", "b"])).discard is not None
    assert DIALECT.judge(body, JSON, asked(documents=["a"] * 4, top_n=3)).discard is None


def test_there_are_no_streams() -> None:
    body = ANSWERS[0].read_bytes()
    assert DIALECT.judge(body, STREAM, asked()).discard is not None
    assert DIALECT.render(body, STREAM, asked()) is None


@given(st.binary() | st.recursive(st.none() | st.integers() | st.text(), st.lists).map(repr))
def test_no_bytes_make_judging_raise(body: bytes | str) -> None:
    whole = body if isinstance(body, bytes) else f'{{"results":{body}}}'.encode()
    assert DIALECT.judge(whole, JSON, asked()).discard is not None
    assert DIALECT.judge(b"[" * 100_000, JSON, asked()).discard is not None


@pytest.mark.parametrize(
    "path", [path for path in ANSWERS if path.stem != "jina"], ids=lambda path: path.stem
)
def test_litellm_reads_what_is_kept(path: Path) -> None:
    """Jina's documents, which are text, it takes apart before."""
    found = RerankResponse(**json.loads(path.read_bytes()))
    assert [result["index"] for result in found.results or []] == [2, 0, 1]


def test_cohere_s_sdk_reads_an_answer_and_an_error() -> None:
    """The error of only-if-cached: 504, in Cohere's shape."""
    whole = next(path for path in ANSWERS if path.stem == "cohere_v2").read_bytes()
    error = DIALECT.error_body("not there", kind="cache_miss", code="only_if_cached")
    replies = iter([httpx.Response(200, content=whole), httpx.Response(504, content=error)])
    headers = {"content-type": "application/json"}

    def reply(_: httpx.Request) -> httpx.Response:
        response = next(replies)
        response.headers.update(headers)
        return response

    with httpx.Client(transport=httpx.MockTransport(reply)) as http:
        client: Any = cohere.ClientV2("k", base_url="http://gateway", httpx_client=http)
        ask = {"model": "m", "query": "q", "documents": ["a", "b", "c"]}
        found = client.rerank(**ask)
        assert [(result.index, result.relevance_score) for result in found.results] == [
            (2, 0.98),
            (0, 0.5),
            (1, -0.001),
        ]
        with pytest.raises(cohere.GatewayTimeoutError) as caught:
            client.rerank(**ask, request_options={"max_retries": 0})
    assert caught.value.body == {"message": "not there"}
