"""Load as several processes measure it; each is a cache with a connection of its own."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from routecache_middleware import RouteCache, Settings
from routecache_middleware.core.choices import Mode
from routecache_middleware.core.keys import Layer
from routecache_middleware.engine.publishing import LoadPublisher, publish_load
from routecache_middleware.testing.clock import FakeClock
from tests.support.faulty import FaultyCoordinator

_SETTINGS = Settings(load_ttl_s=3.0)


@pytest.fixture(params=["valkey", "lmdb"])
async def pair(
    request: pytest.FixtureRequest, tmp_path: Path
) -> AsyncIterator[tuple[RouteCache, RouteCache]]:
    """Two processes' caches on one server, or one file."""
    url = f"lmdb://{tmp_path}" if request.param == "lmdb" else request.getfixturevalue("valkey_url")
    first = RouteCache(url=url, settings=_SETTINGS, observers=[])
    second = RouteCache(url=url, settings=_SETTINGS, observers=[])
    async with first, second:
        yield first, second


async def _in_flight(cache: RouteCache, count: int, *, timeout_s: float = 8.0) -> None:
    """Wait until a cache says that so many calls are under way."""
    async with asyncio.timeout(timeout_s):
        while True:
            load = await cache.get_load_metrics("m")
            if load is not None and load.in_flight == count:
                return
            await asyncio.sleep(0.02)


async def test_a_read_sums_what_all_processes_measure(pair: tuple[RouteCache, RouteCache]) -> None:
    first, second = pair
    first.engine.load.started("m").ended(100.0, is_failure=False)
    first.engine.load.started("m")
    first.engine.load.started("m")
    second.engine.load.started("m")
    await publish_load(first.engine, "m")
    await publish_load(second.engine, "m")
    for cache in pair:
        load = await cache.get_load_metrics("m")
        assert load is not None
        assert load.in_flight == 3
        assert load.requests_per_s == pytest.approx(0.4, abs=0.02)
    metadata = await second.get_model_metadata("m")
    assert metadata is not None
    assert metadata.current_load == 3.0


async def test_long_calls_stay_known_everywhere_and_are_gone_when_they_end(
    pair: tuple[RouteCache, RouteCache],
) -> None:
    """A call that takes longer than ``load_ttl_s`` is published again and again."""
    first, second = pair
    publishers = [LoadPublisher(cache.engine) for cache in pair]
    calls = [cache.engine.load.started("m") for cache in pair]
    for publisher in publishers:
        publisher.watch()
    await _in_flight(first, 2)
    await asyncio.sleep(3.5)
    for cache in pair:  # two that write at the same moment lose one of them until the next second
        await _in_flight(cache, 2, timeout_s=2.5)
    calls[1].ended(3500.0, is_failure=False)
    await _in_flight(first, 1)
    calls[0].ended(3500.0, is_failure=False)
    await _in_flight(second, 0)
    for publisher in publishers:
        await publisher.aclose()


async def test_a_process_that_is_gone_stops_counting_after_the_layers_lifetime(
    pair: tuple[RouteCache, RouteCache],
) -> None:
    first, second = pair
    first.engine.load.started("m")
    second.engine.load.started("m")
    await publish_load(second.engine, "m")
    await second.aclose()
    await _in_flight(first, 2)
    began_s = asyncio.get_running_loop().time()
    await _in_flight(first, 1)
    assert asyncio.get_running_loop().time() - began_s < 4.0


class _Fleet:
    """Any number of processes on one coordinator that hangs and fails on demand."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.coordinator = FaultyCoordinator(self.clock)

    def process(self, mode: Mode = Mode.ON) -> RouteCache:
        settings = Settings(mode=mode, load_ttl_s=5.0)
        return RouteCache(
            coordinator=self.coordinator, settings=settings, clock=self.clock, observers=[]
        )


@pytest.fixture
def fleet() -> _Fleet:
    return _Fleet()


async def _soon(check: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(5):
        while not await check():  # noqa: ASYNC110 - timers have to come round
            await asyncio.sleep(0.01)


async def test_at_most_one_record_a_second_is_written(fleet: _Fleet) -> None:
    cache = fleet.process()
    publisher = LoadPublisher(cache.engine)
    for _ in range(200):
        cache.engine.load.started("m").ended(1.0, is_failure=False)
        publisher.watch()
    await asyncio.sleep(0.7)  # the clock of the cache stands still meanwhile
    cache.engine.load.started("m")
    publisher.watch()
    await asyncio.sleep(0.5)
    assert cache.engine.recorder.layers[Layer.LOAD].writes == 1
    fleet.clock.advance(1.0)

    async def is_written() -> bool:
        return cache.engine.recorder.layers[Layer.LOAD].writes == 2

    await _soon(is_written)
    await publisher.aclose()


async def test_nothing_runs_while_nothing_is_called(fleet: _Fleet) -> None:
    cache = fleet.process()
    publisher = LoadPublisher(cache.engine)
    cache.engine.load.started("m").ended(1.0, is_failure=False)
    publisher.watch()

    async def is_idle() -> bool:
        return publisher._timer is None

    await _soon(is_idle)
    assert cache.engine.recorder.layers[Layer.LOAD].writes == 1


@pytest.mark.parametrize("mode", [Mode.OFF, Mode.READ_ONLY])
async def test_nothing_is_published_in_a_mode_that_writes_nothing(
    fleet: _Fleet, mode: Mode
) -> None:
    cache = fleet.process(mode)
    publisher = LoadPublisher(cache.engine)
    cache.engine.load.started("m")
    publisher.watch()
    await asyncio.sleep(0.2)
    assert publisher._timer is None
    assert fleet.coordinator.asked["store"] == 0


async def test_a_coordinator_that_hangs_gets_no_pile_of_writes_and_catches_up(
    fleet: _Fleet,
) -> None:
    cache, other = fleet.process(), fleet.process()
    publisher = LoadPublisher(cache.engine)
    fleet.coordinator.hang()
    cache.engine.load.started("m")
    publisher.watch()
    for _ in range(5):
        await asyncio.sleep(0.1)
        fleet.clock.advance(1.0)
    assert sum(fleet.coordinator.asked.values()) <= 2
    fleet.coordinator.heal()
    fleet.clock.advance(1.0)
    await _in_flight(other, 1)
    await publisher.aclose()


async def test_a_coordinator_that_fails_is_asked_again_a_second_later(fleet: _Fleet) -> None:
    cache, other = fleet.process(), fleet.process()
    publisher = LoadPublisher(cache.engine)
    fleet.coordinator.fail()
    cache.engine.load.started("m")
    publisher.watch()
    await asyncio.sleep(0.2)
    fleet.coordinator.heal()
    fleet.clock.advance(1.0)
    await _in_flight(other, 1)
    await publisher.aclose()


async def test_two_that_write_at_once_lose_at_most_a_second(fleet: _Fleet) -> None:
    """Both read before either writes; the next second puts it right."""
    pair = fleet.process(), fleet.process()
    for cache in pair:
        cache.engine.load.started("m")
    await asyncio.gather(*(publish_load(cache.engine, "m") for cache in pair))
    await publish_load(pair[0].engine, "m")
    await publish_load(pair[1].engine, "m")
    load = await pair[0].get_load_metrics("m")
    assert load is not None
    assert load.in_flight == 2


async def test_processes_that_begin_together_do_not_go_on_in_step(fleet: _Fleet) -> None:
    """Of two that keep step, the one that writes first is lost again and again, then forgotten."""
    caches = [fleet.process() for _ in range(16)]
    publishers = [LoadPublisher(cache.engine) for cache in caches]
    for cache, publisher in zip(caches, publishers, strict=True):
        cache.engine.load.started("m")
        publisher.watch()
    loop = asyncio.get_running_loop()
    begun_s = loop.time()
    together = [publisher._timer for publisher in publishers]

    async def have_ticked() -> bool:
        pairs = zip(publishers, together, strict=True)
        return all(publisher._timer is not begun for publisher, begun in pairs)

    await _soon(have_ticked)
    due_s = [publisher._timer.when() - begun_s for publisher in publishers if publisher._timer]
    assert len(due_s) == 16
    assert max(due_s) - min(due_s) > 0.05  # of a writing that takes some milliseconds
    for publisher in publishers:
        await publisher.aclose()


async def test_invalidation_of_the_model_forgets_what_others_have_measured(fleet: _Fleet) -> None:
    cache, other = fleet.process(), fleet.process()
    for one in (cache, other):
        one.engine.load.started("m")
        await publish_load(one.engine, "m")
    await cache.invalidate_model("m")
    assert await fleet.process().get_load_metrics("m") is None
    await publish_load(other.engine, "m")
    load = await fleet.process().get_load_metrics("m")
    assert load is not None
    assert load.in_flight == 1


async def test_closing_publishes_the_last_figures(fleet: _Fleet) -> None:
    cache, other = fleet.process(), fleet.process()
    publisher = LoadPublisher(cache.engine)
    call = cache.engine.load.started("m")
    await publish_load(cache.engine, "m")
    call.ended(1.0, is_failure=False)
    await publisher.aclose()
    load = await other.get_load_metrics("m")
    assert load is not None
    assert (load.in_flight, load.avg_response_time_ms) == (0, 1.0)


def test_a_publisher_may_be_used_in_one_event_loop_after_the_other(fleet: _Fleet) -> None:
    cache = fleet.process()
    publisher = LoadPublisher(cache.engine)
    call = cache.engine.load.started("m")

    async def use(count: int) -> None:
        publisher.watch()

        async def is_written() -> bool:
            return cache.engine.recorder.layers[Layer.LOAD].writes == count

        await _soon(is_written)

    asyncio.run(use(1))
    fleet.clock.advance(1.0)
    asyncio.run(use(2))
    call.ended(1.0, is_failure=False)
