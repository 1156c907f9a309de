"""The engine: failures of the coordinator, owed invalidations, opening and closing."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from typing import Any

import pytest

from routecache_middleware.coordinators.memory import MemoryCoordinator
from routecache_middleware.core.cluster import ClusterStats
from routecache_middleware.core.events import (
    Finished,
    LookupFinished,
    Operation,
    RemoveFinished,
    RequestFinished,
)
from routecache_middleware.core.invalidation import InvalidationRow, LoggedRow, model_scope
from routecache_middleware.core.keys import CacheKey, Layer
from routecache_middleware.core.models import (
    Entry,
    LoadMetrics,
    ModelMetadata,
    Outcome,
    Position,
    RoutingDecision,
)
from routecache_middleware.core.ports import (
    Acquired,
    AppendReceipt,
    CoordinatorEvent,
    CoordinatorStats,
    Fetched,
    OpenOperation,
)
from routecache_middleware.core.settings import Settings
from routecache_middleware.engine import owed as module
from routecache_middleware.engine.publishing import publish_load
from routecache_middleware.errors import ConfigurationError, CoordinatorError
from routecache_middleware.testing.clock import FakeClock
from routecache_middleware.wiring.cache import RouteCache

HASH = "ab" * 16


class Watched:
    """An operation that checks that it is finished once."""

    is_watched = True

    def __init__(self, watcher: "Watcher", name: str) -> None:
        self.traceparent = f"00-{len(watcher.begun):032x}-{1:016x}-01"
        self._watcher = watcher
        self._name = name

    def finish(self, record: Finished) -> None:
        self._watcher.finished.append((self._name, record))


class Watcher:
    """An observer that keeps everything."""

    def __init__(self) -> None:
        self.begun: list[str] = []
        self.finished: list[tuple[str, Finished]] = []

    def begin(
        self, operation: Operation, target: str, *, model: str = "", verb: str = ""
    ) -> OpenOperation:
        name = f"{operation} {target}"
        self.begun.append(name)
        return Watched(self, name)

    def request(self, record: RequestFinished) -> None:
        raise AssertionError("the library knows no requests")

    def all_are_finished(self) -> bool:
        return sorted(self.begun) == sorted(name for name, _ in self.finished)


class Faulty:
    """A coordinator whose methods fail on demand."""

    is_shared = False
    poll_s = 0.05

    def __init__(self, inner: MemoryCoordinator) -> None:
        self.inner = inner
        self.name = "faulty"
        self.faults: dict[str, BaseException] = {}
        self.calls: list[str] = []
        self.hold: asyncio.Event | None = None

    async def _pass(self, method: str) -> None:
        self.calls.append(method)
        if method in self.faults:
            raise self.faults[method]
        if self.hold is not None:
            await self.hold.wait()

    def break_down(self, error: BaseException, *methods: str) -> None:
        for method in methods or ("open", "fetch", "store", "append"):
            self.faults[method] = error

    async def open(self) -> None:
        await self._pass("open")
        await self.inner.open()

    async def aclose(self) -> None:
        self.calls.append("aclose")
        await self.inner.aclose()

    async def fetch(self, keys: Sequence[CacheKey], after: Position) -> Fetched:
        await self._pass("fetch")
        return await self.inner.fetch(keys, after)

    async def store(self, key: CacheKey, entry: Entry, **lease: Any) -> bool:
        await self._pass("store")
        return await self.inner.store(key, entry, **lease)

    async def append(self, rows: Sequence[InvalidationRow]) -> AppendReceipt:
        await self._pass("append")
        return await self.inner.append(rows)

    async def delete(self, key: CacheKey) -> None:
        raise NotImplementedError

    async def acquire(self, key: CacheKey, **terms: Any) -> Acquired:
        await self._pass("acquire")
        return await self.inner.acquire(key, **terms)

    async def renew(self, key: CacheKey, **terms: Any) -> bool:
        await self._pass("renew")
        return await self.inner.renew(key, **terms)

    async def release(self, key: CacheKey, **terms: Any) -> None:
        await self._pass("release")
        await self.inner.release(key, **terms)

    def events(self) -> AsyncIterator[CoordinatorEvent]:
        raise NotImplementedError

    async def sample(self, layer: Layer, limit: int) -> Sequence[tuple[CacheKey, Entry]]:
        raise NotImplementedError

    def stats(self) -> CoordinatorStats:
        return self.inner.stats()

    async def cluster_stats(self) -> ClusterStats:
        raise NotImplementedError


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def memory(clock: FakeClock) -> MemoryCoordinator:
    return MemoryCoordinator(max_bytes=10_000_000, clock=clock)


@pytest.fixture
def faulty(memory: MemoryCoordinator) -> Faulty:
    return Faulty(memory)


@pytest.fixture
def watcher() -> Watcher:
    return Watcher()


@pytest.fixture
def cache(faulty: Faulty, clock: FakeClock, watcher: Watcher) -> RouteCache:
    return RouteCache(coordinator=faulty, settings=Settings(), clock=clock, observers=[watcher])


FAILURES = [CoordinatorError("down"), RuntimeError("a bug of somebody's")]


async def compute() -> RoutingDecision:
    return RoutingDecision("m")


async def answer() -> bytes:
    return b"answer"


async def load(model_id: str) -> ModelMetadata:
    return ModelMetadata(model_id, {"tools": True})


READS: list[tuple[Layer, Callable[[RouteCache], Coroutine[Any, Any, object]]]] = [
    (Layer.ROUTING, lambda cache: cache.get_routing_decision(HASH)),
    (Layer.RESULT, lambda cache: cache.get_query_result(HASH, "m")),
    (Layer.METADATA, lambda cache: cache.get_model_metadata("m")),
    (Layer.LOAD, lambda cache: cache.get_load_metrics("m")),
]
WRITES: list[tuple[Layer, Callable[[RouteCache], Coroutine[Any, Any, object]]]] = [
    (Layer.ROUTING, lambda cache: cache.cache_routing_decision(HASH, "m", 0.5)),
    (Layer.RESULT, lambda cache: cache.cache_query_result(HASH, "m", b"answer", 5.0)),
    (Layer.METADATA, lambda cache: cache.cache_model_metadata("m", {}, 0, 0)),
    (Layer.LOAD, lambda cache: cache.cache_load_metrics("m", in_flight=1)),
]
COMPUTES: list[tuple[Layer, Callable[[RouteCache], Coroutine[Any, Any, Any]]]] = [
    (Layer.ROUTING, lambda cache: cache.route(HASH, compute)),
    (Layer.RESULT, lambda cache: cache.result(HASH, "m", answer)),
    (Layer.METADATA, lambda cache: cache.metadata("m", load)),
]


@pytest.mark.parametrize("error", FAILURES)
@pytest.mark.parametrize(("layer", "read"), READS)
async def test_a_lookup_that_fails_is_a_miss_counted_as_an_error(
    cache: RouteCache,
    faulty: Faulty,
    watcher: Watcher,
    *,
    error: Exception,
    layer: Layer,
    read: Callable[[RouteCache], Coroutine[Any, Any, object]],
) -> None:
    faulty.break_down(error)
    assert await read(cache) is None
    assert cache.stats().layer(layer).errors == 1
    assert cache.stats().layer(layer).lookups == 1
    assert watcher.all_are_finished()
    ((_, record),) = watcher.finished
    assert isinstance(record, LookupFinished)
    assert record.outcome is Outcome.ERROR


@pytest.mark.parametrize("error", FAILURES)
@pytest.mark.parametrize(("layer", "write"), WRITES)
async def test_a_write_that_fails_is_counted_and_raises_nothing(
    cache: RouteCache,
    faulty: Faulty,
    watcher: Watcher,
    *,
    error: Exception,
    layer: Layer,
    write: Callable[[RouteCache], Coroutine[Any, Any, object]],
) -> None:
    faulty.break_down(error)
    assert await write(cache) is False
    assert cache.stats().layer(layer).write_errors == 1
    assert cache.stats().layer(layer).writes == 0
    assert watcher.all_are_finished()


@pytest.mark.parametrize("error", FAILURES)
@pytest.mark.parametrize(("layer", "call"), COMPUTES)
async def test_values_are_made_when_the_coordinator_is_down(
    cache: RouteCache,
    faulty: Faulty,
    watcher: Watcher,
    *,
    error: Exception,
    layer: Layer,
    call: Callable[[RouteCache], Coroutine[Any, Any, Any]],
) -> None:
    faulty.break_down(error)
    assert (await call(cache)).outcome is Outcome.ERROR
    assert cache.stats().layer(layer).errors == 1
    assert cache.stats().layer(layer).write_errors == 1
    assert watcher.all_are_finished()


async def test_when_only_stores_fail_it_is_an_ordinary_miss(
    cache: RouteCache, faulty: Faulty
) -> None:
    faulty.break_down(CoordinatorError("full"), "store")
    assert (await cache.route(HASH, compute)).outcome is Outcome.MISS
    assert cache.stats().routing.write_errors == 1


async def test_followers_share_a_value_when_the_coordinator_is_down(
    cache: RouteCache, faulty: Faulty
) -> None:
    faulty.break_down(CoordinatorError("down"))
    calls = 0

    async def slow() -> RoutingDecision:
        nonlocal calls
        calls += 1
        await asyncio.sleep(0)
        return RoutingDecision("m")

    found = await asyncio.gather(*(cache.route(HASH, slow) for _ in range(5)))
    assert calls == 1
    assert [one.outcome for one in found] == [Outcome.ERROR] + [Outcome.COALESCED] * 4


async def test_warming_reports_a_coordinator_that_is_down(
    cache: RouteCache, faulty: Faulty
) -> None:
    faulty.break_down(CoordinatorError("down"))
    report = await cache.warm(["m"], load=load)
    assert (report.warmed, report.failed) == (0, {"m": "NotStored"})


@pytest.mark.parametrize("error", FAILURES)
async def test_an_invalidation_that_fails_raises_and_has_taken_effect_here(
    cache: RouteCache, faulty: Faulty, watcher: Watcher, error: Exception
) -> None:
    await cache.cache_routing_decision(HASH, "m")
    await cache.cache_routing_decision("other", "n")
    faulty.break_down(error, "append")
    with pytest.raises(CoordinatorError) as caught:
        await cache.invalidate_model("m")
    assert caught.value is error or caught.value.__cause__ is error
    assert await cache.get_routing_decision(HASH) is None
    assert await cache.get_routing_decision("other") is not None
    assert watcher.all_are_finished()
    removed = [record for _, record in watcher.finished if isinstance(record, RemoveFinished)]
    assert removed == [RemoveFinished("model", type(error).__name__)]
    await cache.aclose()


async def test_an_invalidation_that_is_owed_is_recorded_when_that_works_again(
    faulty: Faulty, memory: MemoryCoordinator, clock: FakeClock
) -> None:
    first = RouteCache(coordinator=faulty, settings=Settings(), clock=clock, observers=[])
    second = RouteCache(coordinator=memory, settings=Settings(), clock=clock, observers=[])
    await first.cache_routing_decision(HASH, "m")
    faulty.break_down(CoordinatorError("down"), "append")
    with pytest.raises(CoordinatorError):
        await first.invalidate_model("m")
    assert await second.get_routing_decision(HASH) is not None  # as announced
    faulty.faults.clear()
    assert await first.get_routing_decision("any") is None
    assert faulty.calls.count("append") == 1  # not with every lookup
    clock.advance(1.0)
    assert await first.get_routing_decision("any") is None
    assert faulty.calls.count("append") == 2
    assert await second.get_routing_decision(HASH) is None
    # From here on it is a row like any other: what is made now is current.
    await second.cache_routing_decision(HASH, "m")
    assert await first.get_routing_decision(HASH) is not None
    await first.aclose()


async def test_rows_of_others_are_not_lost_while_an_invalidation_is_owed(
    faulty: Faulty, memory: MemoryCoordinator, clock: FakeClock
) -> None:
    """A position of our own choosing would hide the row that gets it in the log."""
    first = RouteCache(coordinator=faulty, settings=Settings(), clock=clock, observers=[])
    second = RouteCache(coordinator=memory, settings=Settings(), clock=clock, observers=[])
    await first.cache_routing_decision(HASH, "n")
    faulty.break_down(CoordinatorError("down"), "append")
    with pytest.raises(CoordinatorError):
        await first.invalidate_model("m")
    await second.invalidate_model("n")
    assert await first.get_routing_decision(HASH) is None
    await first.aclose()


async def test_while_it_is_owed_nothing_it_covers_is_served_or_shared(
    cache: RouteCache, faulty: Faulty
) -> None:
    faulty.break_down(CoordinatorError("down"), "append")
    with pytest.raises(CoordinatorError):
        await cache.invalidate_all()
    await cache.cache_routing_decision(HASH, "m")
    assert await cache.get_routing_decision(HASH) is None
    calls = 0

    async def slow() -> RoutingDecision:
        nonlocal calls
        calls += 1
        await asyncio.sleep(0)
        return RoutingDecision("m")

    await asyncio.gather(cache.route(HASH, slow), cache.route(HASH, slow))
    assert calls == 2
    await cache.aclose()


async def test_what_is_owed_is_paid_in_the_background_too(
    cache: RouteCache, faulty: Faulty, monkeypatch: pytest.MonkeyPatch, clock: FakeClock
) -> None:
    monkeypatch.setattr(module, "RETRY_S", 0.001)
    faulty.break_down(CoordinatorError("down"), "append")
    for _ in range(2):
        with pytest.raises(CoordinatorError):
            await cache.invalidate_model("m")
    while faulty.calls.count("append") < 4:
        clock.advance(1.0)
        await asyncio.sleep(0.001)
    faulty.faults.clear()
    paying = cache.engine._owed._paying
    assert paying is not None
    while not paying.done():
        clock.advance(1.0)
        await asyncio.sleep(0.001)
    assert cache.engine.table.position == 2  # both rows
    await cache.aclose()


async def test_closing_tries_once_more(
    cache: RouteCache, faulty: Faulty, memory: MemoryCoordinator
) -> None:
    faulty.break_down(CoordinatorError("down"), "append")
    with pytest.raises(CoordinatorError):
        await cache.invalidate_model("m")
    faulty.faults.clear()
    await cache.aclose()
    assert memory.fetch_now((), Position(0)).position == 1
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_what_is_owed_for_longer_than_any_entry_lives_is_forgotten(
    cache: RouteCache, faulty: Faulty, clock: FakeClock
) -> None:
    faulty.break_down(CoordinatorError("down"), "append")
    with pytest.raises(CoordinatorError):
        await cache.invalidate_model("m")
    clock.advance(86_400.0)
    assert await cache.get_routing_decision(HASH) is None
    await cache.cache_routing_decision(HASH, "m")
    assert await cache.get_routing_decision(HASH) is not None
    await cache.aclose()


def test_what_is_owed_is_paid_in_the_next_event_loop(
    cache: RouteCache, faulty: Faulty, clock: FakeClock, memory: MemoryCoordinator
) -> None:
    async def fail() -> None:
        faulty.break_down(CoordinatorError("down"), "append")
        with pytest.raises(CoordinatorError):
            await cache.invalidate_model("m")
        faulty.faults.clear()

    async def use() -> None:
        clock.advance(2.0)
        await cache.get_routing_decision(HASH)
        await cache.aclose()

    asyncio.run(fail())
    asyncio.run(use())
    assert memory.fetch_now((), Position(0)).position == 1


async def test_a_cancelled_invalidation_counts_as_owed(cache: RouteCache, faulty: Faulty) -> None:
    """Nobody knows whether it was recorded."""
    await cache.cache_routing_decision(HASH, "m")
    faulty.hold = asyncio.Event()
    task = asyncio.ensure_future(cache.invalidate_model("m"))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    faulty.hold = None
    assert await cache.get_routing_decision(HASH) is None
    await cache.aclose()


async def test_an_invalidation_recorded_but_not_read_back_has_taken_effect_here(
    cache: RouteCache, faulty: Faulty, clock: FakeClock
) -> None:
    await cache.cache_routing_decision(HASH, "m")
    faulty.break_down(CoordinatorError("down"), "fetch")
    report = await cache.invalidate_model("m")
    assert report.position == 1
    key, scopes = CacheKey(f"route:{HASH}"), (model_scope("m"),)
    assert not cache.engine.is_current_since(key, scopes, Position(0))
    faulty.faults.clear()
    clock.advance(1.0)
    assert await cache.get_routing_decision(HASH) is None
    await cache.cache_routing_decision(HASH, "m")
    assert await cache.get_routing_decision(HASH) is not None
    await cache.aclose()


async def test_it_stays_owed_until_it_can_be_read_back(
    cache: RouteCache, faulty: Faulty, clock: FakeClock
) -> None:
    faulty.break_down(CoordinatorError("down"))
    with pytest.raises(CoordinatorError):
        await cache.invalidate_model("m")
    del faulty.faults["append"]
    clock.advance(1.0)
    await cache.engine._owed.pay()
    key, scopes = CacheKey(f"route:{HASH}"), (model_scope("m"),)
    engine = cache.engine
    assert not engine.is_current_since(key, scopes, engine.table.position)
    faulty.faults.clear()
    await cache.open()
    await cache.aclose()
    assert engine.is_current_since(key, scopes, engine.table.position)


async def test_a_cancelled_lookup_ends_its_span(
    cache: RouteCache, faulty: Faulty, watcher: Watcher
) -> None:
    await cache.open()
    faulty.hold = asyncio.Event()
    task = asyncio.ensure_future(cache.get_routing_decision(HASH))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert watcher.all_are_finished()


async def test_late_news_of_a_rewound_log_do_not_undo_what_was_read_since(
    cache: RouteCache,
) -> None:
    engine = cache.engine
    row = InvalidationRow(model_scope("m"))
    engine._learn(Fetched((), Position(9), (), is_rewound=True))
    engine._learn(Fetched((), Position(10), [LoggedRow(Position(10), row)]))
    engine._learn(Fetched((), Position(9), (), is_rewound=True))
    assert cache.engine.table.position == 10
    key = CacheKey("route:x")
    assert not engine.is_current_since(key, (model_scope("m"),), Position(9))
    assert engine.is_current_since(key, (model_scope("m"),), Position(10))


async def test_a_coordinator_is_opened_once_even_by_many(cache: RouteCache, faulty: Faulty) -> None:
    faulty.hold = asyncio.Event()
    tasks = [asyncio.ensure_future(cache.get_routing_decision(str(n))) for n in range(5)]
    await asyncio.sleep(0)
    assert faulty.calls == ["open"]  # nobody uses it before it is open
    faulty.hold.set()
    await asyncio.gather(*tasks)
    assert faulty.calls.count("open") == 1


async def test_opening_is_tried_again_when_it_failed_but_not_at_once(
    cache: RouteCache, faulty: Faulty, clock: FakeClock, caplog: pytest.LogCaptureFixture
) -> None:
    faulty.break_down(RuntimeError("canary"), "open")
    with caplog.at_level(logging.WARNING, "routecache"):
        for _ in range(3):
            await cache.open()
        assert faulty.calls == ["open"]
        clock.advance(1.0)
        await cache.open()
        assert faulty.calls == ["open"] * 2
    assert [record.getMessage() for record in caplog.records] == [
        "coordinator faulty could not be opened: RuntimeError"
    ]
    faulty.faults.clear()
    clock.advance(1.0)
    await cache.open()
    await cache.open()
    assert faulty.calls == ["open"] * 3


async def test_a_wrong_configuration_is_raised_on_opening(
    cache: RouteCache, faulty: Faulty
) -> None:
    faulty.break_down(ConfigurationError("wrong"), "open")
    with pytest.raises(ConfigurationError):
        await cache.open()


async def test_a_coordinator_is_closed_by_whoever_built_it(
    cache: RouteCache, faulty: Faulty, clock: FakeClock
) -> None:
    async with cache:
        await cache.cache_routing_decision(HASH, "m")
    assert "aclose" not in faulty.calls
    other = RouteCache(coordinator=faulty, settings=Settings(), clock=clock, observers=[])
    assert await other.get_routing_decision(HASH) is not None
    own = RouteCache.from_url("memory://", settings=Settings())
    async with own:
        await own.cache_routing_decision(HASH, "m")
        assert own.stats().total_keys == 1
    await own.aclose()
    assert own.stats().total_keys == 0


def test_a_cache_can_be_used_in_one_event_loop_after_the_other(
    cache: RouteCache, faulty: Faulty
) -> None:
    async def use() -> Outcome:
        return (await cache.route(HASH, compute)).outcome

    assert asyncio.run(use()) is Outcome.MISS
    assert asyncio.run(use()) is Outcome.HIT
    assert faulty.calls.count("open") == 2
    asyncio.run(cache.aclose())  # of a loop that is gone nothing is awaited


async def test_load_is_not_published_for_a_model_never_called(
    cache: RouteCache, faulty: Faulty
) -> None:
    await publish_load(cache.engine, "m")
    assert faulty.calls == []


async def test_load_is_published_with_what_is_known_when_reading_fails(
    cache: RouteCache, faulty: Faulty
) -> None:
    cache.engine.load.started("m")
    faulty.break_down(CoordinatorError("down"), "fetch")
    await publish_load(cache.engine, "m")
    faulty.faults.clear()
    assert await cache.get_load_metrics("m") is not None


async def test_load_is_published_with_what_the_log_says_now(
    faulty: Faulty, memory: MemoryCoordinator, clock: FakeClock
) -> None:
    first = RouteCache(coordinator=faulty, settings=Settings(), clock=clock, observers=[])
    second = RouteCache(coordinator=memory, settings=Settings(), clock=clock, observers=[])
    await second.invalidate_model("m")
    first.engine.load.started("m")
    assert await first.get_load_metrics("m") == LoadMetrics("m", in_flight=1, requests_per_s=0.1)
    metadata = await first.get_model_metadata("m")
    assert metadata is not None
    assert metadata.is_observed
