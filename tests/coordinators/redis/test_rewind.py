"""A log that was lost, wholly or in part: cold, never stale, and one marker for everybody."""

import asyncio
from contextlib import AsyncExitStack

from routecache_middleware.coordinators.redis.coordinator import RedisCoordinator
from routecache_middleware.coordinators.redis.keys import Keys
from routecache_middleware.coordinators.redis.rows import id_of
from routecache_middleware.coordinators.redis.session import PROVEN_S
from routecache_middleware.core.invalidation import ALL, InvalidationRow, InvalidationTable
from routecache_middleware.core.models import START, Position
from routecache_middleware.core.ports import Fetched, Gap, Invalidated
from tests.coordinators.redis.support import KEY, entry, eventually, opened, row
from tests.support.valkey import ValkeyServer

LOG = Keys().log
MARKER = InvalidationRow(ALL)


class Process:
    """A coordinator and the table that its engine would keep."""

    def __init__(self, coordinator: RedisCoordinator) -> None:
        self.coordinator = coordinator
        self.table = InvalidationTable()

    async def serves(self) -> bool:
        """Look ``KEY`` up, and say whether it would be served."""
        fetched = await self.coordinator.fetch((KEY,), self.table.position)
        self.learn(fetched)
        found = fetched.entries[0]
        return found is not None and self.table.is_current(KEY, found)

    async def store(self) -> None:
        """Store ``KEY`` as captured now."""
        self.learn(await self.coordinator.fetch((), self.table.position))
        assert await self.coordinator.store(KEY, entry(position=self.table.position))

    def learn(self, fetched: Fetched) -> None:
        if fetched.is_rewound:
            self.table.rewind(max(fetched.position, self.table.position))
        self.table.fold(fetched.rows)
        self.table.advance(fetched.position)


async def processes(stack: AsyncExitStack, url: str, count: int) -> list[Process]:
    return [Process(await stack.enter_async_context(opened(url))) for _ in range(count)]


def markers(server: ValkeyServer) -> int:
    rows = server.command("XRANGE", LOG, "-", "+")
    assert isinstance(rows, list)
    return sum(b"m" in fields[1] for fields in rows if isinstance(fields, list))  # type: ignore[operator]


async def test_three_cold_processes_void_nothing_of_each_other(
    valkey: ValkeyServer, valkey_url: str
) -> None:
    async with AsyncExitStack() as stack:
        cold = await asyncio.gather(
            *(stack.enter_async_context(opened(valkey_url)) for _ in range(3))
        )
        first, *others = map(Process, cold)
        await first.store()
        for process in others:
            assert await process.serves()
        late, *_ = await processes(stack, valkey_url, 1)
        assert await late.serves()
    assert markers(valkey) == 1


async def test_a_flushed_log_voids_what_another_server_may_have_kept(
    valkey: ValkeyServer, valkey_url: str
) -> None:
    """In a Cluster the log's shard may be lost while the entry's survives."""
    async with AsyncExitStack() as stack:
        group = await processes(stack, valkey_url, 3)
        await group[0].store()
        assert all([await process.serves() for process in group])
        valkey.command("DEL", LOG)
        await asyncio.sleep(PROVEN_S)
        served = await asyncio.gather(*(process.serves() for process in group))
        assert served == [False] * 3
        cold, *_ = await processes(stack, valkey_url, 1)
        assert not await cold.serves()
        assert markers(valkey) == 1
        await group[1].store()
        assert all([await process.serves() for process in (*group, cold)])


async def test_nothing_flushed_is_served_within_a_second(
    valkey: ValkeyServer, valkey_url: str
) -> None:
    async with AsyncExitStack() as stack:
        group = await processes(stack, valkey_url, 2)
        for _ in range(3):
            await group[0].store()
            valkey.command("FLUSHALL")
            assert not any([await process.serves() for process in group])
            await asyncio.sleep(0.3)


async def test_rows_that_a_failover_lost_void_everything_once(
    valkey: ValkeyServer, valkey_url: str
) -> None:
    """The latest rows are gone, which some processes have read and others have not."""
    async with AsyncExitStack() as stack:
        group = await processes(stack, valkey_url, 4)
        await group[0].store()
        lost = (await group[0].coordinator.append((row("m"),))).position
        for process in group:
            assert not await process.serves()
        valkey.command("XDEL", LOG, id_of(lost))
        late, *_ = await processes(stack, valkey_url, 1)  # has never read the lost row
        await asyncio.sleep(PROVEN_S)
        assert await asyncio.gather(*(process.serves() for process in group)) == [False] * 4
        await asyncio.sleep(PROVEN_S)  # what a reader that is held up may take to be told
        assert not await late.serves()
        assert markers(valkey) == 2  # the one it began with, and one for the loss


async def test_ones_own_row_that_was_lost_before_it_was_read_back_is_missed(
    valkey: ValkeyServer, valkey_url: str
) -> None:
    """Acknowledged, so it holds; whoever lost it has to be told."""
    async with AsyncExitStack() as stack:
        first, other = await processes(stack, valkey_url, 2)
        await other.store()
        assert await first.serves()
        await first.coordinator._session().reader.stop()  # its mirror lags from here on
        lost = (await first.coordinator.append((row("m"),))).position
        valkey.command("XDEL", LOG, id_of(lost))
        assert not await first.serves()
        await asyncio.sleep(PROVEN_S)
        assert not await other.serves()
        assert markers(valkey) == 2


async def test_the_reader_misses_its_own_row_without_any_lookup(
    valkey: ValkeyServer, valkey_url: str
) -> None:
    async with opened(valkey_url) as coordinator:
        session = coordinator._session()
        lost = Position((await session.log.top()) + (5_000 << 20))
        session.reader.expect(lost)  # acknowledged by a primary that is no more
        assert coordinator.proof_age_s == float("inf")
        await eventually(lambda: coordinator.proof_age_s < 1.0)
        assert session.reader.mirror.position > lost
        assert markers(valkey) == 2


async def test_an_entry_captured_in_a_lost_log_is_not_served(
    valkey: ValkeyServer, valkey_url: str
) -> None:
    """Its maker had read further than the log now goes: rows are gone that nobody knows."""
    async with opened(valkey_url) as coordinator:
        process = Process(coordinator)
        await process.store()
        ahead = Position(process.table.position + (10_000 << 20))
        await coordinator.store(KEY, entry(position=ahead))
        assert not await process.serves()


async def test_an_entry_of_somebody_who_read_faster_is_served(valkey_url: str) -> None:
    """The mirror lags by a moment: the log's end is read, and the rows come with the entry."""
    async with AsyncExitStack() as stack:
        slow, fast = await processes(stack, valkey_url, 2)
        assert not await slow.serves()
        await slow.coordinator._session().reader.stop()
        await fast.coordinator.append((row("other"),))
        await fast.store()
        assert await slow.serves()


async def test_an_own_append_holds_in_every_later_lookup(valkey_url: str) -> None:
    """Also while the reader has not brought it back."""
    async with AsyncExitStack() as stack:
        [process] = await processes(stack, valkey_url, 1)
        await process.coordinator._session().reader.stop()
        for _ in range(5):
            await process.store()
            assert await process.serves()
            await process.coordinator.append((row("m"),))
            assert not await process.serves()


async def test_listeners_learn_of_the_loss(valkey: ValkeyServer, valkey_url: str) -> None:
    async with opened(valkey_url) as coordinator:
        events = coordinator.events()
        heard: asyncio.Task[object] = asyncio.create_task(anext(events))  # type: ignore[arg-type]
        await asyncio.sleep(0.05)
        valkey.command("DEL", LOG)
        async with asyncio.timeout(5):
            assert await heard == Gap()
            second = await anext(events)
        assert isinstance(second, Invalidated)
        assert [one.row for one in second.rows] == [MARKER]
        await events.aclose()  # type: ignore[attr-defined]


async def test_the_log_evicted_by_a_full_server_is_begun_anew(
    valkey: ValkeyServer, valkey_url: str
) -> None:
    async with opened(valkey_url) as coordinator:
        before = (await coordinator.fetch((), START)).position
        valkey.command("UNLINK", LOG)
        await asyncio.sleep(PROVEN_S)
        after = await coordinator.fetch((), before)
        assert after.is_rewound
        assert after.position > before
