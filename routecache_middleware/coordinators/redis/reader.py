"""The one blocking reader of a process: it keeps a mirror of the log, and proves it complete.

Each round sends, in one go: is the row that we stand on still there? and: what follows it, waiting
up to a quarter of a second. The first answer proves that nothing was lost, the second that nothing
is missing. The proof dates from when the round was SENT: whatever stops this process or delays the
answer makes the proof old by itself, and old proofs are not used.

If the row is gone, the log lost what we had read, and it is made to void everything; see ``log``.
"""

import asyncio
import math
import random

from routecache_middleware.coordinators.ending import end
from routecache_middleware.coordinators.redis.inbox import read_messages
from routecache_middleware.coordinators.redis.log import StreamLog, Tail, Waited
from routecache_middleware.coordinators.redis.mirror import Mirror
from routecache_middleware.coordinators.subscribers import Subscribers
from routecache_middleware.core.models import START, Position
from routecache_middleware.core.ports import Clock, Gap, Invalidated

__all__ = ["BLOCK_S", "LogReader"]

BLOCK_S = 0.25
"""How long one round waits for news; the proof is never older than that while all is well."""

_FIRST_PAUSE_S = 0.05
_MAX_PAUSE_S = 1.0


class LogReader:
    """Reads a log, and an inbox, from when :meth:`start` is called until :meth:`stop`.

    Attributes:
        mirror: What was read.
    """

    def __init__(
        self, log: StreamLog, subscribers: Subscribers, *, clock: Clock, inbox: str = ""
    ) -> None:
        """Prepare.

        Args:
            log: The log, over a link that waits longer than :data:`BLOCK_S`.
            subscribers: Who is told of rows, messages and gaps.
            clock: For the age of the proof; its monotonic side.
            inbox: Id of the inbox to read as well, or empty.
        """
        self.mirror = Mirror()
        self._log = log
        self._subscribers = subscribers
        self._clock = clock
        self._inbox = inbox
        self._inbox_after = b"0-0"
        self._proof_s = -math.inf
        self._expected = START
        self._task: asyncio.Task[None] | None = None

    @property
    def proof_age_s(self) -> float:
        """How long ago the mirror was last known to be complete.

        Infinite before that, and while a row that this process has appended was not read back.
        """
        if self._expected > self.mirror.position:
            return math.inf
        return self._clock.monotonic_s() - self._proof_s

    def proven_position(self, within_s: float) -> Position | None:
        """How far the mirror goes, if it was known to be complete less than ``within_s`` ago."""
        position = self.mirror.position
        if self._expected > position or self._clock.monotonic_s() - self._proof_s >= within_s:
            return None
        return position

    @property
    def expected(self) -> Position:
        """The last row that this process has appended, as long as it was not read back."""
        return self._expected

    def expect(self, position: Position) -> None:
        """This process has appended a row; until it is read back the mirror proves nothing."""
        if position > self.mirror.position:
            self._expected = max(self._expected, position)

    async def catch_up(self) -> None:
        """Read the whole log, and begin it if there is none.

        Raises:
            CoordinatorError: The server did not answer.
        """
        sent_s = self._clock.monotonic_s()
        tail = await self._log.tail(START)
        if not tail.holds_after:
            tail = await self._log.recover(START)
        self.mirror.reset(tail.rows)
        self._proof_s = sent_s

    def start(self) -> None:
        """Begin to read, in the running event loop."""
        self._task = asyncio.get_running_loop().create_task(self._run())

    async def stop(self) -> None:
        """Read no more; idempotent."""
        task, self._task = self._task, None
        await end(task)

    async def _run(self) -> None:
        pause_s = 0.0
        while True:
            try:
                await self._round()
            except Exception:  # noqa: BLE001 - also what a driver, or garbage in an inbox, may cause
                if not pause_s:
                    self._subscribers.publish(Gap())
                pause_s = min(_MAX_PAUSE_S, max(_FIRST_PAUSE_S, 2 * pause_s))
                await asyncio.sleep(pause_s * random.uniform(0.5, 1.0))  # noqa: S311 - jitter
            else:
                if pause_s:  # whatever was sent to the inbox meanwhile may be lost
                    self._subscribers.publish(Gap())
                pause_s = 0.0

    async def _round(self) -> None:
        if self.mirror.position == START:
            await self.catch_up()
        sent_s = self._clock.monotonic_s()
        expected = self._expected  # acknowledged before this round was sent, so it has to be seen
        waited = await self._log.wait(
            self.mirror.position, BLOCK_S, inbox=self._inbox, inbox_after=self._inbox_after
        )
        if waited.tail.holds_after and self._brings(expected, waited):
            self._take(waited.tail)
            if waited.is_complete:
                self._proof_s = sent_s
        else:
            await self._start_over()
        if waited.messages:
            self._inbox_after = waited.messages[-1][0]
            for event in read_messages(waited.messages):
                self._subscribers.publish(event)

    def _brings(self, expected: Position, waited: Waited) -> bool:
        """Whether rows that this process appended are not missing: a failover loses the latest."""
        tail = waited.tail
        if tail.top > self._expected:
            expected = self._expected
        if expected <= self.mirror.position or (tail.top < expected and not waited.is_complete):
            return True
        return any(logged.position == expected for logged in tail.rows)

    def _take(self, tail: Tail) -> None:
        if tail.rows:
            self.mirror.extend(tail.rows)
            self._subscribers.publish(Invalidated(tail.rows))

    async def _start_over(self) -> None:
        """What we have read was lost: let the log say so, once for everybody, and read it anew."""
        sent_s = self._clock.monotonic_s()
        stood_on = self.mirror.position
        known = max(stood_on, self._expected)
        tail = await self._log.recover(known)
        if tail.holds_after and known > stood_on:
            known, tail = stood_on, await self._log.recover(stood_on)
        if tail.holds_after:  # it was there after all: a moment ago a lagging replica answered
            return
        new = [logged for logged in tail.rows if logged.position > known]
        self.mirror.reset(tail.rows)
        self._expected = START
        self._proof_s = sent_s
        self._subscribers.publish(Gap())
        self._subscribers.publish(Invalidated(new))
