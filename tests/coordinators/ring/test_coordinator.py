"""Requests while nodes fail, and nodes that are registered and unregistered."""

import asyncio
from collections.abc import Awaitable, Sequence

import pytest

from routecache_middleware.coordinators.guarded import GuardedCoordinator
from routecache_middleware.coordinators.ring.coordinator import RingCoordinator
from routecache_middleware.core.cluster import NodeState
from routecache_middleware.core.keys import CacheKey, Layer, result_key
from routecache_middleware.core.models import START, Entry
from routecache_middleware.core.ports import CoordinatorEvent, Leader
from routecache_middleware.errors import ConfigurationError, CoordinatorError
from routecache_middleware.testing.clock import FakeClock
from tests.coordinators.ring.conftest import Fleet, member, row, states
from tests.coordinators.ring.simulated import Link, Server
from tests.coordinators.ring.virtual import VirtualClock, run_virtually

UP, SUSPECT, DOWN = NodeState.UP, NodeState.SUSPECT, NodeState.DOWN
KEYS = [result_key(f"{number:032x}", "m") for number in range(60)]


def entry(clock: FakeClock | VirtualClock, body: bytes = b"{}") -> Entry:
    return Entry(Layer.RESULT, body, clock.now_s(), 600.0)


def key_of(ring: RingCoordinator, name: str) -> CacheKey:
    """A key that belongs to a node."""
    return next(key for key in KEYS if ring._members.placement.order_of(key)[0] == name)


def holders(fleet: Fleet, key: CacheKey) -> list[str]:
    return [one.name for one in fleet.servers if one.memory.fetch_now((key,), START).entries[0]]


async def test_an_entry_is_on_the_node_of_its_key_and_nowhere_else(
    fleet: Fleet, clock: FakeClock
) -> None:
    ring = await fleet.quiet("a")
    for key in KEYS:
        await ring.store(key, entry(clock))
        assert holders(fleet, key) == [ring._members.placement.order_of(key)[0]]


async def test_a_lease_is_on_the_node_of_its_key(fleet: Fleet, clock: FakeClock) -> None:
    first, second = await fleet.quiet("a"), await fleet.quiet("b")
    assert await first.acquire(KEYS[0], token="a", ttl_s=5.0) == Leader("a")
    assert not await second.store(KEYS[0], entry(clock), token="b")
    assert await second.renew(KEYS[0], token="a", ttl_s=5.0)
    assert await first.store(KEYS[0], entry(clock), token="a")


async def test_the_next_in_line_takes_over_at_once(fleet: Fleet, clock: FakeClock) -> None:
    ring = await fleet.quiet("a")
    key = key_of(ring, "n1")
    await ring.store(key, entry(clock))
    fleet.servers[1].is_running = False
    assert (await ring.fetch((key,), START)).entries == [None]
    assert states(ring) == [UP, DOWN, UP]
    assert await ring.store(key, entry(clock, b"again"))
    stand_in = ring._members.placement.order_of(key)[1]
    assert stand_in in holders(fleet, key)
    fetched = (await ring.fetch((key,), START)).entries[0]
    assert fetched is not None
    assert fetched.body == b"again"


async def test_many_keys_are_read_from_all_nodes_in_order(fleet: Fleet, clock: FakeClock) -> None:
    ring = await fleet.quiet("a")
    for number, key in enumerate(KEYS):
        await ring.store(key, entry(clock, b"%d" % number))
    ops = [one.ops for one in ring._members]
    fetched = await ring.fetch([*KEYS, KEYS[3]], START)
    bodies = [int(one.body) if one else None for one in fetched.entries]
    assert bodies == [*range(60), 3]
    assert [after.ops - before for after, before in zip(ring._members, ops, strict=True)] == [1] * 3


async def test_many_keys_survive_the_death_of_a_node(fleet: Fleet, clock: FakeClock) -> None:
    ring = await fleet.quiet("a")
    for key in KEYS:
        await ring.store(key, entry(clock))
    fleet.servers[1].is_running = False
    entries = (await ring.fetch(KEYS, START)).entries
    lost = [key for key, one in zip(KEYS, entries, strict=True) if one is None]
    assert lost
    assert all(ring._members.placement.order_of(key)[0] == "n1" for key in lost)


async def test_when_all_nodes_are_down_it_is_an_error(fleet: Fleet, clock: FakeClock) -> None:
    ring = await fleet.quiet("a")
    for server in fleet.servers:
        server.is_running = False
    calls: list[Awaitable[object]] = [
        ring.fetch((KEYS[0],), START),
        ring.fetch(KEYS, START),
        ring.store(KEYS[0], entry(clock)),
        ring.delete(KEYS[0]),
        ring.acquire(KEYS[0], token="a", ttl_s=1.0),
        ring.renew(KEYS[0], token="a", ttl_s=1.0),
        ring.release(KEYS[0], token="a"),
        ring.probe(writes=False),
        ring.probe(writes=True),
    ]
    for call in calls:
        with pytest.raises(CoordinatorError):
            await call


async def test_opening_without_any_node_is_an_error_and_may_be_tried_again(fleet: Fleet) -> None:
    for server in fleet.servers:
        server.is_running = False
    ring = fleet.process("a")
    with pytest.raises(CoordinatorError):
        await ring.open()
    fleet.servers[2].is_running = True
    await ring.open()
    assert states(ring) == [DOWN, DOWN, UP]


@pytest.mark.parametrize("keys", [KEYS[:1], KEYS], ids=["one", "many"])
def test_two_of_five_that_hang_cost_less_than_a_request_may_wait(
    keys: Sequence[CacheKey],
) -> None:
    """50 ms; the guard around the ring gives up then."""

    async def main(clock: VirtualClock) -> None:
        fleet = Fleet(clock, 5)
        ring = await fleet.quiet("a")
        first, second, *_ = ring._members.placement.order_of(keys[0])
        for name in (first, second):
            fleet.server(name).is_paused = True
        waits = []
        for _ in range(4):
            begun_s = clock.monotonic_s()
            await ring.fetch(keys, START)
            waits.append(clock.monotonic_s() - begun_s)
        assert 0.0 < max(waits) < 0.05
        assert waits[-1] == 0.0  # down by now
        await fleet.aclose()

    run_virtually(main)


def test_the_time_for_one_call_ends_however_many_nodes_hang() -> None:
    async def main(clock: VirtualClock) -> None:
        fleet = Fleet(clock, 5)
        ring = await fleet.quiet("a")
        for server in fleet.servers:
            server.is_paused = True
        for keys in (KEYS[:1], KEYS):
            begun_s = clock.monotonic_s()
            with pytest.raises(CoordinatorError):
                await ring._asking.fetch(keys)
            assert clock.monotonic_s() - begun_s < 0.05
        await fleet.aclose()

    run_virtually(main)


async def test_the_breaker_around_the_ring_stays_closed_while_nodes_fail(
    fleet: Fleet, clock: FakeClock
) -> None:
    ring = fleet.process("a")
    guarded = GuardedCoordinator(ring, clock=clock, timeout_s=0.05)
    await guarded.open()
    fleet.servers[0].is_running = False
    fleet.servers[1].is_paused = True
    for key in KEYS:
        await guarded.fetch((key,), START)
        await guarded.store(key, entry(clock))
    assert guarded.is_reading
    assert guarded.is_writing
    await guarded.aclose()


async def test_a_registered_node_gets_its_share_and_the_log(fleet: Fleet, clock: FakeClock) -> None:
    ring = await fleet.quiet("a")
    await ring.append([row("m")])
    for key in KEYS:
        await ring.store(key, entry(clock))
    fleet.servers.append(Server("n3", clock))
    assert await ring.register("n3") == "n3"
    assert states(ring) == [UP] * 4
    assert fleet.servers[3].log == fleet.servers[0].log
    entries = (await ring.fetch(KEYS, START)).entries
    moved = [key for key, one in zip(KEYS, entries, strict=True) if one is None]
    assert moved
    assert all(ring._members.placement.order_of(key)[0] == "n3" for key in moved)
    stats = await ring.cluster_stats()
    assert (stats.view_version, len(stats.nodes)) == (2, 4)
    assert stats.moved_share == pytest.approx(0.25, abs=0.02)


async def test_a_node_may_be_registered_before_it_runs(fleet: Fleet, clock: FakeClock) -> None:
    ring = await fleet.quiet("a")
    fleet.servers.append(Server("n3", clock))
    fleet.servers[3].is_running = False
    await ring.register("n3", weight=2.0)
    assert states(ring) == [UP, UP, UP, DOWN]
    await ring.fetch(KEYS, START)


async def test_a_node_may_be_registered_before_the_ring_is_open(
    fleet: Fleet, clock: FakeClock
) -> None:
    ring = fleet.process("a")
    fleet.servers.append(Server("n3", clock))
    await ring.register("n3")
    await ring.open()
    assert states(ring) == [UP] * 4


async def test_an_unregistered_node_is_not_asked_any_more(fleet: Fleet, clock: FakeClock) -> None:
    ring = await fleet.quiet("a")
    for key in KEYS:
        await ring.store(key, entry(clock))
    await ring.unregister("n1")
    fleet.servers[1].is_running = False
    entries = (await ring.fetch(KEYS, START)).entries
    assert 0 < sum(one is None for one in entries) < len(KEYS)
    assert (await ring.append([row("m")])).replicas_acknowledged == 1
    assert ring._members.view_version == 2


async def test_the_last_node_cannot_be_unregistered(fleet: Fleet) -> None:
    ring = await fleet.quiet("a")
    await ring.unregister("n0")
    await ring.unregister("n1")
    with pytest.raises(ConfigurationError, match="last of its ring"):
        await ring.unregister("n2")
    await ring.fetch(KEYS, START)


async def test_a_node_that_was_unregistered_may_be_registered_again(
    fleet: Fleet, clock: FakeClock
) -> None:
    ring = await fleet.quiet("a")
    await ring.unregister("n1")
    await ring.append([row("m")])
    await ring.register("n1")
    assert states(ring) == [UP] * 3
    assert fleet.servers[1].log[-1].row == row("m")


async def test_cluster_stats_tell_of_every_node(fleet: Fleet, clock: FakeClock) -> None:
    ring = await fleet.quiet("a")
    for key in KEYS:
        await ring.store(key, entry(clock))
    fleet.servers[2].is_running = False
    with pytest.raises(CoordinatorError):
        await member(ring, "n2").ask(member(ring, "n2").node.ping(), 1.0)
    stats = await ring.cluster_stats()
    assert [node.name for node in stats.nodes] == ["n0", "n1", "n2"]
    assert [node.state for node in stats.nodes] == [UP, UP, DOWN]
    assert stats.nodes[0].keys > 0
    assert stats.nodes[0].bytes > 0
    assert stats.nodes[2].keys == 0
    assert stats.nodes[0].keys + stats.nodes[1].keys < len(KEYS)
    assert stats.nodes[2].errors == 1
    assert all(node.ops > 0 for node in stats.nodes)
    assert 1.0 <= stats.imbalance <= 1.1
    assert stats.processes[0].process == "a"
    assert stats.position == ring._log.reached


async def test_stats_add_up_what_nodes_hold(fleet: Fleet, clock: FakeClock) -> None:
    ring = await fleet.quiet("a")
    for key in KEYS:
        await ring.store(key, entry(clock))
    stats = ring.stats()
    assert stats.nodes == 3
    assert stats.layers[Layer.RESULT].entries == len(KEYS)


async def test_a_sample_comes_from_all_nodes_and_each_key_once(
    fleet: Fleet, clock: FakeClock
) -> None:
    ring = await fleet.quiet("a")
    for key in KEYS:
        await ring.store(key, entry(clock))
    fleet.servers[0].memory.store_now(key_of(ring, "n1"), entry(clock))  # left from another view
    assert {key for key, _ in await ring.sample(Layer.RESULT, 500)} == set(KEYS)
    fleet.servers[1].is_running = False
    assert await ring.sample(Layer.RESULT, 500)


async def test_a_ring_moves_to_the_event_loop_that_opens_it(fleet: Fleet, clock: FakeClock) -> None:
    ring = fleet.process("a")

    def in_another_loop() -> None:
        async def use() -> None:
            await ring.open()
            await ring.fetch((KEYS[0],), START)
            await ring.aclose()

        asyncio.run(use())

    await asyncio.to_thread(in_another_loop)
    await ring.open()
    assert (await ring.fetch((KEYS[0],), START)).entries == [None]


async def test_an_old_lease_on_a_node_that_went_does_not_fence_its_stand_in(
    fleet: Fleet, clock: FakeClock
) -> None:
    """Who led on the node that went can store no more; who leads now can."""
    ring = await fleet.quiet("a")
    key = key_of(ring, "n1")
    assert await ring.acquire(key, token="old", ttl_s=5.0) == Leader("old")
    fleet.network.links["a", "n1"] = Link.REFUSED
    assert await ring.acquire(key, token="new", ttl_s=5.0) == Leader("new")
    assert not await ring.store(key, entry(clock), token="old")
    assert await ring.store(key, entry(clock), token="new")


async def test_a_store_that_was_refused_is_told_to_nobody(fleet: Fleet, clock: FakeClock) -> None:
    ring = await fleet.quiet("a")
    events: list[CoordinatorEvent] = []

    async def listen() -> None:
        async for event in ring.events():
            events.append(event)  # noqa: PERF401 - seen as they come

    listening = asyncio.ensure_future(listen())
    await asyncio.sleep(0)
    assert not await ring.store(KEYS[0], entry(clock), token="nobody's")
    assert await ring.store(KEYS[0], entry(clock))
    await ring.aclose()
    await listening
    assert events == []
