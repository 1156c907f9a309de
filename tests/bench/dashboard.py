"""What the dashboard costs with a million entries: ``python -m tests.bench.dashboard [ENTRIES]``.

Prints, for a store in memory that holds so many answers, how long each thing takes of which the
dashboard is made: a snapshot each second, a frame for each viewer, and what it asks for every ten
seconds. Medians and the worst of 50, milliseconds of wall clock.
"""

import asyncio
import gc
import statistics
import sys
import time
from collections.abc import Awaitable, Callable
from functools import partial

import msgspec

from routecache_middleware import RouteCache, Settings
from routecache_middleware.admin.distribution import distribution
from routecache_middleware.admin.keeper import Keeper
from routecache_middleware.admin.listing import Listing
from routecache_middleware.admin.live import Live
from routecache_middleware.core.history import RINGS
from routecache_middleware.core.keys import Layer, result_key
from routecache_middleware.core.models import Entry

RUNS = 50
MODELS = [f"model-{number}" for number in range(20)]


async def fill(cache: RouteCache, entries: int) -> None:
    """Store so many answers, and let a day of traffic have been counted."""
    now_s, store = time.time(), cache.engine.coordinator.store
    for number in range(entries):
        model = MODELS[number % 20]
        key = result_key(f"{number:032x}", model, f"tenant-{number % 50}")
        await store(key, Entry(Layer.RESULT, b"x" * 64, now_s, 3600.0, model_id=model))


def keep(cache: RouteCache, keeper: Keeper) -> None:
    """Fill every ring of the history with what 20 models make."""
    recorder, now_s = cache.engine.recorder, time.time()
    for second in range(RINGS["24h"][1]):
        for model in MODELS:
            recorder.models.tally(model, "chat").hits += 3
            recorder.models.tally(model, "chat").misses += 2
        recorder.result.hits += 60
        recorder.result.misses += 40
        recorder.measures[Layer.RESULT].hit_s.record(1e-4 * (1 + second % 9))
        keeper.history.add(cache.metrics(), now_s - 60.0 * (RINGS["24h"][1] - second))
    for second in range(RINGS["5m"][1]):
        recorder.result.hits += 60
        keeper.history.add(cache.metrics(), now_s + second)


async def timed(name: str, run: Callable[[], Awaitable[object]]) -> None:
    """Print how long something takes."""
    took = []
    for _ in range(RUNS):
        began_s = time.perf_counter()
        await run()
        took.append((time.perf_counter() - began_s) * 1000)
    print(f"{name:42} {statistics.median(took):8.2f} {max(took):8.2f}")


async def main(entries: int) -> None:
    """Fill a store and time what the dashboard does with it."""
    settings = Settings(max_memory_bytes=4_000_000_000)
    async with RouteCache(url="memory://", settings=settings, observers=[]) as cache:
        await fill(cache, entries)
        held = cache.stats().result.entries
        keeper = Keeper(cache, is_kept=True)
        keep(cache, keeper)
        gc.collect()  # what filling has left behind
        live, listing = Live(cache, keeper), Listing(cache.engine)

        async def frame_of(window: str) -> object:
            return msgspec.json.encode(await live.frame(window, int(keeper.history.latest_s)))

        async def whole(window: str) -> object:
            return msgspec.json.encode(await live.frame(window))

        async def spread() -> object:
            listing._last = None  # a new sample each time, not one that is remembered
            return msgspec.json.encode(await distribution(cache.engine, listing))

        print(f"{held:,} entries; ms: median, worst of {RUNS}")
        await timed("snapshot, each second", keeper.sample)
        for window in RINGS:
            await timed(f"update of {window}, each second and viewer", partial(frame_of, window))
        for window in RINGS:
            await timed(f"all points of {window}, once", partial(whole, window))
        await timed("what is stored, every 10 s", spread)


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000))
