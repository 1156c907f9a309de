"""What several processes count together; here each is a cache with a connection of its own."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from routecache_middleware import RouteCache, RoutingDecision, Settings
from routecache_middleware.core.choices import Mode
from routecache_middleware.core.keys import Layer
from routecache_middleware.core.metrics import (
    BACKEND_UP,
    ENTRY_COUNT,
    LOOKUP_DURATION,
    LOOKUPS,
)
from routecache_middleware.core.models import Entry
from routecache_middleware.engine import worker_stats
from routecache_middleware.engine.worker_stats import WorkerStats
from routecache_middleware.errors import CoordinatorError
from routecache_middleware.testing.clock import FakeClock

Caches = Callable[[], Awaitable[RouteCache]]


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """A second is long for a test; what counts is the order of things."""
    monkeypatch.setattr(worker_stats, "_TICK_S", 0.02)
    monkeypatch.setattr(worker_stats, "_HEARTBEAT_S", 0.1)
    monkeypatch.setattr(worker_stats, "_GONE_S", 1.0)


@pytest.fixture(params=["valkey", "lmdb"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "lmdb":
        return f"lmdb://{tmp_path}/cache"
    found: str = request.getfixturevalue("valkey_url")
    return found


@pytest.fixture
async def new_cache(url: str) -> AsyncIterator[Caches]:
    caches: list[RouteCache] = []

    async def make() -> RouteCache:
        settings = Settings(coordinator_timeout_s=5.0)
        cache = RouteCache(url=url, settings=settings, observers=[])
        caches.append(cache)
        await cache.open()
        return cache

    yield make
    for cache in caches:
        await cache.aclose()


async def decide() -> RoutingDecision:
    return RoutingDecision("m")


async def use(cache: RouteCache, times: int) -> None:
    for number in range(times):
        await cache.route(f"{id(cache)}-{number}", decide)


async def lookups(cache: RouteCache) -> float:
    return (await cache.total_metrics()).value(LOOKUPS)


async def until(is_so: Callable[[], Awaitable[bool]], *, timeout_s: float = 15.0) -> None:
    async with asyncio.timeout(timeout_s):
        while not await is_so():  # noqa: ASYNC110 - other processes tell nobody
            await asyncio.sleep(0.02)


async def counts(cache: RouteCache, wanted: float) -> None:
    """Wait until a cache says so many lookups; it may never say more."""

    async def is_so() -> bool:
        found = await lookups(cache)
        assert found <= wanted
        return found == wanted

    await until(is_so)


async def test_each_says_what_all_have_counted(new_cache: Caches) -> None:
    first, second = await new_cache(), await new_cache()
    await use(first, 3)
    await use(second, 4)
    for cache in (first, second):
        await counts(cache, 7)
    await use(first, 2)
    await counts(second, 9)
    total = await second.total_metrics()
    assert total.workers == 2
    # What is shared does not count twice.
    own = second.metrics().value(ENTRY_COUNT, "load", second.engine.coordinator.name)
    assert total.value(ENTRY_COUNT, "load", second.engine.coordinator.name) <= own + 3


async def test_what_a_process_that_has_closed_has_counted_stays(new_cache: Caches) -> None:
    first, second = await new_cache(), await new_cache()
    await use(first, 3)
    await use(second, 1)
    await first.aclose()
    await counts(second, 4)
    third = await new_cache()
    await counts(third, 4)

    async def is_folded() -> bool:
        assert await lookups(third) == 4
        return (await third.total_metrics()).workers == 2 and bool(third._workers._ledger.folded)

    await until(is_folded)


async def test_what_a_process_that_has_died_has_counted_stays(new_cache: Caches) -> None:
    first, second = await new_cache(), await new_cache()
    await use(first, 3)
    await counts(second, 3)
    first._workers._stop()  # killed: it says nothing more

    async def is_folded() -> bool:
        assert await lookups(second) == 3
        is_alone = (await second.total_metrics()).workers == 1
        return is_alone and len(second._workers._ledger.folded) == 1

    await until(is_folded)


async def test_a_sum_does_not_fall_by_its_last_bit_when_a_process_is_gone(
    new_cache: Caches,
) -> None:
    """0.1 + 0.2 + 0.7 is more than 0.1 + 0.7 + 0.2; a fall is a restart to Prometheus."""
    caches = [await new_cache() for _ in range(4)]
    first, *others = caches
    for cache, took_s in zip(caches, (0.1, 0.2, 0.7, 0.3), strict=True):
        cache.engine.recorder.measures[Layer.RESULT].hit_s.record(took_s)

    async def total() -> tuple[int, float]:
        every = (await first.total_metrics()).of(LOOKUP_DURATION)
        return sum(map(sum, (one.counts for one in every))), float(sum(one.value for one in every))

    async def is_whole() -> bool:
        return (await total())[0] == 4

    await until(is_whole)
    before = await total()
    assert (before[1] * 2**27).is_integer()  # so no order of adding them can matter
    for gone in reversed(others):
        await gone.aclose()
        name = gone._workers._name

        async def is_folded(name: str = name) -> bool:
            assert await total() == before
            return name in first._workers._ledger.folded

        await until(is_folded)


async def test_who_only_slept_goes_on_where_it_was(new_cache: Caches) -> None:
    first, second = await new_cache(), await new_cache()
    await use(first, 3)
    await counts(second, 3)
    asleep, old_name = first._workers, first._workers._name
    asleep._stop()
    await use(first, 2)  # counted, and not told

    async def is_folded() -> bool:
        await second.total_metrics()
        return old_name in second._workers._ledger.folded

    await until(is_folded)
    await asleep._publish()
    assert asleep._name != old_name
    await counts(second, 5)


async def test_a_cache_that_is_opened_again_counts_nothing_twice(new_cache: Caches) -> None:
    first, second = await new_cache(), await new_cache()
    await use(first, 3)
    await first.aclose()
    await first.open()
    await use(first, 2)
    await counts(second, 5)
    await counts(first, 5)


async def test_invalidating_everything_takes_nothing_back(new_cache: Caches) -> None:
    first, second = await new_cache(), await new_cache()
    await use(first, 3)
    await counts(second, 3)
    await second.invalidate_all()
    for _ in range(10):
        assert await lookups(first) == await lookups(second) == 3
        await asyncio.sleep(0.02)


async def test_a_store_that_was_emptied_gets_its_ledger_back(new_cache: Caches) -> None:
    first, second, gone = await new_cache(), await new_cache(), await new_cache()
    await use(first, 3)
    await use(gone, 2)
    await gone.aclose()

    async def is_folded() -> bool:
        await counts(second, 5)
        return bool(second._workers._ledger.folded)

    await until(is_folded)
    coordinator = second.engine.coordinator
    await coordinator.delete(worker_stats._LEDGER_KEY)
    await coordinator.delete(worker_stats._key(first._workers._name))
    assert await lookups(second) == 5
    third = await new_cache()
    await counts(third, 5)


async def test_a_store_emptied_before_the_dead_were_added_up_takes_nothing_back(
    new_cache: Caches, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also when whoever begins the next ledger has never heard of them."""
    monkeypatch.setattr(worker_stats, "_GONE_S", 3.0)
    first, gone = await new_cache(), await new_cache()
    await use(first, 3)
    await use(gone, 2)
    await counts(first, 5)
    gone._workers._stop()  # killed
    first._workers._is_busy = True  # it is not the first to notice
    coordinator = first.engine.coordinator
    for key in (worker_stats._LEDGER_KEY, *map(worker_stats._key, first._workers._ledger.workers)):
        await coordinator.delete(key)
    third = await new_cache()
    await use(third, 1)
    await until(lambda: _is_in_ledger(third))
    assert await lookups(first) == 6
    first._workers._is_busy = False
    await counts(third, 6)

    async def is_folded() -> bool:
        assert await lookups(first) == 6
        return gone._workers._name in third._workers._ledger.folded

    await until(is_folded)
    await counts(third, 6)


async def test_who_knows_nothing_of_the_dead_leaves_them_to_who_does(
    new_cache: Caches, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The store has lost a record, not the ledger, and who remembers it is slow."""
    first, gone = await new_cache(), await new_cache()
    await use(first, 3)
    await use(gone, 2)
    await counts(first, 5)
    gone._workers._stop()  # killed
    third = await new_cache()
    await until(lambda: _is_in_ledger(third))
    monkeypatch.setattr(first._workers, "_tick", lambda: None)
    first._workers._stop()  # it sleeps
    await first.engine.coordinator.delete(worker_stats._key(gone._workers._name))
    third._workers._seen.clear()  # as if it had begun only now
    await asyncio.sleep(1.5)
    assert gone._workers._name in third._workers._ledger.workers
    await first._workers._publish()
    assert gone._workers._name in first._workers._ledger.folded
    await counts(third, 5)


async def _is_in_ledger(cache: RouteCache) -> bool:
    workers = cache._workers
    return workers._name in workers._stored.workers


async def test_nobody_else_holds_up_whoever_keeps_the_ledger(new_cache: Caches) -> None:
    """A lock whose holder has died delays the ledger until it expires, and nothing else."""
    first, second = await new_cache(), await new_cache()
    await first.engine.coordinator.acquire(worker_stats._LOCK_KEY, token="dead", ttl_s=1.0)
    await use(first, 3)
    await counts(first, 3)
    await counts(second, 3)


async def test_only_one_asks_for_the_total_of_a_coordinator_of_its_own() -> None:
    async with RouteCache(url="memory://", settings=Settings(), observers=[]) as cache:
        await use(cache, 3)
        assert await lookups(cache) == 3
        assert not cache._workers.is_shared
        assert cache._workers._timer is None


async def test_it_can_be_turned_off(url: str) -> None:
    settings = Settings(share_metrics=False, coordinator_timeout_s=5.0)
    async with RouteCache(url=url, settings=settings, observers=[]) as cache:
        await use(cache, 3)
        assert await lookups(cache) == 3
        assert cache._workers._timer is None


@pytest.mark.parametrize("mode", [Mode.OFF, Mode.READ_ONLY])
async def test_who_may_not_write_writes_nothing(new_cache: Caches, mode: Mode) -> None:
    first, second = await new_cache(), await new_cache()
    first.mode = mode
    await use(first, 3)
    await asyncio.sleep(0.2)
    assert await lookups(second) == 0
    assert await lookups(first) == 3


async def test_who_is_switched_off_while_it_reads_writes_nothing(new_cache: Caches) -> None:
    first, second = await new_cache(), await new_cache()
    await use(first, 3)
    publishing = asyncio.ensure_future(first._workers._publish())
    await asyncio.sleep(0)  # it has begun to read
    first.mode = Mode.OFF
    await use(first, 2)
    await publishing
    assert await lookups(second) in {0, 3}  # never what came after


class Failing:
    """Stands in for methods of a coordinator."""

    def __init__(self, error: Exception | None) -> None:
        self._error = error
        self.calls = 0

    async def __call__(self, *args: object, **kwargs: object) -> object:
        self.calls += 1
        if self._error is not None:
            raise self._error
        never: asyncio.Future[object] = asyncio.Future()
        try:
            return await never
        except asyncio.CancelledError:
            await asyncio.sleep(1)  # takes no notice for a while
            raise


@pytest.mark.parametrize("error", [CoordinatorError("no"), KeyError("no"), None])
@pytest.mark.parametrize("method", ["fetch", "store", "acquire", "release"])
async def test_a_coordinator_that_fails_or_hangs_costs_freshness_alone(
    new_cache: Caches, method: str, error: Exception | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker_stats, "_PATIENCE_S", 0.1)
    monkeypatch.setattr(worker_stats, "_LOCK_S", 0.3)
    cache = await new_cache()
    failing = Failing(error)
    await use(cache, 3)
    monkeypatch.setattr(cache.engine.coordinator, method, failing)
    cache._workers._rename()  # so that it has to enter itself in the ledger
    await until(lambda: _called(failing))
    assert await lookups(cache) <= 3
    await asyncio.wait_for(cache._workers.aclose(), 5)
    monkeypatch.undo()


async def test_who_could_never_read_says_what_it_has_counted_itself(
    new_cache: Caches, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = await new_cache()
    cache._workers._stop()
    await use(cache, 3)
    monkeypatch.setattr(cache.engine.coordinator, "fetch", Failing(CoordinatorError("no")))
    assert await lookups(cache) == 3
    cache._workers._tick()  # stopped: nothing begins
    assert cache._workers._timer is None
    monkeypatch.undo()


async def test_a_store_that_is_down_is_told_although_nobody_can_write_so_there(
    new_cache: Caches, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was last read says that it is up, and would say so for as long as it is down."""
    cache = await new_cache()
    await use(cache, 3)
    await counts(cache, 3)
    cache._workers._stop()
    assert (await cache.total_metrics()).value(BACKEND_UP) == 1
    coordinator = cache.engine.coordinator
    monkeypatch.setattr(coordinator, "is_writing", False, raising=False)
    monkeypatch.setattr(coordinator, "fetch", Failing(CoordinatorError("no")))
    total = await cache.total_metrics()
    assert (total.value(BACKEND_UP), total.value(LOOKUPS), total.workers) == (0, 3, 1)
    monkeypatch.undo()
    assert (await cache.total_metrics()).value(BACKEND_UP) == 1


async def _called(failing: Failing) -> bool:
    return failing.calls > 0


async def test_what_lies_in_the_store_under_our_name_is_not_believed(new_cache: Caches) -> None:
    first, second = await new_cache(), await new_cache()
    await use(first, 3)
    await counts(second, 3)
    first._workers._stop()
    coordinator, now_s = second.engine.coordinator, second.engine.clock.now_s()
    for key in (worker_stats._LEDGER_KEY, worker_stats._key(first._workers._name)):
        await coordinator.store(key, Entry(Layer.LOAD, b"nonsense", now_s, 60.0))
    assert await lookups(second) == 3


async def test_names_do_not_repeat_when_process_ids_do() -> None:
    cache = RouteCache(url="memory://", settings=Settings(), observers=[], clock=FakeClock())
    one, other = WorkerStats(cache.engine), WorkerStats(cache.engine)
    one._rename()
    other._rename()
    assert one._name.partition(".")[0] == other._name.partition(".")[0]
    assert one._name != other._name
