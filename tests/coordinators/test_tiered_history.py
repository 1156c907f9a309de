"""Near caches of several processes under seeded interleavings: nothing is served that is too old.

A model is invalidated whenever its truth changes. Whoever looks up may be told a truth that was
already invalidated when the lookup began only if that happened in another process, and not longer
ago than the promise allows: a second, or ``max_disconnected_s`` for who is cut off.
"""

import asyncio
import random
from collections.abc import Sequence
from typing import NamedTuple

import pytest

from routecache_middleware.coordinators.memory import MemoryCoordinator
from routecache_middleware.coordinators.tiered import TieredCoordinator
from routecache_middleware.core.invalidation import InvalidationRow, model_scope
from routecache_middleware.core.keys import CacheKey, Layer, result_key
from routecache_middleware.core.models import START, Entry, Outcome, Position
from routecache_middleware.core.plan import Serve
from routecache_middleware.core.policy import CachePolicy
from routecache_middleware.core.ports import Fetched
from routecache_middleware.core.settings import Settings
from routecache_middleware.engine.engine import Engine
from routecache_middleware.errors import CoordinatorError
from routecache_middleware.telemetry.null import NullObserver
from routecache_middleware.testing.clock import FakeClock
from tests.support.faulty import MIB, ProvingCoordinator

MODELS = ("a", "b")
KEYS = 4
CUT_OFF_S = 5.0


class Invalidation(NamedTuple):
    model: str
    truth: int
    acknowledged_s: float
    process: int


class Link(ProvingCoordinator):
    """How one process reaches the shared store: late, in its own order, or not at all."""

    def __init__(self, hub: MemoryCoordinator, clock: FakeClock, rng: random.Random) -> None:
        super().__init__(clock)
        self._stores, self._log, self._leases = hub._stores, hub._log, hub._leases
        self._rng = rng
        self._time = clock
        self.mirrored = START
        self.seen = START  # by lookups that went all the way
        self._read_ahead_s = clock.monotonic_s()

    async def journey(self) -> None:
        for _ in range(self._rng.randrange(6)):
            await asyncio.sleep(0)

    async def fetch(self, keys: Sequence[CacheKey], after: Position) -> Fetched:
        fetched = await super().fetch(keys, after)
        await self.journey()  # the answer has a way, too
        self.seen = max(self.seen, fetched.position)
        return fetched

    def read_ahead(self) -> None:
        """The blocking reader has come to the end of the log."""
        self.mirrored = self._log.position
        self._read_ahead_s = self._time.monotonic_s()
        self.pass_time()

    def pass_time(self) -> None:
        self.proof_age_s = self._time.monotonic_s() - self._read_ahead_s


class Fleet:
    """Some processes with an engine and a near cache each, and the history of what they saw."""

    def __init__(self, seed: int, *, has_faults: bool) -> None:
        self.rng = random.Random(seed)
        self.clock = FakeClock()
        self.hub = MemoryCoordinator(max_bytes=64 * MIB, clock=self.clock)
        self.links = [Link(self.hub, self.clock, self.rng) for _ in range(3)]
        self.engines = [self._engine(link) for link in self.links]
        self.has_faults = has_faults
        self.truth = dict.fromkeys(MODELS, 0)
        self.history: list[Invalidation] = []
        self.violations = 0
        self.hits = 0

    def _engine(self, link: Link) -> Engine:
        near = TieredCoordinator(
            link, max_bytes=4 * MIB, clock=self.clock, max_disconnected_s=CUT_OFF_S
        )
        return Engine(near, Settings(), CachePolicy(), self.clock, NullObserver())

    async def run(self, steps: int) -> None:
        clients = [self._client(process, steps) for process in (0, 1, 2) for _ in range(3)]
        world = asyncio.ensure_future(self._world())
        await asyncio.gather(*clients)
        world.cancel()
        await asyncio.wait((world,))
        for engine, link in zip(self.engines, self.links, strict=True):
            link.heal()
            await engine.aclose()

    async def _world(self) -> None:
        """Time passes, readers read or are late, links break and heal, the log is lost."""
        while True:
            self.clock.advance(self.rng.choice((0.0, 0.01, 0.1, 0.4)))
            for link in self.links:
                link.read_ahead() if self.rng.random() < 0.5 else link.pass_time()
                if self.has_faults and self.rng.random() < 0.05:
                    link.heal() if link._faults else link.fail()
            if self.has_faults and self.rng.random() < 0.02:
                self.hub._log.forget()
            await asyncio.sleep(0)

    async def _client(self, process: int, steps: int) -> None:
        for _ in range(steps):
            if process > 0 and self.rng.random() < 0.08:  # the first only ever looks up
                await self._invalidate(process)
            else:
                await self._look_up(process)
            for _ in range(self.rng.randrange(3)):
                await asyncio.sleep(0)

    async def _invalidate(self, process: int) -> None:
        model = self.rng.choice(MODELS)
        self.truth[model] += 1
        truth = self.truth[model]
        try:
            await self.engines[process].invalidate((InvalidationRow(model_scope(model)),))
        except CoordinatorError:
            return  # in force in its own process; nothing is promised elsewhere
        acknowledged_s = self.clock.monotonic_s()
        self.history.append(Invalidation(model, truth, acknowledged_s, process))

    async def _look_up(self, process: int) -> None:
        model = self.rng.choice(MODELS)
        key = result_key(f"{self.rng.randrange(KEYS):032x}", model)
        engine = self.engines[process]
        oldest = self._oldest_allowed(model, process)
        found = engine.lookup_now(Layer.RESULT, key, model=model, verb="")
        if found is None:
            found = await engine.lookup(Layer.RESULT, key)
        if isinstance(found.plan, Serve):
            self.hits += 1
            self.violations += int(found.plan.entry.body) < oldest
        elif found.outcome is not Outcome.ERROR:
            truth = self.truth[model]
            await self.links[process].journey()  # the upstream takes its time
            entry = Entry(
                layer=Layer.RESULT,
                body=b"%d" % truth,
                created_s=self.clock.now_s(),
                freshness_lifetime_s=1e6,
                position=found.position,
                scopes=(model_scope(model),),
            )
            await engine.put(key, entry)

    def _oldest_allowed(self, model: str, process: int) -> int:
        delay_s = CUT_OFF_S if self.has_faults else 1.0
        now_s = self.clock.monotonic_s()
        return max(
            (
                one.truth
                for one in self.history
                if one.model == model
                and (one.process == process or now_s - one.acknowledged_s > delay_s)
            ),
            default=0,
        )


@pytest.mark.parametrize("has_faults", [False, True], ids=["healthy", "faults"])
@pytest.mark.parametrize("seed", range(12))
async def test_no_lookup_returns_what_was_invalidated_too_long_before(
    seed: int, *, has_faults: bool
) -> None:
    fleet = Fleet(seed, has_faults=has_faults)
    await fleet.run(120)
    assert fleet.violations == 0
    assert fleet.hits > 50
    assert len(fleet.history) > 5


async def test_without_the_proof_the_same_check_finds_violations(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The control: what a lookup has read is trusted, however long ago that was."""
    monkeypatch.setattr(Link, "read_ahead", Link.pass_time)
    monkeypatch.setattr(Link, "proven_position", lambda self, _: self.seen)
    fleet = Fleet(1, has_faults=False)
    await fleet.run(150)
    assert fleet.violations > 0
