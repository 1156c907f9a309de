"""The fault proxy does what its modes are called, to a real server's connections."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from tests.support.faults import FaultProxy
from tests.support.fixtures import StartProxy
from tests.support.valkey import ValkeyServer

PING, PONG = b"PING\r\n", b"+PONG\r\n"


class Wire:
    """A connection that speaks just enough."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    async def ping(self, timeout_s: float = 5.0) -> bytes:
        self.writer.write(PING)
        return await self.answer(timeout_s)

    async def answer(self, timeout_s: float = 5.0) -> bytes:
        async with asyncio.timeout(timeout_s):
            return await self.reader.read(100)


@asynccontextmanager
async def wire_to(proxy: FaultProxy) -> AsyncIterator[Wire]:
    reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
    try:
        yield Wire(reader, writer)
    finally:
        writer.transport.abort()
        await asyncio.sleep(0)


@pytest.fixture
def proxy(valkey: ValkeyServer, fault_proxy: StartProxy) -> FaultProxy:
    return fault_proxy(valkey.port)


async def test_a_proxy_passes_what_both_sides_say(proxy: FaultProxy) -> None:
    async with wire_to(proxy) as wire:
        assert await wire.ping() == PONG
        assert await wire.ping() == PONG


async def test_a_hung_proxy_answers_neither_old_nor_new_connections_until_it_is_over(
    proxy: FaultProxy,
) -> None:
    async with wire_to(proxy) as old:
        assert await old.ping() == PONG
        proxy.mode("hang")
        async with wire_to(proxy) as new:
            for wire in (old, new):
                with pytest.raises(TimeoutError):
                    await wire.ping(0.1)
            proxy.mode("pass")
            assert [await old.answer(), await new.answer()] == [PONG, PONG]


async def test_an_answer_can_be_lost_after_its_command_took_effect(
    proxy: FaultProxy, valkey: ValkeyServer
) -> None:
    async with wire_to(proxy) as wire:
        assert await wire.ping() == PONG
        proxy.mode("hang", direction="down")
        wire.writer.write(b"SET faults:lost 1\r\n")
        with pytest.raises(TimeoutError):
            await wire.answer(0.1)
        assert valkey.command("GET", "faults:lost") == b"1"


async def test_a_delay_is_paid_each_way(proxy: FaultProxy) -> None:
    async with wire_to(proxy) as wire:
        for direction, least_s in (("both", 0.2), ("up", 0.1), ("down", 0.1)):
            proxy.mode("delay", seconds=0.1, direction=direction)  # type: ignore[arg-type]
            began_s = time.monotonic()
            assert await wire.ping() == PONG
            assert least_s <= time.monotonic() - began_s < least_s + 1.0
        proxy.mode("delay", seconds=0.1, direction="up")
        began_s = time.monotonic()
        assert await wire.ping() == PONG
        assert time.monotonic() - began_s < 0.2


async def test_a_reset_ends_old_and_new_connections_by_force(proxy: FaultProxy) -> None:
    async with wire_to(proxy) as old:
        assert await old.ping() == PONG
        proxy.mode("reset")
        with pytest.raises(ConnectionResetError):
            await old.answer()
        with pytest.raises(ConnectionError):  # in connecting, or soon after
            async with wire_to(proxy) as new:
                await new.ping()
        proxy.mode("pass")
        async with wire_to(proxy) as later:
            assert await later.ping() == PONG


async def test_a_refusing_proxy_comes_back_on_its_port(proxy: FaultProxy) -> None:
    async with wire_to(proxy) as old:
        assert await old.ping() == PONG
        port = proxy.port
        proxy.mode("refuse")
        with pytest.raises(ConnectionResetError):
            await old.answer()
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection("127.0.0.1", port)
        proxy.mode("pass")
        assert proxy.port == port
        async with wire_to(proxy) as wire:
            assert await wire.ping() == PONG


async def test_a_half_open_connection_stays_silent_when_the_fault_is_over(
    proxy: FaultProxy,
) -> None:
    async with wire_to(proxy) as old:
        assert await old.ping() == PONG
        proxy.mode("half_open")
        async with wire_to(proxy) as new:
            for wire in (old, new):
                with pytest.raises(TimeoutError):
                    await wire.ping(0.1)
            proxy.mode("pass")
            for wire in (old, new):
                with pytest.raises(TimeoutError):
                    await wire.ping(0.1)
        async with wire_to(proxy) as later:
            assert await later.ping() == PONG


async def test_a_slow_close_cuts_the_answer_and_ends_the_connection_later(
    proxy: FaultProxy,
) -> None:
    async with wire_to(proxy) as wire:
        assert await wire.ping() == PONG
        proxy.mode("slow_close", seconds=0.2)
        assert await wire.ping() == PONG[: len(PONG) // 2]
        began_s = time.monotonic()
        assert await wire.answer() == b""
        assert time.monotonic() - began_s > 0.1


async def test_clients_of_a_dead_server_are_reset(
    proxy: FaultProxy, fault_proxy: StartProxy
) -> None:
    proxy.mode("refuse")
    behind = fault_proxy(proxy.port)
    with pytest.raises(ConnectionError):
        async with wire_to(behind) as wire:
            await wire.ping()


def test_an_unknown_fault_is_refused(proxy: FaultProxy) -> None:
    with pytest.raises(ValueError, match="no such fault"):
        proxy.mode("gremlins")  # type: ignore[arg-type]


def test_a_proxy_ends_when_it_is_closed(valkey: ValkeyServer, fault_proxy: StartProxy) -> None:
    closed = fault_proxy(valkey.port)
    closed.close()
    closed.close()
    with pytest.raises(ValueError, match="closed file"):
        closed.mode("hang")
