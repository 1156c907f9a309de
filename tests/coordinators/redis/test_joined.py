"""Reads that are wanted at the same time."""

import asyncio

import pytest

from routecache_middleware.coordinators.redis.joined import JoinedReads
from tests.support.asgi import settle


class Reads:
    """Reads that end when the test says so; each returns its number."""

    def __init__(self) -> None:
        self.begun: list[asyncio.Future[int]] = []
        self.joined: JoinedReads[str, int] = JoinedReads(self.read)

    async def read(self, key: str) -> int:
        self.begun.append(asyncio.get_running_loop().create_future())
        return await self.begun[-1]

    def ask(self, key: str = "k") -> asyncio.Task[int]:
        return asyncio.create_task(self.joined.read(key))


async def test_a_herd_costs_two_reads() -> None:
    reads = Reads()
    callers = [reads.ask() for _ in range(50)]
    await settle()
    assert len(reads.begun) == 1
    reads.begun[0].set_result(0)
    await settle()
    assert len(reads.begun) == 2
    reads.begun[1].set_result(1)
    assert await asyncio.gather(*callers) == [0] + [1] * 49


async def test_nobody_gets_a_read_that_began_before_it_asked() -> None:
    reads = Reads()
    first, second = reads.ask(), reads.ask()
    await settle()
    reads.begun[0].set_result(0)
    await settle()
    third = reads.ask()
    await settle()
    reads.begun[1].set_result(1)
    await settle()
    assert (await first, await second) == (0, 1)
    assert not third.done()
    reads.begun[2].set_result(2)
    assert await third == 2


async def test_reads_of_different_things_do_not_wait_for_each_other() -> None:
    reads = Reads()
    callers = [reads.ask("a"), reads.ask("b")]
    await settle()
    assert len(reads.begun) == 2
    for number, read in enumerate(reads.begun):
        read.set_result(number)
    assert await asyncio.gather(*callers) == [0, 1]


async def test_a_failed_read_fails_its_callers_and_nobody_after_them() -> None:
    reads = Reads()
    callers = [reads.ask() for _ in range(3)]
    await settle()
    reads.begun[0].set_exception(OSError("first"))
    await settle()
    reads.begun[1].set_exception(OSError("second"))
    got = await asyncio.gather(*callers, return_exceptions=True)
    assert [str(error) for error in got] == ["first", "second", "second"]
    later = reads.ask()
    await settle()
    reads.begun[2].set_result(2)
    assert await later == 2


@pytest.mark.parametrize("leaver", [0, 1, 2])
async def test_a_caller_that_leaves_takes_nobody_with_it(leaver: int) -> None:
    reads = Reads()
    callers = [reads.ask() for _ in range(3)]
    await settle()
    callers[leaver].cancel()
    await settle()
    for read in reads.begun:
        if not read.done():
            read.set_result(0)
    await settle()
    for read in reads.begun:
        if not read.done():
            read.set_result(1)
    got = await asyncio.gather(*callers, return_exceptions=True)
    assert isinstance(got.pop(leaver), asyncio.CancelledError)
    assert not [one for one in got if isinstance(one, BaseException)]
