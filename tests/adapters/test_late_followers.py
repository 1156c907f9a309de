"""A follower and a leader whose client hangs up."""

import asyncio
from typing import Any

import pytest

from tests.support.apps import ScriptedApp, sse_answer
from tests.support.asgi import Client
from tests.support.chat import ask, chunks, completion
from tests.support.fleets import Process, new_store
from tests.support.virtual_time import in_virtual_time

BODY = b"".join(chunks())


@pytest.mark.parametrize("fail_at", [1, 2, 3, 4])
@in_virtual_time
async def test_who_waited_at_boarding_gets_no_half_answer_as_a_whole(fail_at: int) -> None:
    store = new_store()
    app = ScriptedApp(sse_answer(chunks()))
    async with Process(store, app) as one:
        one.link.delay = lambda: 0.01
        await one.cache.open()
        first = Client(one.app, ask(stream=True), spec="2.4", fail_at=fail_at).start()
        await asyncio.sleep(0.006)  # it is boarding
        others = [Client(one.app, ask(stream=True), spec="2.4").start() for _ in range(3)]
        error = await first.error()
        assert isinstance(error, OSError)
        for other in others:
            error = await other.error()
            got = other.response
            assert not got.is_complete or got.body == BODY, (error, got.outcome, got.body)
        await asyncio.sleep(5)


@pytest.mark.parametrize("pause", [False, True])
@in_virtual_time
async def test_who_waited_at_boarding_shares_no_answer_whose_beginning_is_gone(
    *, pause: bool
) -> None:
    """The answer turned out too large to be kept before the others had their place in it."""
    store = new_store()
    whole = completion("x" * 3000)
    pieces = [whole[at : at + 1000] for at in range(0, len(whole), 1000)]
    head = [(b"content-type", b"application/json")]

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        for number, message in enumerate(sse_answer(pieces, headers=head)):
            if pause and number == 3:
                await asyncio.sleep(1)  # the upstream is slow
            await send(message)

    async with Process(store, app, max_result_bytes=1024) as one:
        one.link.delay = lambda: 0.01
        clients = [Client(one.app).start()]
        await asyncio.sleep(0.006)
        clients += [Client(one.app).start() for _ in range(3)]
        errors = [await client.error() for client in clients]
        got = [client.response for client in clients]
        await asyncio.sleep(5)
        assert errors == [None] * 4
        assert [r.body for r in got] == [whole] * 4
