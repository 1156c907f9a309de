import asyncio

import pytest

from routecache_middleware.coordinators.memory import MemoryCoordinator
from routecache_middleware.core.choices import Mode
from routecache_middleware.core.models import ModelMetadata
from routecache_middleware.core.reports import WarmReport
from routecache_middleware.core.settings import Settings
from routecache_middleware.testing.clock import FakeClock
from routecache_middleware.wiring.cache import RouteCache


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def memory(clock: FakeClock) -> MemoryCoordinator:
    return MemoryCoordinator(max_bytes=10_000_000, clock=clock)


@pytest.fixture
def cache(memory: MemoryCoordinator, clock: FakeClock) -> RouteCache:
    return RouteCache(coordinator=memory, settings=Settings(), clock=clock, observers=[])


class Loader:
    """Loads models, and knows how many it loaded at a time."""

    def __init__(self, clock: FakeClock) -> None:
        self.clock = clock
        self.loaded: list[str] = []
        self.now = self.most = 0

    async def __call__(self, model_id: str) -> ModelMetadata:
        self.loaded.append(model_id)
        self.now += 1
        self.most = max(self.most, self.now)
        await asyncio.sleep(0)
        self.clock.advance(0.5)
        self.now -= 1
        if model_id.startswith("bad"):
            raise LookupError(model_id)
        return ModelMetadata(model_id, {"tools": True}, 2, 30.0)


async def test_models_are_loaded_once_each_and_failures_are_reported(
    cache: RouteCache, clock: FakeClock
) -> None:
    loader = Loader(clock)
    report = await cache.warm(["a", "bad", "b", "a", "bad 2"], load=loader)
    failed = {"bad": "LookupError", "bad 2": "LookupError"}
    assert report == WarmReport(requested=4, warmed=2, failed=failed, duration_s=2.0)
    assert loader.loaded == ["a", "bad", "b", "bad 2"]
    found = await cache.get_model_metadata("b")
    assert found == ModelMetadata("b", {"tools": True}, 2, 30.0)
    assert cache.stats().warm_operations == 2
    assert cache.stats().metadata.writes == 2


@pytest.mark.parametrize("concurrency", [1, 3, 100])
async def test_no_more_are_loaded_at_a_time_than_allowed(
    cache: RouteCache, clock: FakeClock, concurrency: int
) -> None:
    loader = Loader(clock)
    models = [str(number) for number in range(20)]
    report = await cache.warm(iter(models), load=loader, concurrency=concurrency)
    assert report.warmed == 20
    assert loader.most == min(concurrency, 20)


async def test_eight_at_a_time_is_the_default(cache: RouteCache, clock: FakeClock) -> None:
    loader = Loader(clock)
    await cache.warm(map(str, range(20)), load=loader)
    assert loader.most == 8


async def test_nothing_to_warm_is_no_trouble(cache: RouteCache, clock: FakeClock) -> None:
    assert await cache.warm([], load=Loader(clock)) == WarmReport(0, 0)


@pytest.mark.parametrize("mode", [Mode.OFF, Mode.READ_ONLY])
async def test_where_nothing_is_stored_nothing_is_loaded(
    cache: RouteCache, clock: FakeClock, mode: Mode
) -> None:
    cache.mode = mode
    loader = Loader(clock)
    report = await cache.warm(["a"], load=loader)
    assert report == WarmReport(1, 0, {"a": "NotStored"})
    assert loader.loaded == []
    assert cache.stats().warm_operations == 0


async def test_what_is_invalidated_while_it_is_loaded_is_not_warm(
    cache: RouteCache, clock: FakeClock
) -> None:
    async def load(model_id: str) -> ModelMetadata:
        await cache.invalidate_model(model_id)
        return ModelMetadata(model_id)

    report = await cache.warm(["a"], load=load)
    assert report.failed == {"a": "NotStored"}
    assert await cache.get_model_metadata("a") is None


async def test_what_others_invalidated_before_does_not_matter(
    cache: RouteCache, memory: MemoryCoordinator, clock: FakeClock
) -> None:
    other = RouteCache(coordinator=memory, settings=Settings(), clock=clock, observers=[])
    await other.invalidate_all()
    assert (await cache.warm(["a"], load=Loader(clock))).warmed == 1
    assert await cache.get_model_metadata("a") is not None


async def test_a_loader_that_names_the_model_differently_is_invalidated_by_both_names(
    cache: RouteCache,
) -> None:
    async def load(_: str) -> ModelMetadata:
        return ModelMetadata("gpt-4o-2024-08-06")

    for name in ("gpt-4o", "gpt-4o-2024-08-06"):
        await cache.warm(["gpt-4o"], load=load)
        assert await cache.get_model_metadata("gpt-4o") is not None
        await cache.invalidate_model(name)
        assert await cache.get_model_metadata("gpt-4o") is None


async def test_a_loader_that_returns_something_else_is_a_failure(cache: RouteCache) -> None:
    async def load(_: str) -> ModelMetadata:
        return None  # type: ignore[return-value]

    assert (await cache.warm(["a"], load=load)).failed == {"a": "TypeError"}


@pytest.mark.parametrize("concurrency", [0, -1])
async def test_a_limit_below_one_is_refused(
    cache: RouteCache, clock: FakeClock, concurrency: int
) -> None:
    with pytest.raises(ValueError, match="at least 1"):
        await cache.warm(["a"], load=Loader(clock), concurrency=concurrency)


async def test_one_name_is_not_a_list_of_its_letters(cache: RouteCache, clock: FakeClock) -> None:
    with pytest.raises(TypeError, match="several strings"):
        await cache.warm("gpt", load=Loader(clock))
