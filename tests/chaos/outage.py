"""What clients notice when the coordinator fails under load.

A gateway in a process of its own is asked ``RATE`` times a second, mostly for the same prompts,
before, during and after a fault, at fixed times whether or not earlier answers have come.
"""

import asyncio
import json
import os
import random
import re
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from statistics import quantiles
from typing import Self

import httpx

from tests.support.valkey import free_ports

__all__ = ["Gateway", "Phase", "run_outage"]

RATE = 200
_APP_S = 0.02
_HOT = 40


class Gateway:
    """The chaos gateway over a coordinator, in its own process."""

    def __init__(self, url: str, log: Path, **environment: str) -> None:
        self.port = free_ports(1)[0]
        self._log = log
        self._output = log.open("wb")
        self._process = subprocess.Popen(
            [
                *(sys.executable, "-m", "uvicorn", "tests.chaos.gateway:app"),
                *("--port", str(self.port), "--no-access-log", "--log-level", "info"),
            ],
            env={**os.environ, "ROUTECACHE_URL": url, "CHAOS_APP_S": str(_APP_S), **environment},
            stdout=self._output,
            stderr=subprocess.STDOUT,
        )

    @property
    def pid(self) -> int:
        """Its process."""
        return self._process.pid

    async def ready(self) -> None:
        """Wait until it answers."""
        async with httpx.AsyncClient() as client, asyncio.timeout(20):
            while True:
                try:
                    await client.get(f"http://127.0.0.1:{self.port}/calls")
                except httpx.TransportError:
                    await asyncio.sleep(0.05)
                else:
                    return

    def complaints(self) -> list[str]:
        """Lines of its log that are not the server's own chatter."""
        lines = self._log.read_text("utf-8", "replace").splitlines()
        return [line for line in lines if line and not re.match(r"INFO:? ", line)]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._output.close()


@dataclass
class Phase:
    """What clients got during a part of the run; times in milliseconds.

    Attributes:
        added_ms: Per request, what it took beyond the app's own time (if the app was asked).
    """

    requests: int = 0
    failures: list[str] = field(default_factory=list)
    outcomes: dict[str, int] = field(default_factory=dict)
    added_ms: list[float] = field(default_factory=list)

    def percentile_ms(self, percent: int) -> float:
        """A percentile of the added time."""
        return quantiles(self.added_ms, n=100)[percent - 1]

    def summary(self) -> str:
        """One line."""
        return (
            f"{self.requests} requests, {len(self.failures)} failed, added p50 "
            f"{self.percentile_ms(50):.1f} ms, p99 {self.percentile_ms(99):.1f} ms, {self.outcomes}"
        )


async def run_outage(
    gateways: list[Gateway], phases: list[tuple[str, float, Callable[[], object] | None]]
) -> dict[str, Phase]:
    """Ask the gateways through named phases of so many seconds, each begun by an action, if any."""
    seen: dict[str, Phase] = {}
    chance, number = random.Random(3), 0
    limits = httpx.Limits(max_connections=400, max_keepalive_connections=400)
    async with httpx.AsyncClient(timeout=10, limits=limits) as client, asyncio.TaskGroup() as group:
        for name, seconds, action in phases:
            if action is not None:
                await asyncio.to_thread(action)
            phase = seen.setdefault(name, Phase())
            began_s = time.monotonic()
            for tick in range(int(seconds * RATE)):
                await asyncio.sleep(max(0.0, began_s + tick / RATE - time.monotonic()))
                number += 1
                hot = chance.random() < 0.7
                prompt = f"hot {chance.randrange(_HOT)}" if hot else f"cold {number}"
                gateway = gateways[number % len(gateways)]
                group.create_task(_ask(client, gateway, prompt, phase))
    return seen


async def _ask(client: httpx.AsyncClient, gateway: Gateway, prompt: str, phase: Phase) -> None:
    body = {"model": "m", "messages": [{"role": "user", "content": prompt}], "temperature": 0}
    began_s = time.monotonic()
    phase.requests += 1
    try:
        response = await client.post(
            f"http://127.0.0.1:{gateway.port}/v1/chat/completions",
            content=json.dumps(body),
            headers={"authorization": "Bearer k", "content-type": "application/json"},
        )
        said = response.json()["choices"][0]["message"]["content"]
    except (httpx.HTTPError, ValueError, KeyError) as error:
        phase.failures.append(repr(error))
        return
    elapsed_ms = (time.monotonic() - began_s) * 1000
    if response.status_code != 200 or said != prompt:
        phase.failures.append(f"{response.status_code} {said!r} for {prompt!r}")
    outcome = response.headers.get("x-routecache", "none")
    phase.outcomes[outcome] = phase.outcomes.get(outcome, 0) + 1
    phase.added_ms.append(elapsed_ms - (0 if outcome in {"HIT", "COALESCED"} else _APP_S * 1000))
