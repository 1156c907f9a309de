"""What all parts of the contract need."""

import asyncio
from collections.abc import Callable
from typing import ClassVar

import pytest

from routecache_middleware.core.invalidation import (
    ALL,
    InvalidationRow,
    LoggedRow,
    model_scope,
)
from routecache_middleware.core.keys import CacheKey, Layer, result_key
from routecache_middleware.core.models import START, Entry
from routecache_middleware.core.ports import (
    Coordinator,
    CoordinatorEvent,
    Fetched,
)
from routecache_middleware.testing.clock import FakeClock

KEY = result_key("0123456789abcdef0123456789abcdef", "gpt-4o", "acme")

ODD_PARTS = [
    "",
    " ",
    ":",
    "@",
    "a:b@c/d",
    "%3A",
    "Ü",
    "\u202e",
    "\x00\n",
    "\ud800",
    "🦜",
    "x" * 500,
]


def row(model_id: str) -> InvalidationRow:
    return InvalidationRow(model_scope(model_id))


def logged(fetched: Fetched) -> list[LoggedRow]:
    """Rows of the log, without the one for ``all`` that it may begin with."""
    rows = list(fetched.rows)
    return rows[1:] if rows and rows[0].row == InvalidationRow(ALL) else rows


class ContractBase:
    """The fixtures that a backend overrides, and entries to store."""

    tick_s: ClassVar[float] = 10.0

    @pytest.fixture
    def clock(self) -> FakeClock:
        return FakeClock()

    @pytest.fixture
    def coordinator(self, clock: FakeClock) -> Coordinator:
        raise NotImplementedError

    async def let_time_pass(self, clock: FakeClock, seconds: float) -> None:
        clock.advance(seconds)

    def entry(self, clock: FakeClock, body: bytes = b"{}", *, ticks: float = 10.0) -> Entry:
        return Entry(
            layer=Layer.RESULT,
            body=body,
            created_s=clock.now_s(),
            freshness_lifetime_s=ticks * self.tick_s,
        )

    async def read(self, coordinator: Coordinator, key: CacheKey = KEY) -> Entry | None:
        return (await coordinator.fetch((key,), START)).entries[0]


class Listener:
    """Collects events in a task of its own."""

    def __init__(self, coordinator: Coordinator) -> None:
        self._events = coordinator.events()
        self._seen: list[CoordinatorEvent] = []
        self._news = asyncio.Event()

    async def start(self) -> None:
        self._task = asyncio.create_task(self._run())
        # Two turns of the loop, for a backend that has to connect before it hears anything.
        await asyncio.sleep(0)
        await asyncio.sleep(0)

    async def _run(self) -> None:
        async for event in self._events:
            self._seen.append(event)
            self._news.set()

    async def until(
        self, is_enough: Callable[[list[CoordinatorEvent]], bool]
    ) -> list[CoordinatorEvent]:
        async with asyncio.timeout(5):
            while not is_enough(self._seen):
                self._news.clear()
                await self._news.wait()
        return self._seen

    async def ended(self) -> None:
        async with asyncio.timeout(5):
            await self._task
