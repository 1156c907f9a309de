"""The calls that the quickstart makes, and the report it prints of them."""

import asyncio
import time
from collections.abc import Mapping
from pathlib import Path

import httpx
import openai
from rich.console import Console

from examples.quickstart_report import (
    LEGEND,
    Call,
    calls_table,
    merge,
    server_timing_ms,
    statistics_table,
    unexpected,
)

CALL_TIMEOUT_S = 60.0
AT_ONCE = 20
SETTLE_S = 0.3  # an answer is stored after it was sent, and spans are written in batches

SIMPLE = "What is the capital of France?"
SHORT = "Which planet do we live on?"
HARD = "Explain why ice floats on water."
POPULAR = "What is the capital of Japan?"


class Tour:
    """Calls the gateway one way after the other and keeps what came back."""

    def __init__(self, url: str, spans_file: Path, console: Console) -> None:
        self._admin = httpx.AsyncClient(base_url=url, timeout=CALL_TIMEOUT_S, trust_env=False)
        # Any key will do: to the cache, it is who is asking, and nobody else sees these answers.
        self._client = openai.AsyncOpenAI(
            base_url=f"{url}/v1", api_key="quickstart", max_retries=0, timeout=CALL_TIMEOUT_S
        )
        self._spans_file = spans_file
        self._console = console
        self.calls: list[Call] = []

    async def run(self) -> None:
        """Make all calls."""
        await self._add("first call", SIMPLE)
        await self._add("the same again", SIMPLE)
        await self._add("the same, streamed", SIMPLE, stream=True)
        await self._add("a short question", SHORT)
        await self._add("a hard question", HARD)
        await self._add_at_once(POPULAR)
        await self._add("one more of those", POPULAR)
        (await self._admin.post("/invalidate/small")).raise_for_status()
        await self._add('first call, "small" invalidated', SIMPLE)

    async def statistics(self) -> Mapping[str, Mapping[str, float]]:
        """Return what the gateway's cache has counted."""
        found: Mapping[str, Mapping[str, float]] = (await self._admin.get("/stats")).json()
        return found

    async def aclose(self) -> None:
        """Close the connections."""
        await self._client.close()
        await self._admin.aclose()

    async def _add(self, label: str, prompt: str, *, stream: bool = False) -> None:
        self._console.print(f"  {label}: {prompt}", style="dim", highlight=False)
        before = len(self._spans())
        call = await self._call(label, prompt, stream=stream)
        await self._finish(call, before)

    async def _add_at_once(self, prompt: str) -> None:
        label = f"{AT_ONCE} at the same time"
        self._console.print(f"  {label}: {prompt}", style="dim", highlight=False)
        before = len(self._spans())
        calls = await asyncio.gather(*(self._call(label, prompt) for _ in range(AT_ONCE)))
        await self._finish(merge(calls), before)

    async def _finish(self, call: Call, spans_before: int) -> None:
        await asyncio.sleep(SETTLE_S)
        made = (await self._admin.get("/upstream-calls")).json()["upstream_calls"]
        self.calls.append(
            call.with_surroundings(upstream_calls=made, spans=self._spans()[spans_before:])
        )

    async def _call(self, label: str, prompt: str, *, stream: bool = False) -> Call:
        began_s = time.perf_counter()
        create = self._client.chat.completions.with_raw_response.create
        if stream:
            raw_stream = await create(model="auto", messages=_ask(prompt), stream=True)
            headers = raw_stream.headers
            pieces = [chunk async for chunk in raw_stream.parse()]
            answer = "".join(p.choices[0].delta.content or "" for p in pieces if p.choices)
        else:
            raw = await create(model="auto", messages=_ask(prompt))
            headers = raw.headers
            answer = raw.parse().choices[0].message.content or ""
        return Call(
            label=label,
            prompt=prompt,
            outcome=headers.get("x-routecache", "-"),
            decision=headers.get("x-routecache-decision", "-"),
            model=headers.get("x-routecache-model", "-"),
            gateway_ms=server_timing_ms(headers.get("server-timing", "")),
            client_ms=(time.perf_counter() - began_s) * 1000,
            answer=answer,
        )

    def _spans(self) -> list[str]:
        if not self._spans_file.exists():
            return []
        return self._spans_file.read_text(encoding="utf-8").splitlines()


def _ask(prompt: str) -> list[openai.types.chat.ChatCompletionMessageParam]:
    return [{"role": "user", "content": prompt}]


async def tour(url: str, spans_file: Path, console: Console) -> int:
    """Make the calls, print the report, and return 1 when something is not as it should be."""
    guide = Tour(url, spans_file, console)
    try:
        await guide.run()
        statistics = await guide.statistics()
    finally:
        await guide.aclose()
    console.print()
    console.print(calls_table(guide.calls))
    console.print(f"\n{LEGEND}\n", style="dim", highlight=False, markup=False)
    console.print(statistics_table(statistics))
    console.print()
    miss, hit, shared = guide.calls[0], guide.calls[1], guide.calls[5]
    for title, call in (("a miss", miss), ("a hit", hit), ("a follower and its leader", shared)):
        console.print(f"Spans of {title}:")
        for line in call.sample_of_spans():
            console.print(f"  {line}", highlight=False, markup=False, soft_wrap=True)
    problems = unexpected(guide.calls)
    for problem in problems:
        console.print(f"Not as it should be: {problem}", style="bold red", highlight=False)
    return 1 if problems else 0
