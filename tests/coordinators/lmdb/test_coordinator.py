"""What only this coordinator promises: inline reads, and entries that are seen before written."""

import asyncio
import threading
from pathlib import Path

import pytest
from msgspec.structs import replace

from routecache_middleware.coordinators.lmdb.coordinator import LmdbCoordinator
from routecache_middleware.coordinators.lmdb.news import MAX_NEWS
from routecache_middleware.core.budget import open_budget
from routecache_middleware.core.keys import Layer, result_key
from routecache_middleware.core.models import START, Entry
from routecache_middleware.core.ports import (
    CoordinatorEvent,
    Filled,
    Follower,
    Found,
    Gap,
    Invalidated,
    Leader,
    Released,
)
from routecache_middleware.errors import CoordinatorError
from routecache_middleware.testing.clock import FakeClock
from routecache_middleware.testing.contract import KEY, row
from tests.coordinators.lmdb.conftest import Opener
from tests.coordinators.lmdb.support import MIB, entry_of, flush, make, read


async def test_a_lookup_never_suspends(lmdb: LmdbCoordinator, clock: FakeClock) -> None:
    await lmdb.store(KEY, entry_of(clock, b"x"))
    lookup = lmdb.fetch((KEY,), START)
    with pytest.raises(StopIteration) as stop:
        lookup.send(None)
    assert stop.value.value.entries[0] == entry_of(clock, b"x")


async def test_a_store_without_a_token_never_suspends_and_is_seen_at_once(
    lmdb: LmdbCoordinator, clock: FakeClock
) -> None:
    for number in range(100):
        entry = entry_of(clock, b"%d" % number)
        with pytest.raises(StopIteration):
            lmdb.store(KEY, entry).send(None)
        fetched = lmdb.fetch_now((KEY,), START)
        assert fetched is not None
        assert fetched.entries[0] == entry


async def test_what_is_pending_is_subject_to_expiry_and_deletion(
    lmdb: LmdbCoordinator, clock: FakeClock
) -> None:
    await lmdb.store(KEY, entry_of(clock, b"x", lifetime_s=5.0))
    clock.advance(5.0)
    assert await read(lmdb, KEY) is None
    await lmdb.store(KEY, entry_of(clock, b"y"))
    await lmdb.delete(KEY)
    assert await read(lmdb, KEY) is None
    await flush(lmdb)
    assert await read(lmdb, KEY) is None


async def test_a_lease_is_taken_after_what_was_stored_before(
    lmdb: LmdbCoordinator, clock: FakeClock
) -> None:
    """In order, even with many other entries pending."""
    for number in range(500):
        await lmdb.store(result_key(f"{number}", "m"), entry_of(clock, b"x"))
    await lmdb.store(KEY, entry_of(clock, b"mine"))
    assert await lmdb.acquire(KEY, token="a", ttl_s=1.0) == Found(entry_of(clock, b"mine"))


async def test_a_leaders_entry_is_not_overwritten_by_one_that_was_pending(
    lmdb: LmdbCoordinator, clock: FakeClock
) -> None:
    await lmdb.acquire(KEY, token="a", ttl_s=10.0)
    for number in range(500):
        await lmdb.store(result_key(f"{number}", "m"), entry_of(clock, b"x"))
    await lmdb.store(KEY, entry_of(clock, b"older"))
    assert await lmdb.store(KEY, entry_of(clock, b"newer"), token="a")
    await flush(lmdb)
    entry = await read(lmdb, KEY)
    assert entry is not None
    assert entry.body == b"newer"


async def test_an_entry_the_caller_has_judged_useless_does_not_stop_it_from_leading(
    lmdb: LmdbCoordinator, clock: FakeClock
) -> None:
    dead, newer = entry_of(clock, b"dead"), entry_of(clock, b"newer")
    await lmdb.store(KEY, dead)
    assert await lmdb.acquire(KEY, token="a", ttl_s=1.0) == Found(dead)
    assert await lmdb.acquire(KEY, token="a", ttl_s=1.0, seen=dead) == Leader("a")
    await lmdb.store(KEY, newer, token="a")
    assert await lmdb.acquire(KEY, token="b", ttl_s=1.0, seen=dead) == Found(newer)


async def test_a_leader_whose_answer_is_too_large_leaves_nothing_behind(
    opener: Opener, clock: FakeClock
) -> None:
    lmdb = await opener(max_bytes=MIB)
    await lmdb.store(KEY, entry_of(clock, b"old"))
    await lmdb.acquire(KEY, token="a", ttl_s=10.0, seen=await read(lmdb, KEY))
    large = entry_of(clock, bytes(MIB))
    assert not await lmdb.store(KEY, large, token="b")
    assert await read(lmdb, KEY) is not None
    assert not await lmdb.store(KEY, large, token="a")
    assert await read(lmdb, KEY) is None


async def test_leases_do_not_follow_the_wall_clock(lmdb: LmdbCoordinator, clock: FakeClock) -> None:
    await lmdb.acquire(KEY, token="a", ttl_s=10.0)
    clock.step_wall(3_600.0)
    assert isinstance(await lmdb.acquire(KEY, token="b", ttl_s=1.0), Follower)
    clock.step_wall(-7_200.0)
    follower = await lmdb.acquire(KEY, token="b", ttl_s=1.0)
    assert follower == Follower(10.0)


async def test_a_lease_from_before_the_machine_was_started_is_void(
    lmdb: LmdbCoordinator, clock: FakeClock
) -> None:
    """The monotonic clock begins anew then."""
    await lmdb.acquire(KEY, token="a", ttl_s=10.0)
    clock._monotonic_s = 1.0
    assert await lmdb.acquire(KEY, token="b", ttl_s=10.0) == Leader("b")


async def test_leases_of_dead_leaders_are_cleared_away(
    lmdb: LmdbCoordinator, clock: FakeClock
) -> None:
    for number in range(300):
        await lmdb.acquire(result_key(f"{number}", "m"), token="a", ttl_s=1.0)
    clock.advance(2.0)
    for number in range(300):
        await lmdb.acquire(result_key(f"other-{number}", "m"), token="a", ttl_s=100.0)
    assert lmdb._shared is not None
    environment = lmdb._shared.environment
    with environment.read() as txn:
        assert txn.stat(environment.tables["leases"])["entries"] < 320


async def test_an_entry_that_cannot_be_encoded_is_lost_alone(
    lmdb: LmdbCoordinator, clock: FakeClock
) -> None:
    huge = replace(entry_of(clock), position=2**70)
    await lmdb.store(result_key("1", "m"), entry_of(clock, b"x"))
    await lmdb.store(result_key("2", "m"), huge)
    await lmdb.store(result_key("3", "m"), entry_of(clock, b"x"))
    await lmdb.acquire(KEY, token="a", ttl_s=1.0)
    with pytest.raises(CoordinatorError):
        await lmdb.store(KEY, huge, token="a")
    with pytest.raises(CoordinatorError, match="earlier"):
        await lmdb.store(KEY, entry_of(clock, b"x"))
    await flush(lmdb)
    keys = [result_key(f"{number}", "m") for number in (1, 2, 3)]
    found = (await lmdb.fetch(keys, START)).entries
    assert [entry is not None for entry in found] == [True, False, True]


async def test_a_spent_budget_is_an_error_at_once(lmdb: LmdbCoordinator) -> None:
    await lmdb.acquire(KEY, token="a", ttl_s=9.0)
    with open_budget(0.0), pytest.raises(CoordinatorError, match="used up"):
        await lmdb.acquire(KEY, token="b", ttl_s=1.0)
    with open_budget(0.0), pytest.raises(CoordinatorError):
        await lmdb.release(KEY, token="a")
    assert await lmdb.acquire(KEY, token="c", ttl_s=9.0) == Leader("c")  # given back all the same
    await lmdb.release(KEY, token="c")
    with open_budget(10.0) as budget:
        await lmdb.acquire(KEY, token="a", ttl_s=1.0)
    assert budget is not None
    assert budget.remaining_s > 0


async def test_a_cancelled_append_is_recorded_all_the_same(lmdb: LmdbCoordinator) -> None:
    task = asyncio.create_task(lmdb.append((row("m"),)))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await lmdb.append((row("n"),))
    scopes = [one.row.scope for one in (await lmdb.fetch((), START)).rows]
    assert scopes == ["all", "model:m", "model:n"]


async def test_before_open_and_after_close_everything_is_an_error(
    opener: Opener, clock: FakeClock
) -> None:
    lmdb = await opener()
    await lmdb.aclose()
    with pytest.raises(CoordinatorError, match="not open"):
        await lmdb.fetch((KEY,), START)
    with pytest.raises(CoordinatorError, match="not open"):
        await lmdb.store(KEY, entry_of(clock))
    with pytest.raises(CoordinatorError, match="not open"):
        await lmdb.append((row("m"),))
    assert set(lmdb.stats().layers) == set(Layer)


async def test_closing_writes_what_is_pending_and_ends_the_thread(
    opener: Opener, clock: FakeClock
) -> None:
    lmdb = await opener()
    for number in range(200):
        await lmdb.store(result_key(f"{number}", "m"), entry_of(clock, b"x"))
    await lmdb.aclose()
    assert not any(thread.name.startswith("routecache") for thread in threading.enumerate())
    again = await opener()
    keys = [result_key(f"{number}", "m") for number in range(200)]
    assert all((await again.fetch(keys, START)).entries)


async def test_it_may_be_opened_again_at_once_and_often(opener: Opener, clock: FakeClock) -> None:
    lmdb = await opener()
    for number in range(10):
        await lmdb.store(KEY, entry_of(clock, b"%d" % number))
        await lmdb.aclose()
        await lmdb.open()
        entry = await read(lmdb, KEY)
        assert entry is not None
        assert entry.body == b"%d" % number


async def test_one_that_opens_while_another_closes_waits_for_it(
    opener: Opener, clock: FakeClock, path: Path
) -> None:
    """The file is still open then, and a process must not open it twice."""
    for number in range(20):
        first, second = await opener(), make(path, clock)
        await first.store(KEY, entry_of(clock, b"%d" % number))
        await asyncio.gather(first.aclose(), second.open())
        entry = await read(second, KEY)
        assert entry is not None
        assert entry.body == b"%d" % number
        await second.aclose()


async def test_events_tell_each_thing_once_and_rows_in_order(
    lmdb: LmdbCoordinator, clock: FakeClock
) -> None:
    heard: list[CoordinatorEvent] = []

    async def listen() -> None:
        async for event in lmdb.events():
            heard.append(event)  # noqa: PERF401 - it is looked at meanwhile

    listeners = [asyncio.create_task(listen())]
    await asyncio.sleep(0.02)
    await lmdb.acquire(KEY, token="a", ttl_s=1.0)
    await lmdb.store(KEY, entry_of(clock), token="a")
    await lmdb.release(KEY, token="a")
    positions = [(await lmdb.append((row(f"{number}"),))).position for number in range(30)]
    await lmdb.store(result_key("unfenced", "m"), entry_of(clock))
    await flush(lmdb)
    await asyncio.sleep(0.05)
    await lmdb.aclose()
    await asyncio.gather(*listeners)
    rows = [one for event in heard if isinstance(event, Invalidated) for one in event.rows]
    assert [one.position for one in rows] == positions
    assert [event for event in heard if not isinstance(event, Invalidated)] == [
        Filled(KEY),
        Released(KEY),
    ]


async def test_a_listener_that_falls_behind_is_told_of_a_gap(
    lmdb: LmdbCoordinator, clock: FakeClock
) -> None:
    events = lmdb.events()
    first = asyncio.ensure_future(anext(events))
    await asyncio.sleep(0)
    await lmdb.acquire(KEY, token="a", ttl_s=1.0)
    await lmdb.release(KEY, token="a")
    assert await first == Released(KEY)
    keys = [result_key(f"{number}", "m") for number in range(MAX_NEWS + 50)]
    for key in keys:
        await lmdb.acquire(key, token="a", ttl_s=1.0)
        await lmdb.release(key, token="a")
    heard = [await anext(events) for _ in range(MAX_NEWS + 1)]
    assert heard[0] == Gap()
    assert heard[1:] == [Released(key) for key in keys[-MAX_NEWS:]]
    await lmdb.aclose()
    with pytest.raises(StopAsyncIteration):
        await anext(events)


async def test_samples_are_the_youngest_and_never_a_full_scan(
    lmdb: LmdbCoordinator, clock: FakeClock
) -> None:
    for number in range(600):
        await lmdb.store(
            result_key(f"{number}", "m"),
            entry_of(clock, b"%d" % number, lifetime_s=100.0 if number < 100 else 1.0),
        )
    found = await lmdb.sample(Layer.RESULT, 5)
    assert [entry.body for _, entry in found] == [b"599", b"598", b"597", b"596", b"595"]
    clock.advance(2.0)
    assert await lmdb.sample(Layer.RESULT, 5) == []  # 256 expired ones were looked at


async def test_stats_cost_no_scan_and_know_what_is_pending(
    lmdb: LmdbCoordinator, clock: FakeClock
) -> None:
    await lmdb.store(KEY, entry_of(clock, bytes(10_000)))
    assert lmdb.stats().age_s > 0
    await flush(lmdb)
    stats = lmdb.stats()
    assert stats.age_s == 0
    usage = stats.layers[Layer.RESULT]
    assert usage.entries == 1
    assert 10_000 < usage.bytes < 14_000
    await lmdb.delete(KEY)
    await flush(lmdb)
    usage = lmdb.stats().layers[Layer.RESULT]
    assert (usage.entries, usage.bytes) == (0, 0)


async def test_two_event_loops_may_use_it_at_once(lmdb: LmdbCoordinator, clock: FakeClock) -> None:
    """As two lifespans in two threads do."""

    async def use(prefix: str) -> list[Entry | None]:
        keys = [result_key(f"{prefix}{number}", "m") for number in range(50)]
        for key in keys:
            assert isinstance(await lmdb.acquire(key, token="a", ttl_s=1.0), Leader)
            assert await lmdb.store(key, entry_of(clock, key.encode()), token="a")
        return list((await lmdb.fetch(keys, START)).entries)

    other = asyncio.to_thread(asyncio.run, use("other"))
    for entries in await asyncio.gather(use("this"), other):
        assert all(entries)
