"""A repeat that comes when the first client has hung up at the end of a stream."""

import asyncio
from typing import Any

import pytest

from tests.adapters.conftest import Gateway
from tests.support.apps import sse_answer
from tests.support.asgi import Client, fetch, settle
from tests.support.chat import ask, chunks
from tests.support.fleets import Process, new_store
from tests.support.virtual_time import in_virtual_time

STREAM = ask(stream=True)
PIECES = chunks()
BODY = b"".join(PIECES)


class Closing:
    """Streams its answer, and takes its time to close once its first client has left."""

    def __init__(self, *, pieces: int = len(PIECES)) -> None:
        self.calls = 0
        self.may_end = asyncio.Event()
        self._pieces = pieces

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.calls += 1
        is_first = self.calls == 1
        await receive()
        start, *bodies, last = sse_answer(PIECES)
        for message in (start, *bodies[: self._pieces if is_first else None]):
            await send(message)
        if not is_first:
            await send(last)
            return
        while (await receive())["type"] != "http.disconnect":
            pass
        await self.may_end.wait()


async def hung_up(mw: Any) -> Client:
    """Ask, read all there is, and leave; the app knows it already."""
    first = Client(mw, STREAM).start()
    await settle()
    first.disconnect()
    await settle()
    return first


async def test_a_repeat_waits_for_what_is_as_good_as_stored(gateway: Gateway) -> None:
    app = Closing()
    mw = gateway(app)
    first = await hung_up(mw)
    again = Client(mw, STREAM).start()
    await settle()
    assert (app.calls, again.got) == (1, [])
    app.may_end.set()
    await first.error()
    got = await again.end()
    assert (got.outcome, got.body, app.calls) == ("COALESCED", BODY, 1)
    assert (await fetch(mw, STREAM)).outcome == "HIT"


async def test_what_was_not_whole_is_asked_for_anew(gateway: Gateway) -> None:
    app = Closing(pieces=2)
    mw = gateway(app)
    first = await hung_up(mw)
    again = Client(mw, STREAM).start()
    await settle()
    app.may_end.set()
    await first.error()
    got = await again.end()
    assert (got.outcome, got.body, app.calls) == ("MISS", BODY, 2)


@in_virtual_time
async def test_nobody_waits_long_for_an_app_that_does_not_end() -> None:
    """A quarter of a second; with a fleet, ``stream_wait_s`` more for the lease."""
    app = Closing()
    async with Process(new_store(), app, stream_wait_s=0.5) as one:
        first = await hung_up(one.app)
        began_s = asyncio.get_running_loop().time()
        got = await fetch(one.app, STREAM)
        assert (got.outcome, got.body, app.calls) == ("MISS", BODY, 2)
        assert asyncio.get_running_loop().time() - began_s == 0.75
        app.may_end.set()
        await first.error()


async def test_who_waits_may_leave(gateway: Gateway) -> None:
    app = Closing()
    mw = gateway(app)
    first = await hung_up(mw)
    again = Client(mw, STREAM).start()
    await settle()
    again.disconnect()
    await again.error()
    assert again.got == []
    app.may_end.set()
    await first.error()
    assert len(mw.cache.engine.live) == 0
    assert (await fetch(mw, STREAM)).outcome == "HIT"


@pytest.mark.parametrize("kind", ["invalidated", "vetoed"])
async def test_what_must_not_be_reused_is_not(gateway: Gateway, kind: str) -> None:
    app = Closing()
    mw = gateway(app)
    first = await hung_up(mw)
    again = Client(mw, STREAM).start()
    await settle()
    if kind == "invalidated":
        await mw.cache.invalidate_model("m")
    else:
        first.scope["state"]["routecache"].no_store()
    app.may_end.set()
    await first.error()
    got = await again.end()
    assert (got.outcome, got.body, app.calls) == ("MISS", BODY, 2)


async def test_nobody_waits_for_what_will_not_be_stored(gateway: Gateway) -> None:
    app = Closing()
    mw = gateway(app, mode="read_only")
    first = await hung_up(mw)
    again = await fetch(mw, STREAM)
    assert (again.outcome, again.body, app.calls) == ("MISS", BODY, 2)
    app.may_end.set()
    await first.error()


async def test_nobody_waits_for_what_was_vetoed(gateway: Gateway) -> None:
    app = Closing()
    mw = gateway(app)
    first = Client(mw, STREAM).start()
    await settle()
    first.scope["state"]["routecache"].no_store()
    first.disconnect()
    await settle()
    again = await fetch(mw, STREAM)
    assert (again.outcome, again.body, app.calls) == ("MISS", BODY, 2)
    app.may_end.set()
    await first.error()
