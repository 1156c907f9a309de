"""The nodes of a ring: who they are, how they are, and who keeps which key for now."""

import asyncio
import math
from collections.abc import Awaitable, Iterable, Iterator
from typing import TypeVar

from routecache_middleware.coordinators.ring.health import Health
from routecache_middleware.coordinators.ring.node import RingNode
from routecache_middleware.coordinators.ring.placement import Placement, moved_share
from routecache_middleware.coordinators.url import mask_url
from routecache_middleware.core.keys import CacheKey
from routecache_middleware.core.ports import Clock
from routecache_middleware.errors import ConfigurationError, CoordinatorError

__all__ = ["Member", "Members"]

T = TypeVar("T")

_NEW_SHARE = 0.1
_MAX_WEIGHT = 1000.0
_OVERSLEPT = 2.0


class Member:
    """A node, its weight, its health, and what it was asked.

    Attributes:
        contact_s: Monotonic time of its last answer.
        error: How it failed last.
        latency_ms: Moving average of how long an answer takes.
        is_in_view: Whether it has keys of its own.
        probed_s: Monotonic time of its last probe.
    """

    __slots__ = (
        "_clock",
        "contact_s",
        "error",
        "errors",
        "health",
        "is_in_view",
        "latency_ms",
        "node",
        "ops",
        "probed_s",
        "weight",
    )

    def __init__(self, node: RingNode, weight: float, clock: Clock) -> None:
        self.node = node
        self.weight = weight
        self.health = Health(clock.monotonic_s())
        self.ops = self.errors = 0
        self.error: CoordinatorError | None = None
        self.latency_ms = 0.0
        self.contact_s = self.probed_s = -math.inf
        self.is_in_view = True
        self._clock = clock

    @property
    def name(self) -> str:
        """The node's name."""
        return self.node.name

    async def ask(self, answer: Awaitable[T], timeout_s: float) -> T:
        """Wait for an answer of the node, at most ``timeout_s``; counts for its health.

        Raises:
            CoordinatorError: It failed, or did not answer in time.
        """
        self.ops += 1
        begun_s = self._clock.monotonic_s()
        try:
            async with asyncio.timeout(timeout_s):
                result = await answer
        except CoordinatorError as error:
            self.error = error
            self._failed(begun_s, was_refused=_was_refused(error))
            raise
        except TimeoutError as error:
            # Much later than asked for means that this process has slept: not the node's fault.
            if self._clock.monotonic_s() - begun_s < _OVERSLEPT * timeout_s:
                self._failed(begun_s, was_refused=False)
            self.error = CoordinatorError("no answer in time")
            raise self.error from error
        self.contact_s = now_s = self._clock.monotonic_s()
        self.latency_ms += _NEW_SHARE * ((now_s - begun_s) * 1000 - self.latency_ms)
        self.health.succeeded()
        return result

    def _failed(self, begun_s: float, *, was_refused: bool) -> None:
        self.errors += 1
        self.health.failed(begun_s, self._clock.monotonic_s(), was_refused=was_refused)


class Members:
    """All nodes, and this process's view of them: the placement of keys on those in view.

    Attributes:
        view_version: Rises with every change of the view.
        moved_share: Share of the keys that the last change moved, 0..1.
        placement: Where keys belong.
    """

    __slots__ = ("_clock", "_members", "moved_share", "placement", "view_version")

    def __init__(self, nodes: Iterable[tuple[RingNode, float]], clock: Clock) -> None:
        """Begin with these nodes and their weights, at least one.

        Raises:
            ConfigurationError: There is none, one is named twice, or a weight is out of range.
        """
        self._clock = clock
        self._members: dict[str, Member] = {}
        for node, weight in nodes:
            self._admit(node, weight)
        if not self._members:
            raise ConfigurationError("a ring has no node; it needs at least one, host:port")
        self.placement = Placement({one.name: one.weight for one in self._members.values()})
        self.view_version = 1
        self.moved_share = 0.0

    def __iter__(self) -> Iterator[Member]:
        return iter(self._members.values())

    def __len__(self) -> int:
        return len(self._members)

    def get(self, name: str) -> Member | None:
        """Return a node by its name."""
        return self._members.get(name)

    def serving(self) -> list[Member]:
        """Return the nodes that are asked: up or suspect."""
        return [member for member in self._members.values() if member.health.is_serving]

    def in_line(self, key: CacheKey) -> list[Member]:
        """Return the nodes to ask for a key, in order; those that are not asked are left out."""
        members = self._members
        order = [members[name] for name in self.placement.order_of(key)]
        return [member for member in order if member.health.is_serving]

    def silence(self) -> CoordinatorError:
        """Return the error to raise when no node answers; its text tells how one of them failed."""
        errors = (member.error for member in self._members.values())
        cause = next((error for error in errors if error is not None), None)
        failure = CoordinatorError(f"no node of the ring answers ({cause or 'none was asked'})")
        failure.__cause__ = cause
        return failure

    def add(self, node: RingNode, weight: float) -> Member:
        """Add a node.

        Raises:
            ConfigurationError: It is there already, or its weight is out of range.
        """
        member = self._admit(node, weight)
        self._change_view()
        return member

    def remove(self, name: str) -> Member:
        """Remove a node.

        Raises:
            ConfigurationError: There is no such node, or it is the last one.
        """
        if name not in self._members:
            known = ", ".join(self._members)
            raise ConfigurationError(f"ring has no node {mask_url(name)!r}; it has {known}")
        if len(self._members) == 1:
            raise ConfigurationError(f"node {name!r} is the last of its ring; register one first")
        member = self._members.pop(name)
        if not any(other.is_in_view for other in self._members.values()):
            for other in self._members.values():
                other.is_in_view = True
        self._change_view()
        return member

    def remove_from_view(self, member: Member) -> bool:
        """Give the keys of a node to the others, unless it is the last one in view."""
        if not member.is_in_view or sum(other.is_in_view for other in self._members.values()) == 1:
            return False
        member.is_in_view = False
        self._change_view()
        return True

    def return_to_view(self, member: Member) -> None:
        """Give its keys back to a node."""
        if not member.is_in_view:
            member.is_in_view = True
            self._change_view()

    def _admit(self, node: RingNode, weight: float) -> Member:
        if node.name in self._members:
            raise ConfigurationError(f"ring has node {node.name!r} twice; each node once")
        if not 0 < weight <= _MAX_WEIGHT:
            raise ConfigurationError(
                f"weight of node {node.name!r} is {weight!r}; it has to be more than 0 and at most "
                f"{_MAX_WEIGHT:g}"
            )
        member = Member(node, weight, self._clock)
        self._members[member.name] = member
        return member

    def _change_view(self) -> None:
        before = self.placement
        in_view = (member for member in self._members.values() if member.is_in_view)
        self.placement = Placement({member.name: member.weight for member in in_view})
        self.moved_share = moved_share(before, self.placement)
        self.view_version += 1


def _was_refused(error: BaseException | None) -> bool:
    """Whether a chain of errors ends in a refused connection: then nobody listens there."""
    while error is not None:
        if isinstance(error, ConnectionRefusedError):
            return True
        error = error.__cause__ or error.__context__
    return False
