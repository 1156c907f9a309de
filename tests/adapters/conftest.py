"""A gateway with a cache in front, on a clock that stands still; nothing may be left open."""

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import replace

import pytest

from routecache_middleware import CachePolicy, RouteCache, RouteCacheMiddleware, Settings
from routecache_middleware.adapters.asgi.types import ASGIApp
from routecache_middleware.testing.clock import FakeClock
from tests.support.apps import ScriptedApp
from tests.support.asgi import settle


class Gateway:
    """Builds middlewares on one cache."""

    def __init__(self, clock: FakeClock) -> None:
        self.clock = clock
        self.caches: list[RouteCache] = []

    def cache(self, *, policy: CachePolicy | None = None, **settings: object) -> RouteCache:
        """Build a cache; all of them are checked for leaks after the test."""
        cache = RouteCache(
            url="memory://",
            settings=replace(Settings(), **settings),  # type: ignore[arg-type]
            policy=policy or CachePolicy(),
            observers=[],
            clock=self.clock,
        )
        self.caches.append(cache)
        return cache

    def __call__(
        self,
        app: ASGIApp | None = None,
        *,
        policy: CachePolicy | None = None,
        router: object = None,
        eligible: Callable[[str], bool] | None = None,
        tenant: object = None,
        **settings: object,
    ) -> RouteCacheMiddleware:
        """Put a cache in front of ``app``."""
        return RouteCacheMiddleware(
            ScriptedApp() if app is None else app,
            cache=self.cache(policy=policy, **settings),
            router=router,  # type: ignore[arg-type]
            eligible=eligible,
            tenant=tenant,  # type: ignore[arg-type]
        )


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
async def gateway(clock: FakeClock) -> AsyncIterator[Gateway]:
    """Yields a builder; afterwards no task, flight or captured byte may be left."""
    before = asyncio.all_tasks()
    built = Gateway(clock)
    yield built
    await settle()
    left = {task for task in asyncio.all_tasks() - before if task is not asyncio.current_task()}
    if left:  # in a thread, which a busy machine may hold up
        _, left = await asyncio.wait(left, timeout=2.0)
    assert not left
    for cache in built.caches:
        assert len(cache.engine.live) == 0
        assert cache.engine.captures.used == 0
