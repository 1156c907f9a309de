"""Starts what the tour of the fleet needs - a model, a cluster, three gateways - and takes it."""

import asyncio
import os
import sys
import tempfile
import time
from pathlib import Path

import httpx
import redis
from rich.console import Console

from examples.fleet.tour import tour
from examples.fleet.valkey import MASTERS, ValkeyCluster
from examples.quickstart_children import RUNNING_ON, ChildError, Children, report_failure
from examples.quickstart_start import ROOT, START_TIMEOUT_S, upstream_environment

GATEWAYS = 3


def run(*, is_terminal: bool) -> int:
    """Start everything, take the tour, end everything; returns the exit status."""
    return report_failure(_run, is_terminal=is_terminal)


def _run(console: Console) -> int:
    with (
        tempfile.TemporaryDirectory(prefix="routecache-") as folder,
        Children(Path(folder), ROOT) as children,
    ):
        environment = upstream_environment(children, console)
        cluster = ValkeyCluster(children, Path(folder))
        try:
            _start_cluster(cluster, console)
            urls = _start_gateways(children, {**environment, **_settings(cluster.url)})
            console.print(f"Gateways ready: {' '.join(urls)}", highlight=False)
            return asyncio.run(tour(urls, cluster, console))
        except (httpx.HTTPError, redis.RedisError) as error:
            children.check()
            raise ChildError(f"a call failed: {error}\n{children.logs()}") from error
        finally:
            cluster.close()


def _start_cluster(cluster: ValkeyCluster, console: Console) -> None:
    began_s = time.monotonic()
    with console.status(f"Starting a Valkey cluster of {MASTERS} masters and their replicas ..."):
        cluster.start()
    took_s = time.monotonic() - began_s
    console.print(f"Valkey cluster ready after {took_s:.1f} s: {cluster.url}", highlight=False)


def _settings(url: str) -> dict[str, str]:
    # Model, gateways, cluster and clients share one machine here, and the model takes all of it.
    # Where they have machines of their own, 50 ms are enough for a cluster to answer.
    return {"ROUTECACHE_URL": url, "ROUTECACHE_COORDINATOR_TIMEOUT_S": "0.5"}


def _start_gateways(children: Children, environment: dict[str, str]) -> list[str]:
    names = [f"gateway {number}" for number in range(1, GATEWAYS + 1)]
    command = [sys.executable, "-u", "-m", "uvicorn", "examples.gateway:app"]
    for name in names:
        children.spawn(
            name,
            [*command, "--port", "0", "--no-use-colors", "--no-access-log"],
            environment={**environment, "SPANS_FILE": os.devnull},
        )
    return [children.wait_for(name, RUNNING_ON, timeout_s=START_TIMEOUT_S)[1] for name in names]
