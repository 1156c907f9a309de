"""Asks LiteLLM's proxy the same things twice, and sees who answered."""

import asyncio
import time
from collections.abc import Awaitable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import httpx
import openai
from rich.console import Console

from examples.litellm_proxy.report import LEGEND, Step, counted, steps_table, unexpected

AT_ONCE = 10


@dataclass(frozen=True)
class Answer:
    """What one request brought."""

    text: str
    headers: Mapping[str, str]
    took_ms: float


class Tour:
    """Takes the steps one by one.

    Args:
        client: Of the proxy.
        counter_url: Where the model's calls are counted.
    """

    def __init__(self, client: openai.AsyncOpenAI, counter_url: str) -> None:
        self._completions: Any = client.chat.completions
        self._counter_url = counter_url
        self.steps: list[Step] = []

    async def ask(self, question: str, *, model: str = "small", stream: bool = False) -> Answer:
        """Ask, and wait for the whole answer."""
        began_s = time.monotonic()
        raw = await self._completions.with_raw_response.create(
            model=model,
            messages=[{"role": "user", "content": question}],
            max_tokens=40,
            temperature=0,
            stream=stream,
        )
        if stream:
            pieces = [chunk.choices[0].delta.content or "" async for chunk in raw.parse()]
            text = "".join(pieces)
        else:
            text = raw.parse().choices[0].message.content or ""
        return Answer(text, raw.headers, (time.monotonic() - began_s) * 1000)

    async def step(self, label: str, *asked: Awaitable[Answer]) -> None:
        """Take a step: these requests, at the same time."""
        answers = await asyncio.gather(*asked)
        async with httpx.AsyncClient() as client:
            calls = await client.get(f"{self._counter_url}/calls")
        self.steps.append(
            Step(
                label=label,
                came=_header(answers, "x-routecache"),
                decision=_header(answers, "x-routecache-decision"),
                group=_header(answers, "x-routecache-model"),
                took_ms=max(answer.took_ms for answer in answers),
                answer=answers[0].text,
                calls=int(calls.text),
            )
        )


def _header(answers: Sequence[Answer], name: str) -> str:
    return counted([answer.headers.get(name, "") for answer in answers])


async def take(url: str, key: str, counter_url: str, console: Console) -> int:
    """Take the tour, print it; returns the exit status: 0 if everything came as it should."""
    async with openai.AsyncOpenAI(base_url=f"{url}/v1", api_key=key, max_retries=0) as client:
        tour = Tour(client, counter_url)
        sky = "Why is the sky blue?"
        await tour.step("a question", tour.ask(sky))
        await tour.step("the same again", tour.ask(sky))
        fruit = "Which fruits are red?"
        await tour.step("a stream", tour.ask(fruit, stream=True))
        await tour.step("the same stream again", tour.ask(fruit, stream=True))
        sea = "What is the sea made of?"
        await tour.step('for "auto"', tour.ask(sea, model="auto"))
        await tour.step('the same for "auto"', tour.ask(sea, model="auto"))
        moon = "How far is the moon?"
        herd = [tour.ask(moon) for _ in range(AT_ONCE)]
        await tour.step(f"{AT_ONCE} times at once", *herd)
    console.print(steps_table(tour.steps))
    console.print(LEGEND, style="dim", highlight=False)
    problems = unexpected(tour.steps)
    for problem in problems:
        console.print(problem, style="bold red", markup=False)
    return 1 if problems else 0
