"""The contract suite over a ring of three simulated nodes, and of one."""

from collections.abc import AsyncIterator

import pytest

from routecache_middleware.core.ports import Coordinator
from routecache_middleware.testing import CoordinatorContract
from routecache_middleware.testing.clock import FakeClock
from tests.coordinators.ring.conftest import Fleet


class TestThreeNodes(CoordinatorContract):
    @pytest.fixture
    async def coordinator(self, clock: FakeClock) -> AsyncIterator[Coordinator]:
        fleet = Fleet(clock, 3)
        ring = fleet.process("a", timeout_s=1.0)
        await ring.open()
        yield ring
        await fleet.aclose()


class TestOneNode(CoordinatorContract):
    @pytest.fixture
    async def coordinator(self, clock: FakeClock) -> AsyncIterator[Coordinator]:
        fleet = Fleet(clock, 1)
        ring = fleet.process("a", timeout_s=1.0)
        await ring.open()
        yield ring
        await fleet.aclose()
