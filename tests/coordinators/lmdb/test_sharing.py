"""Several processes on one file: entries, leases, the log and events are everybody's."""

import asyncio
import os
import signal
import time
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from pathlib import Path

import pytest

from routecache_middleware.coordinators.lmdb.coordinator import LmdbCoordinator
from routecache_middleware.core.budget import open_budget
from routecache_middleware.core.invalidation import ALL
from routecache_middleware.core.keys import result_key
from routecache_middleware.core.models import START, Position
from routecache_middleware.core.ports import (
    CoordinatorEvent,
    Filled,
    Follower,
    Found,
    Invalidated,
    Leader,
    Released,
)
from routecache_middleware.engine.clock import SystemClock
from routecache_middleware.errors import CoordinatorError
from routecache_middleware.testing.contract import KEY, row
from tests.coordinators.lmdb.support import Peer, entry_of, flush, make, read, until

StartPeer = Callable[..., Awaitable[Peer]]


def _has_grown(heard: Sequence[object], size: int) -> bool:
    return len(heard) > size


async def test_what_one_process_stores_another_fetches(
    real: LmdbCoordinator, start_peer: StartPeer, system_clock: SystemClock
) -> None:
    peer = await start_peer()
    await peer.do("store", KEY, "theirs")
    entry = await read(real, KEY)
    assert entry is not None
    assert entry.body == b"theirs"
    await real.store(KEY, entry_of(system_clock, b"ours"))
    await flush(real)
    assert await peer.do("fetch", KEY) == "ours"


async def test_the_log_is_one(real: LmdbCoordinator, start_peer: StartPeer) -> None:
    peer = await start_peer()
    theirs = await peer.do("append", "a", "b")
    fetched = await real.fetch((), START)
    assert fetched.position == theirs
    assert [one.row for one in fetched.rows[-2:]] == [row("a"), row("b")]
    ours = (await real.append((row("c"),))).position
    assert ours > theirs
    assert await peer.do("rows") == [ALL, "model:a", "model:b", "model:c"]


async def test_an_invalidation_is_seen_by_the_very_next_read(
    real: LmdbCoordinator, start_peer: StartPeer
) -> None:
    """No listener, no polling: rows come in the transaction that reads the entry."""
    peer = await start_peer()
    position = real.fetch_now((KEY,), START)
    assert position is not None
    for number in range(20):
        appended = await peer.do("append", f"{number}")
        fetched = real.fetch_now((KEY,), position.position)
        assert fetched is not None
        assert fetched.position == appended
        position = fetched


async def test_of_two_processes_one_leads(real: LmdbCoordinator, start_peer: StartPeer) -> None:
    peer = await start_peer()
    assert await peer.do("acquire", KEY, "p") == "leader"
    assert isinstance(await real.acquire(KEY, token="a", ttl_s=30.0), Follower)
    assert await peer.do("store", KEY, "made", "p")
    found = await real.acquire(KEY, token="a", ttl_s=30.0)
    assert isinstance(found, Found)
    assert found.entry.body == b"made"


async def test_a_lease_of_a_dead_process_ends(real: LmdbCoordinator, start_peer: StartPeer) -> None:
    peer = await start_peer()
    assert await peer.do("acquire", KEY, "p", 0.3) == "leader"
    peer.kill()
    assert isinstance(await real.acquire(KEY, token="a", ttl_s=30.0), Follower)
    await asyncio.sleep(0.35)
    assert await real.acquire(KEY, token="a", ttl_s=30.0) == Leader("a")


async def test_events_of_other_processes_arrive_in_some_ten_milliseconds(
    real: LmdbCoordinator, start_peer: StartPeer
) -> None:
    peer = await start_peer()
    heard: list[tuple[float, CoordinatorEvent]] = []

    async def listen() -> None:
        async for event in real.events():
            heard.append((time.monotonic(), event))  # noqa: PERF401 - it is looked at meanwhile

    listener = asyncio.create_task(listen())
    await asyncio.sleep(0.05)
    delays: list[float] = []
    for number in range(5):
        await peer.do("acquire", KEY, f"{number}")
        await peer.do("release", KEY, f"{number}")
        done_s = time.monotonic()
        await until(partial(_has_grown, heard, number))
        assert heard[-1][1] == Released(KEY)
        delays.append(heard[-1][0] - done_s)
    await peer.do("acquire", KEY, "x")
    await peer.do("store", KEY, "made", "x")
    position = await peer.do("append", "m")
    await until(lambda: any(isinstance(event, Invalidated) for _, event in heard))
    events = [event for _, event in heard]
    assert Filled(KEY) in events
    rows = [one for event in events if isinstance(event, Invalidated) for one in event.rows]
    assert [(one.position, one.row) for one in rows] == [(position, row("m"))]
    assert sorted(delays)[2] < 0.2
    await real.aclose()
    await listener


async def test_entries_log_and_leases_survive_a_restart(
    path: Path, system_clock: SystemClock
) -> None:
    first = make(path, system_clock)
    await first.open()
    await first.store(KEY, entry_of(system_clock, b"kept"))
    position = (await first.append((row("m"),))).position
    await first.acquire(result_key("other", "m"), token="a", ttl_s=30.0)
    await first.aclose()
    second = make(path, system_clock)
    await second.open()
    entry = await read(second, KEY)
    assert entry is not None
    assert entry.body == b"kept"
    assert (await second.fetch((), position)).rows == ()
    follower = await second.acquire(result_key("other", "m"), token="b", ttl_s=30.0)
    assert isinstance(follower, Follower)
    await second.aclose()


async def test_what_was_written_survives_the_death_of_its_process(
    real: LmdbCoordinator, start_peer: StartPeer
) -> None:
    """Trap 12: commits are not flushed, but they are the system's, not the process's."""
    peer = await start_peer()
    for number in range(100):
        await peer.do("store", result_key(f"{number}", "m"), f"{number}")
    peer.kill()
    for number in range(100):
        entry = await read(real, result_key(f"{number}", "m"))
        assert entry is not None
        assert entry.body == b"%d" % number


async def test_a_process_that_holds_the_mutex_does_not_stop_our_loop(
    real: LmdbCoordinator, start_peer: StartPeer, system_clock: SystemClock
) -> None:
    """Trap 10: LMDB's write transactions know no timeout."""
    peer = await start_peer()
    await real.store(KEY, entry_of(system_clock, b"kept"))
    await flush(real)
    assert await peer.do("hold_write", 1.0) == "held"
    begun_s = time.monotonic()
    waiting = asyncio.create_task(real.append((row("m"),)))
    longest_s, turns = 0.0, 0
    while not waiting.done():
        turn_s = time.monotonic()
        assert await read(real, KEY) is not None
        other = result_key(f"{turns}", "m")
        assert await real.store(other, entry_of(system_clock))
        assert await read(real, other) is not None
        await asyncio.sleep(0.002)
        longest_s, turns = max(longest_s, time.monotonic() - turn_s), turns + 1
    await asyncio.gather(waiting, return_exceptions=True)
    assert time.monotonic() - begun_s > 0.5
    assert turns > 20
    assert longest_s < 0.3
    assert await peer.answer() is None


async def test_nobody_waits_longer_than_a_second_or_the_budget_of_the_request(
    real: LmdbCoordinator, start_peer: StartPeer
) -> None:
    peer = await start_peer()
    assert await peer.do("hold_write", 2.0) == "held"
    begun_s = time.monotonic()
    with open_budget(0.05) as budget, pytest.raises(CoordinatorError, match="mutex"):
        await real.acquire(KEY, token="a", ttl_s=1.0)
    assert time.monotonic() - begun_s < 0.5
    assert budget is not None
    assert budget.remaining_s == 0
    with pytest.raises(CoordinatorError, match="mutex"):
        await real.acquire(KEY, token="b", ttl_s=1.0)
    assert time.monotonic() - begun_s < 1.6
    assert await peer.answer() is None
    # Those who gave up have not taken the lease when their turn came.
    assert await real.acquire(KEY, token="c", ttl_s=30.0) == Leader("c")


async def test_a_stopped_process_with_the_mutex_delays_nobody_but_writers(
    real: LmdbCoordinator, start_peer: StartPeer, system_clock: SystemClock
) -> None:
    peer = await start_peer()
    await real.store(KEY, entry_of(system_clock, b"kept"))
    await flush(real)
    assert await peer.do("hold_write", 0.1) == "held"
    os.kill(peer.pid, signal.SIGSTOP)
    try:
        with pytest.raises(CoordinatorError):
            await real.acquire(KEY, token="a", ttl_s=1.0, seen=await read(real, KEY))
        assert await read(real, KEY) is not None
    finally:
        os.kill(peer.pid, signal.SIGCONT)
    assert await peer.answer() is None
    entry = await read(real, KEY)
    assert await real.acquire(KEY, token="b", ttl_s=1.0, seen=entry) == Leader("b")


async def test_each_live_process_tells_how_far_it_has_read(
    real: LmdbCoordinator, start_peer: StartPeer
) -> None:
    first, second = await start_peer(), await start_peer()
    position = await first.do("append", "m")
    for peer in (first, second):
        await peer.do("fetch", KEY)
    await read(real, KEY)
    async with asyncio.timeout(10):
        while True:
            stats = await real.cluster_stats()
            if [process.position for process in stats.processes] == [position] * 3:
                break
            await asyncio.sleep(0.05)
    pids = [int(process.process.rpartition(":")[2]) for process in stats.processes]
    assert pids[0] == os.getpid()
    assert set(pids[1:]) == {first.pid, second.pid}
    assert stats.position == Position(position)
    assert [node.name for node in stats.nodes] == ["cache"]
    first.kill()
    second.end()
    stats = await real.cluster_stats()
    assert [int(process.process.rpartition(":")[2]) for process in stats.processes] == [os.getpid()]
