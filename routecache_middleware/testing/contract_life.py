"""Events, opening and closing, and what a coordinator tells of itself."""

import asyncio

from msgspec.structs import replace

from routecache_middleware.core.cluster import NodeState
from routecache_middleware.core.keys import Layer, result_key, route_key
from routecache_middleware.core.models import START
from routecache_middleware.core.ports import (
    Coordinator,
    Filled,
    Follower,
    Invalidated,
    Released,
)
from routecache_middleware.testing.clock import FakeClock
from routecache_middleware.testing.contract_base import (
    KEY,
    ContractBase,
    Listener,
    logged,
    row,
)

__all__ = ["LifeContract"]


class LifeContract(ContractBase):
    """Events, opening and closing, and what a coordinator tells of itself."""

    # -- events

    async def test_events_tell_of_rows_and_fills(
        self, coordinator: Coordinator, clock: FakeClock
    ) -> None:
        listener = Listener(coordinator)
        await listener.start()
        receipt = await coordinator.append((row("m"),))
        await coordinator.acquire(KEY, token="a", ttl_s=self.tick_s)
        await coordinator.store(KEY, self.entry(clock), token="a")
        events = await listener.until(lambda seen: Filled(KEY) in seen)
        rows = [r for event in events if isinstance(event, Invalidated) for r in event.rows]
        assert [(one.position, one.row) for one in rows] == [(receipt.position, row("m"))]
        await coordinator.aclose()
        await listener.ended()

    async def test_events_tell_who_waits_of_a_lease_that_came_to_nothing(
        self, coordinator: Coordinator
    ) -> None:
        listener = Listener(coordinator)
        await listener.start()
        await coordinator.acquire(KEY, token="a", ttl_s=self.tick_s)
        assert isinstance(await coordinator.acquire(KEY, token="b", ttl_s=self.tick_s), Follower)
        await coordinator.release(KEY, token="a")
        await listener.until(lambda seen: Released(KEY) in seen)
        await coordinator.aclose()
        await listener.ended()

    # -- life

    async def test_open_and_aclose_may_be_called_twice(self, coordinator: Coordinator) -> None:
        await coordinator.open()
        await coordinator.open()
        await coordinator.aclose()
        await coordinator.aclose()

    async def test_a_reopened_coordinator_works_and_its_positions_go_on(
        self, coordinator: Coordinator, clock: FakeClock
    ) -> None:
        """A reader from before gets what it missed, or learns that it cannot."""
        before = await coordinator.append((row("a"), row("b")))
        await coordinator.aclose()
        await coordinator.open()
        after = await coordinator.append((row("c"),))
        assert after.position > before.position
        fetched = await coordinator.fetch((), START)
        assert fetched.is_rewound or len(logged(fetched)) == 3
        assert await coordinator.store(KEY, self.entry(clock))
        assert await self.read(coordinator) is not None

    async def test_fifty_tasks_may_use_it_at_once(
        self, coordinator: Coordinator, clock: FakeClock
    ) -> None:
        async def use(number: int) -> None:
            key = result_key(f"{number % 7:032x}", "m")
            for turn in range(10):
                await coordinator.store(key, self.entry(clock, b"%d" % (number % 7)))
                entry = await self.read(coordinator, key)
                assert entry is None or entry.body == b"%d" % (number % 7)
                if turn == number % 10:
                    await coordinator.delete(key)

        await asyncio.gather(*(use(number) for number in range(50)))

    # -- inspection

    async def test_a_sample_holds_unexpired_entries_of_one_layer(
        self, coordinator: Coordinator, clock: FakeClock
    ) -> None:
        live = {result_key(f"{n:032x}", "m"): self.entry(clock, b"%d" % n) for n in range(5)}
        for key, entry in live.items():
            await coordinator.store(key, entry)
        await coordinator.store(KEY, self.entry(clock, ticks=1.0))
        decision = replace(self.entry(clock), layer=Layer.ROUTING)
        await coordinator.store(route_key("h"), decision)
        await self.let_time_pass(clock, 2.0 * self.tick_s)
        assert dict(await coordinator.sample(Layer.RESULT, 100)) == live
        assert dict(await coordinator.sample(Layer.ROUTING, 100)) == {route_key("h"): decision}
        assert len(await coordinator.sample(Layer.RESULT, 2)) == 2
        assert not await coordinator.sample(Layer.RESULT, 0)

    async def test_stats_name_every_layer_and_count_entries(
        self, coordinator: Coordinator, clock: FakeClock
    ) -> None:
        await coordinator.store(KEY, self.entry(clock, bytes(1000)))
        stats = coordinator.stats()
        assert set(stats.layers) == set(Layer)
        assert stats.nodes >= 1
        usage = stats.layers[Layer.RESULT]
        assert usage.entries == 1 or stats.age_s > 0
        assert usage.bytes <= usage.limit_bytes

    async def test_cluster_stats_name_nodes_and_where_the_log_ends(
        self, coordinator: Coordinator
    ) -> None:
        receipt = await coordinator.append((row("m"),))
        stats = await coordinator.cluster_stats()
        assert stats.position >= receipt.position
        assert stats.count(NodeState.UP) == len(stats.nodes) >= 1
        assert all(node.name and "@" not in node.name for node in stats.nodes)
        assert all(process.process for process in stats.processes)

    async def test_it_says_who_it_is(self, coordinator: Coordinator) -> None:
        assert coordinator.poll_s > 0
        assert coordinator.name.isascii()
        assert coordinator.is_shared in (True, False)
