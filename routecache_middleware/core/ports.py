"""The seams: what the engine needs from a coordinator, a clock and an observer.

A coordinator keeps entries, leases and the invalidation log. It decides nothing about freshness
or currency: it hands out what it has, and the engine judges. ``CoordinatorError`` is the one error
its methods raise; a failure is never encoded as a value.
"""

from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import msgspec

from routecache_middleware.core.cluster import ClusterStats
from routecache_middleware.core.events import (
    Finished,
    Operation,
    RequestFinished,
)
from routecache_middleware.core.invalidation import InvalidationRow, LoggedRow
from routecache_middleware.core.keys import CacheKey, Layer
from routecache_middleware.core.models import START, Entry, Position

__all__ = [
    "Acquired",
    "AppendReceipt",
    "Clock",
    "Coordinator",
    "CoordinatorEvent",
    "CoordinatorStats",
    "Entering",
    "Fetched",
    "Filled",
    "Follower",
    "Found",
    "Gap",
    "Invalidated",
    "LayerUsage",
    "Leader",
    "MetricSink",
    "Observer",
    "OpenOperation",
    "Parallel",
    "Probed",
    "ProvenLog",
    "QuietObserver",
    "Released",
    "SynchronousReads",
]


class Clock(Protocol):
    """Time as the engine sees it."""

    def now_s(self) -> float:
        """Wall clock, Unix seconds: for everything that is stored."""

    def monotonic_s(self) -> float:
        """Monotonic clock, seconds: for durations inside this process."""


class Fetched(msgspec.Struct, frozen=True):
    """One read of a coordinator, atomic as far as the coordinator can make it.

    Attributes:
        entries: One per requested key, in order; None where there is nothing.
        position: How far the log reached when ``entries`` were read.
        rows: The log's rows after the position the caller named, oldest first.
        is_rewound: The log no longer holds what the caller named (flushed, restarted, failed over):
            everything the caller knows is void and nothing older than ``position`` is current.
            ``position`` is then still greater than every position ever handed out before.
    """

    entries: Sequence[Entry | None]
    position: Position
    rows: Sequence[LoggedRow] = ()
    is_rewound: bool = False


@dataclass(frozen=True, slots=True)
class Leader:
    """The caller holds the lease; ``token`` fences its store."""

    token: str


@dataclass(frozen=True, slots=True)
class Follower:
    """Somebody else holds the lease for at most ``remaining_s`` more seconds unless renewed."""

    remaining_s: float


@dataclass(frozen=True, slots=True)
class Found:
    """The entry appeared between the lookup and the acquire."""

    entry: Entry


@dataclass(frozen=True, slots=True)
class Parallel:
    """Answers under this key turned out not to be shareable: nobody waits for the next seconds."""

    remaining_s: float


Acquired = Leader | Follower | Found | Parallel


@dataclass(frozen=True, slots=True)
class AppendReceipt:
    """Where the appended rows ended up, and how many replicas confirmed them."""

    position: Position
    replicas_acknowledged: int = 0


@dataclass(frozen=True, slots=True)
class Invalidated:
    """Rows were appended to the log."""

    rows: Sequence[LoggedRow]


@dataclass(frozen=True, slots=True)
class Filled:
    """An entry was stored by somebody else."""

    key: CacheKey


@dataclass(frozen=True, slots=True)
class Released:
    """A lease of a key was given back without an entry: whoever waited should ask again."""

    key: CacheKey


@dataclass(frozen=True, slots=True)
class Gap:
    """Events may have been lost; the log's tail has to be read again."""


CoordinatorEvent = Invalidated | Filled | Released | Gap


@dataclass(frozen=True, slots=True)
class LayerUsage:
    """What one layer holds: entries, bytes (bookkeeping included), limit, evicted so far.

    ``is_estimate``: entries and bytes are estimates of what a server holds, which knows no limit of
    ours: then ``limit_bytes`` is that of one entry.
    """

    entries: int = 0
    bytes: int = 0
    limit_bytes: int = 0
    evictions: int = 0
    is_estimate: bool = False


@dataclass(frozen=True, slots=True)
class CoordinatorStats:
    """What a coordinator knows of itself without a scan.

    Attributes:
        layers: What each layer holds.
        nodes: Nodes in use.
        age_s: How old the figures are, seconds; 0 when they are exact.
        corrupt_entries: Stored values that could not be read and were taken for misses.
        near: What each layer holds besides in this process, in front of a shared coordinator.
    """

    layers: Mapping[Layer, LayerUsage] = field(default_factory=dict)
    nodes: int = 1
    age_s: float = 0.0
    corrupt_entries: int = 0
    near: Mapping[Layer, LayerUsage] = field(default_factory=dict)


class Coordinator(Protocol):
    """Where entries, leases and the invalidation log live."""

    @property
    def name(self) -> str:
        """A short token for spans and ``Cache-Status: ...; detail=``, such as ``memory``."""

    @property
    def is_shared(self) -> bool:
        """Whether other processes see the same entries and leases."""

    @property
    def poll_s(self) -> float:
        """How often who waits for a lease should ask again when no event wakes it, seconds."""

    async def open(self) -> None:
        """Make ready for use; idempotent."""

    async def aclose(self) -> None:
        """Release everything; idempotent; the coordinator may be opened again."""

    async def fetch(self, keys: Sequence[CacheKey], after: Position) -> Fetched:
        """Read entries together with the log's rows after ``after``. Expired entries are absent."""

    async def store(
        self, key: CacheKey, entry: Entry, *, token: str | None = None, form: str = ""
    ) -> bool:
        """Store until ``entry.expires_s``.

        False when ``token`` no longer holds the lease of ``form``, or the entry cannot fit.
        """

    async def delete(self, key: CacheKey) -> None:
        """Forget a key, to free memory. This is not how invalidation works."""

    async def acquire(
        self,
        key: CacheKey,
        *,
        token: str,
        ttl_s: float,
        form: str = "",
        position: Position = START,
        since: Position = START,
        seen: Entry | None = None,
    ) -> Acquired:
        """Take the lease of a key, or learn who has it, re-reading the entry atomically.

        Args:
            key: What is going to be filled.
            token: Identifies the caller; taking a lease again with it extends the lease.
            ttl_s: How long the lease lasts, seconds.
            form: The wire form that will be made; each form of a key has a lease of its own.
            position: The caller's captured position, kept with the lease.
            since: A lease whose holder captured earlier than this is void: what its holder makes
                was invalidated meanwhile. It is taken over, and its holder can store no more.
            seen: The entry that the caller has found useless (invalidated, say); it is not
                ``Found`` again. Nor is one that is past its freshness.
        """

    async def renew(self, key: CacheKey, *, token: str, ttl_s: float, form: str = "") -> bool:
        """Extend a lease; False when it is no longer held with ``token``."""

    async def release(
        self, key: CacheKey, *, token: str, form: str = "", parallel_s: float = 0.0
    ) -> None:
        """Give a lease back; nothing happens when it is not held with ``token``.

        ``parallel_s``: the answer cannot be shared, so for as many seconds nobody waits for another
        one: ``acquire`` says ``Parallel``.
        """

    async def append(self, rows: Sequence[InvalidationRow]) -> AppendReceipt:
        """Append to the invalidation log, in order, atomically."""

    def events(self) -> AsyncIterator[CoordinatorEvent]:
        """Yield what happens from the first ``__anext__`` on; ends when the coordinator closes."""

    async def sample(self, layer: Layer, limit: int) -> Sequence[tuple[CacheKey, Entry]]:
        """Return up to ``limit`` unexpired entries of a layer, to look at; never a full scan."""

    def stats(self) -> CoordinatorStats:
        """Return usage figures without a scan."""

    async def cluster_stats(self) -> ClusterStats:
        """Ask every node for its figures, and say which processes have read the log how far."""


class OpenOperation(Protocol):
    """An operation that telemetry was told has begun; ``finish`` is called exactly once."""

    @property
    def traceparent(self) -> str:
        """Reference for links from other spans; empty when not sampled."""

    @property
    def is_watched(self) -> bool:
        """Whether anybody is told; when not, no record need be made."""

    def finish(self, record: Finished) -> None:
        """Tell how it ended."""


class SynchronousReads(Protocol):
    """What a coordinator may offer besides: reads that never wait, without a coroutine."""

    def fetch_now(self, keys: Sequence[CacheKey], after: Position) -> Fetched | None:
        """As ``fetch``, at once; None when this read would have to wait."""


class ProvenLog(Protocol):
    """What a networked coordinator offers to a near cache: the log as read ahead of need."""

    @property
    def proof_age_s(self) -> float:
        """How long ago the log was last known to be read to its end; infinite before that."""

    def proven_position(self, within_s: float) -> Position | None:
        """Return where the log ends, as of less than ``within_s`` ago; None without that proof."""

    def tail_now(self, after: Position) -> Fetched:
        """Return the log's tail as far as it was read, with no entries and without waiting."""


class Probed(Protocol):
    """What a coordinator offers to its breaker."""

    async def probe(self, *, writes: bool) -> None:
        """Try the cheapest read, or write, that proves anything.

        Raises:
            CoordinatorError: It failed.
        """


class Observer(Protocol):
    """Somebody who watches. Whatever it raises is logged once and otherwise ignored."""

    def begin(
        self, operation: Operation, target: str, *, model: str = "", verb: str = ""
    ) -> OpenOperation:
        """An operation begins.

        Args:
            operation: What is done.
            target: The layer's value, such as ``result``, or what is invalidated.
            model: The requested model, or empty.
            verb: ``gen_ai.operation.name`` of the request, such as ``chat``, or empty.
        """

    def request(self, record: RequestFinished) -> None:
        """Tell how a whole request was answered."""


class QuietObserver(Protocol):
    """What an observer may offer besides: hits that nobody could see need not be told of."""

    @property
    def quiet_until_s(self) -> float:
        """Until when ``begin`` and ``request`` would do nothing, on ``time.perf_counter``."""


class Entering(Protocol):
    """What an observer may offer besides: to see a request as part of its caller's trace."""

    def enter(self, headers: Iterable[tuple[bytes, bytes]]) -> object | None:
        """Make that trace current, for the running task; None when there is nothing to undo."""

    def leave(self, token: object) -> None:
        """Undo it, in the same task."""


class MetricSink(Protocol):
    """Somebody who is told each value of a histogram, because it cannot be read later."""

    def record(self, metric: str, value: float, labels: tuple[str, ...]) -> None:
        """Take one value of the metric of that name; never raises."""
