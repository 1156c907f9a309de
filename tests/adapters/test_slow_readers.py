"""The app is held back for the slowest reader, for a bounded time; then that is cut (design 9)."""

import asyncio

import pytest

from routecache_middleware.errors import TruncatedResponseError
from tests.adapters.conftest import Gateway
from tests.support.apps import ScriptedApp, sse_answer
from tests.support.asgi import Client, fetch, settle
from tests.support.chat import ask, chunks

PIECES = chunks([f"piece number {n} of a longer answer" for n in range(12)])
BODY = b"".join(PIECES)
STREAM = ask(stream=True)
NEVER_S = 3600.0


async def test_a_slow_follower_is_cut_and_the_others_go_on(gateway: Gateway) -> None:
    """Cut after ``slow_reader_timeout_s``, by an exception and not by a clean end."""
    app = ScriptedApp(sse_answer(PIECES), is_stepped=True)
    mw = gateway(app, max_lag_bytes=600, slow_reader_timeout_s=0.01)
    leader, slow, quick = (Client(mw, STREAM, block_at=at).start() for at in (None, 3, None))
    await settle()
    await app.call.rush(len(PIECES) + 2)
    assert isinstance(await slow.error(), TruncatedResponseError)
    assert not slow.response.is_complete
    assert slow.response.body == b"".join(PIECES[:2])
    for client in (leader, quick):
        answer = await client.end()
        assert answer.body == BODY
        assert answer.is_complete
    assert (await fetch(mw, STREAM)).body == BODY
    assert len(app.calls) == 1


async def test_a_flight_that_cut_a_reader_takes_no_more_but_is_stored(gateway: Gateway) -> None:
    """Design 9: the flight takes no more. The whole answer is still there to be stored."""
    app = ScriptedApp(sse_answer(PIECES), is_stepped=True)
    mw = gateway(app, max_lag_bytes=600, slow_reader_timeout_s=0.01)
    leader, slow = Client(mw, STREAM).start(), Client(mw, STREAM, block_at=2).start()
    await settle()
    await app.call.rush(8)
    await slow.error()
    late = Client(mw, STREAM).start()
    await settle()
    assert len(app.calls) == 2
    for call in app.calls:
        await call.rush(len(PIECES) + 2)
    assert (await leader.end()).body == (await late.end()).body == BODY
    hit = await fetch(mw, STREAM)
    assert hit.body == BODY
    assert hit.outcome == "HIT"


async def test_a_slow_leader_is_cut_too(gateway: Gateway) -> None:
    """Closed after the app is done, and not ended cleanly; the rest get everything."""
    app = ScriptedApp(sse_answer(PIECES), is_stepped=True)
    mw = gateway(app, max_lag_bytes=600, slow_reader_timeout_s=0.01)
    leader, follower = Client(mw, STREAM, block_at=2).start(), Client(mw, STREAM).start()
    await settle()
    await app.call.rush(len(PIECES) + 2)
    assert (await follower.end()).body == BODY
    assert isinstance(await leader.error(), TruncatedResponseError)
    assert not leader.response.is_complete
    assert (await fetch(mw, STREAM)).outcome == "HIT"


async def test_a_slow_leader_that_wakes_up_too_late_stays_cut(gateway: Gateway) -> None:
    """What it missed cannot be made up for."""
    app = ScriptedApp(sse_answer(PIECES), is_stepped=True)
    mw = gateway(app, max_lag_bytes=600, slow_reader_timeout_s=0.01)
    leader, follower = Client(mw, STREAM, block_at=2).start(), Client(mw, STREAM).start()
    await settle()
    await app.call.rush(6)
    (flight,) = mw.cache.engine.live._open.values()
    while flight.live.others(None) > 1:  # noqa: ASYNC110 - the timeout is what is tested
        await asyncio.sleep(0)
    leader.unblock()
    await settle()
    await app.call.rush(len(PIECES))
    assert (await follower.end()).body == BODY
    assert isinstance(await leader.error(), TruncatedResponseError)
    assert len(leader.got) == 3


async def test_a_follower_that_catches_up_in_time_is_not_cut(gateway: Gateway) -> None:
    """The app waits for it, and goes on as soon as it has caught up."""
    app = ScriptedApp(sse_answer(PIECES), is_stepped=True)
    mw = gateway(app, max_lag_bytes=600, slow_reader_timeout_s=NEVER_S)
    leader, slow = Client(mw, STREAM).start(), Client(mw, STREAM, block_at=3).start()
    await settle()
    await app.call.rush(len(PIECES) + 2)
    held_at = app.call.sent
    assert held_at < len(PIECES)
    slow.unblock()
    assert (await slow.end()).body == (await leader.end()).body == BODY
    assert app.call.sent == len(PIECES) + 2


@pytest.mark.parametrize("how", ["disconnect", "cancel"])
async def test_a_slow_follower_that_leaves_no_longer_holds_the_app(
    gateway: Gateway, how: str
) -> None:
    """Whoever leaves frees the rest at once."""
    app = ScriptedApp(sse_answer(PIECES), is_stepped=True)
    mw = gateway(app, max_lag_bytes=600, slow_reader_timeout_s=NEVER_S)
    leader, slow = Client(mw, STREAM).start(), Client(mw, STREAM, block_at=3).start()
    await settle()
    await app.call.rush(len(PIECES) + 2)
    assert not leader.response.is_complete
    getattr(slow, how)()
    assert (await leader.end()).body == BODY
    await slow.error()


async def test_a_leader_whose_followers_left_is_slow_at_its_own_cost(gateway: Gateway) -> None:
    """Alone, it holds up nobody but itself: no limit, as without us; in company there is one."""
    app = ScriptedApp(sse_answer(PIECES), is_stepped=True)
    mw = gateway(app, max_lag_bytes=600, slow_reader_timeout_s=0.01)
    leader, leaving = Client(mw, STREAM, block_at=2).start(), Client(mw, STREAM).start()
    await settle()
    leaving.disconnect()
    await leaving.error()
    await app.call.rush(len(PIECES) + 2)
    held_at = app.call.sent
    assert held_at < len(PIECES)
    late = Client(mw, STREAM).start()
    assert (await late.end()).body == BODY
    assert isinstance(await leader.error(), TruncatedResponseError)
    assert len(app.calls) == 1


async def test_a_lone_slow_leader_that_reads_on_is_served_to_the_end(gateway: Gateway) -> None:
    """As without us, with the pump still in between."""
    app = ScriptedApp(sse_answer(PIECES), is_stepped=True)
    mw = gateway(app, max_lag_bytes=600, slow_reader_timeout_s=0.001)
    leader, leaving = Client(mw, STREAM, block_at=2).start(), Client(mw, STREAM).start()
    await settle()
    leaving.disconnect()
    await leaving.error()
    await app.call.rush(len(PIECES) + 2)
    leader.unblock()
    assert (await leader.end()).body == BODY
    assert (await fetch(mw, STREAM)).outcome == "HIT"


async def test_a_slow_leader_is_cancelled_while_it_drains(gateway: Gateway) -> None:
    """The server may give up on it; the answer has long been stored."""
    app = ScriptedApp(sse_answer(PIECES))
    app.is_stepped = True
    mw = gateway(app)
    leader, follower = Client(mw, STREAM, block_at=2).start(), Client(mw, STREAM).start()
    await settle()
    await app.call.rush(len(PIECES) + 2)
    assert (await follower.end()).body == BODY
    assert not leader.is_done
    leader.cancel()
    assert isinstance(await leader.error(), asyncio.CancelledError)
    assert (await fetch(mw, STREAM)).outcome == "HIT"


async def test_cancelling_a_cut_follower_is_still_a_cancellation(gateway: Gateway) -> None:
    """Only the interruption of our own making becomes a truncated response."""
    app = ScriptedApp(sse_answer(PIECES), is_stepped=True)
    mw = gateway(app)
    leader, follower = Client(mw, STREAM).start(), Client(mw, STREAM, block_at=2).start()
    await settle()
    await app.call.step(3)
    (flight,) = mw.cache.engine.live._open.values()
    (reader,) = [r for r in flight.live._readers if r._task is follower.task]
    reader.cut()
    follower.cancel()
    assert isinstance(await follower.error(), asyncio.CancelledError)
    await app.call.rush(len(PIECES) + 2)
    await leader.end()


async def test_one_megabyte_answers_are_shared_with_a_slow_reader(gateway: Gateway) -> None:
    """1 MB in 64 pieces: within ``max_lag_bytes`` nobody waits for anybody."""
    pieces = [b"data: " + b"x" * 15_900 + b"\n\n"] * 64
    app = ScriptedApp(sse_answer(pieces), is_stepped=True)
    mw = gateway(app, slow_reader_timeout_s=NEVER_S)
    leader, slow = Client(mw, STREAM).start(), Client(mw, STREAM, block_at=2).start()
    await settle()
    await app.call.rush(66)
    assert (await leader.end()).body == b"".join(pieces)
    slow.unblock()
    assert (await slow.end()).body == b"".join(pieces)
