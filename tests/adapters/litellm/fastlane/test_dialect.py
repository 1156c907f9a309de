"""Which requests may take the fast lane, by their body."""

from typing import Any

import pytest

from routecache_middleware.adapters.litellm.fastlane.dialect import (
    CHAT,
    EMBEDDINGS,
    LANES,
    MESSAGES,
    RESPONSES,
    TEXT,
    LaneDialect,
    LaneRequest,
)
from routecache_middleware.core.batch import Batched
from routecache_middleware.core.fingerprint import KeyContext, fingerprint
from routecache_middleware.core.models import BypassReason, ResponseMode
from tests.adapters.litellm.fastlane.asking import PLAIN

FURTHER: dict[LaneDialect, dict[str, Any]] = {
    CHAT: {"temperature": 0, "max_tokens": 5, "stream": True, "seed": 1},
    TEXT: {"temperature": 0, "max_tokens": 5, "suffix": "!", "echo": True, "best_of": 1},
    EMBEDDINGS: {"dimensions": 8, "encoding_format": "base64"},
    RESPONSES: {"instructions": "be kind", "stream": True, "reasoning": {"effort": "low"}},
    MESSAGES: {"system": "be kind", "stream": True, "thinking": {"type": "disabled"}},
}
ANY = pytest.mark.parametrize("lane", LANES, ids=lambda lane: lane.name)


def parse(lane: LaneDialect = CHAT, /, **fields: object) -> LaneRequest:
    parsed = lane.parse({**PLAIN[lane], **fields})
    assert isinstance(parsed, LaneRequest)
    return parsed


def key(lane: LaneDialect = CHAT, /, **fields: object) -> str:
    context = KeyContext(lane.name, "", "/v1/x", b"", ())
    return fingerprint({**PLAIN[lane], **fields}, dialect=lane, context=context).result


@ANY
def test_a_plain_request_may(lane: LaneDialect) -> None:
    parsed = parse(lane, **FURTHER[lane])
    assert parsed.bypass is None
    assert (parsed.user, parsed.model) == ("", "m")
    assert parse(lane).bypass is None


@pytest.mark.parametrize("lane", [CHAT, TEXT, EMBEDDINGS, RESPONSES], ids=lambda lane: lane.name)
def test_a_user_may_be_named(lane: LaneDialect) -> None:
    parsed = parse(lane, user="u")
    assert (parsed.bypass, parsed.user) == (None, "u")


@ANY
@pytest.mark.parametrize(
    "name",
    [
        "cache",
        "metadata",
        "litellm_metadata",
        "tags",
        "guardrails",
        "fallbacks",
        "mock_response",
        "mock_testing_fallbacks",
        "num_retries",
        "api_key",
        "api_base",
        "caching",
        "ttl",
        "prompt_id",
        "litellm_session_id",
        "extra_body",
        "store",
        "service_tier",
        "background",
        "previous_response_id",
        "container",
        "context_management",
        "mcp_servers",
        "a_field_that_a_later_release_understands",
    ],
)
def test_a_field_that_makes_litellm_do_more_keeps_out(lane: LaneDialect, name: str) -> None:
    assert parse(lane, **{name: True}).bypass is not None


@pytest.mark.parametrize("fields", [{"user": 5}, {"user": {"a": 1}}, {"model": "a,b"}])
@pytest.mark.parametrize("lane", [CHAT, TEXT, EMBEDDINGS, RESPONSES], ids=lambda lane: lane.name)
def test_an_odd_user_or_several_models_keep_out(
    lane: LaneDialect, fields: dict[str, object]
) -> None:
    assert parse(lane, **fields).bypass is BypassReason.DISABLED


@pytest.mark.parametrize(
    ("lane", "fields", "reason"),
    [
        (CHAT, {"tools": [{"type": "web_search"}]}, BypassReason.SERVER_TOOLS),
        (MESSAGES, {"tools": [{"type": "web_search_20250305"}]}, BypassReason.SERVER_TOOLS),
        (MESSAGES, {"user": "u"}, BypassReason.DISABLED),  # no field of that API
        (RESPONSES, {"store": None}, BypassReason.STORE),  # the default is to store
        (RESPONSES, {"store": True}, BypassReason.STORE),
        (RESPONSES, {"tools": [{"type": "file_search"}]}, BypassReason.SERVER_TOOLS),
        (RESPONSES, {"metadata": {}}, BypassReason.DISABLED),
        (TEXT, {"stream": True}, BypassReason.DISABLED),
        (EMBEDDINGS, {"input": [1, 2, 3]}, BypassReason.DISABLED),
        (EMBEDDINGS, {"input": [[1, 2], [3]]}, BypassReason.DISABLED),
        (EMBEDDINGS, {"input": ["x"] * 64}, None),
        (EMBEDDINGS, {"input": ["x"] * 65}, BypassReason.DISABLED),
    ],
)
def test_what_an_api_never_caches_here_keeps_out(
    lane: LaneDialect, fields: dict[str, object], reason: BypassReason | None
) -> None:
    assert parse(lane, **fields).bypass is reason


@ANY
def test_what_is_no_request_of_an_api_is_none_here(lane: LaneDialect) -> None:
    body = {name: value for name, value in PLAIN[lane].items() if name != "model"}
    assert lane.parse(body) is None  # one that only the path names is LiteLLM's matter


@pytest.mark.parametrize("name", ["user", "safety_identifier"])
def test_another_user_is_another_question(name: str) -> None:
    for lane in (CHAT, TEXT, RESPONSES):
        keys = {key(lane), key(lane, **{name: "a"}), key(lane, **{name: "b"})}
        assert len(keys) == 3


def test_whoever_litellm_may_take_for_the_user_needs_a_lease() -> None:
    """It looks at ``safety_identifier`` when ``user`` is empty, or only blanks."""
    users = [
        parse(**fields).user
        for fields in (
            {},
            {"user": "a"},
            {"safety_identifier": "a"},
            {"user": " ", "safety_identifier": "a"},
            {"user": " ", "safety_identifier": "b"},
        )
    ]
    assert len(set(users)) == 5


@ANY
def test_the_order_of_fields_and_the_kind_of_number_make_no_difference(lane: LaneDialect) -> None:
    assert key(lane, temperature=1, top_k=1) == key(lane, top_k=1.0, temperature=1.0)


def test_only_a_chat_and_its_stream_share_an_answer() -> None:
    assert key(CHAT, stream=True) == key(CHAT)
    for lane in (RESPONSES, MESSAGES, TEXT):
        assert key(lane, stream=True) != key(lane)
        request = parse(lane)
        assert lane.render(b"{}", ResponseMode.STREAM, request) is None
    assert key(EMBEDDINGS, encoding_format="base64") != key(EMBEDDINGS)
    assert key(EMBEDDINGS, input=["x"]) != key(EMBEDDINGS, input="x")
    chat = b'{"id":"1","choices":[{"index":0,"message":{"content":"x"},"finish_reason":"stop"}]}'
    replayed = CHAT.render(chat, ResponseMode.JSON, parse(CHAT, stream=True))
    assert replayed is not None
    assert replayed.endswith(b"data: [DONE]\n\n")


def test_no_request_is_taken_apart_in_front_of_litellm() -> None:
    assert not any(isinstance(lane, Batched) for lane in LANES)


@ANY
def test_what_a_dialect_says_besides_is_its_apis_own(lane: LaneDialect) -> None:
    assert b"said" in lane.error_body("said", kind="k", code="c")
    assert "m" in str(lane.conversation(PLAIN[lane]))
    assert lane.judge(b"{", ResponseMode.JSON, parse(lane)).discard is not None
