"""Waiting for something no longer than the client does."""

import asyncio

import pytest

from routecache_middleware.adapters.asgi.boarding import unless_gone
from routecache_middleware.adapters.asgi.types import Message
from routecache_middleware.engine.live import ReaderLeftError
from tests.support.asgi import settle


async def leave() -> Message:
    return {"type": "http.disconnect"}


async def stay() -> Message:
    await asyncio.Event().wait()
    raise AssertionError


async def fail() -> Message:
    raise OSError("the server's receive failed")


async def soon() -> str:
    await asyncio.sleep(0)
    return "lease"


async def test_a_result_that_comes_just_when_the_client_leaves_is_given_back() -> None:
    given_back: list[str] = []
    with pytest.raises(ReaderLeftError):
        await unless_gone(leave, soon(), given_back.append)
    assert given_back == ["lease"]


async def test_what_is_not_there_yet_is_cancelled_and_nothing_is_given_back() -> None:
    given_back: list[object] = []
    never: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    with pytest.raises(ReaderLeftError):
        await unless_gone(leave, never, given_back.append)
    assert never.cancelled()
    assert given_back == []


async def test_a_result_that_is_wanted_is_not_given_back() -> None:
    given_back: list[str] = []
    assert await unless_gone(stay, soon(), given_back.append) == "lease"
    assert given_back == []


async def test_a_receive_that_fails_says_nothing_of_the_client() -> None:
    wanted: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    waiting = asyncio.ensure_future(unless_gone(fail, wanted))
    await settle()
    wanted.set_result("lease")
    assert await waiting == "lease"


async def test_a_request_that_is_cancelled_gives_back_what_it_has_just_got() -> None:
    given_back: list[str] = []
    wanted: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    waiting = asyncio.ensure_future(unless_gone(stay, wanted, given_back.append))
    await settle()
    wanted.set_result("lease")
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert given_back == ["lease"]
    assert asyncio.all_tasks() == {asyncio.current_task()}
