"""A ring of simulated nodes, as the processes of a fleet see it."""

import random
from collections.abc import AsyncIterator, Sequence

import pytest

from routecache_middleware.coordinators.ring.coordinator import RingCoordinator
from routecache_middleware.coordinators.ring.members import Member
from routecache_middleware.core.cluster import NodeState
from routecache_middleware.core.invalidation import InvalidationRow, LoggedRow, model_scope
from routecache_middleware.core.ports import Clock
from routecache_middleware.testing.clock import FakeClock
from tests.coordinators.ring.simulated import Network, Server, SimulatedNode


def row(model: str) -> InvalidationRow:
    return InvalidationRow(model_scope(model))


class WrongClock:
    """A clock whose wall side is wrong by ``skew_s``."""

    def __init__(self, right: Clock, skew_s: float) -> None:
        self._right = right
        self._skew_s = skew_s

    def now_s(self) -> float:
        return self._right.now_s() + self._skew_s

    def monotonic_s(self) -> float:
        return self._right.monotonic_s()


class Fleet:
    """Servers, a network, and processes that share them. Closed with the test."""

    def __init__(self, clock: Clock, servers: int) -> None:
        self.clock = clock
        self.network = Network()
        self.servers = [Server(f"n{number}", clock) for number in range(servers)]
        self._rings: list[RingCoordinator] = []

    def server(self, name: str) -> Server:
        return next(server for server in self.servers if server.name == name)

    def process(
        self, name: str, *, timeout_s: float = 0.05, skew_s: float = 0.0
    ) -> RingCoordinator:
        """A process that knows all servers, and whose clock is wrong by ``skew_s``; not opened."""

        def connect(address: str) -> SimulatedNode:
            return SimulatedNode(self.server(address), self.network, name)

        ring = RingCoordinator(
            [(connect(server.name), 1.0) for server in self.servers],
            connect=connect,
            clock=WrongClock(self.clock, skew_s),
            timeout_s=timeout_s,
            rng=random.Random(name),
            process=name,
        )
        self._rings.append(ring)
        return ring

    async def quiet(
        self, name: str, *, timeout_s: float = 0.05, skew_s: float = 0.0
    ) -> RingCoordinator:
        """An open process that does nothing in the background: a test decides when it reads."""
        ring = self.process(name, timeout_s=timeout_s, skew_s=skew_s)
        await ring.open()
        await ring._keeper.stop()
        return ring

    def logs(self) -> list[Sequence[LoggedRow]]:
        return [server.log for server in self.servers]

    async def aclose(self) -> None:
        for ring in self._rings:
            await ring.aclose()


def member(ring: RingCoordinator, name: str) -> Member:
    found = ring._members.get(name)
    assert found is not None
    return found


def states(ring: RingCoordinator) -> list[NodeState]:
    return [one.health.state for one in ring._members]


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
async def fleet(clock: FakeClock) -> AsyncIterator[Fleet]:
    fleet = Fleet(clock, 3)
    yield fleet
    await fleet.aclose()
