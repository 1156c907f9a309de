"""What is done every few seconds, beside all requests; a server that does not answer is let be."""

import asyncio
import math
from collections.abc import Awaitable, Callable
from contextlib import suppress

from routecache_middleware.coordinators.ending import end
from routecache_middleware.coordinators.redis.figures import QUESTIONS, Answers, Shares
from routecache_middleware.coordinators.redis.links import Links
from routecache_middleware.coordinators.redis.log import StreamLog
from routecache_middleware.coordinators.redis.mirror import Mirror
from routecache_middleware.coordinators.redis.processes import Processes
from routecache_middleware.coordinators.redis.server_time import ServerTime
from routecache_middleware.core.ports import Clock
from routecache_middleware.errors import CoordinatorError

__all__ = ["Upkeep"]

_TURN_S = 2.0
_FIGURES_S = 4.0
_TIME_S = 60.0
_PROLONG_S = 3_600.0


class Upkeep:
    """Tells how far this process has read, and keeps figures, clock offset and log up to date.

    Attributes:
        keys: Keys of all primaries when they were last asked, whoever wrote them.
        nodes: How many primaries answered.
        replicas: How many replicas the log has.
        shares: How the keys are divided among the layers.
    """

    def __init__(
        self,
        links: Links,
        log: StreamLog,
        time: ServerTime,
        processes: Processes,
        shares: Shares,
        *,
        mirror: Mirror,
        clock: Clock,
    ) -> None:
        self.keys = 0
        self.nodes = 1
        self.replicas = 0
        self.shares = shares
        self._links = links
        self._time = time
        self._processes = processes
        self._mirror = mirror
        self._clock = clock
        self._asked_s = -math.inf
        self._task: asyncio.Task[None] | None = None
        self._chores: list[_Chore] = [
            _Chore(0.0, self._tell),
            _Chore(_FIGURES_S, self._ask),
            _Chore(_TIME_S, self._measure),
            _Chore(_PROLONG_S, log.prolong),
        ]

    @property
    def age_s(self) -> float:
        """How old the figures are, seconds."""
        return self._clock.monotonic_s() - self._asked_s

    async def count_replicas(self) -> int:
        """Return how many replicas the log has; asks if nobody has asked yet."""
        if self._asked_s == -math.inf:
            with suppress(CoordinatorError):
                await self._ask()
        return self.replicas

    def start(self) -> None:
        """Begin, in the running event loop."""
        self._task = asyncio.get_running_loop().create_task(self._run())

    async def stop(self) -> None:
        """End; idempotent."""
        task, self._task = self._task, None
        await end(task)

    async def _run(self) -> None:
        while True:
            for chore in self._chores:
                now_s = self._clock.monotonic_s()
                if now_s >= chore.due_s:
                    chore.due_s = now_s + chore.period_s
                    with suppress(Exception):  # as in the reader
                        await chore.work()
            await asyncio.sleep(_TURN_S)

    async def _tell(self) -> None:
        await self._processes.tell(self._mirror.position)

    async def _measure(self) -> None:
        await self._time.measure(self._links.log)

    async def _ask(self) -> None:
        if self._links.refreshes:
            await self._links.log.refresh()
            await self._links.reading.refresh()
        own = Answers.of(await self._links.log.batch(QUESTIONS))
        self.replicas = 0 if own is None else len(own.replicas)
        answers = [own]
        if self._links.cluster is not None:
            asked = await self._links.cluster.ask_all(QUESTIONS)
            answers = [Answers.of(replies) for _, replies in asked if replies is not None]
        known = [answer for answer in answers if answer is not None]
        self.keys = sum(answer.keys for answer in known)
        self.nodes = max(1, len(known))
        for answer in known:
            sizes = await self.shares.ask_sizes(self._links.entries, answer.names)
            self.shares.add(answer.names, sizes)
        self._asked_s = self._clock.monotonic_s()


class _Chore:
    __slots__ = ("due_s", "period_s", "work")

    def __init__(self, period_s: float, work: Callable[[], Awaitable[None]]) -> None:
        self.period_s = period_s
        self.work = work
        self.due_s = -math.inf
