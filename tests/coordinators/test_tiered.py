"""TieredCoordinator: the contract, when a copy is used, and when not."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress

import pytest
from msgspec.structs import replace

from routecache_middleware.coordinators.guarded import GuardedCoordinator
from routecache_middleware.coordinators.near import SHARES, NearStore
from routecache_middleware.coordinators.tiered import TieredCoordinator
from routecache_middleware.core.choices import Eviction
from routecache_middleware.core.invalidation import (
    ALL,
    InvalidationRow,
    InvalidationTable,
    LoggedRow,
    model_scope,
)
from routecache_middleware.core.keys import CacheKey, Layer, model_key, result_key, route_key
from routecache_middleware.core.models import START, Entry, Position
from routecache_middleware.core.ports import Coordinator, Fetched, Found, Leader
from routecache_middleware.errors import CoordinatorError
from routecache_middleware.testing.clock import FakeClock
from routecache_middleware.testing.contract import KEY, CoordinatorContract, row
from tests.support.faulty import MIB, FaultyCoordinator, ProvingCoordinator

OTHER = result_key("f" * 32, "gpt-4o", "acme")


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def shared(clock: FakeClock) -> ProvingCoordinator:
    return ProvingCoordinator(clock)


@pytest.fixture
def tiered(shared: ProvingCoordinator, clock: FakeClock) -> TieredCoordinator:
    return near(shared, clock)


def near(shared: Coordinator, clock: FakeClock, max_bytes: int = 16 * MIB) -> TieredCoordinator:
    return TieredCoordinator(shared, max_bytes=max_bytes, clock=clock, max_disconnected_s=5.0)


def proven(clock: FakeClock) -> Coordinator:
    return ProvingCoordinator(clock)


def unproven(clock: FakeClock) -> Coordinator:
    shared = ProvingCoordinator(clock)
    shared.proof_age_s = 1.0
    return shared


def never_read_ahead(clock: FakeClock) -> Coordinator:
    """Proven long ago to hold nothing: whoever trusts that misses every row."""
    shared = ProvingCoordinator(clock)
    shared.mirrored = START
    return shared


def guarded(clock: FakeClock) -> Coordinator:
    return GuardedCoordinator(ProvingCoordinator(clock), clock=clock, timeout_s=5.0)


class TestContract(CoordinatorContract):
    @pytest.fixture(params=[proven, unproven, never_read_ahead, guarded, FaultyCoordinator])
    async def coordinator(
        self, clock: FakeClock, request: pytest.FixtureRequest
    ) -> AsyncIterator[Coordinator]:
        tiered = near(request.param(clock), clock)
        await tiered.open()
        yield tiered
        await tiered.aclose()


def entry_of(clock: FakeClock, body: bytes = b"{}", position: int = 0) -> Entry:
    return Entry(
        layer=Layer.RESULT,
        body=body,
        created_s=clock.now_s(),
        freshness_lifetime_s=60.0,
        position=Position(position),
        scopes=(model_scope("m"),),
    )


def bodies(fetched: Fetched | None) -> list[bytes | None] | None:
    if fetched is None:
        return None
    return [None if entry is None else entry.body for entry in fetched.entries]


# -- when a copy is used


async def test_a_copy_of_what_was_fetched_is_used_without_asking(
    tiered: TieredCoordinator, shared: ProvingCoordinator, clock: FakeClock
) -> None:
    shared.store_now(KEY, entry_of(clock))
    assert tiered.fetch_now((KEY,), START) is None
    await tiered.fetch((KEY,), START)
    shared.read.clear()
    assert bodies(tiered.fetch_now((KEY,), START)) == [b"{}"]
    assert bodies(await tiered.fetch((KEY, KEY), START)) == [b"{}", b"{}"]
    assert not shared.read


async def test_a_copy_of_what_was_stored_or_found_is_used_without_asking(
    tiered: TieredCoordinator, shared: ProvingCoordinator, clock: FakeClock
) -> None:
    await tiered.store(KEY, entry_of(clock))
    assert bodies(tiered.fetch_now((KEY,), START)) == [b"{}"]
    shared.store_now(OTHER, entry_of(clock, b"found"))
    assert isinstance(await tiered.acquire(OTHER, token="a", ttl_s=1.0), Found)
    assert bodies(tiered.fetch_now((OTHER,), START)) == [b"found"]


async def test_a_hit_brings_the_tail_of_the_log(
    tiered: TieredCoordinator, shared: ProvingCoordinator, clock: FakeClock
) -> None:
    await tiered.store(KEY, entry_of(clock))
    shared.append_now((row("x"), row("y")))
    fetched = tiered.fetch_now((KEY,), Position(1))
    assert fetched is not None
    assert fetched.position == 2
    assert [one.row for one in fetched.rows] == [row("y")]


async def test_only_the_keys_without_a_copy_are_asked_for(
    tiered: TieredCoordinator, shared: ProvingCoordinator, clock: FakeClock
) -> None:
    await tiered.store(KEY, entry_of(clock, b"near"))
    shared.store_now(OTHER, entry_of(clock, b"far"))
    missing = result_key("0", "m")
    fetched = await tiered.fetch((missing, KEY, OTHER, KEY), START)
    assert bodies(fetched) == [None, b"near", b"far", b"near"]
    assert shared.read == [(missing, OTHER)]


@pytest.mark.parametrize("age_s", [1.0, 1e9])
async def test_without_proof_the_tail_is_read_and_no_entry(
    tiered: TieredCoordinator, shared: ProvingCoordinator, clock: FakeClock, age_s: float
) -> None:
    await tiered.store(KEY, entry_of(clock))
    shared.proof_age_s = age_s
    assert tiered.fetch_now((KEY,), START) is None
    assert bodies(await tiered.fetch((KEY,), START)) == [b"{}"]
    assert shared.read == [()]
    shared.proof_age_s = 0.999
    assert tiered.fetch_now((KEY,), START) is not None


async def test_a_coordinator_that_proves_nothing_has_its_tail_read_each_time(
    clock: FakeClock,
) -> None:
    shared = FaultyCoordinator(clock)
    tiered = near(shared, clock)
    await tiered.store(KEY, entry_of(clock))
    assert tiered.fetch_now((KEY,), START) is None
    assert bodies(await tiered.fetch((KEY,), START)) == [b"{}"]
    assert shared.read == [()]
    shared.fail()
    with pytest.raises(CoordinatorError):
        await tiered.fetch((KEY,), START)


async def test_the_guard_is_no_obstacle_to_the_proof(
    shared: ProvingCoordinator, clock: FakeClock
) -> None:
    tiered = near(GuardedCoordinator(shared, clock=clock, timeout_s=5.0), clock)
    await tiered.store(KEY, entry_of(clock))
    assert tiered.fetch_now((KEY,), START) is not None
    await tiered.aclose()


async def test_asking_for_no_keys_asks_the_shared_coordinator(
    tiered: TieredCoordinator, shared: ProvingCoordinator
) -> None:
    """Who does that wants to know how far the log is now."""
    shared.mirrored = START
    shared.append_now((row("m"),))
    assert tiered.fetch_now((), START) is None
    assert (await tiered.fetch((), START)).position == 1


async def test_load_metrics_are_never_near(
    tiered: TieredCoordinator, shared: ProvingCoordinator, clock: FakeClock
) -> None:
    key = model_key(Layer.LOAD, "m")
    await tiered.store(key, replace(entry_of(clock), layer=Layer.LOAD))
    await tiered.fetch((key,), START)
    assert tiered.fetch_now((key,), START) is None
    await tiered.delete(key)
    assert (await tiered.fetch((key,), START)).entries == [None]


async def test_what_is_larger_than_a_16th_of_the_budget_is_not_near(
    shared: ProvingCoordinator, clock: FakeClock
) -> None:
    tiered = near(shared, clock, max_bytes=16 * 10_000)
    await tiered.store(KEY, entry_of(clock, bytes(9_000)))
    assert tiered.fetch_now((KEY,), START) is not None
    await tiered.store(KEY, entry_of(clock, bytes(10_000)))
    assert tiered.fetch_now((KEY,), START) is None
    fetched = await tiered.fetch((KEY,), START)
    assert bodies(fetched) == [bytes(10_000)]
    assert tiered.fetch_now((KEY,), START) is None


async def test_the_near_cache_keeps_within_its_budget(
    tiered: TieredCoordinator, shared: ProvingCoordinator, clock: FakeClock
) -> None:
    for number in range(100):
        await tiered.store(result_key(f"{number}", "m"), entry_of(clock, bytes(500_000)))
    stats = tiered.stats()
    usage = stats.near[Layer.RESULT]
    assert 10 < usage.entries < 30
    assert usage.bytes <= usage.limit_bytes == int(16 * MIB * SHARES[Layer.RESULT])
    assert usage.evictions == 100 - usage.entries
    assert set(stats.near) == {Layer.RESULT, Layer.ROUTING, Layer.METADATA}
    assert stats.layers == shared.stats().layers


# -- when a copy is not used, or goes


async def test_a_stale_copy_does_not_hide_what_took_its_place(
    tiered: TieredCoordinator, shared: ProvingCoordinator, clock: FakeClock
) -> None:
    """Another process has refreshed it; here it would be refreshed once more."""
    await tiered.store(KEY, replace(entry_of(clock, b"old"), stale_if_error_s=600.0))
    clock.advance(61.0)
    assert tiered.fetch_now((KEY,), START) is None
    assert bodies(await tiered.fetch((KEY,), START)) == [b"old"]  # nothing better there
    shared.store_now(KEY, entry_of(clock, b"new"))
    assert bodies(await tiered.fetch((KEY,), START)) == [b"new"]
    assert bodies(tiered.fetch_now((KEY,), START)) == [b"new"]


async def test_a_copy_from_the_future_is_not_used(
    tiered: TieredCoordinator, clock: FakeClock
) -> None:
    """The wall clock was set back: its age cannot be known."""
    await tiered.store(KEY, entry_of(clock))
    clock.step_wall(-3.0)
    assert tiered.fetch_now((KEY,), START) is None


@pytest.mark.parametrize("is_proven", [True, False])
async def test_an_invalidated_copy_does_not_hide_what_took_its_place(
    tiered: TieredCoordinator, shared: ProvingCoordinator, clock: FakeClock, *, is_proven: bool
) -> None:
    await tiered.store(KEY, entry_of(clock, b"old"))
    shared.append_now((row("m"),))
    shared.store_now(KEY, entry_of(clock, b"new", position=1))
    shared.proof_age_s = 0.0 if is_proven else 1.0
    assert tiered.fetch_now((KEY,), START) is None
    assert bodies(await tiered.fetch((KEY,), START)) == [b"new"]
    shared.proof_age_s = 0.0
    assert bodies(tiered.fetch_now((KEY,), START)) == [b"new"]


async def test_a_copy_is_judged_by_what_the_caller_knows_too(clock: FakeClock) -> None:
    """The caller has read further than this cache, which then reads what lies between."""
    shared = FaultyCoordinator(clock)
    tiered = near(shared, clock)
    await tiered.store(KEY, entry_of(clock, b"old"))
    shared.append_now((row("m"),))
    shared.store_now(KEY, entry_of(clock, b"new", position=1))
    fetched = await tiered.fetch((KEY,), Position(1))
    assert bodies(fetched) == [b"new"]
    assert not fetched.rows


async def test_an_invalidation_from_elsewhere_is_in_force_once_it_was_read_ahead(
    tiered: TieredCoordinator, shared: ProvingCoordinator, clock: FakeClock
) -> None:
    await tiered.store(KEY, entry_of(clock))
    shared.mirrored = START
    shared.append_now((row("m"),))
    assert tiered.fetch_now((KEY,), START) is not None  # not heard of; proven a moment ago
    shared.mirrored = None
    assert tiered.fetch_now((KEY,), START) is None


async def test_an_own_invalidation_is_in_force_before_it_was_read_ahead(
    tiered: TieredCoordinator, shared: ProvingCoordinator, clock: FakeClock
) -> None:
    await tiered.store(KEY, entry_of(clock))
    shared.mirrored = START
    receipt = await tiered.append((row("m"),))
    assert tiered.fetch_now((KEY,), START) is None
    fetched = await tiered.fetch((KEY,), START)
    assert fetched.position == receipt.position
    assert [one.row for one in fetched.rows] == [row("m")]


async def test_what_the_caller_knows_counts_even_if_it_was_not_read_ahead(
    tiered: TieredCoordinator, shared: ProvingCoordinator, clock: FakeClock
) -> None:
    await tiered.store(KEY, entry_of(clock))
    shared.append_now((row("x"),))
    shared.mirrored = START
    assert tiered.fetch_now((KEY,), Position(1)) is None
    assert tiered.fetch_now((KEY,), START) is not None


async def test_unrelated_rows_leave_a_copy_alone(
    tiered: TieredCoordinator, shared: ProvingCoordinator, clock: FakeClock
) -> None:
    await tiered.store(KEY, entry_of(clock))
    shared.append_now((row("x"), InvalidationRow(model_scope("m"), older_than_s=1.0)))
    assert bodies(tiered.fetch_now((KEY,), START)) == [b"{}"]
    assert bodies(tiered.fetch_now((KEY,), Position(2))) == [b"{}"]


async def test_a_copy_is_judged_once_for_each_position_of_the_log(
    tiered: TieredCoordinator,
    shared: ProvingCoordinator,
    clock: FakeClock,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """With rows after its position that takes as long as the rest of a hit."""
    await tiered.store(KEY, entry_of(clock))
    judged, judge = [], InvalidationTable.is_current

    def count(table: InvalidationTable, key: CacheKey, entry: Entry) -> bool:
        judged.append(table.position)
        return judge(table, key, entry)

    monkeypatch.setattr(InvalidationTable, "is_current", count)
    for _ in range(3):
        shared.append_now((row("x"),))
        for _ in range(3):
            assert tiered.fetch_now((KEY,), START) is not None
    assert judged == [1, 2, 3]


def test_a_tail_that_begins_beyond_what_is_known_is_not_learnt(clock: FakeClock) -> None:
    """The rows in between would be taken for read, and what they void for current."""
    store = NearStore(max_bytes=16 * MIB, clock=clock, eviction=Eviction.LRU)
    store.put(KEY, entry_of(clock))
    rows = [LoggedRow(Position(n), row(name)) for n, name in ((1, "m"), (2, "x"), (3, "y"))]
    store.learn(Position(2), Fetched((), Position(3), rows[2:]))
    assert store.table.position == 0
    store.learn(START, Fetched((), Position(3), rows))
    assert store.table.position == 3
    assert store.current(KEY) is None


async def test_a_rewound_log_voids_older_copies_and_spares_later_ones(
    tiered: TieredCoordinator, shared: ProvingCoordinator, clock: FakeClock
) -> None:
    await tiered.append((row("x"),))
    await tiered.store(KEY, entry_of(clock, position=1))
    await tiered.fetch((), START)
    shared.append_now((row("y"),))
    shared._log.forget()
    assert (await tiered.fetch((), Position(1))).is_rewound
    assert tiered.fetch_now((KEY,), Position(2)) is None
    await tiered.store(KEY, entry_of(clock, b"new", position=2))
    assert bodies(tiered.fetch_now((KEY,), Position(2))) == [b"new"]
    assert tiered.fetch_now((KEY,), Position(1)) is None  # who knows that little has to be told


async def test_a_log_that_never_reached_the_caller_is_rewound_for_all(
    tiered: TieredCoordinator, shared: ProvingCoordinator, clock: FakeClock
) -> None:
    await tiered.store(KEY, entry_of(clock))
    fetched = await tiered.fetch((KEY,), Position(1_000))
    assert fetched.is_rewound
    assert fetched.position > 1_000
    assert bodies(fetched) == [b"{}"]  # the shared coordinator's, for the caller to judge
    assert tiered.fetch_now((KEY,), fetched.position) is None


async def test_what_was_refused_leaves_no_copy(
    tiered: TieredCoordinator, shared: ProvingCoordinator, clock: FakeClock
) -> None:
    await tiered.store(KEY, entry_of(clock, b"old"))
    assert not await tiered.store(KEY, entry_of(clock, b"new"), token="not held")
    assert tiered.fetch_now((KEY,), START) is None


async def test_a_store_that_fails_leaves_the_new_entry_near(
    tiered: TieredCoordinator, shared: ProvingCoordinator, clock: FakeClock
) -> None:
    """A server that is full or a replica goes on to be read, and this process goes on to hit."""
    await tiered.store(KEY, entry_of(clock, b"old"))
    shared.fail("store")
    with pytest.raises(CoordinatorError):
        await tiered.store(KEY, entry_of(clock, b"new"))
    assert bodies(tiered.fetch_now((KEY,), START)) == [b"new"]


async def test_a_fenced_store_that_fails_leaves_nothing_near(
    tiered: TieredCoordinator, shared: ProvingCoordinator, clock: FakeClock
) -> None:
    """It might have been refused, had the answer come."""
    await tiered.store(KEY, entry_of(clock, b"old"))
    await tiered.acquire(KEY, token="a", ttl_s=1.0, seen=entry_of(clock, b"old"))
    shared.fail("store")
    with pytest.raises(CoordinatorError):
        await tiered.store(KEY, entry_of(clock, b"new"), token="a")
    assert tiered.fetch_now((KEY,), START) is None


async def test_a_store_that_was_cancelled_leaves_nothing_near(
    tiered: TieredCoordinator, shared: ProvingCoordinator, clock: FakeClock
) -> None:
    await tiered.store(KEY, entry_of(clock, b"old"))
    shared.hang("store")
    storing = asyncio.ensure_future(tiered.store(KEY, entry_of(clock, b"new")))
    await asyncio.sleep(0)
    storing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await storing
    assert tiered.fetch_now((KEY,), START) is None
    assert len(tiered._claims) == 0


@pytest.mark.parametrize("fails", [False, True])
async def test_what_was_deleted_is_gone_here_in_any_case(
    tiered: TieredCoordinator, shared: ProvingCoordinator, clock: FakeClock, *, fails: bool
) -> None:
    await tiered.store(KEY, entry_of(clock))
    if fails:
        shared.fail("delete")
    with suppress(CoordinatorError):
        await tiered.delete(KEY)
    assert tiered.fetch_now((KEY,), START) is None


async def test_a_copy_that_the_caller_found_useless_goes_and_a_newer_one_stays(
    tiered: TieredCoordinator, shared: ProvingCoordinator, clock: FakeClock
) -> None:
    seen = entry_of(clock, b"useless")
    await tiered.store(KEY, seen)
    shared.delete_now(KEY)
    assert await tiered.acquire(KEY, token="a", ttl_s=1.0, seen=seen) == Leader("a")
    assert tiered.fetch_now((KEY,), START) is None
    await tiered.store(KEY, entry_of(clock, b"newer"), token="a")
    shared.delete_now(KEY)  # evicted, say
    await tiered.acquire(KEY, token="a", ttl_s=1.0, seen=seen)
    assert bodies(tiered.fetch_now((KEY,), START)) == [b"newer"]


async def test_an_entry_that_is_gone_from_the_shared_store_is_not_kept_as_a_stale_copy(
    tiered: TieredCoordinator, shared: ProvingCoordinator, clock: FakeClock
) -> None:
    await tiered.store(KEY, replace(entry_of(clock), stale_if_error_s=600.0))
    clock.advance(61.0)
    shared.delete_now(KEY)
    assert bodies(await tiered.fetch((KEY,), START)) == [None]
    shared.cut_off(0.0)
    with pytest.raises(CoordinatorError):
        await tiered.fetch((KEY,), START)


async def test_closing_frees_every_copy(tiered: TieredCoordinator, clock: FakeClock) -> None:
    await tiered.store(KEY, entry_of(clock))
    await tiered.aclose()
    assert sum(usage.entries for usage in tiered.stats().near.values()) == 0


# -- cut off


async def test_cut_off_copies_are_used_for_as_long_as_is_allowed(
    tiered: TieredCoordinator, shared: ProvingCoordinator, clock: FakeClock
) -> None:
    await tiered.store(KEY, entry_of(clock))
    shared.append_now((row("x"),))
    shared.cut_off(5.0)
    fetched = await tiered.fetch((KEY,), START)
    assert bodies(fetched) == [b"{}"]
    assert (fetched.position, [one.row for one in fetched.rows]) == (1, [row("x")])
    shared.cut_off(5.01)
    with pytest.raises(CoordinatorError):
        await tiered.fetch((KEY,), START)


async def test_cut_off_a_failure_is_no_miss(
    tiered: TieredCoordinator, shared: ProvingCoordinator, clock: FakeClock
) -> None:
    await tiered.store(KEY, entry_of(clock))
    shared.cut_off(0.0)
    with pytest.raises(CoordinatorError):
        await tiered.fetch((KEY, OTHER), START)
    with pytest.raises(CoordinatorError):
        await tiered.fetch((), START)


async def test_cut_off_what_was_read_ahead_still_counts(
    tiered: TieredCoordinator, shared: ProvingCoordinator, clock: FakeClock
) -> None:
    await tiered.store(KEY, entry_of(clock))
    shared.append_now((row("m"),))
    shared.cut_off(2.0)
    with pytest.raises(CoordinatorError):
        await tiered.fetch((KEY,), START)


async def test_cut_off_from_a_log_that_was_rewound_nothing_is_used(
    tiered: TieredCoordinator, shared: ProvingCoordinator, clock: FakeClock
) -> None:
    await tiered.append((row("x"),))
    await tiered.store(KEY, entry_of(clock, position=1))
    await tiered.fetch((), START)
    shared.append_now((row("y"),))
    shared._log.forget()
    shared.cut_off(2.0)
    with pytest.raises(CoordinatorError):
        await tiered.fetch((KEY,), Position(1))


async def test_cut_off_a_stale_copy_is_there_for_who_may_use_it(
    tiered: TieredCoordinator, shared: ProvingCoordinator, clock: FakeClock
) -> None:
    await tiered.store(KEY, replace(entry_of(clock), stale_if_error_s=600.0))
    clock.advance(61.0)
    shared.cut_off(2.0)
    assert bodies(await tiered.fetch((KEY,), START)) == [b"{}"]


async def test_cut_off_the_caller_hears_of_no_position_before_its_own(
    tiered: TieredCoordinator, shared: ProvingCoordinator, clock: FakeClock
) -> None:
    await tiered.store(KEY, entry_of(clock))
    shared.append_now((row("x"),))
    shared.mirrored = START
    shared.cut_off(2.0)
    assert (await tiered.fetch((KEY,), Position(1))).position == 1


# -- calls that overtake each other


async def test_a_read_that_was_sent_before_a_write_does_not_undo_it(
    tiered: TieredCoordinator, shared: ProvingCoordinator, clock: FakeClock
) -> None:
    shared.store_now(KEY, entry_of(clock, b"old"))
    answered = shared.fetch_now((KEY,), START)
    may_answer = asyncio.Event()

    async def slow(keys: object, after: Position) -> Fetched:
        await may_answer.wait()
        return answered

    shared.fetch = slow  # type: ignore[method-assign]
    reading = asyncio.ensure_future(tiered.fetch((KEY,), START))
    await asyncio.sleep(0)
    await tiered.store(KEY, entry_of(clock, b"new"))
    may_answer.set()
    await reading
    assert bodies(tiered.fetch_now((KEY,), START)) == [b"new"]
    assert len(tiered._claims) == 0


async def test_a_read_during_a_write_keeps_no_copy(
    tiered: TieredCoordinator, shared: ProvingCoordinator, clock: FakeClock
) -> None:
    """Nobody knows which of the two was first at the shared coordinator."""
    shared.store_now(KEY, entry_of(clock, b"old"))
    shared.hang("delete")
    deleting = asyncio.ensure_future(tiered.delete(KEY))
    await asyncio.sleep(0.001)
    assert bodies(await tiered.fetch((KEY,), START)) == [b"old"]
    assert tiered.fetch_now((KEY,), START) is None
    shared.heal()
    await deleting
    assert tiered.fetch_now((KEY,), START) is None


async def test_of_two_writes_under_way_the_one_that_began_later_is_kept(
    tiered: TieredCoordinator, shared: ProvingCoordinator, clock: FakeClock
) -> None:
    shared.hang("store")
    first = asyncio.ensure_future(tiered.store(KEY, entry_of(clock, b"first")))
    await asyncio.sleep(0.001)
    shared._faults.clear()
    await tiered.store(KEY, entry_of(clock, b"second"))
    assert bodies(tiered.fetch_now((KEY,), START)) == [b"second"]
    shared.heal()
    await first  # its entry is the shared one now
    assert bodies(tiered.fetch_now((KEY,), START)) is None
    assert bodies(await tiered.fetch((KEY,), START)) == [b"first"]
    assert len(tiered._claims) == 0


async def test_a_copy_that_was_replaced_while_the_rest_was_read_is_read_again(
    tiered: TieredCoordinator, shared: ProvingCoordinator, clock: FakeClock
) -> None:
    await tiered.store(KEY, entry_of(clock, b"old"))
    shared.hang("fetch")
    reading = asyncio.ensure_future(tiered.fetch((KEY, OTHER), START))
    await asyncio.sleep(0.001)
    await tiered.store(KEY, entry_of(clock, b"new"))
    shared.heal()
    assert bodies(await reading) == [b"new", None]


async def test_what_the_shared_coordinator_offers_besides_is_offered(
    tiered: TieredCoordinator, shared: ProvingCoordinator
) -> None:
    assert tiered.probe == shared.probe
    assert not hasattr(tiered, "register")
    assert not hasattr(tiered, "_no_such_thing")
    assert (tiered.name, tiered.is_shared, tiered.poll_s) == ("faulty", True, shared.poll_s)


async def test_an_all_row_voids_every_layer(
    tiered: TieredCoordinator, shared: ProvingCoordinator, clock: FakeClock
) -> None:
    keys = [KEY, route_key("h"), model_key(Layer.METADATA, "m")]
    for key, layer in zip(keys, (Layer.RESULT, Layer.ROUTING, Layer.METADATA), strict=True):
        await tiered.store(key, replace(entry_of(clock), layer=layer))
    assert tiered.fetch_now(keys, START) is not None
    shared.append_now((InvalidationRow(ALL),))
    assert [tiered.fetch_now((key,), START) for key in keys] == [None, None, None]
