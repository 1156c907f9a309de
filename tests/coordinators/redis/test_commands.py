"""What is sent to a server, and what is left there."""

import asyncio
from contextlib import AsyncExitStack

from routecache_middleware.coordinators.redis.keys import Keys
from routecache_middleware.coordinators.table import create
from routecache_middleware.core.keys import Layer, result_key
from routecache_middleware.core.models import START
from routecache_middleware.core.settings import Settings
from tests.coordinators.redis.support import CLOCK, KEY, entry, eventually, opened, row
from tests.support.valkey import Sentinels, ValkeyServer


def used(server: ValkeyServer) -> set[str]:
    """Commands that a server has run since it was reset."""
    lines = server.text("INFO", "commandstats").splitlines()
    return {line.partition(":")[0].removeprefix("cmdstat_") for line in lines if ":" in line}


async def test_every_key_expires_and_no_command_walks_over_keys(
    valkey: ValkeyServer, valkey_url: str
) -> None:
    valkey.command("CONFIG", "RESETSTAT")
    async with AsyncExitStack() as stack:
        one, two = [await stack.enter_async_context(opened(valkey_url)) for _ in range(2)]
        await one.acquire(KEY, token="a", ttl_s=5.0)
        await two.acquire(KEY, token="b", ttl_s=5.0)
        await one.acquire(KEY, token="c", ttl_s=5.0, form="json")
        await two.acquire(KEY, token="d", ttl_s=5.0, form="json")
        await one.store(KEY, entry(), token="a")
        await one.release(KEY, token="c", form="json", parallel_s=5.0)
        await one.store(result_key("x", "m"), entry())
        await one.append((row(),))
        await one.fetch((KEY, result_key("x", "m")), START)
        await one.delete(result_key("x", "m"))
        await one.cluster_stats()
        await one.probe(writes=True)
        await eventually(lambda: two.stats().age_s < 60)
        names = valkey.command("KEYS", "*")
        assert isinstance(names, list)
        assert len(names) >= 7
        forever = [
            name for name in names if isinstance(name, bytes) and valkey.command("PTTL", name) == -1
        ]
        assert not forever
        assert all(isinstance(name, bytes) and name.startswith(b"rc1:") for name in names)
    seen = used(valkey) - {"keys"}  # ours, just now
    assert not seen & {"scan", "sscan", "hscan", "zscan", "flushall", "flushdb", "sort", "script"}
    assert "keys" not in {name for name in seen if name.startswith("keys")}


async def test_no_lookup_or_invalidation_walks_over_keys(
    valkey: ValkeyServer, valkey_url: str
) -> None:
    async with opened(valkey_url) as coordinator:
        await asyncio.sleep(0.1)
        valkey.command("CONFIG", "RESETSTAT")
        for _ in range(3):
            await coordinator.fetch((KEY,), START)
            await coordinator.append((row(),))
        allowed = {"get", "xrange", "xread", "evalsha", "eval", "xrevrange", "xadd", "pexpire"}
        allowed |= {"time", "xtrim", "info", "config|resetstat", "client|setinfo", "hello", "ping"}
        allowed |= {"client|setname", "select", "dbsize", "randomkey", "hset", "zadd"}
        allowed |= {"zrangebyscore"}
        assert used(valkey) <= allowed


async def test_a_proven_lookup_is_one_command(valkey: ValkeyServer, valkey_url: str) -> None:
    async with opened(valkey_url) as coordinator:
        await coordinator.store(KEY, entry())
        position = (await coordinator.fetch((), START)).position
        valkey.command("CONFIG", "RESETSTAT")
        for _ in range(50):
            assert (await coordinator.fetch((KEY,), position)).entries[0] is not None
        calls = valkey.text("INFO", "commandstats")
        assert "cmdstat_get:calls=50," in calls
        lookups = [line for line in calls.splitlines() if line.startswith("cmdstat_xrange")]
        assert not lookups or int(lookups[0].partition("calls=")[2].partition(",")[0]) < 10


async def test_prefixes_keep_deployments_apart(valkey: ValkeyServer, valkey_url: str) -> None:
    async with opened(f"{valkey_url}?prefix=a:") as one, opened(f"{valkey_url}?prefix=b:") as two:
        await one.store(KEY, entry())
        await one.append((row(),))
        assert (await two.fetch((KEY,), START)).entries == [None]
        assert len((await two.fetch((), START)).rows) == 1
    assert valkey.command("EXISTS", Keys("a:").entry(KEY)) == 1


async def test_the_database_of_the_url_is_used(valkey: ValkeyServer, valkey_url: str) -> None:
    async with opened(valkey_url.removesuffix("/0") + "/5") as coordinator:
        await coordinator.store(KEY, entry())
    assert valkey.command("EXISTS", Keys().entry(KEY)) == 0


async def test_replicas_confirm_an_invalidation(sentinel_url: str, sentinels: Sentinels) -> None:
    """Waited for only where there are any; by the first invalidation of a process as well."""
    async with opened(sentinel_url) as coordinator:
        assert (await coordinator.append((row(),))).replicas_acknowledged == 1
        sentinels.replicas()[0].pause()
        try:
            started_s = CLOCK.monotonic_s()
            assert (await coordinator.append((row(),))).replicas_acknowledged == 0
            assert CLOCK.monotonic_s() - started_s < 0.4
        finally:
            sentinels.replicas()[0].resume()
        stats = await coordinator.cluster_stats()
        assert sorted(node.role for node in stats.nodes) == ["primary", "replica"]


async def test_cluster_stats_know_every_process(valkey_url: str) -> None:
    async with opened(valkey_url) as one, opened(valkey_url):
        receipt = await one.append((row(),))
        stats = await one.cluster_stats()
        assert stats.position == receipt.position
        [node] = stats.nodes
        assert node.role == "primary"
        assert node.ops > 0
        assert node.bytes > 0
        assert stats.processes[0].position <= receipt.position


async def test_the_url_makes_a_guarded_coordinator_with_a_near_cache(valkey_url: str) -> None:
    kinds = {
        "": "TieredCoordinator",
        "?near=false": "GuardedCoordinator",
        "?near_bytes=0": "GuardedCoordinator",
    }
    for options, kind in kinds.items():
        assert type(create(valkey_url + options, Settings(), CLOCK)).__name__ == kind
    bare = create(valkey_url, Settings(near=False), CLOCK)
    assert type(bare).__name__ == "GuardedCoordinator"


async def test_bytes_of_a_layer_are_estimated_from_some_of_its_entries(valkey_url: str) -> None:
    async with opened(valkey_url) as coordinator:
        for number in range(50):
            await coordinator.store(result_key(f"q{number}", "m"), entry(b"x" * 900))
        await coordinator._session().upkeep._ask()
        usage = coordinator.stats().layers[Layer.RESULT]
        assert usage.is_estimate
        # Of a few other keys some are among the samples.
        assert 20 <= usage.entries <= 60
        assert 900 < usage.bytes / usage.entries < 1_300


async def test_a_server_that_does_not_tell_sizes_tells_the_rest(
    valkey: ValkeyServer, valkey_url: str
) -> None:
    async with opened(valkey_url) as coordinator:
        await coordinator.store(KEY, entry())
        upkeep = coordinator._session().upkeep
        keys = upkeep.shares._keys
        valkey.command("DEL", keys.entry(KEY))
        valkey.command("HSET", keys.entry(KEY), "a", "b")  # STRLEN of it is an error
        valkey.command("PEXPIRE", keys.entry(KEY), "5000")
        name = keys.entry(KEY).encode()
        assert await upkeep.shares.ask_sizes(upkeep._links.entries, [name, b"other"]) == {}
        assert await upkeep.shares.ask_sizes(upkeep._links.entries, []) == {}
