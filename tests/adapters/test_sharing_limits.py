"""Who opens and joins flights, who does not, and for how long (design 5, 9)."""

import pytest

from tests.adapters.conftest import Gateway
from tests.support.apps import ScriptedApp, sse_answer
from tests.support.asgi import PATH, Client, Options, fetch, settle
from tests.support.chat import ask, chunks

PIECES = chunks()
STREAM = ask(stream=True)


@pytest.mark.parametrize("directive", [b"no-store", b"no-cache"])
async def test_no_store_and_no_cache_open_and_join_nothing(
    gateway: Gateway, directive: bytes
) -> None:
    """Design 9: what can never be stored opens and joins no flight."""
    app = ScriptedApp(is_stepped=True)
    mw = gateway(app)
    headers = [(b"authorization", b"Bearer key-1"), (b"cache-control", directive)]
    clients = [Client(mw, headers=headers).start() for _ in range(2)]
    await settle()
    assert len(app.calls) == 2
    clients.append(Client(mw).start())
    await settle()
    clients.append(Client(mw, headers=headers).start())
    await settle()
    assert len(app.calls) == 4
    for call in app.calls:
        await call.step(2)
    for client in clients:
        assert (await client.end()).outcome == "MISS"


async def test_coalescing_can_be_turned_off(gateway: Gateway) -> None:
    """The setting ``coalescing``."""
    app = ScriptedApp(is_stepped=True)
    mw = gateway(app, coalescing=False)
    clients = [Client(mw).start() for _ in range(3)]
    await settle()
    assert len(app.calls) == 3
    for call in app.calls:
        await call.step(2)
    for client in clients:
        await client.end()


OTHERS: dict[str, tuple[bytes, Options]] = {
    "tenant": (ask(), {"headers": [(b"authorization", b"Bearer key-2")]}),
    "model": (ask(model="other"), {}),
    "mode": (ask(stream=True), {}),
    "path": (ask(), {"path": "/x" + PATH}),
    "root path": (ask(), {"root_path": "/x"}),
    "query": (ask(), {"query_string": b"a=1"}),
    "content header": (
        ask(),
        {"headers": [(b"authorization", b"Bearer key-1"), (b"openai-beta", b"x")]},
    ),
}


@pytest.mark.parametrize("other", OTHERS)
async def test_flights_of_others_are_not_joined(gateway: Gateway, other: str) -> None:
    """Flight key: entry key plus wire form; tenants are isolated, flights included."""
    app = ScriptedApp(is_stepped=True)
    mw = gateway(app)
    body, options = OTHERS[other]
    clients = [Client(mw).start(), Client(mw, body, **options).start()]
    await settle()
    assert len(app.calls) == 2
    for call in app.calls:
        await call.step(2)
    for client in clients:
        await client.end()


async def test_a_big_answer_is_shared_to_its_end_but_joined_no_more(gateway: Gateway) -> None:
    """Past ``max_result_bytes`` nothing is stored; chunks stay only for who still reads."""
    big = [b"data: " + b"x" * 400 + b"\n\n"] * 5
    app = ScriptedApp(sse_answer(big), is_stepped=True)
    mw = gateway(app, max_result_bytes=1000)
    leader, follower = Client(mw, STREAM).start(), Client(mw, STREAM).start()
    await settle()
    await app.call.step(4)
    late = Client(mw, STREAM).start()
    await settle()
    assert len(app.calls) == 2
    for call in app.calls:
        await call.step(7)
    assert (await leader.end()).body == (await follower.end()).body == b"".join(big)
    assert (await late.end()).body == b"".join(big)
    assert mw.cache.stats().discards == {"too-large": 2}


async def test_the_budget_for_all_answers_together_ends_capturing(gateway: Gateway) -> None:
    """``max_capture_bytes`` bounds what is recorded over all answers under way."""
    app = ScriptedApp(sse_answer(PIECES))
    mw = gateway(app, max_capture_bytes=300)
    assert (await fetch(mw, STREAM)).body == b"".join(PIECES)
    assert mw.cache.stats().discards == {"capture-full": 1}
