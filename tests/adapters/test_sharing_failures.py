"""What becomes of a shared call that fails, is refused, is cancelled or is left (design 9)."""

import asyncio

import pytest

from routecache_middleware.errors import TruncatedResponseError
from routecache_middleware.testing.clock import FakeClock
from tests.adapters.conftest import Gateway
from tests.support.apps import ScriptedApp, json_answer, sse_answer
from tests.support.asgi import Client, fetch, settle
from tests.support.chat import ask, chunks, completion

PIECES = chunks()
STREAM = ask(stream=True)


@pytest.mark.parametrize("fails_at", [0, 1])
async def test_before_the_first_byte_one_follower_is_promoted(
    gateway: Gateway, fails_at: int
) -> None:
    """Design 9: before it, one follower is promoted; the others share the second call."""
    app = ScriptedApp(is_stepped=True, fails_at=fails_at)
    mw = gateway(app)
    clients = [Client(mw).start() for _ in range(5)]
    await settle()
    await app.call.step(fails_at + 1)
    assert isinstance(await clients[0].error(), RuntimeError)
    assert len(app.calls) == 2
    app.fails_at = None
    await app.call.step(2)
    answers = [await client.end() for client in clients[1:]]
    assert {answer.body for answer in answers} == {completion()}
    assert sorted(str(answer.outcome) for answer in answers) == ["COALESCED"] * 3 + ["MISS"]


@pytest.mark.parametrize("fails_at", [0, 1])
async def test_when_the_promoted_one_fails_too_the_rest_go_in_parallel_for_a_second(
    gateway: Gateway, clock: FakeClock, fails_at: int
) -> None:
    """Design 9: if that fails too, the rest go in parallel, unjoined, for 1 s."""
    app = ScriptedApp(is_stepped=True, fails_at=fails_at)
    mw = gateway(app)
    clients = [Client(mw).start() for _ in range(5)]
    await settle()
    await app.calls[0].step(fails_at + 1)
    await app.calls[1].step(fails_at + 1)
    assert len(app.calls) == 5
    clock.advance(0.9)
    clients += [Client(mw).start() for _ in range(2)]
    await settle()
    assert len(app.calls) == 7
    clock.advance(0.2)
    clients += [Client(mw).start() for _ in range(3)]
    await settle()
    assert len(app.calls) == 8
    app.fails_at, app.is_stepped = None, False
    for call in app.calls[2:]:
        await call.step()
    for client in clients[2:]:
        assert (await client.end()).body == completion()
    for client in clients[:2]:
        assert isinstance(await client.error(), RuntimeError)


@pytest.mark.parametrize("status", [400, 429, 500, 503, 201, 204, 304])
async def test_error_statuses_are_not_shared(gateway: Gateway, status: int) -> None:
    """Only a 200 releases followers (design 9); each of the others gets an answer of its own."""
    app = ScriptedApp(json_answer(b'{"error":1}', status=status), is_stepped=True)
    mw = gateway(app)
    clients = [Client(mw).start() for _ in range(4)]
    await settle()
    for n in range(4):
        await app.calls[n].step(2)
    answers = [await client.end() for client in clients]
    assert [answer.status for answer in answers] == [status] * 4
    assert {answer.outcome for answer in answers} == {"MISS"}
    assert len(app.calls) == 4
    assert mw.cache.stats().result.entries == 0


async def test_a_follower_that_hears_late_of_a_refusal_still_goes_its_own_way(
    gateway: Gateway,
) -> None:
    """The whole answer may have passed before it gets its turn."""
    app = ScriptedApp(json_answer(b"busy", status=503), is_stepped=True)
    mw = gateway(app)
    leader, follower = Client(mw).start(), Client(mw).start()
    await settle()
    await app.call.rush(2)
    assert (await leader.end()).status == 503
    assert len(app.calls) == 2
    await app.call.step(2)
    assert (await follower.end()).outcome == "MISS"


async def test_answers_that_cannot_be_shared_are_not_waited_for_again(
    gateway: Gateway, clock: FakeClock
) -> None:
    """Design 9: an uncacheable outcome leaves a marker for 10 s, and everybody goes in parallel."""
    app = ScriptedApp(json_answer(headers=[(b"content-type", b"text/html")]), is_stepped=True)
    mw = gateway(app)
    clients = [Client(mw).start() for _ in range(3)]
    await settle()
    assert len(app.calls) == 1
    await app.call.step(1)
    assert len(app.calls) == 3
    clock.advance(9.9)
    clients += [Client(mw).start() for _ in range(2)]
    await settle()
    assert len(app.calls) == 5
    for call in app.calls:
        await call.step(2)
    clock.advance(10.1)  # each of them renewed it
    clients += [Client(mw).start() for _ in range(2)]
    await settle()
    assert len(app.calls) == 6
    app.is_stepped = False
    await app.call.step(2)
    for client in clients:
        assert (await client.end()).body == completion()


@pytest.mark.parametrize("k", range(1, 1 + len(PIECES)))
async def test_after_the_first_byte_followers_share_the_fate_of_the_answer(
    gateway: Gateway, k: int
) -> None:
    """Design 9: truncation included; never a clean end of a truncated answer."""
    app = ScriptedApp(sse_answer(PIECES), is_stepped=True, fails_at=k + 1)
    mw = gateway(app)
    clients = [Client(mw, STREAM).start() for _ in range(3)]
    await settle()
    await app.call.step(k + 2)
    assert isinstance(await clients[0].error(), RuntimeError)
    for follower in clients[1:]:
        assert isinstance(await follower.error(), TruncatedResponseError)
        assert follower.response.body == clients[0].response.body == b"".join(PIECES[:k])
        assert not follower.response.is_complete
    assert len(app.calls) == 1
    app.is_stepped, app.fails_at = False, None
    assert (await fetch(mw, STREAM)).outcome == "MISS"


async def test_an_app_that_returns_early_truncates_everybodys_answer(gateway: Gateway) -> None:
    """A missing last message is no end either."""
    app = ScriptedApp(sse_answer(PIECES), is_stepped=True, returns_at=3)
    mw = gateway(app)
    leader, follower = Client(mw, STREAM).start(), Client(mw, STREAM).start()
    await settle()
    await app.call.step(4)
    assert not (await leader.end()).is_complete
    assert isinstance(await follower.error(), TruncatedResponseError)
    assert mw.cache.stats().result.entries == 0


@pytest.mark.parametrize("steps", [0, 1, 2, 4])
async def test_a_cancelled_leader_is_cancelled_as_without_us(gateway: Gateway, steps: int) -> None:
    """The app runs in the request's own task; followers are promoted or truncated."""
    app = ScriptedApp(sse_answer(PIECES), is_stepped=True)
    mw = gateway(app)
    leader, follower = Client(mw, STREAM).start(), Client(mw, STREAM).start()
    await settle()
    assert app.call.task is leader.task
    await app.call.step(steps)
    leader.cancel()
    assert isinstance(await leader.error(), asyncio.CancelledError)
    assert app.calls[0].saw == "CancelledError"
    await settle()
    if steps >= 2:
        assert isinstance(await follower.error(), TruncatedResponseError)
    else:
        assert len(app.calls) == 2
        await app.call.step(len(PIECES) + 2)
        assert (await follower.end()).body == b"".join(PIECES)


@pytest.mark.parametrize("how", ["cancel", "disconnect"])
@pytest.mark.parametrize("steps", [0, 1, 3])
async def test_a_follower_that_leaves_disturbs_nobody(
    gateway: Gateway, how: str, steps: int
) -> None:
    """Cancelled or gone, before and after it got something."""
    app = ScriptedApp(sse_answer(PIECES), is_stepped=True, listens=True)
    mw = gateway(app)
    leader, leaving, staying = (Client(mw, STREAM).start() for _ in range(3))
    await settle()
    await app.call.step(steps)
    getattr(leaving, how)()
    error = await leaving.error()
    assert isinstance(error, asyncio.CancelledError) == (how == "cancel")
    assert not leaving.response.is_complete
    await app.call.step(len(PIECES) + 2)
    assert (await leader.end()).body == (await staying.end()).body == b"".join(PIECES)


async def test_a_follower_whose_server_sends_more_than_a_body(gateway: Gateway) -> None:
    """Only a disconnect means that it left."""
    app = ScriptedApp(is_stepped=True)
    mw = gateway(app)
    leader = Client(mw).start()
    await settle()
    follower = Client(mw)
    follower.to_receive.append({"type": "http.request", "body": b"", "more_body": False})
    follower.start()
    await settle()
    await app.call.step(2)
    await leader.end()
    assert (await follower.end()).outcome == "COALESCED"


async def test_a_follower_whose_send_fails_hears_it(gateway: Gateway) -> None:
    """Spec 2.4: the server's OSError comes out of the follower's own call, and of no other."""
    app = ScriptedApp(sse_answer(PIECES), is_stepped=True)
    mw = gateway(app)
    leader = Client(mw, STREAM, spec="2.4").start()
    follower = Client(mw, STREAM, fail_at=2, spec="2.4").start()
    await settle()
    await app.call.step(len(PIECES) + 2)
    assert isinstance(await follower.error(), OSError)
    assert (await leader.end()).body == b"".join(PIECES)


async def test_a_leader_cancelled_just_when_somebody_joins(gateway: Gateway) -> None:
    """The pump has not even run yet; nothing hangs and nothing is left open."""
    app = ScriptedApp(sse_answer(PIECES), is_stepped=True)
    mw = gateway(app)
    leader = Client(mw, STREAM, block_at=1).start()
    await settle()
    await app.call.step(2)
    follower = Client(mw, STREAM).start()
    (flight,) = mw.cache.engine.live._open.values()
    for _ in range(10):
        if flight.followers:
            break
        await asyncio.sleep(0)
    leader.cancel()
    assert isinstance(await leader.error(), asyncio.CancelledError)
    assert isinstance(await follower.error(), TruncatedResponseError)
    assert mw.cache.stats().discards == {"incomplete": 1}
