"""The history: sampled each second, and kept where processes share a coordinator."""

import asyncio
from typing import Any

import pytest

from routecache_middleware import RouteCache, Settings
from routecache_middleware.admin import keeper as keeping
from routecache_middleware.admin.keeper import Keeper
from routecache_middleware.testing.clock import FakeClock
from tests.admin.kit import HASH, Admin, quiet_cache
from tests.support.faulty import FaultyCoordinator

HIT = ("routecache.lookups", "result", "miss")


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture(autouse=True)
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keeping, "_PATIENCE_S", 0.05)


async def ask_once(cache: RouteCache, clock: FakeClock, keeper: Keeper, times: int = 1) -> None:
    """Let a second pass in which so many lookups miss."""
    for _ in range(times):
        await cache.get_query_result(HASH, "gpt")
    clock.advance(1.0)
    await keeper.sample()


def missed(keeper: Keeper, window: str = "5m") -> list[float]:
    return [one.figures[HIT][0] for one in keeper.history.rings[window] if HIT in one.figures]


async def test_each_snapshot_adds_what_has_happened_since(clock: FakeClock) -> None:
    async with RouteCache(url="memory://", observers=[], clock=clock) as cache:
        keeper = Keeper(cache, is_kept=True)
        await ask_once(cache, clock, keeper)
        await ask_once(cache, clock, keeper, 3)
        await ask_once(cache, clock, keeper, 2)
        assert missed(keeper) == [3, 2]


class Fleet:
    """Processes that share a coordinator, each with a keeper."""

    def __init__(self, clock: FakeClock) -> None:
        self.clock = clock
        self.coordinator = FaultyCoordinator(clock)

    def cache(self) -> RouteCache:
        return RouteCache(coordinator=self.coordinator, observers=[], clock=self.clock)


async def published(cache: RouteCache) -> None:
    """Let the process tell the others what it has counted, as it does each second."""
    await cache.engine.companion._publish()  # type: ignore[union-attr]


async def test_what_one_process_has_kept_another_one_begins_with(clock: FakeClock) -> None:
    fleet = Fleet(clock)
    async with fleet.cache() as one:
        keeper = Keeper(one, is_kept=True)
        await published(one)
        await keeper.sample()
        for _ in range(12):
            await one.get_query_result(HASH, "gpt")
            await published(one)
            clock.advance(1.0)
            await keeper.sample()
        before = missed(keeper)
    async with fleet.cache() as other:
        await published(other)
        again = Keeper(other, is_kept=True)
        await again.sample()
        assert len(before) == 12
        assert missed(again) == before[: len(missed(again))]
        assert len(missed(again)) >= 9
        assert sum(missed(again, "1h")) == len(missed(again))


async def test_only_one_process_writes(clock: FakeClock) -> None:
    fleet = Fleet(clock)
    async with fleet.cache() as one, fleet.cache() as other:
        for cache in (one, other):
            await published(cache)
        first, second = Keeper(one, is_kept=True), Keeper(other, is_kept=True)
        await first.sample()
        stored = fleet.coordinator.asked["store"]
        await second.sample()
        assert fleet.coordinator.asked["store"] == stored
        clock.advance(31.0)
        await second.sample()
        assert fleet.coordinator.asked["store"] > stored


async def test_it_can_be_kept_to_oneself(clock: FakeClock) -> None:
    fleet = Fleet(clock)
    async with fleet.cache() as cache:
        await published(cache)
        stored = fleet.coordinator.asked["store"]
        keeper = Keeper(cache, is_kept=False)
        await keeper.sample()
        assert fleet.coordinator.asked["store"] == stored
        assert keeper.history.latest is not None


async def test_who_tells_the_others_no_numbers_keeps_no_history_among_them(
    clock: FakeClock,
) -> None:
    fleet = Fleet(clock)
    settings = Settings(share_metrics=False)
    made = RouteCache(coordinator=fleet.coordinator, observers=[], clock=clock, settings=settings)
    async with made as cache:
        await Keeper(cache, is_kept=True).sample()
        assert fleet.coordinator.asked["store"] == 0


@pytest.mark.parametrize("how", ["fail", "hang"])
async def test_a_history_that_cannot_be_read_or_written_is_the_processs_own(
    clock: FakeClock, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    fleet = Fleet(clock)
    async with fleet.cache() as cache:
        await published(cache)
        total = cache.metrics

        async def total_metrics() -> Any:
            return total()

        monkeypatch.setattr(cache, "total_metrics", total_metrics)
        await cache.engine.companion.total()  # type: ignore[union-attr]
        keeper = Keeper(cache, is_kept=True)
        getattr(fleet.coordinator, how)("fetch", "acquire", "store")
        await keeper.sample()
        clock.advance(11.0)
        await keeper.sample()
        assert keeper.history.latest is not None
        fleet.coordinator.heal()


async def test_until_all_processes_were_read_nothing_is_taken_in(clock: FakeClock) -> None:
    """Else the first reading of all would look like a burst of everything ever counted."""
    fleet = Fleet(clock)
    async with fleet.cache() as cache:
        fleet.coordinator.fail("fetch")
        keeper = Keeper(cache, is_kept=True)
        await keeper.sample()
        assert keeper.history.latest is None
        fleet.coordinator.heal()


async def test_it_runs_by_itself_once_it_is_started(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keeping, "_TICK_S", 0.01)
    async with quiet_cache() as cache:
        keeper = Keeper(cache, is_kept=True)
        keeper.start()
        keeper.start()
        await keeper.changed(5.0)
        first_s = keeper.history.latest_s
        await keeper.changed(5.0)
        assert keeper.history.latest_s > first_s
        keeper.stop()
        keeper.stop()
        await asyncio.sleep(0.03)
        stopped_s = keeper.history.latest_s
        await keeper.changed(0.03)
        assert keeper.history.latest_s == stopped_s


async def test_a_cache_that_is_closed_stays_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keeping, "_TICK_S", 0.005)
    cache = quiet_cache()
    keeper = Keeper(cache, is_kept=True)
    keeper.start()
    await asyncio.sleep(0.02)
    assert not cache.engine.is_open()
    assert keeper.history.latest is None
    keeper.stop()


async def test_a_snapshot_that_fails_is_taken_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keeping, "_TICK_S", 0.005)
    async with quiet_cache() as cache:
        keeper, fails = Keeper(cache, is_kept=True), [True]
        total_metrics = cache.total_metrics

        async def sometimes() -> Any:
            if fails and fails.pop():
                raise RuntimeError
            return await total_metrics()

        monkeypatch.setattr(cache, "total_metrics", sometimes)
        keeper.start()
        await keeper.changed(5.0)
        assert keeper.history.latest is not None
        keeper.stop()


async def test_who_gave_up_waiting_is_not_woken_and_who_stopped_does_not_go_on() -> None:
    async with quiet_cache() as cache:
        keeper = Keeper(cache, is_kept=True)
        over = asyncio.get_running_loop().create_future()
        over.set_result(None)
        keeper._waiting.add(over)
        keeper.wake()
        keeper._tick()
        assert keeper._timer is None


async def test_the_app_keeps_it_from_the_servers_start_to_its_end() -> None:
    async with quiet_cache() as cache:
        admin = Admin(cache)
        messages = asyncio.Queue[Any]()
        told: list[str] = []

        async def send(message: Any) -> None:
            told.append(message["type"])

        messages.put_nowait({"type": "lifespan.startup"})
        running = asyncio.ensure_future(admin.app({"type": "lifespan"}, messages.get, send))
        await asyncio.sleep(0.01)
        assert told == ["lifespan.startup.complete"]
        messages.put_nowait({"type": "lifespan.shutdown"})
        await running
        assert told[-1] == "lifespan.shutdown.complete"
