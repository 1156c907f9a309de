"""Servers that die, hang or fail over, and clients that leave, with real processes."""

import asyncio
import random
import time
from contextlib import AsyncExitStack, suppress

import pytest

from routecache_middleware.coordinators.redis.coordinator import RedisCoordinator
from routecache_middleware.coordinators.redis.keys import Keys
from routecache_middleware.core.cluster import NodeState
from routecache_middleware.core.keys import CacheKey, result_key
from routecache_middleware.core.models import START
from routecache_middleware.errors import CoordinatorError
from tests.coordinators.redis.support import KEY, entry, eventually, opened, row
from tests.coordinators.redis.test_rewind import Process, markers
from tests.support.fixtures import StartProxy, StartValkey
from tests.support.valkey import Sentinels, ValkeyCluster, ValkeyServer


async def recovered(coordinator: RedisCoordinator, key: CacheKey = KEY) -> float:
    """Wait until everything works again, and say how long that took, seconds."""
    started_s = time.monotonic()
    async with asyncio.timeout(30):
        while True:
            with suppress(CoordinatorError):
                await coordinator.append((row("x"),))
                assert await coordinator.store(key, entry())
                assert (await coordinator.fetch((key,), START)).entries[0] is not None
                if coordinator.proof_age_s < 1.0:
                    return time.monotonic() - started_s
            await asyncio.sleep(0.05)


async def test_a_killed_server_costs_errors_until_it_is_back(start_valkey: StartValkey) -> None:
    server = start_valkey()
    async with opened(server.url) as coordinator:
        process = Process(coordinator)
        await process.store()
        server.kill()
        with pytest.raises(CoordinatorError):
            await coordinator.fetch((KEY,), process.table.position)
        server.restart()
        await recovered(coordinator)
        await process.store()
        assert await process.serves()


async def test_a_paused_server_makes_the_proof_old_and_resumes(start_valkey: StartValkey) -> None:
    server = start_valkey()
    async with opened(f"{server.url}?timeout_ms=200") as coordinator:
        server.pause()
        await asyncio.sleep(1.2)
        assert coordinator.proof_age_s >= 1.0
        with pytest.raises(CoordinatorError, match="no answer in time"):
            await coordinator.fetch((KEY,), START)
        server.resume()
        await recovered(coordinator)


@pytest.mark.parametrize("fault", ["reset", "refuse", "hang", "half_open"])
async def test_a_broken_network_recovers_by_itself(
    valkey_url: str, valkey: ValkeyServer, fault_proxy: StartProxy, fault: str
) -> None:
    proxy = fault_proxy(valkey.port)
    async with opened(f"{proxy.url}?timeout_ms=200") as coordinator:
        proxy.mode(fault)  # type: ignore[arg-type]
        with pytest.raises(CoordinatorError):
            await coordinator.fetch((KEY,), START)
        proxy.mode("pass")
        await recovered(coordinator)


async def test_an_invalidation_whose_answer_was_lost_may_be_repeated(
    valkey_url: str, valkey: ValkeyServer, fault_proxy: StartProxy
) -> None:
    proxy = fault_proxy(valkey.port)
    async with opened(f"{proxy.url}?timeout_ms=200") as coordinator:
        process = Process(coordinator)
        await process.store()
        proxy.mode("hang", direction="down")
        with pytest.raises(CoordinatorError):
            await coordinator.append((row("m"),))
        proxy.mode("pass")
        await recovered(coordinator, result_key("y", "m"))
        await coordinator.append((row("m"),))
        assert not await process.serves()


async def cancel_at_random(coordinator: RedisCoordinator, count: int) -> tuple[int, int]:
    """Fetch keys whose bodies are unique and cancel most fetches; returns wrong and right."""
    keys = [result_key(f"{number:032x}", "m") for number in range(50)]
    for number, key in enumerate(keys):
        await coordinator.store(key, entry(b"%d" % number))
    dice = random.Random(7)
    wrong = right = 0

    async def look(number: int) -> None:
        nonlocal wrong, right
        fetched = await coordinator.fetch((keys[number],), START)
        found = fetched.entries[0]
        if found is None or found.body != b"%d" % number:
            wrong += 1
        else:
            right += 1

    for _ in range(count // 20):
        tasks = [asyncio.create_task(look(dice.randrange(50))) for _ in range(20)]
        for task in tasks:
            await asyncio.sleep(dice.random() * 0.0004)
            if dice.random() < 0.7:
                task.cancel()
        await asyncio.wait(tasks)
        for task in tasks:
            if not task.cancelled():
                task.exception()
    return wrong, right


async def test_cancelled_lookups_never_leave_an_answer_for_somebody_else(
    valkey_url: str, valkey: ValkeyServer, fault_proxy: StartProxy
) -> None:
    """Through a network that takes its time, so that most are cancelled while under way."""
    proxy = fault_proxy(valkey.port)
    async with opened(f"{proxy.url}?timeout_ms=5000&max_connections=8") as coordinator:
        proxy.mode("delay", seconds=0.001)
        wrong, right = await cancel_at_random(coordinator, 1_000)
        proxy.mode("pass")
        assert wrong == 0
        assert right > 50


@pytest.mark.slow
async def test_ten_thousand_cancellations_and_no_wrong_answer(
    valkey_url: str, valkey: ValkeyServer, fault_proxy: StartProxy
) -> None:
    proxy = fault_proxy(valkey.port)
    async with opened(f"{proxy.url}?timeout_ms=5000&max_connections=8") as coordinator:
        proxy.mode("delay", seconds=0.001)
        wrong, right = await cancel_at_random(coordinator, 10_000)
        assert wrong == 0
        assert right > 500


async def test_cancelled_lookups_in_a_cluster_never_mix_answers(cluster_url: str) -> None:
    async with opened(cluster_url) as coordinator:
        wrong, right = await cancel_at_random(coordinator, 600)
        assert wrong == 0
        assert right > 30


async def test_sentinels_lead_to_the_new_primary(sentinel_url: str, sentinels: Sentinels) -> None:
    async with opened(sentinel_url) as coordinator:
        process = Process(coordinator)
        await process.store()
        old = sentinels.master()
        old.kill()
        assert await recovered(coordinator) < 15
        assert sentinels.master().port != old.port
        await process.store()
        await coordinator.append((row("m"),))
        assert not await process.serves()


async def test_a_failover_that_lost_rows_is_cold_and_marks_once(
    sentinel_url: str, sentinels: Sentinels
) -> None:
    """The replica had not got the latest invalidation when it became the primary."""
    async with AsyncExitStack() as stack:
        one, two = [
            Process(await stack.enter_async_context(opened(sentinel_url))) for _ in range(2)
        ]
        await one.store()
        assert await two.serves()
        replica, old = sentinels.replicas()[0], sentinels.master()
        old.command("WAIT", 1, 1_000)
        replica.pause()
        old.command("CLIENT", "KILL", "TYPE", "replica")  # what is sent to it already is not lost
        await one.coordinator.append((row("m"),))
        old.kill()
        replica.resume()
        await recovered(one.coordinator, result_key("y", "m"))
        await asyncio.sleep(1.0)
        assert not await one.serves()
        assert not await two.serves()
        assert markers(sentinels.master()) == 2


async def test_a_cluster_goes_on_when_the_primary_of_the_log_dies(
    cluster_url: str, valkey_cluster: ValkeyCluster
) -> None:
    log = Keys().log
    async with opened(cluster_url) as coordinator:
        process = Process(coordinator)
        keys = [result_key(f"{number:032x}", "m") for number in range(60)]
        away = [key for key in keys if not _is_beside_log(valkey_cluster, key)]
        for server in valkey_cluster.masters():
            server.command("WAIT", 1, 1_000)
        victim = valkey_cluster.node_of(log)
        victim.kill()
        served = 0
        for key in away[:10]:  # other shards answer, as long as the log is proven
            with suppress(CoordinatorError):
                served += (await coordinator.fetch((key,), START)).entries is not None
        assert await recovered(coordinator) < 25
        await process.store()
        await coordinator.append((row("m"),))
        assert not await process.serves()
        nodes = {node.name: node for node in (await coordinator.cluster_stats()).nodes}
        assert nodes[f"127.0.0.1:{victim.port}"].state is NodeState.DOWN
        assert sum(node.state is NodeState.UP for node in nodes.values()) >= 3


def _is_beside_log(cluster: ValkeyCluster, key: CacheKey) -> bool:
    return cluster.node_of(Keys().entry(key)).port == cluster.node_of(Keys().log).port


async def test_a_new_event_loop_makes_its_own_connections(valkey_url: str) -> None:
    """As in a forked child, or under a test client that starts loops."""
    async with opened(valkey_url) as coordinator:
        await coordinator.store(KEY, entry())

        async def elsewhere() -> bool:
            await coordinator.open()
            try:
                return (await coordinator.fetch((KEY,), START)).entries[0] is not None
            finally:
                await coordinator.aclose()

        assert await asyncio.to_thread(lambda: asyncio.run(elsewhere()))
        assert (await coordinator.fetch((KEY,), START)).entries[0] is not None
        await eventually(lambda: coordinator.proof_age_s < 1.0)
