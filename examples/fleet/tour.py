"""The tour of the fleet, step by step."""

import asyncio
import time

from rich.console import Console

from examples.fleet.client import Fleet
from examples.fleet.outage import outage
from examples.fleet.report import (
    LEGEND,
    Answer,
    Row,
    counted,
    nodes_table,
    outcomes,
    problems,
    processes_table,
    rows_table,
    times,
)
from examples.fleet.valkey import ValkeyCluster

FIRST = "What is the capital of France?"
POPULAR = "What is the capital of Japan?"
AT_ONCE = 50
FOLLOW_WITHIN_MS = 100.0  # milliseconds where they have a processor each; here they share two
PATROL_S = 0.5


class Tour:
    """Takes the steps and keeps a row for each.

    Args:
        fleet: The gateways.
        cluster: What they share.
        console: Where it tells what it does.
    """

    def __init__(self, fleet: Fleet, cluster: ValkeyCluster, console: Console) -> None:
        self._fleet = fleet
        self._cluster = cluster
        self._console = console
        self._calls = 0
        self._reads = 0
        self.rows: list[Row] = []

    async def run(self) -> None:
        """Take all steps."""
        await self._first_question()
        await self._from_the_store()
        await self._from_the_near_cache()
        await self._many_at_once()
        await self._invalidation()
        await self._asked_anew()
        self._tell("killing the master that keeps the invalidation log, under traffic ...")
        self.rows += await outage(self._fleet, self._cluster)

    async def _first_question(self) -> None:
        self._tell("a question that nobody has asked")
        answer = await self._fleet.ask(1, FIRST)
        calls, _ = await self._moved()
        self._add(
            "a new question, at gateway 1",
            f"{outcomes([answer])}, {counted(calls, 'model call')}, {times([answer])}",
            "MISS, 1 call",
            holds=answer.outcome == "MISS" and calls == 1,
        )

    async def _from_the_store(self) -> None:
        self._tell("the same question at the other gateways")
        answers = await self._others()
        calls, reads = await self._moved()
        self._add(
            "the same, at gateways 2 and 3",
            self._described(answers, calls, reads),
            "HIT from the cluster, 0 calls",
            holds=_all_hit(answers) and calls == 0 and reads > 0,
        )

    async def _from_the_near_cache(self) -> None:
        self._tell("and again")
        answers = await self._others()
        calls, reads = await self._moved()
        self._add(
            "the same there again",
            self._described(answers, calls, reads),
            "HIT from their own memory, 0 reads",
            holds=_all_hit(answers) and calls == 0 and reads == 0,
        )

    async def _many_at_once(self) -> None:
        self._tell(f"{AT_ONCE} clients at each gateway with one new question, at once")
        answers = await asyncio.gather(
            *(self._fleet.ask(g, POPULAR) for _ in range(AT_ONCE) for g in self._fleet.numbers)
        )
        calls, _ = await self._moved()
        failed = sum(not answer.is_ok for answer in answers)
        self._add(
            f"{AT_ONCE} at once at each of {len(self._fleet.numbers)} gateways, a new question",
            f"{outcomes(answers)}; {counted(calls, 'model call')}",
            "1 call in all",
            holds=calls == 1 and failed == 0,
        )

    async def _invalidation(self) -> None:
        self._tell("an invalidation at gateway 2, while the others answer from their near caches")
        patrols = {number: Patrol(self._fleet, number) for number in (1, 3)}
        async with asyncio.TaskGroup() as tasks:
            for patrol in patrols.values():
                tasks.create_task(patrol.run())
            await asyncio.sleep(PATROL_S)
            await self._fleet.invalidate(2, "small")
            confirmed_s = time.monotonic()
            await asyncio.sleep(PATROL_S)
            for patrol in patrols.values():
                patrol.stop()
        late_ms = {number: patrol.late_ms(confirmed_s) for number, patrol in patrols.items()}
        told = ", ".join(f"gateway {number}: {ms:.1f} ms" for number, ms in late_ms.items())
        await self._moved()
        self._add(
            'model "small" invalidated at gateway 2',
            f"last old answer after the confirmation: {told}",
            f"{FOLLOW_WITHIN_MS:.0f} ms at most",
            holds=all(p.has_followed for p in patrols.values())
            and max(late_ms.values()) <= FOLLOW_WITHIN_MS,
        )

    async def _asked_anew(self) -> None:
        self._tell("the first question again")
        answers = [await self._fleet.ask(1, FIRST)]
        await self._moved(keep=True)
        answers += await self._others()
        calls, _ = await self._moved()
        self._add(
            "the first question, at all three",
            f"{outcomes(answers)}, {counted(calls, 'model call')}",
            "MISS once, 1 call",
            holds=[a.outcome for a in answers] == ["MISS", "HIT", "HIT"] and calls == 1,
        )

    async def _others(self) -> list[Answer]:
        return [await self._fleet.ask(number, FIRST) for number in (2, 3)]

    async def _moved(self, *, keep: bool = False) -> tuple[int, int]:
        """Model calls and store reads since the last time that was not to be kept."""
        calls = await self._fleet.model_calls()
        reads = await asyncio.to_thread(self._cluster.entry_reads)
        moved = calls - self._calls, reads - self._reads
        if not keep:
            self._calls, self._reads = calls, reads
        return moved

    def _described(self, answers: list[Answer], calls: int, reads: int) -> str:
        counts = f"{counted(calls, 'model call')}, {counted(reads, 'store read')}"
        return f"{outcomes(answers)}, {counts}, {times(answers)}"

    def _tell(self, text: str) -> None:
        self._console.print(f"  {text}", style="dim", highlight=False)

    def _add(self, step: str, seen: str, promised: str, *, holds: bool) -> None:
        self.rows.append(Row(step=step, seen=seen, promised=promised, holds=holds))


class Patrol:
    """Asks a gateway for what it has stored, again and again, and notes when it was old news."""

    def __init__(self, fleet: Fleet, gateway: int) -> None:
        self._fleet = fleet
        self._gateway = gateway
        self._is_over = False
        self._last_hit_s: float | None = None
        self.has_followed = False

    async def run(self) -> None:
        """Ask until :meth:`stop`; never asks the model."""
        while not self._is_over:
            sent_s = time.monotonic()
            answer = await self._fleet.ask(self._gateway, FIRST, only_if_cached=True)
            if answer.outcome == "HIT":
                self._last_hit_s = sent_s
            self.has_followed = self._last_hit_s is not None and answer.outcome != "HIT"

    def stop(self) -> None:
        """Ask no more."""
        self._is_over = True

    def late_ms(self, confirmed_s: float) -> float:
        """How long after the confirmation the last old answer was asked for; 0 when before it."""
        return max(0.0, ((self._last_hit_s or 0.0) - confirmed_s) * 1000)


def _all_hit(answers: list[Answer]) -> bool:
    return all(answer.outcome == "HIT" for answer in answers)


async def tour(urls: list[str], cluster: ValkeyCluster, console: Console) -> int:
    """Take the steps, print the report, and return 1 when a promise was not kept."""
    async with Fleet(urls) as fleet:
        guide = Tour(fleet, cluster, console)
        await guide.run()
        stats = await fleet.cluster_stats(1)
    console.print()
    console.print(rows_table(guide.rows))
    console.print(f"\n{LEGEND}\n", style="dim", highlight=False, markup=False)
    console.print("cluster_stats() of gateway 1:", highlight=False)
    console.print(nodes_table(stats))
    console.print()
    console.print(processes_table(stats))
    broken = problems(guide.rows)
    for problem in broken:
        console.print(
            f"Not as promised: {problem}", style="bold red", highlight=False, markup=False
        )
    return 1 if broken else 0
