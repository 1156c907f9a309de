"""Connections handed from command to command."""

import asyncio
import time
from collections.abc import AsyncIterator

import pytest

from routecache_middleware.coordinators.redis.address import Address, Node
from routecache_middleware.coordinators.redis.driver import standalone
from routecache_middleware.coordinators.redis.pool import Pool
from routecache_middleware.coordinators.url import CoordinatorUrl
from tests.support.fixtures import StartProxy
from tests.support.valkey import ValkeyServer


@pytest.fixture
async def pool(valkey_url: str, valkey: ValkeyServer) -> AsyncIterator[Pool]:
    address = Address.parse(CoordinatorUrl.parse(valkey_url))
    node = Node("127.0.0.1", valkey.port)
    pool = standalone(address, node, timeout_s=1.0, max_connections=2)
    yield pool
    await pool.aclose()


def connections(server: ValkeyServer) -> int:
    return server.text("CLIENT", "LIST").count("name=routecache")


async def test_connections_are_reused_and_bounded(pool: Pool, valkey: ValkeyServer) -> None:
    for _ in range(5):
        assert await pool.run(("PING",)) in (b"PONG", True, "PONG")
    assert connections(valkey) == 1
    await asyncio.gather(*(pool.run(("SET", "k", "v")) for _ in range(20)))
    assert connections(valkey) == 2


async def test_an_error_reply_is_raised_and_the_connection_lives(
    pool: Pool, valkey: ValkeyServer
) -> None:
    await pool.run(("SET", "k", "v"))
    number = valkey.text("CLIENT", "LIST", "TYPE", "normal")
    with pytest.raises(Exception, match="WRONGTYPE"):
        await pool.run(("LPUSH", "k", "v"))
    replies = await pool.run_all((("GET", "k"), ("LPUSH", "k", "v"), ("GET", "k")))
    assert replies[0] == replies[2] == b"v"
    assert "WRONGTYPE" in str(replies[1])
    assert connections(valkey) == 1
    assert number


async def test_a_command_that_takes_too_long_fails_and_the_next_one_works(
    pool: Pool, valkey: ValkeyServer
) -> None:
    valkey.pause()
    try:
        with pytest.raises(TimeoutError):
            await pool.run(("GET", "k"))
        with pytest.raises(TimeoutError):
            await pool.run_all((("GET", "k"), ("GET", "k")))
    finally:
        valkey.resume()
    await pool.run(("SET", "k", "v"))
    assert await pool.run(("GET", "k")) == b"v"


async def test_connections_that_the_server_closed_are_made_anew(
    pool: Pool, valkey: ValkeyServer
) -> None:
    await asyncio.gather(*(pool.run(("SET", "k", "v")) for _ in range(5)))
    valkey.command("CLIENT", "KILL", "TYPE", "normal")
    await asyncio.sleep(0.05)
    for _ in range(5):
        assert await pool.run(("GET", "k")) == b"v"


async def test_who_finds_no_connection_free_waits_for_one(pool: Pool) -> None:
    busy = [asyncio.create_task(pool.run(("BLPOP", "nothing", 0.4))) for _ in range(2)]
    await asyncio.sleep(0.05)
    started_s = time.monotonic()
    assert await pool.run(("GET", "k")) is None
    assert time.monotonic() - started_s > 0.2
    await asyncio.gather(*busy)


async def test_a_closed_pool_connects_no_more(pool: Pool, valkey: ValkeyServer) -> None:
    await pool.run(("GET", "k"))
    await pool.aclose()
    with pytest.raises(ConnectionError):
        await pool.run(("GET", "k"))
    await asyncio.sleep(0.05)
    assert connections(valkey) == 0


async def test_one_silent_connection_condemns_the_idle_ones(
    valkey_url: str, valkey: ValkeyServer, fault_proxy: StartProxy
) -> None:
    """They are as dead, and would cost a command its timeout each once the network is back."""
    proxy = fault_proxy(valkey.port)
    address = Address.parse(CoordinatorUrl.parse(valkey_url))
    node = Node("127.0.0.1", proxy.port)
    pool = standalone(address, node, timeout_s=0.5, max_connections=8)
    await asyncio.gather(*(pool.run(("SET", "k", "v")) for _ in range(8)))
    proxy.mode("half_open")
    with pytest.raises(TimeoutError):
        await pool.run(("GET", "k"))
    proxy.mode("pass")
    for _ in range(8):
        assert await pool.run(("GET", "k")) == b"v"
    await pool.aclose()
