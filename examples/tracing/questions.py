"""Asks the gateway so that each kind of outcome comes about, and says which came."""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass

import httpx
from rich import box
from rich.table import Table

from examples.litellm_proxy.report import counted
from examples.quickstart_report import TABLE_WIDTH, format_ms

HERD = 5
SHORT_TTL_S = 1


@dataclass(frozen=True, kw_only=True)
class Step:
    """What was asked, and how it came.

    Attributes:
        label: What was done.
        expected: ``X-RouteCache`` as it should be; counted when there were several requests.
        came: What it was.
        took_ms: What the slowest request took.
    """

    label: str
    expected: str
    came: str
    took_ms: float


async def ask_all(url: str, model: str) -> list[Step]:
    """Ask the gateway at ``url``; returns the steps, in order."""
    async with httpx.AsyncClient(base_url=url, timeout=120) as client:
        asking = _Asking(client, model)
        sky, moon, sea = "Why is the sky blue?", "How far is the moon?", "Why is the sea salty?"
        short = {"routecache-ttl": str(SHORT_TTL_S)}
        await asking.step("a question", "MISS", sky)
        await asking.step("the same again", "HIT", sky)
        herd = f"1 MISS, {HERD - 1} COALESCED"
        await asking.step(f"{HERD} times at once", herd, moon, times=HERD)
        await asking.step(f"to be kept for {SHORT_TTL_S} s", "MISS", sea, headers=short)
        await asyncio.sleep(SHORT_TTL_S + 0.5)
        await asking.step("the same, past that", "STALE", sea, headers=short)
        await asking.step("without a credential", "BYPASS", sky, headers={"authorization": ""})
    return asking.steps


class _Asking:
    def __init__(self, client: httpx.AsyncClient, model: str) -> None:
        self._client = client
        self._model = model
        self.steps: list[Step] = []

    async def step(
        self,
        label: str,
        expected: str,
        question: str,
        *,
        headers: dict[str, str] | None = None,
        times: int = 1,
    ) -> None:
        began_s = time.monotonic()
        asked = [self._ask(question, headers or {}) for _ in range(times)]
        came = counted(await asyncio.gather(*asked))
        took_ms = (time.monotonic() - began_s) * 1000
        self.steps.append(Step(label=label, expected=expected, came=came, took_ms=took_ms))

    async def _ask(self, question: str, headers: dict[str, str]) -> str:
        body = {
            "model": self._model,
            "max_tokens": 24,
            "temperature": 0,
            "messages": [{"role": "user", "content": question}],
        }
        headers = {"authorization": "Bearer somebody", **headers}
        sent = {name: value for name, value in headers.items() if value}
        answer = await self._client.post("/v1/chat/completions", json=body, headers=sent)
        answer.raise_for_status()
        return str(answer.headers["x-routecache"])


def unexpected(steps: Sequence[Step]) -> list[str]:
    """Return a sentence for each step that did not come as it should."""
    return [
        f"{step.label}: came as {step.came}, not {step.expected}"
        for step in steps
        if step.came != step.expected
    ]


def steps_table(steps: Sequence[Step]) -> Table:
    """Return the table; fits into ``TABLE_WIDTH`` columns."""
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, padding=(0, 1, 0, 0), width=TABLE_WIDTH)
    table.add_column("asked", ratio=1)
    table.add_column("came")
    table.add_column("ms", justify="right", no_wrap=True)
    for step in steps:
        table.add_row(step.label, step.came, format_ms(step.took_ms))
    return table
