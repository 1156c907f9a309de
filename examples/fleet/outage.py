"""A master of the cluster dies while clients go on asking."""

import asyncio
import itertools
import time
from collections.abc import Sequence
from dataclasses import dataclass

from examples.fleet.client import SETTLE_S, Fleet
from examples.fleet.report import Answer, Row, outcomes, quantile
from examples.fleet.valkey import ValkeyCluster
from examples.quickstart_report import shorten

REQUESTS_PER_S = 25
NEW_EVERY = 10  # at most every tenth request is a question that nobody asked before
BEFORE_S = 3.0
AFTER_S = 2.0
RECOVERY_TIMEOUT_S = 30.0
WHY_WIDTH = 60
POPULAR = ("What is a river?", "What is a lake?", "What is a sea?", "What is a pond?")
KNOWN_TO_ONE = tuple(f"What is {number} and {number}?" for number in range(1, 7))
"""Asked at gateway 1 alone; their keys lie on all masters."""


@dataclass(frozen=True, kw_only=True)
class Request:
    """One request of the traffic: when it was sent (monotonic), and what it got."""

    sent_s: float
    answer: Answer


class Traffic:
    """Requests at a steady rate, whatever becomes of them, to one gateway after the other.

    Only one new question is under way at a time: it is not the model's limits that are shown here.
    """

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet
        self._is_over = asyncio.Event()
        self._is_model_free = True
        self.requests: list[Request] = []

    async def run(self) -> None:
        """Send until :meth:`stop`, then wait for the last answers."""
        async with asyncio.TaskGroup() as tasks:
            gateways = itertools.cycle(self._fleet.numbers)
            for number in itertools.count():
                if self._is_over.is_set():
                    break
                if number % NEW_EVERY == 0 and self._is_model_free:
                    tasks.create_task(self._send_new(next(gateways), f"What is {number}?"))
                else:
                    tasks.create_task(self._send(next(gateways), POPULAR[number % len(POPULAR)]))
                await asyncio.sleep(1 / REQUESTS_PER_S)

    def stop(self) -> None:
        """Send no more."""
        self._is_over.set()

    async def _send_new(self, gateway: int, prompt: str) -> None:
        self._is_model_free = False
        await self._send(gateway, prompt)
        self._is_model_free = True

    async def _send(self, gateway: int, prompt: str) -> None:
        sent_s = time.monotonic()
        answer = await self._fleet.ask(gateway, prompt)
        self.requests.append(Request(sent_s=sent_s, answer=answer))


async def outage(fleet: Fleet, cluster: ValkeyCluster) -> list[Row]:
    """Kill the master that hurts most under traffic, and wait until all is as it was."""
    for prompt in (*POPULAR, *KNOWN_TO_ONE):
        await fleet.ask(1, prompt)
    traffic = Traffic(fleet)
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(traffic.run())
        try:
            await asyncio.sleep(BEFORE_S)
            cluster.kill(cluster.master_with_the_log())
            killed_s = time.monotonic()
            whole_s, read_s = await asyncio.gather(
                _seconds_until_whole(cluster, killed_s), _seconds_until_read(fleet, killed_s)
            )
            is_shared = await _is_shared(fleet, killed_s)
            await asyncio.sleep(AFTER_S)
        finally:
            traffic.stop()
    return [
        traffic_row(traffic.requests, killed_s),
        recovery_row(whole_s=whole_s, read_s=read_s, is_shared=is_shared),
    ]


async def _seconds_until_whole(cluster: ValkeyCluster, since_s: float) -> float | None:
    while time.monotonic() - since_s < RECOVERY_TIMEOUT_S:
        if await asyncio.to_thread(cluster.is_whole):
            return time.monotonic() - since_s
        await asyncio.sleep(0.1)
    return None


async def _seconds_until_read(fleet: Fleet, since_s: float) -> float | None:
    """Ask gateway 2 for what only gateway 1 was asked, until it has got all of it."""
    unknown = set(KNOWN_TO_ONE)
    while time.monotonic() - since_s < RECOVERY_TIMEOUT_S:
        for prompt in sorted(unknown):
            answer = await fleet.ask(2, prompt, only_if_cached=True)
            if answer.outcome == "HIT":
                unknown.discard(prompt)
        if not unknown:
            return time.monotonic() - since_s
        await asyncio.sleep(0.1)
    return None


async def _is_shared(fleet: Fleet, since_s: float) -> bool:
    """Ask new questions at gateway 3 and the same at gateway 1, until that one has the answer."""
    for attempt in itertools.count():
        if time.monotonic() - since_s > RECOVERY_TIMEOUT_S:
            break
        prompt = f"What colour has number {attempt}?"
        await fleet.ask(3, prompt)
        await asyncio.sleep(SETTLE_S)
        if (await fleet.ask(1, prompt, only_if_cached=True)).outcome == "HIT":
            return True
    return False


def traffic_row(requests: Sequence[Request], killed_s: float) -> Row:
    """Return what became of the requests before and after the kill (monotonic time)."""
    answers = [request.answer for request in requests]
    failed = [answer for answer in answers if not answer.is_ok]
    hits = [r for r in requests if r.answer.outcome == "HIT"]
    calm = [r.answer.client_ms for r in hits if r.sent_s < killed_s]
    rough = [r.answer.client_ms for r in hits if r.sent_s >= killed_s]
    return Row(
        step=f"a master killed, with {REQUESTS_PER_S} requests a second under way",
        seen=f"{len(answers)} requests, {_failures(failed)}, {len(hits)} hits. A hit took the "
        f"client {quantile(calm, 0.5):.0f} ms before (99 %: {quantile(calm, 0.99):.0f}), "
        f"{quantile(rough, 0.5):.0f} ms after (99 %: {quantile(rough, 0.99):.0f})",
        promised="0 failed",
        holds=not failed and bool(rough),
    )


def recovery_row(*, whole_s: float | None, read_s: float | None, is_shared: bool) -> Row:
    """Return how long it took until all was as before, seconds; None: it never was."""
    whole = "did not recover" if whole_s is None else f"was whole after {whole_s:.1f} s"
    known = "not read any more" if read_s is None else f"all read after {read_s:.1f} s"
    new = "shared again" if is_shared else "not shared any more"
    return Row(
        step="then nothing: no restart, no operator",
        seen=f"the cluster {whole}; what one gateway knew was {known} by another, "
        f"new answers are {new}",
        promised=f"{RECOVERY_TIMEOUT_S:.0f} s at most",
        holds=whole_s is not None and read_s is not None and is_shared,
    )


def _failures(failed: Sequence[Answer]) -> str:
    why = f" ({outcomes(failed)}; {shorten(failed[0].text, WHY_WIDTH)})" if failed else ""
    return f"{len(failed)} failed{why}"
