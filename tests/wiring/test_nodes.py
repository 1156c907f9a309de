"""What RouteCache says of the coordinator's nodes, and how it takes them in and lets them go."""

import pytest

from routecache_middleware import RouteCache, Settings
from routecache_middleware.coordinators.memory import MemoryCoordinator
from routecache_middleware.core.cluster import ClusterStats, NodeState
from routecache_middleware.errors import ConfigurationError, CoordinatorError
from routecache_middleware.testing.clock import FakeClock


class Ring(MemoryCoordinator):
    """Takes nodes in, as a ring does; fails on demand."""

    error: Exception | None = None

    def __init__(self) -> None:
        super().__init__(max_bytes=1 << 20, clock=FakeClock())
        self.nodes: dict[str, float] = {}

    async def register(self, address: str, weight: float = 1.0) -> str:
        if self.error is not None:
            raise self.error
        self.nodes[address] = weight
        return address

    async def unregister(self, name: str) -> None:
        if self.error is not None:
            raise self.error
        del self.nodes[name]

    async def cluster_stats(self) -> ClusterStats:
        if self.error is not None:
            raise self.error
        return await super().cluster_stats()


def cache_on(ring: MemoryCoordinator) -> RouteCache:
    return RouteCache(coordinator=ring, settings=Settings(), observers=[])


async def test_cluster_stats_are_the_coordinators() -> None:
    async with RouteCache.from_url("memory://", settings=Settings()) as cache:
        await cache.invalidate_model("m")
        found = await cache.cluster_stats()
    assert found.count(NodeState.UP) == 1
    assert found.position == 1


async def test_nodes_come_and_go() -> None:
    ring = Ring()
    cache = cache_on(ring)
    assert await cache.register_node("cache-1:6379") == "cache-1:6379"
    assert await cache.register_node("cache-2:6379", weight=2.0) == "cache-2:6379"
    assert ring.nodes == {"cache-1:6379": 1.0, "cache-2:6379": 2.0}
    await cache.unregister_node("cache-1:6379")
    assert ring.nodes == {"cache-2:6379": 2.0}


async def test_other_coordinators_have_a_fixed_set_of_nodes() -> None:
    cache = RouteCache.from_url("memory://", settings=Settings())
    with pytest.raises(ConfigurationError, match="ring://"):
        await cache.register_node("cache-1:6379")
    with pytest.raises(ConfigurationError, match="memory"):
        await cache.unregister_node("cache-1:6379")


@pytest.mark.parametrize(
    ("raised", "expected"),
    [
        (CoordinatorError("down"), CoordinatorError),
        (ConfigurationError("no such node"), ConfigurationError),
        (OSError("a third party's"), CoordinatorError),
    ],
)
async def test_failures_are_told(raised: Exception, expected: type[Exception]) -> None:
    ring = Ring()
    ring.error = raised
    cache = cache_on(ring)
    for call in (
        cache.cluster_stats(),
        cache.register_node("cache-1:6379"),
        cache.unregister_node("cache-1:6379"),
    ):
        with pytest.raises(expected) as caught:
            await call
        assert caught.value is raised or caught.value.__cause__ is raised
