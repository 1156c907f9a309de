"""MemoryCoordinator: the contract, and what only a coordinator inside one process can promise."""

import asyncio
import logging
import threading
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
from msgspec.structs import replace

from routecache_middleware.coordinators.memory import SHARES, MemoryCoordinator
from routecache_middleware.core.choices import Eviction
from routecache_middleware.core.invalidation import InvalidationRow, model_scope
from routecache_middleware.core.keys import Layer, model_key, result_key, route_key
from routecache_middleware.core.models import START, Entry, Position
from routecache_middleware.core.ports import Coordinator, Found, Gap, Invalidated, Leader
from routecache_middleware.core.settings import Settings
from routecache_middleware.testing.clock import FakeClock
from routecache_middleware.testing.contract import KEY, CoordinatorContract, row

MIB = 1024 * 1024


def entry_of(clock: FakeClock, body: bytes = b"", layer: Layer = Layer.RESULT) -> Entry:
    return Entry(layer=layer, body=body, created_s=clock.now_s(), freshness_lifetime_s=60.0)


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def memory(clock: FakeClock) -> MemoryCoordinator:
    return MemoryCoordinator(max_bytes=Settings().max_memory_bytes, clock=clock)


class TestContract(CoordinatorContract):
    @pytest.fixture(params=list(Eviction))
    def coordinator(self, clock: FakeClock, request: pytest.FixtureRequest) -> Coordinator:
        return MemoryCoordinator(
            max_bytes=Settings().max_memory_bytes, eviction=request.param, clock=clock
        )


def step(coroutine: Coroutine[Any, Any, object]) -> object:
    """Run a coroutine that must not suspend."""
    try:
        coroutine.send(None)
    except StopIteration as stop:
        return stop.value
    raise AssertionError("it suspended")


def test_no_operation_ever_suspends(memory: MemoryCoordinator, clock: FakeClock) -> None:
    operations: list[Callable[[], Coroutine[Any, Any, object]]] = [
        memory.open,
        lambda: memory.fetch((KEY,), START),
        lambda: memory.acquire(KEY, token="a", ttl_s=1.0),
        lambda: memory.renew(KEY, token="a", ttl_s=1.0),
        lambda: memory.store(KEY, entry_of(clock), token="a"),
        lambda: memory.release(KEY, token="a"),
        lambda: memory.append((row("m"),)),
        lambda: memory.sample(Layer.RESULT, 1),
        lambda: memory.delete(KEY),
        memory.aclose,
    ]
    for operation in operations:
        step(operation())


def test_the_plain_methods_need_no_event_loop(memory: MemoryCoordinator, clock: FakeClock) -> None:
    assert memory.acquire_now(KEY, token="a", ttl_s=1.0) == Leader("a")
    assert memory.store_now(KEY, entry_of(clock), token="a")
    assert memory.append_now((row("m"),)).position == 1
    assert memory.fetch_now((KEY,), START).entries[0] == entry_of(clock)
    memory.delete_now(KEY)
    assert memory.fetch_now((KEY,), START).entries[0] is None


def test_an_entry_the_caller_has_judged_useless_does_not_stop_it_from_leading(
    memory: MemoryCoordinator, clock: FakeClock
) -> None:
    """An invalidated entry would otherwise be found for ever, and nobody could replace it."""
    dead, newer = entry_of(clock, b"dead"), entry_of(clock, b"newer")
    memory.store_now(KEY, dead)
    assert memory.acquire_now(KEY, token="a", ttl_s=1.0) == Found(dead)
    assert memory.acquire_now(KEY, token="a", ttl_s=1.0, seen=dead) == Leader("a")
    memory.store_now(KEY, newer, token="a")
    assert memory.acquire_now(KEY, token="b", ttl_s=1.0, seen=dead) == Found(newer)


def test_the_budget_is_divided_by_layer(memory: MemoryCoordinator) -> None:
    layers = memory.stats().layers
    budget = Settings().max_memory_bytes
    for layer, share in SHARES.items():
        assert layers[layer].limit_bytes == int(share * budget)
    assert sum(usage.limit_bytes for usage in layers.values()) <= budget


def test_results_do_not_push_out_decisions_or_metadata(clock: FakeClock) -> None:
    memory = MemoryCoordinator(max_bytes=MIB, clock=clock)
    others = [route_key("h"), model_key(Layer.METADATA, "m"), model_key(Layer.LOAD, "m")]
    for key in others:
        memory.store_now(key, entry_of(clock, b"x"))
    for number in range(500):
        memory.store_now(result_key(f"{number}", "m"), entry_of(clock, bytes(10_000)))
    usage = memory.stats().layers[Layer.RESULT]
    assert usage.evictions == 500 - usage.entries > 0
    assert all(memory.fetch_now(others, START).entries)


def test_scopes_and_headers_are_charged(memory: MemoryCoordinator, clock: FakeClock) -> None:
    plain = entry_of(clock)
    memory.store_now(KEY, plain)
    before = memory.stats().layers[Layer.RESULT].bytes
    scopes, headers = (model_scope("m" * 1000),), ((b"n" * 300, b"v" * 500),)
    memory.store_now(KEY, replace(plain, scopes=scopes, headers=headers))
    assert memory.stats().layers[Layer.RESULT].bytes >= before + 1800


def test_stats_drain_expired_entries_of_an_idle_store(
    memory: MemoryCoordinator, clock: FakeClock
) -> None:
    for number in range(100):
        memory.store_now(result_key(f"{number}", "m"), entry_of(clock))
    clock.advance(1_000.0)
    entries = [memory.stats().layers[Layer.RESULT].entries for _ in range(3)]
    assert entries == [36, 0, 0]


def test_a_reader_behind_the_trimmed_log_is_rewound(clock: FakeClock) -> None:
    memory = MemoryCoordinator(max_bytes=MIB, clock=clock, log_max_age_s=100.0)
    memory.append_now((row("a"),))
    clock.advance(101.0)
    memory.append_now((row("b"),))
    assert memory.fetch_now((), START).is_rewound
    assert [r.row for r in memory.fetch_now((), Position(1)).rows] == [row("b")]


async def test_aclose_frees_everything(memory: MemoryCoordinator, clock: FakeClock) -> None:
    memory.store_now(KEY, entry_of(clock))
    memory.acquire_now(route_key("h"), token="a", ttl_s=60.0)
    await memory.aclose()
    assert all(usage.entries == usage.bytes == 0 for usage in memory.stats().layers.values())
    assert memory.acquire_now(route_key("h"), token="b", ttl_s=60.0) == Leader("b")


@pytest.mark.parametrize(("workers", "warnings"), [("4", 1), ("1", 0), ("", 0), ("many", 0)])
async def test_several_workers_are_warned_once_that_each_has_its_own_cache(
    memory: MemoryCoordinator,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    workers: str,
    warnings: int,
) -> None:
    monkeypatch.setenv("WEB_CONCURRENCY", workers)
    with caplog.at_level(logging.WARNING, "routecache"):
        await memory.open()
        await memory.open()
    assert len(caplog.records) == warnings


async def test_a_listener_that_falls_behind_gets_a_gap(memory: MemoryCoordinator) -> None:
    events = memory.events()
    first = asyncio.ensure_future(anext(events))
    await asyncio.sleep(0)
    for _ in range(1 + 1024 + 3):
        memory.append_now((row("m"),))
    assert isinstance(await first, Gap)
    last = await anext(events)
    assert isinstance(last, Invalidated)
    assert last.rows[0].position > 1024
    await memory.aclose()


async def test_fifty_listeners_hear_of_rows_from_another_thread(
    memory: MemoryCoordinator,
) -> None:
    listeners = [asyncio.ensure_future(anext(memory.events())) for _ in range(50)]
    await asyncio.sleep(0)
    await asyncio.to_thread(memory.append_now, (row("m"),))
    async with asyncio.timeout(5):
        heard = await asyncio.gather(*listeners)
    assert all(isinstance(event, Invalidated) for event in heard)


def test_four_threads_may_use_it_at_once(clock: FakeClock) -> None:
    memory = MemoryCoordinator(max_bytes=2 * MIB, clock=clock)
    failures: list[BaseException] = []
    leaders: list[str] = []

    def use(name: str) -> None:
        position = START
        try:
            for turn in range(1_000):
                key = result_key(f"{turn % 97}", "m")
                memory.store_now(key, entry_of(clock, b"%d" % (turn % 97) * 4_000))
                fetched = memory.fetch_now((key,), position)
                told = [logged.position for logged in fetched.rows]
                assert told == list(range(position + 1, fetched.position + 1))
                position, found = fetched.position, fetched.entries[0]
                assert found is None or found.body.startswith(b"%d" % (turn % 97))
                load_key = model_key(Layer.LOAD, f"{turn % 50}")
                memory.store_now(load_key, entry_of(clock))
                if memory.acquire_now(route_key(f"{turn}"), token=name, ttl_s=60.0) == Leader(name):
                    leaders.append(f"{turn}")
                memory.append_now((InvalidationRow(model_scope(name)),) * 3)
                if turn % 50 == 0:
                    memory.delete_now(key)
                    memory.stats()
        except BaseException as error:  # noqa: BLE001 - told to the main thread
            failures.append(error)

    threads = [threading.Thread(target=use, args=(name,)) for name in "abcd"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    assert sorted(leaders, key=int) == [f"{turn}" for turn in range(1_000)]
    rows = memory.fetch_now((), START).rows
    assert [logged.position for logged in rows] == list(range(1, 12_001))
    scopes = [logged.row.scope for logged in rows]
    assert all(len(set(scopes[first : first + 3])) == 1 for first in range(0, 12_000, 3))
    usage = memory.stats().layers[Layer.RESULT]
    assert usage.bytes <= usage.limit_bytes
