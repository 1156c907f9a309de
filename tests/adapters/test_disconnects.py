"""One client alone: errors and disconnects at every message; nothing partial is ever stored."""

import asyncio

import pytest

from routecache_middleware.adapters.asgi.types import ASGIApp, Message, Receive, Scope, Send
from routecache_middleware.core.sse import split_frames
from tests.adapters.conftest import Gateway
from tests.support.apps import ScriptedApp, json_answer, sse_answer
from tests.support.asgi import Client, fetch, settle
from tests.support.chat import ask, chunks, completion

PIECES = chunks()
STREAM = ask(stream=True)
BODY = b"".join(PIECES)
LAST = len(PIECES) + 1


async def assert_not_stored(mw: ASGIApp, app: ScriptedApp) -> None:
    """A second request is a miss that works."""
    app.fails_at, app.is_stepped = None, False
    again = await fetch(mw, STREAM)
    assert again.outcome == "MISS"
    assert again.body == BODY


async def threads_are_done() -> None:
    """Large answers are judged in a thread before they are stored."""
    await asyncio.get_running_loop().shutdown_default_executor()
    await settle()


@pytest.mark.parametrize("spec", ["2.3", "2.4"])
async def test_every_byte_is_with_the_client_before_the_app_makes_the_next(
    gateway: Gateway, spec: str
) -> None:
    """No byte delayed: the client has message k before the app produces k+1."""
    app = ScriptedApp(sse_answer(PIECES), is_stepped=True)
    client = Client(gateway(app), STREAM, spec=spec).start()
    await settle()
    for k in range(LAST + 1):
        assert len(client.got) == k
        await app.call.step()
    assert (await client.end()).body == BODY
    assert app.call.task is client.task


@pytest.mark.parametrize("spec", ["2.3", "2.4"])
@pytest.mark.parametrize("fails_at", range(LAST + 1))
async def test_an_upstream_error_at_any_point_is_the_clients_to_see(
    gateway: Gateway, fails_at: int, spec: str
) -> None:
    """The app's exception comes out as it went in."""
    app = ScriptedApp(sse_answer(PIECES), fails_at=fails_at)
    mw = gateway(app)
    client = Client(mw, STREAM, spec=spec).start()
    assert isinstance(await client.error(), RuntimeError)
    assert len(client.got) == fails_at
    await assert_not_stored(mw, app)


@pytest.mark.parametrize("leave_at", range(LAST))
async def test_a_disconnect_reaches_a_listening_app(gateway: Gateway, leave_at: int) -> None:
    """Spec 2.3: the app sees http.disconnect at once and stops.

    Nothing is stored unless all of the answer was there: clients hang up at the terminal marker.
    """
    app = ScriptedApp(sse_answer(PIECES), is_stepped=True, listens=True)
    mw = gateway(app)
    client = Client(mw, STREAM, leave_at=leave_at).start()
    await settle()
    await app.call.step(leave_at + 1)
    assert app.call.saw == "http.disconnect"
    await client.error()
    if leave_at < len(PIECES):
        await assert_not_stored(mw, app)
    else:
        app.is_stepped = False
        again = await fetch(mw, STREAM)
        assert (again.outcome, again.body) == ("HIT", BODY)


@pytest.mark.parametrize("leave_at", range(LAST))
async def test_a_disconnect_raises_out_of_the_apps_send(gateway: Gateway, leave_at: int) -> None:
    """Spec 2.4: OSError at the next message; nothing is stored unless all of it was there."""
    app = ScriptedApp(sse_answer(PIECES))
    mw = gateway(app)
    client = Client(mw, STREAM, leave_at=leave_at, spec="2.4").start()
    assert isinstance(await client.error(), OSError)
    assert app.call.saw == "OSError"
    assert len(client.got) == leave_at + 1
    again = await fetch(mw, STREAM)
    is_whole = leave_at + 1 >= len(PIECES)  # what raised was the terminal marker, or came later
    assert again.outcome == ("HIT" if is_whole else "MISS")
    assert again.body == BODY


@pytest.mark.parametrize("k", range(LAST))
async def test_a_cancelled_request_cancels_the_app(gateway: Gateway, k: int) -> None:
    """Inline: the cancellation arrives where the app waits."""
    app = ScriptedApp(sse_answer(PIECES), is_stepped=True)
    mw = gateway(app)
    client = Client(mw, STREAM).start()
    await settle()
    await app.call.step(k)
    client.cancel()
    assert isinstance(await client.error(), asyncio.CancelledError)
    assert app.call.saw == "CancelledError"
    await assert_not_stored(mw, app)


@pytest.mark.parametrize("block_at", range(LAST + 1))
async def test_a_request_cancelled_in_a_blocked_send_cancels_the_app(
    gateway: Gateway, block_at: int
) -> None:
    """The app waits in ``send``; the cancellation comes out there."""
    app = ScriptedApp(sse_answer(PIECES))
    mw = gateway(app)
    client = Client(mw, STREAM, block_at=block_at).start()
    await settle()
    assert app.call.sent == block_at
    client.cancel()
    assert isinstance(await client.error(), asyncio.CancelledError)
    assert app.call.saw == "CancelledError"
    assert len(client.got) == block_at


@pytest.mark.parametrize("block_at", range(LAST + 1))
async def test_a_slow_reader_alone_holds_back_the_app_as_without_us(
    gateway: Gateway, block_at: int
) -> None:
    """Back-pressure reaches the app message by message."""
    app = ScriptedApp(sse_answer(PIECES))
    mw = gateway(app)
    client = Client(mw, STREAM, block_at=block_at).start()
    await settle()
    assert app.call.sent == block_at
    client.unblock()
    assert (await client.end()).body == BODY
    assert (await fetch(mw, STREAM)).outcome == "HIT"


async def test_an_app_that_ignores_the_disconnect_is_left_alone(gateway: Gateway) -> None:
    """Spec 2.3, JSON handlers never look: the app goes on, and its whole answer is stored."""
    app = ScriptedApp(json_answer(), is_stepped=True)
    mw = gateway(app)
    client = Client(mw).start()
    await settle()
    client.disconnect()
    await app.call.step(2)
    await client.end()
    assert client.got == []
    assert (await fetch(mw)).outcome == "HIT"


async def test_an_app_that_ends_cleanly_after_a_disconnect_stores_nothing(
    gateway: Gateway,
) -> None:
    """Who was told that nobody listens may say less than the whole."""
    polls: list[Message] = []

    async def polling(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        polls.extend([await receive(), await receive()])
        for message in sse_answer(PIECES):
            await send(message)

    mw = gateway(polling)
    client = Client(mw, STREAM).start()
    await settle()
    client.disconnect()
    await client.end()
    assert polls == [{"type": "http.disconnect"}] * 2
    assert mw.cache.stats().discards == {"incomplete": 1}


@pytest.mark.parametrize("has_length", [True, False])
@pytest.mark.parametrize("size", [10, 1_000_000, 1_048_000])
async def test_large_answers_with_and_without_a_length_are_stored(
    gateway: Gateway, size: int, *, has_length: bool
) -> None:
    """1 MB answers; the stored copy has the right length."""
    body = completion("x" * size)
    app = ScriptedApp(json_answer(body, has_length=has_length))
    mw = gateway(app)
    first = await fetch(mw)
    assert first.get("content-length") == (str(len(body)) if has_length else None)
    await threads_are_done()
    hit = await fetch(mw)
    assert hit.outcome == "HIT"
    assert hit.body == body
    assert hit.get("content-length") == str(len(body))


async def test_larger_answers_pass_and_are_not_stored(gateway: Gateway) -> None:
    """``max_result_bytes``."""
    body = completion("x" * 1_048_577)
    mw = gateway(ScriptedApp(json_answer(body)))
    assert (await fetch(mw)).body == body
    assert (await fetch(mw)).outcome == "MISS"
    assert mw.cache.stats().discards == {"too-large": 2}


async def test_a_body_shorter_than_its_length_is_not_stored(gateway: Gateway) -> None:
    """Valid JSON, but not all that was promised."""
    headers = [(b"content-type", b"application/json"), (b"content-length", b"9999")]
    mw = gateway(ScriptedApp(json_answer(headers=headers, has_length=False)))
    await fetch(mw)
    assert mw.cache.stats().discards == {"incomplete": 1}


async def test_long_streams_are_replayed_in_bursts(gateway: Gateway) -> None:
    """Same bytes, fewer messages, the last of them ends the answer."""
    pieces = chunks(["word " * 20] * 300)
    mw = gateway(ScriptedApp(sse_answer(pieces)))
    await fetch(mw, STREAM)
    await threads_are_done()
    hit = await fetch(mw, STREAM)
    assert hit.body == b"".join(pieces)
    assert hit.is_complete
    assert 1 < len(hit.bodies) < 10
    assert all(m["more_body"] for m in hit.bodies[:-1])


@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
@pytest.mark.parametrize("count", [2, 300])
async def test_streams_can_be_replayed_event_by_event(
    gateway: Gateway, end: bytes, count: int
) -> None:
    """Short and long ones, comments and all, however the app had cut them: the same bytes."""
    events = [piece.replace(b"\n", end) for piece in chunks(["word " * 20] * count)]
    events.insert(2, b": still here" + 2 * end)
    whole = b"".join(events)
    app = ScriptedApp(sse_answer([whole[at : at + 1000] for at in range(0, len(whole), 1000)]))
    mw = gateway(app, replay="original")
    live = await fetch(mw, STREAM)
    await threads_are_done()
    hit = await fetch(mw, STREAM)
    assert (live.outcome, hit.outcome) == ("MISS", "HIT")
    assert live.body == hit.body == whole
    assert [message["body"] for message in hit.bodies] == events
    assert [message["more_body"] for message in hit.bodies] == [True] * (len(events) - 1) + [False]
    assert mw.cache.stats().result.hits == 1


async def test_json_is_one_message_in_either_way_of_replay(gateway: Gateway) -> None:
    mw = gateway(replay="original")
    live, hit = await fetch(mw), await fetch(mw)
    assert (hit.outcome, hit.body, len(hit.bodies)) == ("HIT", live.body, 1)


async def test_a_stream_made_of_json_is_replayed_event_by_event_too(gateway: Gateway) -> None:
    mw = gateway(replay="original")
    await fetch(mw)
    hit = await fetch(mw, STREAM)
    assert hit.outcome == "HIT"
    assert [message["body"] for message in hit.bodies] == split_frames(hit.body)
    assert len(hit.bodies) > 2


async def test_a_hit_whose_client_is_gone_raises_as_the_app_would(gateway: Gateway) -> None:
    """Spec 2.4: OSError from the server's send."""
    mw = gateway()
    await fetch(mw)
    assert isinstance(await Client(mw, fail_at=0, spec="2.4").start().error(), OSError)
