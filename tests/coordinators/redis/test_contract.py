"""The contract suite, over each topology of real servers."""

import asyncio
from collections.abc import AsyncIterator
from typing import ClassVar

import pytest

from routecache_middleware.coordinators.redis.coordinator import RedisCoordinator
from routecache_middleware.coordinators.redis.factory import create_bare
from routecache_middleware.coordinators.url import CoordinatorUrl
from routecache_middleware.core.settings import Settings
from routecache_middleware.engine.clock import SystemClock
from routecache_middleware.testing import CoordinatorContract, FakeClock


class RealTimeContract(CoordinatorContract):
    """The contract in real time, because a server's clock cannot be set."""

    tick_s: ClassVar[float] = 0.3

    @pytest.fixture
    def clock(self) -> FakeClock:
        return SystemClock()  # type: ignore[return-value]

    async def let_time_pass(self, clock: FakeClock, seconds: float) -> None:
        await asyncio.sleep(seconds)

    @pytest.fixture
    def url(self) -> str:
        raise NotImplementedError

    @pytest.fixture
    async def coordinator(self, clock: FakeClock, url: str) -> AsyncIterator[RedisCoordinator]:
        # The rules are tested here, not deadlines: this machine may be busy.
        url = f"{url}?timeout_ms=5000"
        coordinator = create_bare(CoordinatorUrl.parse(url), Settings(), clock)
        await coordinator.open()
        yield coordinator
        await coordinator.aclose()


class TestStandalone(RealTimeContract):
    @pytest.fixture
    def url(self, valkey_url: str) -> str:
        return valkey_url


class TestCluster(RealTimeContract):
    @pytest.fixture
    def url(self, cluster_url: str) -> str:
        return cluster_url


class TestSentinel(RealTimeContract):
    @pytest.fixture
    def url(self, sentinel_url: str) -> str:
        return sentinel_url
