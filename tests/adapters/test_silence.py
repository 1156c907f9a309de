"""A model may think for minutes before its next word; nobody is given up on for that."""

import asyncio

import pytest

from routecache_middleware.testing.clock import FakeClock
from tests.adapters.conftest import Gateway
from tests.support.apps import ScriptedApp, json_answer, sse_answer
from tests.support.asgi import Client, fetch, settle
from tests.support.chat import ask, chunks, completion

PIECES = chunks()
TEN_MINUTES_S = 600.0


async def let_time_pass(clock: FakeClock, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let ten minutes pass, for the cache's clock and for every timer of the event loop."""
    loop = asyncio.get_running_loop()
    now = loop.time
    monkeypatch.setattr(loop, "time", lambda: now() + TEN_MINUTES_S)
    clock.advance(TEN_MINUTES_S)
    await settle()


async def test_a_timer_would_be_heard(clock: FakeClock, monkeypatch: pytest.MonkeyPatch) -> None:
    """Control: time does pass in these tests."""
    rung = asyncio.Event()
    asyncio.get_running_loop().call_later(TEN_MINUTES_S - 1, rung.set)
    await let_time_pass(clock, monkeypatch)
    assert rung.is_set()


@pytest.mark.parametrize("silent_after", [0, 1, 2, 5])
@pytest.mark.parametrize("is_stream", [True, False], ids=["stream", "json"])
async def test_silence_of_minutes(
    gateway: Gateway,
    clock: FakeClock,
    monkeypatch: pytest.MonkeyPatch,
    silent_after: int,
    is_stream: bool,  # noqa: FBT001 - a parameter of the table
) -> None:
    """Leader and followers get all of it, whenever it comes, and it is stored."""
    answer = sse_answer(PIECES) if is_stream else json_answer()
    whole = b"".join(PIECES) if is_stream else completion()
    app = ScriptedApp(answer, is_stepped=True)
    cached = gateway(app, result_ttl_s=10_000.0)
    body = ask(stream=is_stream)
    clients = [Client(cached, body).start() for _ in range(3)]
    await settle()
    await app.call.step(min(silent_after, len(answer) - 1))
    await let_time_pass(clock, monkeypatch)
    await app.call.step(len(answer))
    got = [await client.end() for client in clients]
    assert [one.body for one in got] == [whole] * 3
    assert sorted(str(one.outcome) for one in got) == ["COALESCED", "COALESCED", "MISS"]
    assert len(app.calls) == 1
    assert (await fetch(cached, body)).outcome == "HIT"
