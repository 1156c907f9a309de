"""Identical concurrent requests share one upstream call (design 9)."""

import asyncio
import threading
from typing import Any

import pytest

from routecache_middleware.core.dialect import Judgement
from routecache_middleware.dialects.openai_chat import OpenAIChat
from tests.adapters.conftest import Gateway
from tests.support.apps import ScriptedApp, sse_answer
from tests.support.asgi import Client, fetch, settle
from tests.support.chat import ask, chunks, completion

PIECES = chunks()
STREAM = ask(stream=True)


async def test_fifty_json_requests_make_one_call(gateway: Gateway) -> None:
    """Issue 2: exactly 1 upstream call."""
    app = ScriptedApp(is_stepped=True)
    mw = gateway(app)
    clients = [Client(mw).start() for _ in range(50)]
    await settle()
    assert len(app.calls) == 1
    await app.call.step(2)
    answers = [await client.end() for client in clients]
    assert {answer.body for answer in answers} == {completion()}
    assert all(answer.is_complete and answer.status == 200 for answer in answers)
    assert [answer.outcome for answer in answers].count("COALESCED") == 49
    assert {a.get("content-length") for a in answers} == {str(len(completion()))}
    assert answers[7].all("cache-status") == ["routecache; fwd=miss; collapsed"]
    assert (await fetch(mw)).outcome == "HIT"
    assert mw.cache.stats().result.coalesced == 49


async def test_fifty_streams_get_chunk_k_before_the_app_makes_the_next(gateway: Gateway) -> None:
    """Issue 2: followers see each chunk when the leader does."""
    app = ScriptedApp(sse_answer(PIECES), is_stepped=True)
    mw = gateway(app)
    clients = [Client(mw, STREAM).start() for _ in range(50)]
    await settle()
    assert len(app.calls) == 1
    await app.call.step()
    for k in range(1, len(PIECES) + 1):
        await app.call.step()
        assert app.call.sent == k + 1
        assert {client.response.body for client in clients} == {b"".join(PIECES[:k])}
    await app.call.step()
    for client in clients:
        answer = await client.end()
        assert answer.is_complete
        assert answer.get("content-type") == "text/event-stream; charset=utf-8"
    assert len(app.calls) == 1
    assert (await fetch(mw, STREAM)).outcome == "HIT"


async def test_who_joins_late_gets_everything_from_the_beginning(gateway: Gateway) -> None:
    """Chunks stay while the answer may still be joined."""
    app = ScriptedApp(sse_answer(PIECES), is_stepped=True)
    mw = gateway(app)
    leader = Client(mw, STREAM).start()
    await settle()
    await app.call.step(3)
    follower = Client(mw, STREAM).start()
    await settle()
    assert follower.response.body == b"".join(PIECES[:2]) == leader.response.body
    await app.call.step(4)
    assert (await follower.end()).body == (await leader.end()).body == b"".join(PIECES)
    assert len(app.calls) == 1


@pytest.mark.parametrize("leave_at", range(1 + len(PIECES)))
async def test_leaders_client_leaves_by_disconnect_and_the_rest_go_on(
    gateway: Gateway, leave_at: int
) -> None:
    """Spec 2.3: http.disconnect is withheld while followers remain; the answer is stored."""
    app = ScriptedApp(sse_answer(PIECES), is_stepped=True, listens=True)
    mw = gateway(app)
    leader = Client(mw, STREAM, leave_at=leave_at).start()
    await settle()
    followers = [Client(mw, STREAM).start() for _ in range(3)]
    await settle()
    await app.call.step(len(PIECES) + 2)
    for follower in followers:
        answer = await follower.end()
        assert answer.body == b"".join(PIECES)
        assert answer.is_complete
    assert app.call.saw == ""
    await leader.error()
    assert len(leader.got) == leave_at + 1
    assert (await fetch(mw, STREAM)).outcome == "HIT"
    assert len(app.calls) == 1


@pytest.mark.parametrize("fail_at", range(2 + len(PIECES)))
async def test_leaders_client_leaves_by_error_and_the_rest_go_on(
    gateway: Gateway, fail_at: int
) -> None:
    """Spec 2.4: the leader's OSError is not the app's business while followers remain."""
    app = ScriptedApp(sse_answer(PIECES), is_stepped=True)
    mw = gateway(app)
    leader = Client(mw, STREAM, fail_at=fail_at, spec="2.4").start()
    await settle()
    follower = Client(mw, STREAM, spec="2.4").start()
    await settle()
    await app.call.step(len(PIECES) + 2)
    assert (await follower.end()).body == b"".join(PIECES)
    assert app.call.saw == ""
    assert await leader.error() is None
    assert (await fetch(mw, STREAM)).outcome == "HIT"


@pytest.mark.parametrize("k", range(1, 1 + len(PIECES)))
async def test_everybody_leaves_and_the_app_sees_the_disconnect(gateway: Gateway, k: int) -> None:
    """Spec 2.3: as without us, http.disconnect once nobody listens any more; nothing is stored."""
    app = ScriptedApp(sse_answer(PIECES), is_stepped=True, listens=True)
    mw = gateway(app)
    clients = [Client(mw, STREAM).start() for _ in range(3)]
    await settle()
    await app.call.step(k)
    for client in clients:
        assert app.call.saw == ""
        client.disconnect()
        await settle()
    assert app.call.saw == "http.disconnect"
    for client in clients:
        await client.error()
    app.is_stepped = False
    assert (await fetch(mw, STREAM)).outcome == "MISS"


@pytest.mark.parametrize("k", range(1, len(PIECES)))
async def test_everybody_leaves_and_the_apps_send_raises(gateway: Gateway, k: int) -> None:
    """Spec 2.4: OSError out of send once nobody listens; nothing is stored that is not whole."""
    app = ScriptedApp(sse_answer(PIECES), is_stepped=True)
    mw = gateway(app)
    clients = [Client(mw, STREAM, spec="2.4").start() for _ in range(3)]
    await settle()
    await app.call.step(k)
    for client in clients:
        client.disconnect()
    await settle()
    await app.call.step(3)
    assert app.call.saw == "OSError"
    assert isinstance(await clients[0].error(), OSError)
    app.is_stepped = False
    # The terminal marker may be what raises.
    assert (await fetch(mw, STREAM)).outcome == ("HIT" if k == len(PIECES) - 1 else "MISS")


@pytest.mark.parametrize("block_at", range(2 + len(PIECES)))
@pytest.mark.parametrize("joins", ["before", "after"])
async def test_a_leader_that_does_not_read_stalls_nobody(
    gateway: Gateway, block_at: int, joins: str
) -> None:
    """Design 9: the pump takes over as soon as somebody joins, also in the middle of a send."""
    app = ScriptedApp(sse_answer(PIECES), is_stepped=True)
    mw = gateway(app)
    leader = Client(mw, STREAM, block_at=block_at).start()
    await settle()
    followers = [Client(mw, STREAM).start()] if joins == "before" else []
    await settle()
    await app.call.step(block_at + 1)
    if joins == "after":
        followers = [Client(mw, STREAM).start() for _ in range(2)]
        await settle()
    await app.call.step(len(PIECES) + 2)
    for follower in followers:
        assert (await follower.end()).body == b"".join(PIECES)
    assert (await fetch(mw, STREAM)).outcome == "HIT"
    assert len(leader.got) == block_at
    assert not leader.is_done
    leader.unblock()
    answer = await leader.end()
    assert answer.body == b"".join(PIECES)
    assert answer.is_complete
    assert len(app.calls) == 1


async def test_messages_in_the_log_keep_their_order(gateway: Gateway) -> None:
    """Whoever writes, the pump or the app itself: in order, and none twice."""
    app = ScriptedApp(sse_answer(PIECES), is_stepped=True)
    mw = gateway(app)
    log: list[tuple[str, Any]] = []
    leader = Client(mw, STREAM, block_at=2, name="leader", log=log).start()
    await settle()
    await app.call.step(3)
    follower = Client(mw, STREAM, name="follower", log=log).start()
    await settle()
    await app.call.step(1)
    leader.unblock()
    await app.call.step(len(PIECES))
    await leader.end()
    await follower.end()
    bodies = [m["body"] for who, m in log if who == "leader" and "body" in m]
    assert bodies == [*PIECES, b""]


async def test_who_joins_while_the_answer_is_being_stored_gets_all_of_it(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The flight stays open until the entry is there, so nobody calls the app in between."""
    gate = threading.Event()
    judge = OpenAIChat.judge

    def slow(*args: Any) -> Judgement:
        gate.wait(10)
        return judge(*args)

    monkeypatch.setattr(OpenAIChat, "judge", slow)
    app = ScriptedApp()
    mw = gateway(app, hash_in_thread_bytes=0)
    first = await fetch(mw)
    (flight,) = mw.cache.engine.live._open.values()
    assert flight.live.is_complete
    late = await fetch(mw)
    assert (first.outcome, late.outcome) == ("MISS", "COALESCED")
    assert late.body == first.body
    gate.set()
    await mw.cache.engine.background.drain(10)
    assert (await fetch(mw)).outcome == "HIT"
    assert len(app.calls) == 1
    await asyncio.get_running_loop().shutdown_default_executor()
