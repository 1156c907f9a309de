"""What goes on in the background, in made-up time."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import pairwise

import pytest

from routecache_middleware.coordinators.ring.coordinator import RingCoordinator
from routecache_middleware.coordinators.ring.keeper import PROBE_TIMEOUT_S
from routecache_middleware.core.cluster import NodeState
from routecache_middleware.core.keys import Layer, result_key
from routecache_middleware.core.models import START, Entry
from routecache_middleware.core.ports import CoordinatorEvent, Filled, Follower, Gap, Invalidated
from tests.coordinators.ring.conftest import Fleet, member, row, states
from tests.coordinators.ring.simulated import SimulatedNode
from tests.coordinators.ring.virtual import VirtualClock, run_virtually

UP, SUSPECT, DOWN, JOINING = NodeState.UP, NodeState.SUSPECT, NodeState.DOWN, NodeState.JOINING
KEY = result_key("0" * 32, "m")


@asynccontextmanager
async def opened(
    clock: VirtualClock, servers: int = 3
) -> AsyncIterator[tuple[Fleet, RingCoordinator]]:
    fleet = Fleet(clock, servers)
    fleet.network.delay_s = 0.0005
    ring = fleet.process("a")
    await ring.open()
    yield fleet, ring
    await fleet.aclose()


def test_a_node_that_dies_is_down_within_a_second() -> None:
    async def main(clock: VirtualClock) -> None:
        async with opened(clock) as (fleet, ring):
            fleet.servers[1].is_running = False
            await asyncio.sleep(1.0)
            assert states(ring) == [UP, DOWN, UP]

    run_virtually(main)


def test_a_node_that_hangs_is_down_within_two_seconds_and_the_log_is_proven_again() -> None:
    async def main(clock: VirtualClock) -> None:
        async with opened(clock) as (fleet, ring):
            fleet.servers[1].is_paused = True
            await asyncio.sleep(2.0)
            assert states(ring) == [UP, DOWN, UP]
            assert ring.proof_age_s < 0.5

    run_virtually(main)


def test_the_log_is_proven_all_the_time_while_nobody_asks() -> None:
    async def main(clock: VirtualClock) -> None:
        async with opened(clock) as (_, ring):
            for _ in range(200):
                await asyncio.sleep(0.033)
                assert ring.proof_age_s < 0.5

    run_virtually(main)


def test_a_row_of_another_process_arrives_within_milliseconds() -> None:
    async def main(clock: VirtualClock) -> None:
        async with opened(clock) as (fleet, ring):
            other = fleet.process("b")
            await other.open()
            await asyncio.sleep(3.0)
            receipt = await other.append([row("m")])
            await asyncio.sleep(0.015)
            assert ring.tail_now(START).position == receipt.position

    run_virtually(main)


def test_a_node_that_returns_serves_again() -> None:
    async def main(clock: VirtualClock) -> None:
        async with opened(clock) as (fleet, ring):
            fleet.servers[1].is_running = False
            await asyncio.sleep(5.0)
            fleet.servers[1].is_running = True
            await asyncio.sleep(1.5)
            assert states(ring) == [UP, UP, UP]

    run_virtually(main)


def test_a_node_that_returns_is_up_to_date_before_it_is_asked(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Whoever reads its log alone must find there what happened while it was away."""
    asked: list[list[object]] = []

    async def fetch(self: SimulatedNode, keys: list[str]) -> list[None]:
        if self.name == "n1":
            asked.append([one.row for one in self._server.log])
        return [None] * len(keys)

    monkeypatch.setattr(SimulatedNode, "fetch", fetch)

    async def main(clock: VirtualClock) -> None:
        async with opened(clock) as (fleet, ring):
            keys = [result_key(f"{number:032x}", "m") for number in range(30)]
            await fleet.servers[1].lose_everything()
            fleet.servers[1].is_running = False
            await asyncio.sleep(1.0)
            asked.clear()
            await ring.append([row("m")])
            fleet.servers[1].is_running = True
            for _ in range(600):
                await asyncio.gather(*(ring.fetch((key,), START) for key in keys[:3]))
                await ring.fetch(keys, START)
                await asyncio.sleep(0.005)
            assert asked
            assert all(row("m") in rows for rows in asked)

    run_virtually(main)


def test_a_node_stays_joining_while_its_log_cannot_be_brought_up_to_date(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def main(clock: VirtualClock) -> None:
        async with opened(clock) as (fleet, ring):
            server = fleet.servers[1]
            server.is_running = False
            await asyncio.sleep(1.0)
            await ring.append([row("m")])
            seen = []

            async def refuses(self: SimulatedNode, *args: object) -> bool:
                if self.name == "n1":
                    seen.append(member(ring, "n1").health.state)
                    await asyncio.Event().wait()
                return False

            monkeypatch.setattr(SimulatedNode, "append_at", refuses)
            server.is_running = True
            await asyncio.sleep(3.0)
            assert JOINING in seen
            assert UP not in seen
            assert not member(ring, "n1").health.is_serving
            monkeypatch.undo()
            await asyncio.sleep(3.0)
            assert states(ring) == [UP, UP, UP]
            assert server.log[-1].row == row("m")

    run_virtually(main)


def test_after_two_minutes_down_the_keys_get_another_home() -> None:
    async def main(clock: VirtualClock) -> None:
        async with opened(clock) as (fleet, ring):
            fleet.servers[1].is_running = False
            await asyncio.sleep(118.0)
            assert ring._members.view_version == 1
            await asyncio.sleep(5.0)
            assert ring._members.view_version == 2
            assert set(ring._members.placement.weights) == {"n0", "n2"}
            stats = await ring.cluster_stats()
            assert [node.state for node in stats.nodes] == [UP, DOWN, UP]
            assert stats.moved_share == pytest.approx(1 / 3, abs=0.02)

    run_virtually(main)


def test_the_last_node_is_never_removed() -> None:
    async def main(clock: VirtualClock) -> None:
        async with opened(clock) as (fleet, ring):
            for server in fleet.servers:
                server.is_running = False
            await asyncio.sleep(400.0)
            assert len(ring._members.placement.weights) == 1
            for server in fleet.servers:
                server.is_running = True
            await asyncio.sleep(15.0)
            assert states(ring) == [UP, UP, UP]
            assert len(ring._members.placement.weights) == 3

    run_virtually(main)


def test_a_removed_node_is_asked_now_and_then_and_comes_back() -> None:
    async def main(clock: VirtualClock) -> None:
        async with opened(clock) as (fleet, ring):
            fleet.servers[1].is_running = False
            await asyncio.sleep(130.0)
            before = member(ring, "n1").ops
            await asyncio.sleep(100.0)
            assert 8 <= member(ring, "n1").ops - before <= 10
            fleet.servers[1].is_running = True
            await asyncio.sleep(12.0)
            assert states(ring) == [UP, UP, UP]
            assert ring._members.view_version == 3

    run_virtually(main)


def test_probes_are_spread_so_that_processes_do_not_march_in_step(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def main(clock: VirtualClock) -> None:
        async with opened(clock) as (fleet, _):
            times = []

            async def ping(self: SimulatedNode) -> None:
                times.append(clock.monotonic_s())
                await self._call(lambda: None)

            monkeypatch.setattr(SimulatedNode, "ping", ping)
            fleet.servers[1].is_running = False
            await asyncio.sleep(60.0)
            gaps = [later - sooner for sooner, later in pairwise(times)]
            assert all(0.79 <= gap <= 1.25 for gap in gaps)
            assert max(gaps) - min(gaps) > 0.2

    run_virtually(main)


def test_a_probe_gives_a_node_a_quarter_of_a_second() -> None:
    async def main(clock: VirtualClock) -> None:
        async with opened(clock) as (fleet, ring):
            fleet.servers[1].is_paused = True
            begun_s = clock.monotonic_s()
            assert not await ring._keeper._answers(member(ring, "n1"))
            assert clock.monotonic_s() - begun_s == pytest.approx(PROBE_TIMEOUT_S, abs=0.01)

    run_virtually(main)


def test_who_waits_for_a_lease_elsewhere_is_told_of_the_fill() -> None:
    async def main(clock: VirtualClock) -> None:
        async with opened(clock) as (fleet, ring):
            other = fleet.process("b")
            await other.open()
            events: list[CoordinatorEvent] = []
            listening = asyncio.ensure_future(_collect(ring, events))
            await asyncio.sleep(0.1)
            await other.acquire(KEY, token="b", ttl_s=5.0)
            assert isinstance(await ring.acquire(KEY, token="a", ttl_s=5.0), Follower)
            made = Entry(Layer.RESULT, b"", clock.now_s(), 60.0)
            assert await other.store(KEY, made, token="b")
            await asyncio.sleep(0.02)
            assert events == [Filled(KEY)]
            await ring.aclose()
            await listening

    run_virtually(main)


def test_an_outage_is_a_gap_and_rows_come_again_afterwards() -> None:
    async def main(clock: VirtualClock) -> None:
        async with opened(clock) as (fleet, ring):
            events: list[CoordinatorEvent] = []
            listening = asyncio.ensure_future(_collect(ring, events))
            await asyncio.sleep(0.1)
            for server in fleet.servers:
                server.is_running = False
            await asyncio.sleep(2.0)
            assert Gap() in events
            events.clear()
            for server in fleet.servers:
                server.is_running = True
            await asyncio.sleep(2.0)
            receipt = await ring.append([row("m")])
            await asyncio.sleep(0.01)
            told = [one for event in events if isinstance(event, Invalidated) for one in event.rows]
            assert [(one.position, one.row) for one in told] == [(receipt.position, row("m"))]
            await ring.aclose()
            await listening

    run_virtually(main)


def test_the_log_is_followed_again_after_the_last_node_went_down_unnoticed() -> None:
    """A request finds out while the log is being read, so that nobody is left to wait for."""

    async def main(clock: VirtualClock) -> None:
        async with opened(clock) as (_, ring):
            for one in ring._members:
                one.health.failed(0.0, 0.0, was_refused=True)
            ring._keeper._waits.clear()
            await ring._keeper._news()
            await asyncio.sleep(3.0)
            assert states(ring) == [UP, UP, UP]
            assert ring.proof_age_s < 0.5

    run_virtually(main)


def test_processes_say_how_far_they_have_read() -> None:
    async def main(clock: VirtualClock) -> None:
        async with opened(clock) as (fleet, ring):
            other = fleet.process("b")
            await other.open()
            receipt = await other.append([row("m")])
            await asyncio.sleep(4.0)
            stats = await ring.cluster_stats()
            assert [(one.process, one.position) for one in stats.processes] == [
                ("a", receipt.position),
                ("b", receipt.position),
            ]

    run_virtually(main)


async def _collect(ring: RingCoordinator, events: list[CoordinatorEvent]) -> None:
    async for event in ring.events():
        events.append(event)  # noqa: PERF401 - seen as they come
