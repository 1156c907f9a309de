"""A fleet in made-up time: processes that look up, fill and invalidate while nodes and links fail.

Every value is the version of what it was made from. The version rises before an invalidation is
called. A lookup that begins after an invalidation was acknowledged (plus the bound) must not be
served an older version, unless what the claim in ``ring.log`` assumes did not hold: then the answer
is counted as excused.
"""

import asyncio
import random
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field

from routecache_middleware.coordinators.ring.coordinator import RingCoordinator
from routecache_middleware.core.invalidation import (
    ALL,
    InvalidationRow,
    InvalidationTable,
    key_scope,
)
from routecache_middleware.core.keys import CacheKey, Layer, result_key
from routecache_middleware.core.models import Entry, Position
from routecache_middleware.core.ports import Fetched
from routecache_middleware.errors import CoordinatorError
from tests.coordinators.ring.simulated import Link, Network, Server, SimulatedNode
from tests.coordinators.ring.virtual import VirtualClock, VirtualLoop

KEYS = [result_key(f"{number:032x}", "m") for number in range(3)]

Holders = frozenset[tuple[str, int]]
"""Nodes, each with the incarnation of its log."""


@dataclass(frozen=True)
class Acknowledged:
    """An invalidation that was recorded."""

    key: CacheKey
    version: int
    at_s: float
    position: Position
    holders: Holders


@dataclass(frozen=True)
class Options:
    """What kind of run it is."""

    processes: int = 3
    servers: int = 3
    seconds: float = 20.0
    proof_s: float = 0.0
    spares_one: bool = False
    """One server is never cut off from anybody and keeps its log: the claim always applies."""
    loses_logs: bool = True
    is_divided: bool = False
    """Instead of other harm: each process reaches some nodes only, now these, now those."""
    skews_s: tuple[float, ...] = (0.0, 0.0, -3_600.0, 5.0, 86_400.0)
    """How wrong the clock of a process may be."""
    server_skews_s: tuple[float, ...] = (0.0,)
    """How wrong the clock of a server may be."""
    is_plain_delete: bool = False
    """The control: no log, an invalidation deletes the key on its node."""


@dataclass
class Outcome:
    """What was seen."""

    lookups: int = 0
    hits: int = 0
    invalidations: int = 0
    failures: int = 0
    stale: list[str] = field(default_factory=list)
    excused: int = 0

    def add(self, other: "Outcome") -> None:
        self.lookups += other.lookups
        self.hits += other.hits
        self.invalidations += other.invalidations
        self.failures += other.failures
        self.stale += other.stale
        self.excused += other.excused


class Process:
    """One process: its ring and its table, as the engine keeps it."""

    def __init__(self, name: str, world: "World") -> None:
        self.name = name
        self.table = InvalidationTable()
        self.nodes = {
            server.name: SimulatedNode(server, world.network, name) for server in world.servers
        }
        skew_s = world.rng.choice(world.options.skews_s)
        self.ring = RingCoordinator(
            [(node, 1.0) for node in self.nodes.values()],
            connect=self.nodes.__getitem__,
            clock=VirtualClock(world.loop, skew_s=skew_s),
            proof_s=world.options.proof_s,
            rng=random.Random(world.rng.random()),
            process=name,
        )

    def used(self) -> Holders:
        return frozenset((name, self.nodes[name].read_incarnation) for name in self.ring._log.used)

    async def fetch(self, keys: Iterable[CacheKey]) -> Fetched:
        fetched = await self.ring.fetch(tuple(keys), self.table.position)
        if fetched.is_rewound:
            self.table.rewind(max(fetched.position, self.table.position))
        self.table.fold(fetched.rows)
        self.table.advance(fetched.position)
        return fetched


class World:
    """One seeded run."""

    def __init__(self, seed: int, options: Options) -> None:
        self.seed = seed
        self.options = options
        self.rng = random.Random(seed)
        self.loop = VirtualLoop()
        clock = VirtualClock(self.loop)
        skews_s = random.Random(f"servers of {seed}").choices(
            options.server_skews_s, k=options.servers
        )
        self.servers = [
            Server(f"node-{n}", clock, own_clock=VirtualClock(self.loop, skew_s=skew_s))
            for n, skew_s in enumerate(skews_s)
        ]
        self.network = Network(random.Random(seed), delay_s=self.rng.choice([0.0005, 0.002]))
        self.outcome = Outcome()
        self.truth: dict[CacheKey, int] = defaultdict(int)
        self.acknowledged: list[Acknowledged] = []
        self.captures: dict[int, Holders] = {}
        self.spared = self.rng.choice(self.servers) if options.spares_one else None
        self.is_over = False

    def run(self) -> Outcome:
        try:
            self.loop.run_until_complete(self._run())
            self.loop.run_until_complete(self.loop.shutdown_asyncgens())
        finally:
            self.loop.close()
        return self.outcome

    async def _run(self) -> None:
        actors: list[Callable[[], Awaitable[None]]] = [self._harm, self._harm]
        if self.options.is_divided:
            actors = [
                (lambda name=f"p{number}": self._divide(name))  # type: ignore[misc]
                for number in range(self.options.processes)
            ]
        actors += [
            (lambda name=f"p{number}": self._live(name))  # type: ignore[misc]
            for number in range(self.options.processes)
        ]
        tasks = [asyncio.ensure_future(actor()) for actor in actors]
        await asyncio.sleep(self.options.seconds)
        self.is_over = True
        for server in self.servers:
            server.is_running, server.is_paused = True, False
        self.network.links.clear()
        await asyncio.gather(*tasks)

    async def _live(self, name: str) -> None:
        """A process that may be restarted: then it knows nothing."""
        generation = 0
        while not self.is_over:
            generation += 1
            process = Process(name, self)
            if await self._opens(process):
                until_s = self.loop.time() + self.rng.choice([3.0, 8.0, 60.0])
                work = [self._read, self._read, self._read, self._invalidate]
                await asyncio.gather(*(self._repeat(one, process, until_s) for one in work))
            await process.ring.aclose()
            await asyncio.sleep(0.05)

    async def _opens(self, process: Process) -> bool:
        try:
            await process.ring.open()
        except CoordinatorError:
            return False
        return True

    async def _repeat(
        self, work: Callable[[Process], Awaitable[None]], process: Process, until_s: float
    ) -> None:
        while not self.is_over and self.loop.time() < until_s:
            await asyncio.sleep(self.rng.expovariate(1 / 0.08))
            try:
                async with asyncio.timeout(3.0):
                    await work(process)
            except (CoordinatorError, TimeoutError):
                self.outcome.failures += 1

    async def _read(self, process: Process) -> None:
        """Look up; on a miss, ask who knows, and store."""
        key = self.rng.choice(KEYS)
        begun_s = self.loop.time()
        held_before = self._holders_now(key)
        fetched = await process.fetch((key,))
        entry = fetched.entries[0]
        self.outcome.lookups += 1
        if entry is not None and (
            self.options.is_plain_delete or process.table.is_current(key, entry)
        ):
            self.outcome.hits += 1
            self._check(process, key, entry, begun_s, held_before)
            return
        await self._fill(process, key)

    async def _fill(self, process: Process, key: CacheKey) -> None:
        captured, number = process.table.position, len(self.captures)
        self.captures[number] = process.used()
        version = self.truth[key]
        await asyncio.sleep(self.rng.expovariate(1 / self.rng.choice([0.005, 0.2, 1.0])))
        entry = Entry(
            layer=Layer.RESULT,
            body=b"%d %d" % (version, number),
            created_s=1_700_000_000.0 + self.loop.time(),
            freshness_lifetime_s=600.0,
            position=captured,
        )
        if self.options.is_plain_delete or process.table.is_current(key, entry):
            await process.ring.store(key, entry)

    async def _invalidate(self, process: Process) -> None:
        await asyncio.sleep(self.rng.expovariate(1 / 0.3))
        key = self.rng.choice(KEYS)
        self.truth[key] += 1
        version = self.truth[key]
        if self.options.is_plain_delete:
            await process.ring.delete(key)
            position, holders = Position(0), self._everybody()
        else:
            receipt = await process.ring.append((InvalidationRow(key_scope(key)),))
            position = receipt.position
            holders = frozenset(
                (server.name, server.accepted[position])
                for server in self.servers
                if position in server.accepted
            )
        self.outcome.invalidations += 1
        now_s = self.loop.time()
        self.acknowledged.append(Acknowledged(key, version, now_s, position, holders))

    def _check(
        self, process: Process, key: CacheKey, entry: Entry, begun_s: float, held_before: Holders
    ) -> None:
        version, number = map(int, entry.body.split())
        latest_s = begun_s - self.options.proof_s
        for one in self.acknowledged:
            if one.key == key and one.version > version and one.at_s <= latest_s:
                if self._is_excused(process, number, one, held_before):
                    self.outcome.excused += 1
                else:
                    self.outcome.stale.append(
                        f"seed {self.seed}: {process.name} got version {version} of {key} at "
                        f"{begun_s:.4f}, {one.version} acknowledged at {one.at_s:.4f}"
                    )
                return

    def _is_excused(
        self, process: Process, number: int, one: Acknowledged, held_before: Holders
    ) -> bool:
        """Whether what the claim assumes did not hold: (a) of the maker, (b) of the reader."""
        if self.options.is_plain_delete:
            return False
        holds = one.holders if self.options.proof_s else one.holders | held_before
        has_a = bool(self.captures[number] & one.holders)
        return not (has_a and process.used() & holds)

    def _holders_now(self, key: CacheKey) -> Holders:
        """Nodes whose logs hold the latest row of a key that was acknowledged, or a later one."""
        latest = max((one.position for one in self.acknowledged if one.key == key), default=None)
        scopes = {key_scope(key), ALL}
        return frozenset(
            (server.name, server.incarnation)
            for server in self.servers
            if latest is not None
            and any(row.position >= latest and row.row.scope in scopes for row in server.log)
        )

    def _everybody(self) -> Holders:
        return frozenset((server.name, server.incarnation) for server in self.servers)

    async def _harm(self) -> None:
        while not self.is_over:
            await asyncio.sleep(self.rng.expovariate(1 / 0.7))
            targets = [server for server in self.servers if server is not self.spared]
            server = self.rng.choice(targets)
            await self.rng.choice([self._crash, self._pause, self._lag, self._cut, self._cut])(
                server
            )

    async def _divide(self, name: str) -> None:
        while not self.is_over:
            cut = self.rng.sample(self.servers, self.rng.choice([0, 1, len(self.servers) - 1]))
            for server in cut:
                self.network.links[name, server.name] = Link.REFUSED
            await asyncio.sleep(self.rng.uniform(0.5, 3.0))
            for server in cut:
                self.network.links.pop((name, server.name), None)
            await asyncio.sleep(self.rng.uniform(0.0, 2.0))

    async def _crash(self, server: Server) -> None:
        server.is_running = False
        if self.options.loses_logs:
            await server.lose_everything()
        await self._a_while()
        server.is_running = True

    async def _pause(self, server: Server) -> None:
        server.is_paused = True
        await self._a_while()
        server.is_paused = False

    async def _lag(self, server: Server) -> None:
        """A failover to a replica that lagged, entries being kept."""
        if self.options.loses_logs and server.log:
            server.lose_log(keep=self.rng.randrange(len(server.log)))

    async def _cut(self, server: Server) -> None:
        name = f"p{self.rng.randrange(self.options.processes)}"
        self.network.links[name, server.name] = self.rng.choice(
            [Link.REFUSED, Link.HUNG, Link.DEAF]
        )
        await self._a_while()
        self.network.links.pop((name, server.name), None)

    async def _a_while(self) -> None:
        await asyncio.sleep(self.rng.expovariate(1 / self.rng.choice([0.1, 1.0, 4.0])))


def run_many(seeds: Iterable[int], options: Options) -> Outcome:
    """Add up what many runs have seen."""
    total = Outcome()
    for seed in seeds:
        total.add(World(seed, options).run())
    return total
