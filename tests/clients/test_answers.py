"""Every fixture, asked for in every way that the official libraries know: live, hit, converted."""

from typing import Any

import pytest

from tests.clients.asks import ASKS, FIELDS, Ask, Streamed, asks_of
from tests.clients.equal import live, live_and_hit, served
from tests.clients.kit import Kit
from tests.clients.scripted import in_both_modes
from tests.support.wire import FIXTURES, names_of_pairs

ROWS = [(ask, name) for ask in ASKS for name in names_of_pairs(ask.dialect)]
TABLE = [pytest.param(ask, name, id=f"{ask.name}-{name}") for ask, name in ROWS]
CONVERTED = [
    pytest.param(ask, name, id=f"{ask.name}-{name}") for ask, name in ROWS if not ask.is_raw
]


def fixture_of(dialect: str, name: str) -> tuple[bytes, bytes]:
    """Return an answer as JSON and as a stream."""
    folder = FIXTURES / dialect / "answers"
    return (folder / f"{name}.json").read_bytes(), (folder / f"{name}.sse").read_bytes()


def asked_for(ask: Ask, name: str) -> dict[str, Any]:
    """Return what to ask for so that a fixture is an answer to it: as many choices as it has."""
    fields = dict(FIELDS[ask.dialect])
    if name == "two_choices_logprobs":
        return fields | {"n": 2, "logprobs": True, "top_logprobs": 1}
    if name == "two_prompts_logprobs":
        return fields | {"prompt": ["hi", "ho"], "n": 2, "logprobs": 2}
    return fields


def test_every_api_with_answers_is_asked_in_both_modes() -> None:
    with_answers = {path.parent.name for path in FIXTURES.glob("*/answers")}
    for dialect in with_answers & set(FIELDS):
        assert {ask.is_stream for ask in asks_of(dialect)} == {False, True}
    assert set(FIELDS) <= with_answers


@pytest.mark.parametrize(("ask", "name"), TABLE)
def test_a_hit_is_parsed_as_the_live_answer(kit: Kit, ask: Ask, name: str) -> None:
    """Issue 5: by headers and speed only; every object, chunk and event, and every byte."""
    pair = fixture_of(ask.dialect, name)
    kit.script(in_both_modes(*pair))
    fields = asked_for(ask, name)
    _, hit = live_and_hit(kit.gateway, kit.key, lambda: ask.run(kit, fields))
    assert hit.body == pair[ask.is_stream]
    assert len(kit.calls) == len(kit.exchanges) - 1


@pytest.mark.parametrize(("ask", "name"), CONVERTED)
def test_an_answer_in_the_other_mode_is_parsed_as_a_live_one(kit: Kit, ask: Ask, name: str) -> None:
    """What is stored in one mode answers the other as the upstream itself would have.

    Of a JSON answer everything has to be equal. Of a stream, what the library makes of it in the
    end; how the text is cut into chunks is nowhere said in a JSON answer, and ``obfuscation`` is
    random padding.
    """
    kit.script(in_both_modes(*fixture_of(ask.dialect, name)))
    fields = asked_for(ask, name)
    without_us = ask.run(kit.direct(), fields)
    live(kit.gateway, kit.key, lambda: asks_of_other_mode(ask).run(kit, fields))
    calls = len(kit.calls)
    found, hit = served(kit.gateway, kit.key, lambda: ask.run(kit, fields))
    assert hit.outcome == "HIT"
    assert len(kit.calls) == calls
    if isinstance(without_us, Streamed):
        assert without_us.final
        assert without(found.final, "obfuscation") == without(without_us.final, "obfuscation")
    else:
        assert found == without_us


def asks_of_other_mode(ask: Ask) -> Ask:
    """Return the plain way to ask for the other mode; beta calls have keys of their own."""
    others = [other for other in asks_of(ask.dialect) if other.is_stream != ask.is_stream]
    of_kind = [other for other in others if ("beta" in other.name) == ("beta" in ask.name)]
    return of_kind[0]


def without(value: Any, name: str) -> Any:
    """Return plain data without the members of one name, at any depth."""
    if isinstance(value, dict):
        return {n: without(item, name) for n, item in value.items() if n != name}
    if isinstance(value, list | tuple):
        return [without(item, name) for item in value]
    return value
