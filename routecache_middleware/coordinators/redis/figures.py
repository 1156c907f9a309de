"""What servers tell of themselves: keys, memory, role, replicas."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from routecache_middleware.coordinators.redis.failures import is_error
from routecache_middleware.coordinators.redis.keys import Keys
from routecache_middleware.coordinators.redis.link import Command, Link, NodeUse
from routecache_middleware.coordinators.redis.links import Links
from routecache_middleware.core.cluster import NodeState, NodeStats, ServerFacts
from routecache_middleware.core.keys import Layer

__all__ = ["QUESTIONS", "Answers", "Shares", "node_stats"]

_SAMPLES = 16
QUESTIONS: Sequence[Command] = (
    ("DBSIZE",),
    ("INFO", "memory"),
    ("INFO", "replication"),
    ("INFO", "server"),
    ("TIME",),
    *((("RANDOMKEY",),) * _SAMPLES),
)
"""What to ask a server; the replies go to :meth:`Answers.of`."""


@dataclass(frozen=True, slots=True)
class Answers:
    """A server's answers to :data:`QUESTIONS`.

    Attributes:
        keys: Keys of the database, whoever wrote them.
        memory_bytes: Memory in use.
        is_primary: Whether it takes writes.
        replicas: Names of the replicas that follow it.
        names: A few keys by chance.
        server: What the server says of itself.
    """

    keys: int
    memory_bytes: int
    is_primary: bool
    replicas: Sequence[str]
    names: Sequence[bytes]
    server: ServerFacts

    @classmethod
    def of(cls, replies: Sequence[Any]) -> "Answers | None":
        """Read the replies; None when the server would not say."""
        if any(map(is_error, replies)):
            return None
        keys, memory, replication, server, time, *names = replies
        memory, replication, server = _info(memory), _info(replication), _info(server)
        return cls(
            keys=int(keys),
            memory_bytes=int(memory.get("used_memory", 0)),
            is_primary=replication.get("role") == "master",
            replicas=tuple(_replicas(replication)),
            names=[name for name in names if name is not None],
            server=ServerFacts(
                version=_version(server),
                memory_limit_bytes=int(memory.get("maxmemory", 0)),
                memory_policy=memory.get("maxmemory_policy", ""),
                clock_s=int(time[0]) + int(time[1]) / 1e6,
            ),
        )


class Shares:
    """Estimates from keys picked by chance how many belong to which layer, and how large they are.

    Of a size the key and the value count, not what the server needs besides.
    """

    __slots__ = ("_bytes", "_counts", "_keys", "_total")

    _KEEPS = 0.8  # of what was counted before, with each new sample

    def __init__(self, keys: Keys) -> None:
        self._keys = keys
        self._counts = dict.fromkeys(Layer, 0.0)
        self._bytes = dict.fromkeys(Layer, 0.0)
        self._total = 0.0

    def add(self, names: Sequence[bytes], sizes: Mapping[bytes, int]) -> None:
        """Count names picked by chance; ``sizes``: of the values, as far as they are known."""
        self._total = self._total * self._KEEPS + len(names)
        found, taken = Counter(map(self._keys.layer_of, names)), Counter[Layer | None]()
        for name in names:
            taken[self._keys.layer_of(name)] += len(name) + sizes.get(name, 0)
        for layer in Layer:
            self._counts[layer] = self._counts[layer] * self._KEEPS + found[layer]
            self._bytes[layer] = self._bytes[layer] * self._KEEPS + taken[layer]

    def of(self, layer: Layer) -> float:
        """Share of all keys that are entries of ``layer``, 0..1."""
        return self._counts[layer] / self._total if self._total else 0.0

    def bytes_of(self, layer: Layer, keys: int) -> int:
        """Bytes that the entries of ``layer`` take, when there are so many keys in all."""
        return round(keys * self._bytes[layer] / self._total) if self._total else 0

    async def ask_sizes(self, link: Link, names: Sequence[bytes]) -> dict[bytes, int]:
        """Ask for the sizes of values; what the server will not say is left out.

        Raises:
            CoordinatorError: It does not answer.
        """
        ours = [name for name in dict.fromkeys(names) if self._keys.layer_of(name) is not None]
        replies = await link.batch([("STRLEN", name) for name in ours]) if ours else []
        pairs = zip(ours, replies, strict=True)
        return {name: int(reply) for name, reply in pairs if not is_error(reply)}


async def node_stats(links: Links) -> list[NodeStats]:
    """Ask every node for its figures; those that do not answer are down.

    Raises:
        CoordinatorError: Nobody knows which nodes there are.
    """
    if links.cluster is not None:
        asked = await links.cluster.ask_all(QUESTIONS, replicas=True)
        found = [_stats(str(node), replies, links.cluster) for node, replies in asked]
        found += _missing(found, links.cluster)
        return found + _missing(found, links.log)
    replies = await links.log.batch(QUESTIONS)
    name = str(links.log.node)
    answers = Answers.of(replies)
    replicas = [] if answers is None else answers.replicas
    behind = [NodeStats(name=replica, role="replica") for replica in replicas]
    return [_stats(name, replies, links.log), *behind]


def _missing(found: Sequence[NodeStats], link: Link) -> list[NodeStats]:
    """Return the nodes that served us, failed, and are not of the Cluster any more."""
    known = {node.name for node in found}
    gone = [name for name, use in link.uses.items() if use.errors and name not in known]
    return [_stats(name, None, link) for name in sorted(gone)]


def _stats(name: str, replies: Sequence[Any] | None, link: Link) -> NodeStats:
    use = link.uses.get(name, NodeUse())
    answers = None if replies is None else Answers.of(replies)
    return NodeStats(
        name=name,
        state=NodeState.UP if answers is not None else NodeState.DOWN,
        role="primary" if answers is None or answers.is_primary else "replica",
        keys=0 if answers is None else answers.keys,
        bytes=0 if answers is None else answers.memory_bytes,
        ops=use.ops,
        errors=use.errors,
        latency_ms=use.latency_ms,
        server=None if answers is None else answers.server,
    )


def _version(server: Mapping[str, str]) -> str:
    # Valkey tells the version of Redis that it is compatible with as well.
    for name in ("valkey", "redis"):
        if f"{name}_version" in server:
            return f"{name} {server[f'{name}_version']}"
    return ""


def _info(reply: bytes | Mapping[str, Any]) -> Mapping[str, str]:
    """Return a section of INFO; the driver's cluster client has taken it apart already."""
    if isinstance(reply, Mapping):
        return {name: str(value) for name, value in reply.items()}
    pairs = (line.partition(":") for line in reply.decode(errors="replace").splitlines())
    return {name: value for name, colon, value in pairs if colon}


def _replicas(replication: Mapping[str, str]) -> list[str]:
    found = []
    for number in range(int(replication.get("connected_slaves", 0))):
        parts = (part.partition("=") for part in replication.get(f"slave{number}", "").split(","))
        replica = {name: value for name, _, value in parts}
        if replica.get("state") == "online":
            found.append(f"{replica['ip']}:{replica['port']}")
    return found
