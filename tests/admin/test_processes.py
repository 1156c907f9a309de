"""Several processes on one coordinator: what one does another one shows, and goes on showing."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from routecache_middleware import RouteCache
from tests.admin.kit import HASH
from tests.cli.test_admin import Served


async def until(ask: Callable[[], Any], wanted: Any, *, timeout_s: float = 20.0) -> None:
    """Ask again and again until the answer is the one wanted."""
    loop = asyncio.get_running_loop()
    end_s = loop.time() + timeout_s
    while (found := await asyncio.to_thread(ask)) != wanted:
        assert loop.time() < end_s, found
        await asyncio.sleep(0.1)


def lookups(served: Served) -> Any:
    return served.get("/stats").json()["total"]["lookups"]["result"]


def missed(served: Served) -> Any:
    points = served.get("/history").json()["points"]
    return sum(point.get("lookups", {}).get("result", {}).get("miss", 0) for point in points)


async def miss(cache: RouteCache, times: int) -> None:
    for _ in range(times):
        await cache.get_query_result(HASH, "gpt")


@pytest.fixture(params=["lmdb", "redis"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "redis":
        return str(request.getfixturevalue("valkey_url"))
    return f"lmdb://{tmp_path}/cache"


@pytest.mark.slow
async def test_what_a_gateway_does_is_shown_elsewhere_and_outlives_who_showed_it(url: str) -> None:
    """The history is kept in the coordinator when that is shared."""
    async with RouteCache.from_url(url) as cache:
        with Served("--url", url) as first:
            await until(lambda: first.get("/history").json()["at_s"] > 0, wanted=True)
            await asyncio.sleep(2.5)  # the first snapshot of all has been taken
            await miss(cache, 7)
            await until(lambda: lookups(first), {"miss": 7})
            await until(lambda: missed(first), 7)
            exposed = first.get("/metrics").text
            line = 'routecache_lookups_total{routecache_cache="result",routecache_outcome="miss"'
            assert f'{line},routecache_layer="none"}} 7' in exposed
            await asyncio.sleep(12.0)  # the history is written every ten seconds
            first.post("/invalidate", {"model": "gpt", "dry_run": False})
            await asyncio.to_thread(first.stop)
        with Served("--url", url) as second:
            await until(lambda: missed(second), 7)
            await miss(cache, 2)
            await until(lambda: missed(second), 9)
            assert lookups(second) == {"miss": 9}
            (row,) = second.get("/audit").json()["rows"]
            assert row["what"] == "everything of model gpt"
