"""Which requests may take the fast lane, by their body."""

import pytest

from routecache_middleware.adapters.litellm.fastlane.dialect import LaneChat, LaneRequest
from routecache_middleware.core.fingerprint import KeyContext, fingerprint
from routecache_middleware.core.models import BypassReason

PLAIN = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}
CONTEXT = KeyContext("litellm.chat", "", "/v1/chat/completions", b"", ())


def parse(**fields: object) -> LaneRequest:
    parsed = LaneChat().parse({**PLAIN, **fields})
    assert isinstance(parsed, LaneRequest)
    return parsed


def key(**fields: object) -> str:
    return fingerprint({**PLAIN, **fields}, dialect=LaneChat(), context=CONTEXT).result


def test_a_plain_request_may() -> None:
    parsed = parse(temperature=0, max_tokens=5, stream=True, user="u", seed=1)
    assert parsed.bypass is None
    assert (parsed.user, parsed.model, parsed.shape) == ("u", "m", "stream")
    assert parse().user == ""


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
        "a_field_that_a_later_release_understands",
    ],
)
def test_a_field_that_makes_litellm_do_more_keeps_out(name: str) -> None:
    assert parse(**{name: True}).bypass is not None


@pytest.mark.parametrize("fields", [{"user": 5}, {"user": {"a": 1}}, {"model": "a,b"}])
def test_an_odd_user_or_several_models_keep_out(fields: dict[str, object]) -> None:
    assert parse(**fields).bypass is BypassReason.DISABLED


def test_what_openai_chat_never_caches_keeps_out() -> None:
    assert parse(tools=[{"type": "web_search"}]).bypass is BypassReason.SERVER_TOOLS


def test_what_is_no_chat_is_none_here() -> None:
    assert LaneChat().parse({"model": "m"}) is None


def test_another_user_is_another_question() -> None:
    assert len({key(), key(user="a"), key(user="b")}) == 3


def test_the_order_of_fields_and_the_kind_of_number_make_no_difference() -> None:
    assert key(temperature=1, n=1) == key(n=1, temperature=1.0)
