"""Clients that leave: early, late, or because they waited too long; the next request is right."""

import threading
from contextlib import suppress
from typing import Any

import httpx
import httpx2
import pytest
from anthropic import APITimeoutError as AnthropicTimeout
from openai import APITimeoutError

from tests.clients.asks import FIELDS, asks_of
from tests.clients.equal import served
from tests.clients.kit import Kit
from tests.clients.scripted import Answer, in_both_modes
from tests.clients.serving import Exchange
from tests.clients.test_answers import fixture_of

# Of an answer that has begun, both libraries let the error of what is below them through.
TIMEOUTS = (APITimeoutError, AnthropicTimeout, httpx.ReadTimeout, httpx2.ReadTimeout)
DIALECTS = sorted(FIELDS)
_PLAIN = {
    "openai.chat": ("chat", "chat_helper"),
    "openai.completions": ("completion", "completion_chunks"),
    "openai.responses": ("response", "response_helper"),
    "anthropic.messages": ("message", "message_helper"),
}


def answered(kit: Kit, dialect: str, *, stream: bool) -> Exchange:
    """Ask in the plain way for an answer that is the one that one gets without us."""
    (ask,) = [ask for ask in asks_of(dialect) if ask.name == _PLAIN[dialect][stream]]
    kit.script(in_both_modes(*fixture_of(dialect, "text")))
    live = ask.run(kit.direct(), FIELDS[dialect])
    found, exchange = served(kit.gateway, kit.key, lambda: ask.run(kit, FIELDS[dialect]))
    assert exchange.outcome in ("MISS", "HIT")
    if stream:  # a JSON answer may have been made of a stream, and is then spaced otherwise
        assert exchange.body == fixture_of(dialect, "text")[True]
    assert found == live
    return exchange


def begin(kit: Kit, dialect: str, events_read: int) -> None:
    """Start a stream, read so many events, and close it."""
    fields: dict[str, Any] = FIELDS[dialect] | {"stream": True}
    if dialect == "anthropic.messages":
        with kit.anthropic() as claude, claude.messages.create(**fields) as events:
            _read(events, events_read)
        return
    if dialect != "openai.responses":
        fields |= {"stream_options": {"include_usage": True}}
    with kit.openai() as client:
        create: Any = {
            "openai.chat": client.chat.completions.create,
            "openai.completions": client.completions.create,
            "openai.responses": client.responses.create,
        }[dialect]
        with create(**fields) as events:
            _read(events, events_read)


def _read(events: Any, count: int) -> None:
    for _ in range(count):
        next(iter(events))


@pytest.mark.parametrize("events_read", [0, 1, 3])
@pytest.mark.parametrize("dialect", DIALECTS)
def test_a_stream_that_is_closed_early_leaves_the_next_request_right(
    kit: Kit, dialect: str, events_read: int
) -> None:
    """The upstream is still speaking when the client hangs up."""
    _, stream = fixture_of(dialect, "text")
    rest = threading.Event()
    half = len(stream) * 2 // 3
    kit.script(lambda _: Answer([stream[:half], rest, stream[half:]]))
    try:
        begin(kit, dialect, events_read)
    finally:
        rest.set()
    answered(kit, dialect, stream=True)
    answered(kit, dialect, stream=False)


@pytest.mark.parametrize("dialect", DIALECTS)
def test_closing_a_hit_early_leaves_the_next_one_whole(kit: Kit, dialect: str) -> None:
    answered(kit, dialect, stream=True)
    begin(kit, dialect, 1)
    assert answered(kit, dialect, stream=True).outcome == "HIT"


@pytest.mark.parametrize("is_stream", [False, True], ids=["json", "stream"])
@pytest.mark.parametrize("dialect", DIALECTS)
def test_who_waits_too_long_gets_its_timeout_and_the_next_one_an_answer(
    kit: Kit,
    dialect: str,
    is_stream: bool,  # noqa: FBT001 - a parameter of the table
) -> None:
    body = fixture_of(dialect, "text")[is_stream]
    gate = threading.Event()
    kit.script(lambda _: Answer([gate, body]))
    (ask,) = [ask for ask in asks_of(dialect) if ask.name == _PLAIN[dialect][is_stream]]
    kit.timeout_s = 0.3
    try:
        with pytest.raises(TIMEOUTS):
            ask.run(kit, FIELDS[dialect])
    finally:
        gate.set()
        kit.timeout_s = 30.0
    answered(kit, dialect, stream=is_stream)


@pytest.mark.parametrize("dialect", DIALECTS)
def test_an_answer_that_breaks_off_is_never_a_whole_one(kit: Kit, dialect: str) -> None:
    """What came so far is an incomplete stream: it is passed on as it is, and not kept."""
    _, stream = fixture_of(dialect, "text")
    kit.script(lambda _: Answer(stream[: len(stream) // 2]))
    ask = next(ask for ask in asks_of(dialect) if ask.is_stream and "helper" not in ask.name)
    for _ in range(2):
        with suppress(Exception):  # half an event may not even parse
            ask.run(kit, FIELDS[dialect])
        assert kit.exchanges[-1].body == stream[: len(stream) // 2]
    assert kit.outcomes == ["MISS", "MISS"]
    answered(kit, dialect, stream=True)
