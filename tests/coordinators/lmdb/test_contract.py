"""The contract, with a clock that the test moves and with the machine's."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import ClassVar

import pytest

from routecache_middleware.core.choices import Compression
from routecache_middleware.core.ports import Coordinator
from routecache_middleware.core.settings import Settings
from routecache_middleware.engine.clock import SystemClock
from routecache_middleware.testing.clock import FakeClock
from routecache_middleware.testing.contract import CoordinatorContract
from tests.coordinators.lmdb.support import make


class TestContract(CoordinatorContract):
    @pytest.fixture(params=list(Compression))
    async def coordinator(
        self, clock: FakeClock, path: Path, request: pytest.FixtureRequest
    ) -> AsyncIterator[Coordinator]:
        coordinator = make(path, clock, Settings(compression=request.param))
        await coordinator.open()
        yield coordinator
        await coordinator.aclose()


class TestContractInRealTime(CoordinatorContract):
    """Expiry and leases by the machine's own clocks, as in production."""

    tick_s: ClassVar[float] = 0.4

    @pytest.fixture
    def clock(self) -> SystemClock:
        return SystemClock()

    @pytest.fixture
    async def coordinator(self, clock: FakeClock, path: Path) -> AsyncIterator[Coordinator]:
        coordinator = make(path, clock)
        await coordinator.open()
        yield coordinator
        await coordinator.aclose()

    async def let_time_pass(self, clock: FakeClock, seconds: float) -> None:
        await asyncio.sleep(seconds)
