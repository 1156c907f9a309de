"""Several small pools hold as many connections as a large one, and use them again."""

import asyncio
from collections.abc import AsyncIterator

import httpx
import pytest

from routecache_middleware.gateway.spread import Spread, spread
from tests.gateway.kit import COMPLETION, chat, gateway, running
from tests.support.raw_upstream import RawUpstream, answer


class Body(httpx.AsyncByteStream):
    async def __aiter__(self) -> AsyncIterator[bytes]:
        yield b"one"
        yield b"two"


class Pool(httpx.AsyncBaseTransport):
    """Answers, or fails; knows how many answers are open."""

    def __init__(self, limits: httpx.Limits) -> None:
        self.limits = limits
        self.asked = 0
        self.is_broken = self.is_closed = False

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        self.asked += 1
        if self.is_broken:
            raise httpx.ConnectError("nobody there", request=request)
        return httpx.Response(200, stream=Body())

    async def aclose(self) -> None:
        self.is_closed = True


def pools(**limits: int) -> tuple[Spread, list[Pool]]:
    made: list[Pool] = []

    def make(given: httpx.Limits) -> Pool:
        made.append(Pool(given))
        return made[-1]

    return spread(make, httpx.Limits(keepalive_expiry=4, **limits)), made


REQUEST = httpx.Request("GET", "http://a.test/")


@pytest.mark.parametrize("most", [1, 3, 16, 20, 1000])
def test_together_they_have_as_many_connections_as_they_may(most: int) -> None:
    _, made = pools(max_connections=most)
    assert sum(pool.limits.max_connections or 0 for pool in made) == most
    assert len(made) == min(16, most)
    for pool in made:
        assert pool.limits.max_keepalive_connections == pool.limits.max_connections
        assert pool.limits.keepalive_expiry == 4


async def test_one_after_the_other_they_go_the_same_way() -> None:
    """So that one connection does for them."""
    transport, made = pools(max_connections=100)
    for _ in range(5):
        response = await transport.handle_async_request(REQUEST)
        assert [piece async for piece in response.aiter_raw()] == [b"one", b"two"]
        await response.aclose()
        assert isinstance(response.stream, httpx.AsyncByteStream)
        await response.stream.aclose()  # counts once
    assert [pool.asked for pool in made] == [5] + [0] * 15


async def test_at_once_they_spread_and_none_waits_while_there_is_room() -> None:
    transport, made = pools(max_connections=20)
    responses = await asyncio.gather(*(transport.handle_async_request(REQUEST) for _ in range(20)))
    assert [pool.asked for pool in made] == [pool.limits.max_connections for pool in made]
    await responses[7].aclose()  # unread
    again = await transport.handle_async_request(REQUEST)
    assert sum(pool.asked for pool in made) == 21
    assert max(pool.asked - (pool.limits.max_connections or 0) for pool in made) == 1
    for response in [*responses, again]:
        await response.aclose()


async def test_a_call_that_fails_takes_up_no_room() -> None:
    transport, made = pools(max_connections=2)
    made[0].is_broken = True
    for _ in range(3):
        with pytest.raises(httpx.ConnectError):
            await transport.handle_async_request(REQUEST)
    assert [pool.asked for pool in made] == [3, 0]
    await transport.aclose()
    assert all(pool.is_closed for pool in made)


def test_connections_to_an_upstream_are_used_again() -> None:
    with RawUpstream(answer(COMPLETION)) as upstream:
        made = gateway(upstream=upstream.url)
        with running(made) as client:
            for number in range(10):
                assert chat(client, str(number)).status_code == 200
        assert (len(upstream.arrived), upstream.connections) == (10, 1)
