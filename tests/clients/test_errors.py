"""Errors: the very exception, with the very body, that a library raises without us; never kept."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from tests.clients.asks import ASKS, FIELDS, Ask, asks_of
from tests.clients.equal import dump, live_and_hit
from tests.clients.kit import Kit
from tests.clients.scripted import Answer, in_both_modes
from tests.clients.test_answers import fixture_of
from tests.support.wire import files

STATUSES = (400, 401, 403, 404, 409, 413, 422, 429, 500, 502, 503, 529)
KINDS = {401: "authentication_error", 404: "not_found_error", 429: "rate_limit_error"}
PLAIN = ["chat", "chat_async", "chat_chunks", "completion", "response", "response_events"]
PLAIN += ["message", "message_async", "message_events"]
TABLE = [ask for ask in ASKS if ask.name in PLAIN]
MIDWAY = [
    pytest.param(ask, path, id=f"{ask.name}-{path.stem}")
    for ask in ASKS
    for path in files(ask.dialect, "discarded")
    if path.name.startswith("error-body") and (path.suffix == ".sse") is ask.is_stream
]


def error_of(dialect: str, status: int) -> bytes:
    """Return an error in the shape of an API."""
    error = {"type": KINDS.get(status, "invalid_request_error"), "message": f"no: {status}"}
    if dialect.startswith("anthropic"):
        return json.dumps({"type": "error", "error": error, "request_id": "req_1"}).encode()
    return json.dumps({"error": error | {"param": None, "code": f"code_{status}"}}).encode()


def raised(call: Callable[[], Any]) -> Any:
    """Return all that an error says; or what the call returned, should it not raise."""
    try:
        return ("returned", call())
    except Exception as error:  # noqa: BLE001 - which one it is, is the question
        said = {
            name: dump(getattr(error, name, None))
            for name in ("status_code", "body", "code", "param", "type", "request_id", "message")
        }
        return (type(error), str(error), said)


@pytest.mark.parametrize("status", STATUSES)
@pytest.mark.parametrize("ask", TABLE, ids=lambda ask: ask.name)
def test_an_error_is_the_one_that_it_is_without_us(kit: Kit, ask: Ask, status: int) -> None:
    kit.script(lambda _: Answer(error_of(ask.dialect, status), status))
    without_us = raised(lambda: ask.run(kit.direct(), FIELDS[ask.dialect]))
    assert without_us[2]["status_code"] == status
    for _ in range(2):
        assert raised(lambda: ask.run(kit, FIELDS[ask.dialect])) == without_us
    assert kit.outcomes == ["MISS", "MISS"]
    assert len(kit.calls) == 3


@pytest.mark.parametrize(("ask", "path"), MIDWAY)
def test_an_error_after_200_is_the_one_that_it_is_without_us(kit: Kit, ask: Ask, path: Any) -> None:
    """In the midst of a stream, or a body that holds nothing but an error."""
    kit.script(lambda _: Answer(path.read_bytes()))
    without_us = raised(lambda: ask.run(kit.direct(), FIELDS[ask.dialect]))
    for _ in range(2):
        assert raised(lambda: ask.run(kit, FIELDS[ask.dialect])) == without_us
        assert kit.exchanges[-1].body == path.read_bytes()
    assert kit.outcomes == ["MISS", "MISS"]
    assert len(kit.calls) == 3


@pytest.mark.parametrize("ask", TABLE, ids=lambda ask: ask.name)
def test_only_if_cached_is_an_error_of_the_api_or_a_hit(kit: Kit, ask: Ask) -> None:
    """RFC 9111 section 5.2.1.7: 504 when nothing is there; never the upstream."""
    kit.script(in_both_modes(*fixture_of(ask.dialect, "text")))
    fields = FIELDS[ask.dialect]
    only_if_cached = fields | {"extra_headers": {"cache-control": "only-if-cached"}}
    _, _, said = raised(lambda: ask.run(kit, only_if_cached))
    assert said["status_code"] == 504
    error = said["body"]["error"] if ask.dialect.startswith("anthropic") else said["body"]
    assert (error["type"], "only-if-cached" in error["message"]) == ("cache_miss", True)
    if ask.dialect.startswith("anthropic"):
        assert said["body"]["type"] == "error"
    else:
        assert said["code"] == "only_if_cached"
    assert kit.calls == []
    found, _ = live_and_hit(kit.gateway, kit.key, lambda: ask.run(kit, fields))
    assert ask.run(kit, only_if_cached) == found
    assert kit.outcomes == ["MISS", "MISS", "HIT", "HIT"]


@pytest.mark.parametrize("ask", TABLE, ids=lambda ask: ask.name)
def test_who_tries_again_by_itself_asks_the_same(kit: Kit, ask: Ask) -> None:
    """A retry has another ``x-stainless-retry-count``, and an idempotency key goes through."""
    pair = fixture_of(ask.dialect, "text")
    bad = Answer(error_of(ask.dialect, 500), 500, (("retry-after-ms", "1"),))
    good = Answer(pair[ask.is_stream])
    kit.script(lambda _: bad if len(kit.calls) == 1 else good)
    kit.retries = 1
    fields = FIELDS[ask.dialect]
    found = ask.run(kit, fields | {"extra_headers": {"idempotency-key": "first"}})
    again = ask.run(kit, fields | {"extra_headers": {"idempotency-key": "second"}})
    asked_otherwise = {"x-stainless-lang": "other", "user-agent": "other", "x-request-id": "7"}
    third = ask.run(kit, fields | {"extra_headers": asked_otherwise})
    assert found == again == third
    assert kit.outcomes == ["MISS", "MISS", "HIT", "HIT"]
    counts = [exchange.asked["x-stainless-retry-count"] for exchange in kit.exchanges]
    assert counts[:2] == ["0", "1"]
    assert [call.headers["idempotency-key"] for call in kit.calls] == ["first", "first"]


def test_every_api_has_errors_in_its_tables() -> None:
    assert {ask.dialect for ask in TABLE} == set(FIELDS)
    assert {row.values[0].dialect for row in MIDWAY} == set(FIELDS)  # type: ignore[union-attr]
    assert all(asks_of(dialect) for dialect in FIELDS)
