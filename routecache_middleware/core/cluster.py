"""What a coordinator says about the nodes and processes it consists of."""

from dataclasses import dataclass
from enum import StrEnum

from routecache_middleware.core.models import START, Position

__all__ = ["ClusterStats", "NodeState", "NodeStats", "ProcessStats", "ServerFacts"]


class NodeState(StrEnum):
    """How a node is, as this process sees it."""

    UP = "up"
    SUSPECT = "suspect"
    """Failed lately; still asked."""
    DOWN = "down"
    """Not asked; the next node in line takes its place."""
    JOINING = "joining"
    """Answers again, and is brought up to date before it is asked."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerFacts:
    """What the server of a node says of itself.

    Attributes:
        version: Its version, and whose, such as ``valkey 9.1.0``.
        memory_limit_bytes: How much memory it may use; 0: as much as there is.
        memory_policy: What it does at that limit, such as ``allkeys-lfu``.
        clock_s: Its clock when it said so, Unix seconds.
    """

    version: str = ""
    memory_limit_bytes: int = 0
    memory_policy: str = ""
    clock_s: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeStats:
    """One node.

    Attributes:
        name: Its address without credentials, such as ``cache-1:6379``.
        state: How it is, as this process sees it.
        role: ``primary`` or ``replica``.
        weight: Its share of the keys, relative to the others'.
        keys: Keys it holds, whoever wrote them; an estimate of the server's.
        bytes: Memory it uses, bytes.
        ops: Operations this process has sent to it.
        errors: Those of them that failed.
        latency_ms: Moving average of their duration, milliseconds.
        server: What its server says of itself; None: nothing, or it did not answer.
    """

    name: str
    state: NodeState = NodeState.UP
    role: str = "primary"
    weight: float = 1.0
    keys: int = 0
    bytes: int = 0
    ops: int = 0
    errors: int = 0
    latency_ms: float = 0.0
    server: ServerFacts | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessStats:
    """One process that uses the coordinator.

    Attributes:
        process: Host name and process id, such as ``gateway-1:4711``.
        position: How far it had read the invalidation log.
        age_s: How long ago it said so, seconds.
    """

    process: str
    position: Position
    age_s: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterStats:
    """All nodes and processes.

    Attributes:
        nodes: The nodes, those that are down included.
        processes: The processes that have told how far they have read, this one first.
        position: Where the invalidation log ends.
        view_version: Rises when a node is registered, unregistered or removed.
        moved_share: Share of all keys that the latest change of the nodes moved, 0..1.
        imbalance: Keys of the fullest node divided by the mean; weights are taken into account.
    """

    nodes: tuple[NodeStats, ...] = ()
    processes: tuple[ProcessStats, ...] = ()
    position: Position = START
    view_version: int = 1
    moved_share: float = 0.0
    imbalance: float = 1.0

    def count(self, state: NodeState) -> int:
        """How many nodes are in a state."""
        return sum(node.state is state for node in self.nodes)
