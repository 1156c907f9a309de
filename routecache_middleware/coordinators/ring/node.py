"""What the ring asks of one node."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from routecache_middleware.coordinators.redis.entries import MAX_LIFE_S
from routecache_middleware.core.cluster import ProcessStats, ServerFacts
from routecache_middleware.core.invalidation import InvalidationRow, LoggedRow
from routecache_middleware.core.keys import CacheKey, Layer
from routecache_middleware.core.models import START, Entry, Position
from routecache_middleware.core.ports import Acquired, CoordinatorEvent, CoordinatorStats

__all__ = ["SPENT_S", "NodeFigures", "NodeTail", "RingNode", "position_at"]

SPENT_S = MAX_LIFE_S + 3_600.0
"""A row that is older voids nothing any more, seconds: no entry lives so long, and a call may begin
an hour before its answer is stored."""

# Positions count in 2**-20 milliseconds of Unix time, as the nodes' own logs do.
_SHIFT = 20


def position_at(time_s: float) -> Position:
    """Return the first position of a Unix time."""
    return Position(max(START, int(time_s * 1000) << _SHIFT))


_SPENT = position_at(SPENT_S)


@dataclass(frozen=True, slots=True)
class NodeTail:
    """The end of one node's log.

    Attributes:
        rows: The rows after the position asked for, oldest first.
        holds_after: Whether the log still holds the row at the position asked for. Always, when
            that is ``START``. When not, ``rows`` are of no use.
        now: What the node's own clock showed, as a position; ``START`` when that is not known.
    """

    rows: Sequence[LoggedRow]
    holds_after: bool = True
    now: Position = START

    @property
    def spent(self) -> Position:
        """Rows up to here void nothing any more, by the node's clock: it may have trimmed them."""
        return Position(max(START, self.now - _SPENT))


@dataclass(frozen=True, slots=True)
class NodeFigures:
    """What a node says of itself: keys, memory in bytes, the processes that use it, its server."""

    keys: int = 0
    bytes: int = 0
    processes: tuple[ProcessStats, ...] = ()
    server: ServerFacts | None = None


class RingNode(Protocol):
    """One independent node: entries, leases, and a log whose positions the ring chooses.

    It keeps a row of its log for longer than ``SPENT_S`` after the row's position, by its own
    clock, and the last row for ever.
    Every method raises ``CoordinatorError`` when the node does not do what it was asked.
    """

    @property
    def name(self) -> str:
        """Its address without credentials. Processes of one fleet have to name it alike."""

    async def open(self) -> None:
        """Make ready for use in the running event loop; idempotent. Need not connect."""

    async def aclose(self) -> None:
        """Release everything; idempotent; it may be opened again."""

    async def ping(self) -> None:
        """Make sure that it answers."""

    async def fetch(self, keys: Sequence[CacheKey]) -> Sequence[Entry | None]:
        """Read entries; one per key, in order."""

    async def store(self, key: CacheKey, entry: Entry, *, token: str | None, form: str) -> bool:
        """As the coordinator's."""

    async def delete(self, key: CacheKey) -> None:
        """As the coordinator's."""

    async def acquire(
        self,
        key: CacheKey,
        *,
        token: str,
        ttl_s: float,
        form: str,
        position: Position,
        since: Position,
        seen: Entry | None,
    ) -> Acquired:
        """As the coordinator's."""

    async def renew(self, key: CacheKey, *, token: str, ttl_s: float, form: str) -> bool:
        """As the coordinator's."""

    async def release(self, key: CacheKey, *, token: str, form: str, parallel_s: float) -> bool:
        """As the coordinator's; says whether the lease was held."""

    async def sample(self, layer: Layer, limit: int) -> Sequence[tuple[CacheKey, Entry]]:
        """As the coordinator's."""

    async def tail(self, after: Position) -> NodeTail:
        """Read its log from ``after`` on, ``after`` being ``START`` or the position of a row."""

    async def append_at(self, rows: Sequence[InvalidationRow], at: Position) -> bool:
        """Append rows at ``at`` and the positions following it, all or none.

        Returns:
            False when the log has reached ``at`` or a later position, and is left as it was.
        """

    async def begin(self, known: Position) -> None:
        """Let a log that has no row at all begin with one for everything, after ``known``."""

    async def wait(self, after: Position, block_s: float) -> Sequence[CoordinatorEvent]:
        """Wait until its log has a row after ``after``, or it has news of leases and fills.

        Returns:
            The news, the log's rows not among them; nothing when nothing happened in ``block_s``.
        """

    async def announce(self, position: Position) -> None:
        """Tell other processes how far this one has read the log."""

    async def figures(self) -> NodeFigures:
        """Ask it for its figures."""

    def stats(self) -> CoordinatorStats:
        """What is known of it without asking."""
