"""Coordinators on a file of their own, closed when the test is over."""

from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from routecache_middleware.coordinators.lmdb.coordinator import LmdbCoordinator
from routecache_middleware.engine.clock import SystemClock
from routecache_middleware.testing.clock import FakeClock
from tests.coordinators.lmdb.support import Peer, make

Opener = Callable[..., Awaitable[LmdbCoordinator]]


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "cache"


@pytest.fixture
async def opener(path: Path, clock: FakeClock) -> AsyncIterator[Opener]:
    """Opens as many coordinators as a test wants, on ``path`` unless it says otherwise."""
    opened: list[LmdbCoordinator] = []

    async def open_one(where: Path = path, **options: Any) -> LmdbCoordinator:
        coordinator = make(where, clock, **options)
        opened.append(coordinator)
        await coordinator.open()
        return coordinator

    yield open_one
    for coordinator in opened:
        await coordinator.aclose()


@pytest.fixture
async def lmdb(opener: Opener) -> LmdbCoordinator:
    return await opener()


@pytest.fixture
def system_clock() -> SystemClock:
    """For tests with several processes, which cannot share a clock that a test moves."""
    return SystemClock()


@pytest.fixture
async def real(path: Path, system_clock: SystemClock) -> AsyncIterator[LmdbCoordinator]:
    """A coordinator that lives by the machine's clock."""
    coordinator = make(path, system_clock)
    await coordinator.open()
    yield coordinator
    await coordinator.aclose()


@pytest.fixture
async def start_peer(path: Path) -> AsyncIterator[Callable[..., Awaitable[Peer]]]:
    """Starts other processes with the same file, and ends them."""
    peers: list[Peer] = []

    async def start(**options: object) -> Peer:
        peer = Peer(path, **options)
        peers.append(peer)
        assert await peer.answer() == "ready"
        return peer

    yield start
    for peer in peers:
        peer.end()
