"""What goes on in the background: reading the log ahead of need, and watching the nodes."""

import asyncio
import random
from collections.abc import Callable, Sequence
from contextlib import suppress

from routecache_middleware.coordinators.ending import end
from routecache_middleware.coordinators.ring.log import RingLog
from routecache_middleware.coordinators.ring.members import Member, Members
from routecache_middleware.core.models import Position
from routecache_middleware.core.ports import Clock, CoordinatorEvent, Gap
from routecache_middleware.errors import CoordinatorError

__all__ = ["PROBE_TIMEOUT_S", "Keeper"]

PROBE_TIMEOUT_S = 0.25
"""How long a probe waits for a node, seconds."""

_BLOCK_S = 0.25
_PROBE_S = 1.0
_PROBE_SPREAD = 0.2
_REMOVED_PROBE_S = 10.0
_ANNOUNCE_S = 2.0


class Keeper:
    """Two tasks: one follows the nodes' logs, one probes the nodes. Bound to one event loop."""

    def __init__(
        self,
        members: Members,
        log: RingLog,
        *,
        clock: Clock,
        rng: random.Random,
        publish: Callable[[CoordinatorEvent], None],
    ) -> None:
        self._members = members
        self._log = log
        self._clock = clock
        self._rng = rng
        self._publish = publish
        self._waits: dict[str, asyncio.Task[Sequence[CoordinatorEvent]]] = {}
        self._tasks: list[asyncio.Task[None]] = []
        self._announced_s = -_ANNOUNCE_S

    def start(self) -> None:
        """Begin in the running event loop."""
        create = asyncio.get_running_loop().create_task
        self._waits = {}  # of an event loop that is gone, perhaps
        self._tasks = [create(self._follow()), create(self._watch())]

    async def stop(self) -> None:
        """End both tasks."""
        tasks = [*self._tasks, *self._waits.values()]
        self._tasks, self._waits = [], {}
        for task in tasks:
            task.cancel()
        for task in tasks:
            await end(task)

    def forget(self, name: str) -> None:
        """A node was unregistered: nothing is waited for there."""
        task = self._waits.pop(name, None)
        if task is not None:
            task.cancel()

    async def bring_up(self, members: Sequence[Member]) -> None:
        """Ask nodes that are not in use whether they answer, and put those that do into use."""
        answers = await asyncio.gather(*(self._answers(member) for member in members))
        joining = [one for one, answered in zip(members, answers, strict=True) if answered]
        if not joining:
            return
        for member in joining:
            member.health.answers()
        with suppress(CoordinatorError):  # it is tried again with the next probe
            await self._log.join(joining)
        for member in joining:
            if member.health.is_serving:
                self._members.return_to_view(member)
            else:
                member.health.failed(self._clock.monotonic_s(), self._clock.monotonic_s())

    async def announce(self) -> int:
        """Tell every node in use how far this process has read; returns how many took it."""
        position = self._log.reached
        told = await asyncio.gather(
            *(self._tell(member, position) for member in self._members.serving())
        )
        return sum(told)

    async def _tell(self, member: Member, position: Position) -> bool:
        try:
            await member.ask(member.node.announce(position), PROBE_TIMEOUT_S)
        except CoordinatorError:
            return False
        return True

    async def _follow(self) -> None:
        while True:
            try:
                await self._log.refresh()
            except CoordinatorError:
                self._publish(Gap())
                await asyncio.sleep(_BLOCK_S * (1 + self._rng.random()))
            else:
                await self._news()

    async def _news(self) -> None:
        """Wait until any node has news, or it is time to look anyway."""
        create = asyncio.get_running_loop().create_task
        for member in self._members.serving():
            if member.name not in self._waits:
                self._waits[member.name] = create(self._wait(member))
        if not self._waits:  # the last node went down meanwhile
            await asyncio.sleep(_BLOCK_S)
            return
        tasks = list(self._waits.values())
        await asyncio.wait(tasks, timeout=_BLOCK_S, return_when=asyncio.FIRST_COMPLETED)
        for name, task in list(self._waits.items()):
            if task.done():
                del self._waits[name]
                for event in task.result():
                    self._publish(event)

    async def _wait(self, member: Member) -> Sequence[CoordinatorEvent]:
        try:
            async with asyncio.timeout(2 * _BLOCK_S):
                return await member.node.wait(self._log.seen(member.name), _BLOCK_S)
        except (CoordinatorError, TimeoutError):
            # Whether the node is down shows when its log is read.
            await asyncio.sleep(_BLOCK_S)
            return ()

    async def _watch(self) -> None:
        while True:
            spread = _PROBE_SPREAD * (2 * self._rng.random() - 1)
            await asyncio.sleep(_PROBE_S * (1 + spread))
            now_s = self._clock.monotonic_s()
            due = [member for member in self._members if self._is_due(member, now_s)]
            out_of_use = [member for member in due if not member.health.is_serving]
            in_use = [member for member in due if member.health.is_serving]
            await asyncio.gather(
                self.bring_up(out_of_use), *(self._answers(member) for member in in_use)
            )
            for member in list(self._members):
                if member.health.is_removable(self._clock.monotonic_s()):
                    self._members.remove_from_view(member)
            if now_s - self._announced_s >= _ANNOUNCE_S:
                self._announced_s = now_s
                await self.announce()

    def _is_due(self, member: Member, now_s: float) -> bool:
        if member.health.is_serving:
            return now_s - member.contact_s >= _PROBE_S  # it is asked often enough otherwise
        return member.is_in_view or now_s - member.probed_s >= _REMOVED_PROBE_S

    async def _answers(self, member: Member) -> bool:
        member.probed_s = self._clock.monotonic_s()
        try:
            await member.ask(member.node.ping(), PROBE_TIMEOUT_S)
        except CoordinatorError:
            return False
        return True
