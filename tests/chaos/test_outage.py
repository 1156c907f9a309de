"""The coordinator fails under load: no request does, and none waits long."""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.chaos.outage import Gateway, Phase, run_outage
from tests.support.fixtures import StartProxy
from tests.support.valkey import Sentinels, ValkeyCluster, ValkeyServer

DEADLINE_MS = 50
SLACK_MS = 40  # this machine's own jitter, at 200 requests a second on two shared cores

StartGateways = Callable[[str, int], list[Gateway]]


@pytest.fixture
def gateways(tmp_path: Path) -> Iterator[StartGateways]:
    with ExitStack() as stack:

        def start(url: str, count: int) -> list[Gateway]:
            logs = [tmp_path / f"gateway-{number}.log" for number in range(count)]
            return [stack.enter_context(Gateway(url, log)) for log in logs]

        yield start


async def check(
    running: list[Gateway], begin: Callable[[], object], end: Callable[[], object], outage_s: float
) -> dict[str, Phase]:
    """Load the gateways before, during and after an outage, and report what clients saw."""
    for gateway in running:
        await gateway.ready()
    said: list[int] = []

    def begin_and_count() -> None:
        said.extend(len(gateway.complaints()) for gateway in running)
        begin()

    seen = await run_outage(
        running,
        [
            ("warm up", 4.0, None),
            ("before", 4.0, None),
            ("first second", 1.0, begin_and_count),
            ("outage", outage_s, None),
            ("recovery", 3.0, end),
            ("after", 4.0, None),
        ],
    )
    for name, phase in seen.items():
        print(f"{name:<14}{phase.summary()}")  # noqa: T201 - the figures of the run: pytest -s
        assert not phase.failures, (name, phase.failures[:5])
    await asyncio.sleep(1.5)  # the line about the recovery comes when it has lasted a second
    for gateway, before in zip(running, said, strict=True):
        lines = gateway.complaints()
        print(*lines, sep="\n")  # noqa: T201 - as above
        assert len(lines) - before <= 2, lines  # what a cold start had to say aside
    assert seen["after"].outcomes["HIT"] > 0.5 * seen["after"].requests
    assert seen["first second"].percentile_ms(99) < DEADLINE_MS + SLACK_MS
    assert seen["outage"].percentile_ms(99) < seen["before"].percentile_ms(99) + SLACK_MS
    return seen


@pytest.mark.slow
async def test_a_killed_server(
    gateways: StartGateways, valkey_url: str, valkey: ValkeyServer
) -> None:
    await check(gateways(valkey_url, 2), valkey.kill, valkey.restart, 8.0)


@pytest.mark.slow
async def test_a_server_that_hangs(
    gateways: StartGateways, valkey_url: str, valkey: ValkeyServer
) -> None:
    await check(gateways(valkey_url, 2), valkey.pause, valkey.resume, 8.0)


@pytest.mark.slow
async def test_a_network_that_swallows_everything(
    gateways: StartGateways, valkey_url: str, valkey: ValkeyServer, fault_proxy: StartProxy
) -> None:
    proxy = fault_proxy(valkey.port)
    url = f"{proxy.url}?prefix={valkey_url.rpartition(':')[2][:4]}"
    await check(gateways(url, 2), lambda: proxy.mode("half_open"), lambda: proxy.mode("pass"), 8.0)


@pytest.mark.slow
async def test_a_cluster_that_fails_over(
    gateways: StartGateways, cluster_url: str, valkey_cluster: ValkeyCluster
) -> None:
    victim = valkey_cluster.masters()[0]
    await check(gateways(cluster_url, 2), victim.kill, valkey_cluster.heal, 8.0)


@pytest.mark.slow
async def test_sentinels_that_fail_over(
    gateways: StartGateways, sentinel_url: str, sentinels: Sentinels
) -> None:
    victim = sentinels.master()
    await check(gateways(sentinel_url, 2), victim.kill, sentinels.heal, 8.0)
