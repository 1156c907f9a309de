"""Records that are printed or logged show neither prompts nor answers nor credentials."""

import pytest

from routecache_middleware import LLMRequest, QueryResult, Settings
from routecache_middleware.core.body_directives import BodyDirectives
from routecache_middleware.core.fingerprint import KeyContext
from routecache_middleware.core.keys import Layer
from routecache_middleware.core.models import START, Entry, MissReason, ResponseMode
from routecache_middleware.core.plan import Forward, Serve
from routecache_middleware.core.ports import Fetched, Found

WORD = "word-that-must-not-be-seen"
RAW = WORD.encode()
ENTRY = Entry(
    Layer.RESULT,
    RAW,
    1.5,
    60.0,
    scopes=(f"tenant:{WORD}", f"tag:{WORD}"),  # type: ignore[arg-type]
    model_id="gpt-4o",
    headers=((b"x-account", RAW),),
)
SERVED = Serve(ENTRY, 1.0, 59.0)
RECORDS = [
    ENTRY,
    SERVED,
    Forward(MissReason.EXPIRED, SERVED),
    Fetched((ENTRY,), START),
    Found(ENTRY),
    QueryResult(RAW, "gpt-4o", headers=((b"x-account", RAW),)),
    Settings(secret=RAW, previous_secrets=(RAW,)),
    LLMRequest("m", "openai.chat", "/", ResponseMode.JSON, "0" * 32, WORD, RAW),
    KeyContext("openai.chat", "", "/v1", b"key=" + RAW, ((b"openai-organization", RAW),)),
    BodyDirectives(namespace=WORD),
]


@pytest.mark.parametrize("record", RECORDS, ids=lambda record: type(record).__name__)
def test_what_is_secret_is_not_shown(record: object) -> None:
    assert WORD not in f"{record!r} {record}"


def test_an_entry_still_says_which_it_is() -> None:
    assert repr(ENTRY) == (
        "Entry(result, 26 bytes of json, model_id='gpt-4o', created_s=1.5, "
        "freshness_lifetime_s=60.0, position=0)"
    )
    assert repr(RECORDS[8]) == "KeyContext(openai.chat, '/v1', 1 headers)"
