"""Of the fastest hits one in 64 is counted by key, for 64; all others are. Misses say why."""

from routecache_middleware import RouteCache, RouteCacheMiddleware, Settings
from routecache_middleware.core import metrics
from routecache_middleware.core.keys import CacheKey
from tests.support.apps import ScriptedApp
from tests.support.asgi import fetch, settle
from tests.support.chat import ask


def new_cache(**settings: object) -> RouteCache:
    return RouteCache(url="memory://", settings=Settings(**settings), observers=[])  # type: ignore[arg-type]


async def counts_of(cache: RouteCache, hits: int) -> list[tuple[CacheKey, int]]:
    mw = RouteCacheMiddleware(ScriptedApp(), cache=cache)
    await fetch(mw)
    await settle()
    for _ in range(hits):
        assert (await fetch(mw)).outcome == "HIT"
    return cache.engine.recorder.popular.top()


async def test_of_fast_hits_one_in_64_counts_for_64() -> None:
    ((key, times),) = await counts_of(new_cache(), 128)
    assert key.startswith("result:")
    assert times == 128


async def test_a_hit_on_the_long_way_counts_for_itself() -> None:
    ((_, times),) = await counts_of(new_cache(server_timing=True), 3)
    assert times == 3


async def test_why_nothing_was_found_is_counted() -> None:
    cache = new_cache()
    mw = RouteCacheMiddleware(ScriptedApp(), cache=cache)
    await fetch(mw)
    await settle()
    await cache.invalidate_all()
    await fetch(mw)
    await settle()
    await fetch(mw, headers=[(b"authorization", b"Bearer key-1"), (b"cache-control", b"no-cache")])
    await fetch(mw, ask("another"))
    snapshot = cache.metrics()
    found = {one.labels: one.value for one in snapshot.of(metrics.MISSES)}
    assert found == {
        ("result", "absent"): 2,
        ("result", "invalidated"): 1,
        ("result", "request"): 1,
    }
    assert sum(found.values()) == snapshot.value(metrics.LOOKUPS, "result", "miss")
