"""One request that asks for the lease of a key: it is granted, or waits, or need not make it."""

import asyncio
from collections.abc import Sequence
from enum import Enum, auto
from random import uniform
from typing import Protocol, assert_never
from uuid import uuid4

import msgspec
from cachetools import FIFOCache

from routecache_middleware.core.budget import open_budget
from routecache_middleware.core.directives import NO_DIRECTIVES, Directives
from routecache_middleware.core.invalidation import InvalidationTable
from routecache_middleware.core.keys import CacheKey
from routecache_middleware.core.models import Entry, Position, Scope
from routecache_middleware.core.plan import Forward, Serve
from routecache_middleware.core.ports import (
    Acquired,
    Coordinator,
    Follower,
    Found,
    Leader,
    Parallel,
)
from routecache_middleware.core.settings import Settings
from routecache_middleware.engine.background import Background
from routecache_middleware.engine.leases import FAILING_S, Lease
from routecache_middleware.engine.recorder import Waited
from routecache_middleware.engine.wakeups import WakeUps

__all__ = [
    "Alone",
    "Claim",
    "Host",
    "Joined",
    "Led",
    "Markers",
    "Served",
    "Terms",
    "Why",
    "how_waited",
]

_MARKERS = 4096
_LONGEST_PAUSE_S = 1.0
_MOST_PAUSES = 5  # a coordinator that wants to be asked often is asked less often by and by
_MAX_FOUND = 3  # useless entries in a row: somebody stores them as fast as they are read


class Terms(msgspec.Struct, frozen=True):
    """What is claimed, and on what terms.

    Attributes:
        key: What is wanted.
        form: Its wire form; each has a lease of its own.
        scopes: What invalidates it, as far as known before it is made.
        max_wait_s: How long to wait for somebody else, seconds.
        asked: The age, staleness and freshness of an entry that are accepted.
        tags: Their invalidation counts also for entries stored without them.
        is_promoted: Somebody in this process has just failed to make it.
        seen: An entry that the lookup has found useless.
    """

    key: CacheKey
    form: str
    scopes: tuple[Scope, ...]
    max_wait_s: float
    asked: Directives = NO_DIRECTIVES
    tags: tuple[str, ...] = ()
    is_promoted: bool = False
    seen: Entry | None = None


class Why(Enum):
    """Why a request goes alone."""

    WAITED_TOO_LONG = auto()
    """Somebody else is still at it, so what is made is stored only if the lease is free then."""
    PARALLEL = auto()
    """Answers under this key could not be stored lately: nobody waits."""
    FAILING = auto()
    """As ``PARALLEL``, and because the upstream fails: here too nobody should wait."""
    OWED = auto()
    """It was invalidated and that could not be recorded yet: nothing stored can be used here."""
    ERROR = auto()
    """The coordinator failed."""


class Led(msgspec.Struct, frozen=True):
    """Make it, for everybody. ``position`` is the captured position to store it with."""

    lease: Lease
    position: Position


class Served(msgspec.Struct, frozen=True):
    """Somebody else has made it."""

    plan: Serve


class Alone(msgspec.Struct, frozen=True):
    """Make it, for this process. ``position`` is the captured position to store it with."""

    why: Why
    position: Position


Joined = Led | Served | Alone


def how_waited(joined: Joined | None) -> Waited:
    """Return how a wait that ended so counts; None: whoever waited left."""
    if isinstance(joined, Served):
        return Waited.SHARED
    is_late = isinstance(joined, Alone) and joined.why is Why.WAITED_TOO_LONG
    return Waited.TIMEOUT if is_late else Waited.LEADER_FAILED


class Host(Protocol):
    """What the engine tells a fleet."""

    coordinator: Coordinator
    settings: Settings
    background: Background
    table: InvalidationTable

    def latest(self, key: CacheKey, scopes: Sequence[Scope]) -> Position | None:
        """Where it was last invalidated; None when that could not be recorded yet."""

    def judge(
        self, key: CacheKey, entry: Entry, asked: Directives, tags: tuple[str, ...]
    ) -> Serve | Forward:
        """Whether an entry may be served."""

    async def catch_up(self) -> None:
        """Read the log's tail; raises what the coordinator raises."""


class Markers:
    """What nobody waits for at present. Hints: losing one to the size bound costs a question."""

    __slots__ = ("_until_s",)

    def __init__(self) -> None:
        self._until_s: FIFOCache[str, float] = FIFOCache(_MARKERS)

    def put(self, name: str, seconds: float) -> Why:
        """Remember for so long that nobody waits for ``name``, and say why."""
        self._until_s[name] = asyncio.get_running_loop().time() + seconds
        return Why.FAILING if seconds <= FAILING_S else Why.PARALLEL

    def get(self, name: str) -> Why | None:
        """Why nobody waits for ``name`` now, or None when that is not so."""
        if not self._until_s:
            return None
        left_s = self._until_s.get(name, 0.0) - asyncio.get_running_loop().time()
        if left_s <= 0:
            self._until_s.pop(name, None)
            return None
        return Why.FAILING if left_s <= FAILING_S else Why.PARALLEL


class Claim:
    """One request on its way to a lease.

    Attributes:
        has_waited: It has waited for somebody else.
        seen: An entry that turned out to be of no use; it is not offered again.
    """

    __slots__ = (
        "_gives_up_s",
        "_host",
        "_markers",
        "_name",
        "_terms",
        "_token",
        "_wakeups",
        "has_waited",
        "seen",
    )

    def __init__(self, host: Host, markers: Markers, wakeups: WakeUps, terms: Terms) -> None:
        """Ask for nothing yet."""
        self._host = host
        self._markers = markers
        self._wakeups = wakeups
        self._terms = terms
        self._name = f"{terms.key}|{terms.form}"
        self._token = uuid4().hex
        self._gives_up_s: float | None = None
        self.has_waited = False
        self.seen = terms.seen

    async def ask(self) -> Joined | None:
        """Ask once. None: somebody else is making it; then :meth:`wait`. Raises nothing."""
        host = self._host
        for _ in range(_MAX_FOUND):
            position, since = host.table.position, host.latest(self._terms.key, self._terms.scopes)
            if since is None:
                return Alone(Why.OWED, position)
            why = self._markers.get(self._name)
            if why is not None:
                return Alone(why, position)
            try:
                acquired = await self._acquire(position, since)
                if isinstance(acquired, Found) and self.has_waited:
                    await host.catch_up()  # it may have been invalidated during that time
            except Exception:  # noqa: BLE001 - whatever it is, the request goes on without the fleet
                return Alone(Why.ERROR, position)
            if not isinstance(acquired, Found):
                return self._understood(acquired, position)
            plan = host.judge(self._terms.key, acquired.entry, self._terms.asked, self._terms.tags)
            if isinstance(plan, Serve):
                return Served(plan)
            self.seen = acquired.entry
        return Alone(Why.ERROR, host.table.position)

    def _understood(
        self, acquired: Leader | Follower | Parallel, position: Position
    ) -> Joined | None:
        match acquired:
            case Leader():
                return Led(self._lease(), position)
            case Follower():
                return None
            case Parallel(remaining_s):
                return Alone(self._markers.put(self._name, remaining_s), position)
            case _:
                assert_never(acquired)

    async def wait(self) -> Joined:
        """Wait for who is making it; asks again when told so, and now and then. Raises nothing."""
        loop, poll_s = asyncio.get_running_loop(), self._host.coordinator.poll_s
        self.has_waited = True
        if self._gives_up_s is None:
            self._gives_up_s = loop.time() + self._terms.max_wait_s
        pause_s, longest_s = poll_s, max(poll_s, min(_LONGEST_PAUSE_S, _MOST_PAUSES * poll_s))
        # Following is no part of a request's budget: who waits for a model is in no hurry, and one
        # stutter would cost another call of it.
        with open_budget(None), self._wakeups.expect(self._terms.key) as wake_up:
            while True:
                # The first time at once: what happened before anybody listened is not told.
                joined = await self.ask()
                if joined is not None:
                    return joined
                left_s = self._gives_up_s - loop.time()
                if left_s <= 0:
                    return Alone(Why.WAITED_TOO_LONG, self._host.table.position)
                # Not in step with everybody else.
                await wake_up.wait(min(left_s, pause_s * uniform(0.75, 1.25)))  # noqa: S311
                pause_s = min(2 * pause_s, longest_s)

    async def take_if_free(self, position: Position) -> Lease | None:
        """Take the lease if nobody has it and the entry is not there, to store what was made.

        That is nginx's rule for who waited too long: its answer is passed on, and stored only if
        that does not take the place of what somebody else is making. Raises nothing.
        """
        since = self._host.latest(self._terms.key, self._terms.scopes)
        if since is None:
            return None
        try:
            acquired = await self._acquire(position, since)
        except Exception:  # noqa: BLE001 - then it is not stored
            return None
        return self._lease() if isinstance(acquired, Leader) else None

    async def _acquire(self, position: Position, since: Position) -> Acquired:
        host = self._host
        try:
            return await host.coordinator.acquire(
                self._terms.key,
                token=self._token,
                ttl_s=host.settings.lease_ttl_s,
                form=self._terms.form,
                position=position,
                since=since,
                seen=self.seen,
            )
        except (Exception, asyncio.CancelledError):
            # It may have been granted all the same, and nobody would know of it.
            self._lease().give_back()
            raise

    def _lease(self) -> Lease:
        host = self._host
        return Lease(
            host.coordinator,
            host.background,
            self._terms.key,
            form=self._terms.form,
            token=self._token,
            ttl_s=host.settings.lease_ttl_s,
            is_promoted=self._terms.is_promoted or self.has_waited,
        )
