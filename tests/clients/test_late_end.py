"""Clients hang up at the terminal marker, often before the response ends."""

import threading
import time

import pytest

from tests.clients.asks import FIELDS, asks_of
from tests.clients.kit import Kit
from tests.clients.scripted import Answer
from tests.clients.test_answers import fixture_of
from tests.support.child import wait_until


@pytest.mark.parametrize(
    ("dialect", "name"),
    [("openai.completions", "completion_chunks"), ("openai.chat", "chat_chunks")],
)
def test_an_answer_whose_end_comes_late_is_kept_although_the_client_left_at_its_marker(
    kit: Kit, dialect: str, name: str
) -> None:
    """OpenAI's library closes the connection at ``[DONE]``."""
    _, stream = fixture_of(dialect, "text")
    (ask,) = [ask for ask in asks_of(dialect) if ask.name == name]
    end = threading.Event()
    kit.script(lambda _: Answer([stream, end]))
    ask.run(kit, FIELDS[dialect])
    time.sleep(0.5)
    end.set()
    wait_until(lambda: kit.exchanges[0].is_over, "over")
    ask.run(kit, FIELDS[dialect])
    assert kit.outcomes == ["MISS", "HIT"]
