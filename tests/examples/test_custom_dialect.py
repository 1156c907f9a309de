"""The example of an API of one's own: sixty lines, and the whole cache works for it."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from examples import custom_dialect
from examples.custom_dialect import Translate
from routecache_middleware import RouteCache, RouteCacheMiddleware
from routecache_middleware.core.dialect import Dialect, ParsedRequest
from routecache_middleware.core.models import DiscardReason, ResponseMode
from routecache_middleware.dialects import table
from routecache_middleware.dialects.table import DIALECTS
from tests.support.apps import ScriptedApp, json_answer
from tests.support.asgi import fetch, scope_of
from tests.support.wire import hashes, mutations

DIALECT: Dialect = Translate()
ASKED: dict[str, object] = {"model": "m", "text": "hello", "target": "de", "request_id": "1"}
REQUEST = ParsedRequest("m", ResponseMode.JSON, "json", is_deterministic=True)


@pytest.fixture(autouse=True)
def _scratch() -> Iterator[None]:
    before = dict(DIALECTS)
    custom_dialect.add()
    yield
    DIALECTS.clear()
    DIALECTS.update(before)
    table._refresh()


def test_it_is_short() -> None:
    assert len(Path(custom_dialect.__file__).read_text().splitlines()) <= 70


def test_it_is_found_by_its_path() -> None:
    found = table.match("POST", "/v1/translate")
    assert isinstance(found, Translate)


def test_requests_are_read_and_keyed() -> None:
    assert DIALECT.parse(ASKED) == REQUEST
    assert DIALECT.parse({"model": "m"}) is None
    assert DIALECT.conversation(ASKED) == "de"
    before = hashes(DIALECT, ASKED)
    assert hashes(DIALECT, ASKED | {"target": "DE"}) == before
    for where, changed in mutations(ASKED):
        assert (hashes(DIALECT, changed) == before) is (where[0] == "request_id"), where


@pytest.mark.parametrize(
    ("body", "discard"),
    [
        (b'{"translation":"hallo"}', None),
        (b'{"translation":""}', DiscardReason.INCOMPLETE),
        (b"{}", DiscardReason.INCOMPLETE),
        (b"[]", DiscardReason.INCOMPLETE),
        (b"\xff", DiscardReason.INCOMPLETE),
        (b"[" * 100_000, DiscardReason.INCOMPLETE),
    ],
)
def test_answers_are_judged(body: bytes, discard: DiscardReason | None) -> None:
    assert DIALECT.judge(body, ResponseMode.JSON, REQUEST).discard is discard
    assert DIALECT.render(body, ResponseMode.JSON, REQUEST) is body
    assert DIALECT.render(body, ResponseMode.STREAM, REQUEST) is None


def test_errors_are_its_own() -> None:
    assert json.loads(DIALECT.error_body("no", kind="k", code="c"))["error"] == "no"


async def test_the_whole_cache_works_for_it() -> None:
    app = ScriptedApp(json_answer(b'{"translation":"hallo"}'))
    cache = RouteCache(url="memory://", observers=[])
    mw = RouteCacheMiddleware(app, cache=cache)
    async with cache:
        for target, outcome in (("de", "MISS"), ("DE", "HIT"), ("fr", "MISS")):
            body = json.dumps(ASKED | {"target": target, "request_id": target}).encode()
            got = await fetch(mw, body, scope=scope_of(path="/v1/translate"))
            assert (got.body, got.outcome) == (b'{"translation":"hallo"}', outcome)
