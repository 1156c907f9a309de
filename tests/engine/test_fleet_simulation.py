"""Random interleavings over several processes, seeded, in virtual time (note, section 9).

Each value says how long the invalidation log was when its making began. Whatever happens - slow and
broken links, lost events, failing makers, cancelled callers, dead processes, invalidations - nobody
waits for ever, nobody gets a value from before an invalidation that was over before it asked, and
while nothing fails only one maker is at work.
"""

import asyncio
import random
from collections import Counter
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from routecache_middleware import RoutingDecision
from routecache_middleware.errors import CoordinatorError
from tests.support.fleets import Process, new_store
from tests.support.virtual_time import in_virtual_time

HASH = "cd" * 16
PROCESSES = 4
MAX_WAIT_S = 30.0
LONGEST_MAKE_S = 20.0
TROUBLE = ("*", "acquire", "renew", "release", "store")


class World:
    """Processes that ask for one key again and again."""

    def __init__(self, seed: int, *, is_healthy: bool) -> None:
        self.random = random.Random(seed)
        self.is_healthy = is_healthy
        self.store = new_store()
        self.processes = [
            Process(self.store, max_wait_s=MAX_WAIT_S, routing_ttl_s=3.0) for _ in range(PROCESSES)
        ]
        self.acknowledged = 0
        """Position of the last invalidation that is over."""
        self.making = 0
        self.most_making = 0
        self.made = 0
        self.got = 0
        self.cuts = Counter[Process]()
        for process in self.processes:
            process.link.delay = self.delay

    def delay(self) -> float:
        if self.is_healthy or self.random.random() < 0.9:
            return self.random.uniform(0.0001, 0.003)
        return self.random.uniform(0.1, 2.0)

    async def compute(self) -> RoutingDecision:
        position = self.store._log.position
        self.making += 1
        self.made += 1
        self.most_making = max(self.most_making, self.making)
        try:
            await asyncio.sleep(self.random.choice((0.0, 0.01, 0.5, 3.0, LONGEST_MAKE_S)))
            if not self.is_healthy and self.random.random() < 0.2:
                raise OSError("the maker failed")
        finally:
            self.making -= 1
        return RoutingDecision("m", float(position))

    async def ask(self) -> None:
        process = self.random.choice(self.processes)
        # Cut off, it cannot know of invalidations elsewhere, and shares what it is making.
        before = -1 if "*" in process.link.broken else self.cuts[process]
        acknowledged = self.acknowledged
        asked = asyncio.ensure_future(process.cache.route(HASH, self.compute))
        if not self.is_healthy and self.random.random() < 0.15:
            asyncio.get_running_loop().call_later(self.random.uniform(0, 10), asked.cancel)
        try:
            # Its own turn at making, after at most: a wait, a leader that fails, one promoted.
            decision = await asyncio.wait_for(asked, MAX_WAIT_S + 4 * LONGEST_MAKE_S + 60)
        except (OSError, asyncio.CancelledError):
            return
        self.got += 1
        if before == self.cuts[process]:
            assert decision.score >= acknowledged, "invalidated before the caller asked"

    async def invalidate(self) -> None:
        cache = self.random.choice(self.processes).cache
        try:
            report = await cache.invalidate_routing_decision(HASH)
        except CoordinatorError:
            return  # in force in one process alone: no promise to the others
        self.acknowledged = max(self.acknowledged, report.position)

    async def trouble(self) -> None:
        """Cut a process off for a while: its lease may expire, and its events are lost."""
        process = self.random.choice(self.processes)
        link, what = process.link, self.random.choice(TROUBLE)
        self.cuts[process] += what == "*"
        link.broken.add(what)
        link.is_deaf = self.random.random() < 0.5
        await asyncio.sleep(self.random.uniform(0.1, 15))
        link.broken.clear()
        link.is_deaf = False

    def steps(self) -> list[Callable[[], Coroutine[Any, Any, None]]]:
        if self.is_healthy:
            return [self.ask]
        return [self.ask] * 12 + [self.invalidate] * 2 + [self.trouble]

    async def run(self, steps: int) -> None:
        for process in self.processes:
            await process.cache.open()
        kinds = self.steps()
        under_way: set[asyncio.Task[None]] = set()
        for _ in range(steps):
            under_way.add(asyncio.ensure_future(self.random.choice(kinds)()))
            await asyncio.sleep(self.random.choice((0.0, 0.001, 0.05, 0.5)))
        await asyncio.gather(*under_way)
        assert self.making == 0
        for process in self.processes:
            engine = process.cache.engine
            assert engine.fleet is not None
            assert len(engine.fleet.wakeups) == 0
            assert len(process.cache._decisions) == 0
            await process.cache.aclose()
            assert process.link.listeners == 0


@pytest.mark.parametrize("seed", range(60))
def test_whatever_happens_nobody_waits_for_ever_and_nothing_invalidated_is_served(
    seed: int,
) -> None:
    @in_virtual_time
    async def test() -> None:
        random.seed(seed)  # the engine's jitter
        world = World(seed, is_healthy=False)
        await world.run(150)
        assert world.got > 20

    test()


@pytest.mark.parametrize("seed", range(20))
def test_while_nothing_fails_one_maker_is_at_work_at_a_time(seed: int) -> None:
    @in_virtual_time
    async def test() -> None:
        random.seed(seed)
        world = World(seed, is_healthy=True)
        await world.run(150)
        assert world.got == 150
        assert world.most_making == 1
        assert world.made < 40

    test()
