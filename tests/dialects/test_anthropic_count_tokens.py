"""Anthropic token counting: requests read, counts judged."""

import json

import anthropic
import httpx2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from routecache_middleware.core.choices import Mode
from routecache_middleware.core.dialect import Dialect, Judgement, ParsedRequest
from routecache_middleware.core.directives import NO_DIRECTIVES
from routecache_middleware.core.models import BypassReason, DiscardReason, ResponseMode
from routecache_middleware.core.plan import Proceed, plan_request, plan_store
from routecache_middleware.core.policy import CachePolicy
from routecache_middleware.core.settings import Settings
from routecache_middleware.dialects.anthropic_count_tokens import AnthropicCountTokens
from tests.support.wire import asked, files, hashes, mutations

JSON, STREAM = ResponseMode.JSON, ResponseMode.STREAM
DIALECT: Dialect = AnthropicCountTokens()
USER = {"role": "user", "content": "hi"}
MINIMAL: dict[str, object] = {"model": "claude", "messages": [USER]}
READ = ParsedRequest(model="claude", mode=JSON, shape="json", temperature=0, is_deterministic=True)


def judged(body: bytes) -> Judgement:
    return DIALECT.judge(body, JSON, READ)


def test_a_request_is_read() -> None:
    assert DIALECT.parse(MINIMAL) == READ


@pytest.mark.parametrize(
    "fields",
    [
        {"model": None},
        {"messages": []},
        {"messages": "hi"},
        {"tools": "x"},
    ],
)
def test_what_is_not_this_api_is_not_read(fields: dict[str, object]) -> None:
    assert DIALECT.parse(MINIMAL | fields) is None


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"tools": [{"type": "web_search_20260318", "name": "web_search"}]}, None),
        ({"mcp_servers": [{}]}, BypassReason.SERVER_TOOLS),
        ({"thread": {"type": "continue"}}, BypassReason.STATEFUL),
        (
            {"messages": [USER | {"content": [{"source": {"type": "url", "url": "https://x"}}]}]},
            BypassReason.REMOTE_MEDIA,
        ),
    ],
)
def test_tools_are_counted_not_run(fields: dict[str, object], reason: BypassReason | None) -> None:
    found = DIALECT.parse(MINIMAL | fields)
    assert found is not None
    assert found.bypass is reason


def test_no_limit_on_temperature_and_no_finish_reason_keeps_a_count_out() -> None:
    policy = CachePolicy(max_temperature=0.0, finish_reasons=frozenset())
    plan = plan_request(READ, NO_DIRECTIVES, Settings(), policy, Mode.ON)
    assert isinstance(plan, Proceed)
    assert plan_store(judged(b'{"input_tokens":57}'), READ, policy) is None


def test_the_key_is_that_of_messages() -> None:
    marked = {
        "messages": [USER | {"content": [{"type": "text", "text": "hi", "cache_control": 1}]}]
    }
    assert hashes(DIALECT, MINIMAL | marked) == hashes(DIALECT, MINIMAL)
    assert DIALECT.conversation(DIALECT.keyed(MINIMAL)) == DIALECT.conversation(
        DIALECT.keyed(MINIMAL | marked)
    )


def test_any_change_changes_the_key_unless_the_table_says_otherwise() -> None:
    payload = {
        name: value
        for name, value in json.loads(
            files("anthropic.messages", "requests")[-1].read_bytes()
        ).items()
        if name in DIALECT.fields
    }
    before = hashes(DIALECT, payload)
    for where, changed in mutations(payload):
        is_kept = where[0] in DIALECT.ignored_fields
        assert (hashes(DIALECT, changed) == before) is is_kept, where


def test_the_table_knows_every_field_of_the_sdk() -> None:
    known = anthropic.types.message_count_tokens_params.MessageCountTokensParams.__annotations__
    beta = anthropic.types.beta.message_count_tokens_params.MessageCountTokensParams.__annotations__
    in_headers = {"betas", "user_profile_id", "workspace_id"}
    assert {*known, *beta} - in_headers <= set(DIALECT.fields)


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b'{"input_tokens":57}', None),
        (b'{"input_tokens":0,"context_management":{"original_input_tokens":1}}', None),
        (b'{"type":"error","error":{"type":"overloaded_error"}}', DiscardReason.ERROR_BODY),
        (b"{}", DiscardReason.EMPTY),
        (b'{"input_tokens":null}', DiscardReason.EMPTY),
        (b'{"input_tokens":"57"}', DiscardReason.INCOMPLETE),
        (b'{"input_tokens":5', DiscardReason.INCOMPLETE),
        (b"[]", DiscardReason.INCOMPLETE),
        (b"", DiscardReason.INCOMPLETE),
    ],
)
def test_counts_are_judged(body: bytes, reason: DiscardReason | None) -> None:
    assert judged(body) == Judgement(discard=reason)


@given(st.binary())
def test_no_bytes_make_judge_raise(body: bytes) -> None:
    assert judged(body).discard is not None


def test_there_is_no_other_form() -> None:
    body = b'{"input_tokens":57}'
    assert DIALECT.render(body, JSON, READ) is body
    assert DIALECT.render(body, JSON, asked(STREAM)) is None
    assert DIALECT.render(body, STREAM, READ) is None


def test_errors_have_the_shape_of_anthropic() -> None:
    body = DIALECT.error_body("nothing stored", kind="cache_miss", code="only_if_cached")
    assert json.loads(body)["error"] == {"type": "cache_miss", "message": "nothing stored"}


def test_the_sdk_reads_a_count() -> None:
    body = b'{"input_tokens":57}'
    fixed = httpx2.MockTransport(
        lambda request: httpx2.Response(
            200, headers={"content-type": "application/json"}, content=body
        )
    )
    with anthropic.Anthropic(api_key="k", http_client=httpx2.Client(transport=fixed)) as client:
        found = client.messages.count_tokens(
            model="claude", messages=[{"role": "user", "content": "hi"}]
        )
    assert found.input_tokens == 57
