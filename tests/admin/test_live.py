"""The history and its live stream over HTTP, and how what is stored is spread."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from routecache_middleware import RouteCache
from routecache_middleware.admin import keeper as keeping
from routecache_middleware.admin import live
from routecache_middleware.core.keys import result_key
from routecache_middleware.testing.clock import FakeClock
from tests.admin.kit import HASH, TOKEN, Admin, quiet_cache
from tests.support.asgi import Client, scope_of
from tests.support.faulty import FaultyCoordinator

AUTH = (b"authorization", b"Bearer " + TOKEN.encode())


@pytest.fixture
async def admin(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Admin]:
    monkeypatch.setattr(keeping, "_TICK_S", 0.01)
    async with quiet_cache() as cache:
        yield Admin(cache)


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


def events(body: bytes) -> list[Any]:
    return [json.loads(part.removeprefix(b"data: ")) for part in body.split(b"\n\n") if part]


async def test_a_stream_brings_frames_and_ends_by_itself(
    admin: Admin, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live, "_LASTS", 3)
    answer = await admin.get("/live?window=1h")
    assert answer.get("content-type") == "text/event-stream; charset=utf-8"
    assert answer.get("cache-control") == "no-store"
    frames = events(answer.body)
    assert len(frames) == 3
    assert {one["window"] for one in frames} == {"1h"}
    assert frames[0]["at_s"] < frames[2]["at_s"]
    assert frames[0]["coordinator"] == "memory"


async def test_points_come_once_but_for_the_one_that_is_not_over(
    admin: Admin, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live, "_LASTS", 12)
    answer = await admin.get("/live?window=5m")
    times = [[point["t"] for point in one["points"]] for one in events(answer.body)]
    seen = [at for one in times for at in one]
    assert all(len(one) <= 2 for one in times)
    assert seen == sorted(seen)


async def test_streams_are_few_and_one_that_is_left_makes_room(
    admin: Admin, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live, "_MOST", 1)
    scope = scope_of(path="/live", method="GET", headers=[AUTH])
    client = Client(admin.app, b"", scope=scope).start()
    await asyncio.sleep(0.05)
    assert (await admin.get("/live")).status == 503
    client.disconnect()
    await client.end()
    monkeypatch.setattr(live, "_LASTS", 1)
    assert (await admin.get("/live")).status == 200


async def test_streams_end_when_the_server_stops(admin: Admin) -> None:
    scope = scope_of(path="/live", method="GET", headers=[AUTH])
    client = Client(admin.app, b"", scope=scope).start()
    await asyncio.sleep(0.05)
    admin.app.stop()
    assert events((await client.end()).body)


async def test_many_points_are_made_a_few_at_a_time(clock: FakeClock) -> None:
    async with RouteCache(url="memory://", observers=[], clock=clock) as cache:
        keeper = keeping.Keeper(cache, is_kept=True)
        for _ in range(100):
            await cache.get_query_result(HASH, "gpt")
            await keeper.sample()
            clock.advance(1.0)
        made = await live.Live(cache, keeper).frame("5m")
        assert len(made.points) == 99


async def test_the_history_can_be_asked_for_at_once(admin: Admin) -> None:
    await admin.told("/stats")
    await asyncio.sleep(0.05)
    told = await admin.told("/history?window=24h&since=1")
    assert (told["window"], told["step_s"]) == ("24h", 240)
    assert told["cards"]["is_up"] is True
    assert (await admin.refusal("/history?window=7d"))[0] == 400


async def test_what_is_stored_is_shown_by_tenant_model_size_age_and_use(admin: Admin) -> None:
    cache = admin.cache
    for number, tenant in enumerate(("canary-a", "canary-a", "canary-b")):
        body = b"x" * (1000 * (number + 1))
        await cache.cache_query_result(f"{number:032x}", "gpt", body, 1.0, tenant=tenant)
    popular = cache.engine.recorder.popular
    popular.seen(result_key(f"{0:032x}", "gpt", "canary-a"), 90)
    popular.seen(result_key(f"{1:032x}", "gpt", "canary-a"), 9)
    popular.seen(result_key(HASH, "gone"), 1)
    answer = await admin.get("/distribution")
    told = json.loads(answer.body)
    assert b"canary" not in answer.body
    assert (told["looked_at"], told["total"], told["trouble"]) == (3, 3, "")
    assert [(one["entries"], one["bytes"]) for one in told["shares"]] == [(2, 3000), (1, 3000)]
    assert told["size_bytes"]["counts"] == [0, 1, 2, 0, 0, 0, 0, 0]
    assert told["age_s"]["counts"][0] == 3
    assert told["ttl_s"]["counts"][4] == 3
    assert [(row["served"], row["size_bytes"]) for row in told["top"]] == [(90, 1000), (9, 2000)]
    assert told["concentration"] == [[1, 0.9], [2, 0.99], [3, 1.0]]
    assert (told["served"], told["keys"]) == (100, 3)
    shown = await admin.told(f"/entries/{told['top'][0]['id']}")
    assert shown["size_bytes"] == 1000


async def test_of_nothing_there_is_no_spread(admin: Admin) -> None:
    told = await admin.told("/distribution")
    assert told["concentration"] == told["shares"] == told["top"] == []


async def test_what_is_served_most_is_left_out_while_it_cannot_be_read(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("routecache_middleware.admin.listing._PATIENCE_S", 0.02)
    clock = FakeClock()
    coordinator = FaultyCoordinator(clock)
    async with RouteCache(coordinator=coordinator, observers=[], clock=clock) as cache:
        admin = Admin(cache)
        cache.engine.recorder.popular.seen(result_key(HASH, "gpt"))
        coordinator.hang("fetch")
        monkeypatch.setattr(cache, "total_metrics", None)
        told = await admin.told("/distribution")
        assert told["top"] == []
        coordinator.heal()
