"""Asking the node of a key, and who stands in for it when it fails."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import TypeVar

from routecache_middleware.coordinators.ring.members import Member, Members
from routecache_middleware.coordinators.ring.node import RingNode
from routecache_middleware.core.keys import CacheKey, Layer
from routecache_middleware.core.models import Entry
from routecache_middleware.core.ports import Clock
from routecache_middleware.errors import CoordinatorError

__all__ = ["Asking"]

T = TypeVar("T")

_INSPECT_S = 0.25


class Asking:
    """Asks the nodes of a key in turn, until one answers or the time is over.

    The node of a key that fails is a miss at worst: its stand-in has no such entry, or takes it.

    Attributes:
        attempt_s: How long one node may take.
    """

    def __init__(
        self, members: Members, *, clock: Clock, attempt_s: float, deadline_s: float
    ) -> None:
        """Prepare.

        Args:
            members: The nodes.
            clock: For the deadline; its monotonic side.
            attempt_s: How long one node may take.
            deadline_s: How long all of them may take.
        """
        self._members = members
        self._clock = clock
        self.attempt_s = attempt_s
        self._deadline_s = deadline_s

    async def ask(
        self, key: CacheKey, call: Callable[[RingNode], Awaitable[T]], *, patience: float = 1.0
    ) -> T:
        """Return the first answer; ``patience`` multiplies the times allowed.

        Raises:
            CoordinatorError: No node answered in time.
        """
        until_s = self._clock.monotonic_s() + self._deadline_s * patience
        for member in self._members.in_line(key):
            left_s = until_s - self._clock.monotonic_s()
            if left_s <= 0:
                break
            timeout_s = min(self.attempt_s * patience, left_s)
            with suppress(CoordinatorError):
                return await member.ask(call(member.node), timeout_s)
        raise self._members.silence()

    async def fetch(self, keys: Sequence[CacheKey]) -> Sequence[Entry | None]:
        """Return one entry per key, in order, each node being asked once for all of its keys.

        Raises:
            CoordinatorError: For some key no node answered in time.
        """
        if len(keys) == 1:
            return await self.ask(keys[0], lambda node: node.fetch(keys))
        found: dict[CacheKey, Entry | None] = {}
        failed: set[str] = set()
        until_s = self._clock.monotonic_s() + self._deadline_s
        missing = list(dict.fromkeys(keys))
        while missing:
            left_s = until_s - self._clock.monotonic_s()
            groups = self._groups(missing, failed) if left_s > 0 else []
            if not groups:
                raise self._members.silence()
            timeout_s = min(self.attempt_s, left_s)
            answers = await asyncio.gather(*(_fetch(*group, timeout_s) for group in groups))
            for (member, group), entries in zip(groups, answers, strict=True):
                if entries is None:
                    failed.add(member.name)
                else:
                    found.update(zip(group, entries, strict=True))
            missing = [key for key in missing if key not in found]
        return [found[key] for key in keys]

    async def sample(self, layer: Layer, limit: int) -> list[tuple[CacheKey, Entry]]:
        """Return up to ``limit`` entries of a layer, from any nodes that answer; for people.

        Raises:
            CoordinatorError: No node answered.
        """
        found: dict[CacheKey, Entry] = {}
        answers = 0
        for member in self._members.serving():
            if answers and len(found) >= limit:
                break
            with suppress(CoordinatorError):
                found.update(await member.ask(member.node.sample(layer, limit), _INSPECT_S))
                answers += 1
        if not answers:
            raise self._members.silence()
        return list(found.items())[:limit]

    def _groups(
        self, keys: Sequence[CacheKey], failed: set[str]
    ) -> list[tuple[Member, list[CacheKey]]]:
        groups: dict[str, tuple[Member, list[CacheKey]]] = {}
        for key in keys:
            line = (one for one in self._members.in_line(key) if one.name not in failed)
            member = next(line, None)
            if member is not None:
                groups.setdefault(member.name, (member, []))[1].append(key)
        return list(groups.values())


async def _fetch(
    member: Member, keys: Sequence[CacheKey], timeout_s: float
) -> Sequence[Entry | None] | None:
    try:
        return await member.ask(member.node.fetch(keys), timeout_s)
    except CoordinatorError:
        return None
