"""What the tests of this folder share."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from routecache_middleware.coordinators.redis.coordinator import RedisCoordinator
from routecache_middleware.coordinators.redis.factory import create_bare
from routecache_middleware.coordinators.url import CoordinatorUrl
from routecache_middleware.core.invalidation import InvalidationRow, model_scope
from routecache_middleware.core.keys import Layer, result_key
from routecache_middleware.core.models import START, Entry, Position
from routecache_middleware.core.ports import Clock
from routecache_middleware.core.settings import Settings
from routecache_middleware.engine.clock import SystemClock

__all__ = ["CLOCK", "KEY", "build", "entry", "eventually", "opened", "row"]

CLOCK = SystemClock()
KEY = result_key("0123456789abcdef0123456789abcdef", "m")


def build(url: str, *, clock: Clock = CLOCK, **settings: object) -> RedisCoordinator:
    """A coordinator without guard and near cache."""
    made = Settings.profile("production", **settings)
    return create_bare(CoordinatorUrl.parse(url), made, clock)


@asynccontextmanager
async def opened(url: str, *, clock: Clock = CLOCK) -> AsyncIterator[RedisCoordinator]:
    """An open coordinator, as one process has it."""
    coordinator = build(url, clock=clock)
    await coordinator.open()
    try:
        yield coordinator
    finally:
        await coordinator.aclose()


def entry(body: bytes = b"{}", *, position: Position = START, ttl_s: float = 60.0) -> Entry:
    return Entry(
        layer=Layer.RESULT,
        body=body,
        created_s=time.time(),
        freshness_lifetime_s=ttl_s,
        position=position,
        scopes=(model_scope("m"),),
    )


def row(model_id: str = "m") -> InvalidationRow:
    return InvalidationRow(model_scope(model_id))


async def eventually(holds: Callable[[], bool], *, timeout_s: float = 10.0) -> None:
    """Wait until something holds."""
    async with asyncio.timeout(timeout_s):
        while not holds():  # noqa: ASYNC110 - there is nobody to set an event
            await asyncio.sleep(0.01)
