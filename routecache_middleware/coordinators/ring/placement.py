"""Placement: which node keeps which key. Pure, and the same in every process with the same nodes.

A key belongs to one of 4,096 partitions. Each partition ranks the nodes by weighted rendezvous
hashing: a node of weight w whose hash in the partition is u, in 0..1, scores ln(u) / w, and the
best score comes first. Whatever node joins or leaves, the others keep their order, so a key moves
only to the node that came, or from the node that went.

The hashes of one node are spread evenly over 0..1 by using their rank instead of their value.
Measured over 60 random sets of ten nodes that takes the fullest node's excess over the mean from
7.7 % to 5 % on average, and from 14.5 % to 8.4 % at worst.
"""

import math
from collections.abc import Mapping, Sequence
from functools import lru_cache

import xxhash

from routecache_middleware.core.keys import CacheKey

__all__ = ["PARTITIONS", "Placement", "moved_share", "partition_of"]

PARTITIONS = 4096
"""How many partitions there are. Processes of one fleet have to agree on it."""


def partition_of(key: CacheKey) -> int:
    """Return the partition of a key."""
    return xxhash.xxh3_64_intdigest(key.encode()) % PARTITIONS


class Placement:
    """The nodes in order of preference, for every partition. Immutable.

    Building it takes about 2 ms per node that was never seen before, and 1.5 ms per node else.

    Attributes:
        weights: Each node's share of the keys, relative to the others'.
    """

    __slots__ = ("_orders", "weights")

    def __init__(self, weights: Mapping[str, float]) -> None:
        """Rank the nodes.

        Args:
            weights: Name of each node, at least one, and its weight, greater than 0.
        """
        self.weights = dict(weights)
        names = sorted(weights)  # a tie must be broken alike everywhere
        columns = [_scores(name, weights[name]) for name in names]
        self._orders = [
            tuple(name for _, name in sorted(zip(scores, names, strict=True), reverse=True))
            for scores in zip(*columns, strict=True)
        ]

    def order_of(self, key: CacheKey) -> Sequence[str]:
        """Return all nodes, the one that the key belongs to first, then who stands in for it."""
        return self._orders[partition_of(key)]

    def owner(self, partition: int) -> str:
        """Return the node that a partition belongs to."""
        return self._orders[partition][0]

    def partitions_per_node(self) -> dict[str, int]:
        """How many partitions belong to each node."""
        counts = dict.fromkeys(self.weights, 0)
        for order in self._orders:
            counts[order[0]] += 1
        return counts

    def imbalance(self) -> float:
        """How much the fullest node holds compared to its fair share; 1.0 is perfect."""
        total = sum(self.weights.values())
        return max(
            count / PARTITIONS * total / self.weights[name]
            for name, count in self.partitions_per_node().items()
        )


def moved_share(before: Placement, after: Placement) -> float:
    """Return the share of all partitions that belong to another node ``after``; 0..1."""
    moved = sum(before.owner(number) != after.owner(number) for number in range(PARTITIONS))
    return moved / PARTITIONS


def _scores(name: str, weight: float) -> list[float]:
    return [score / weight for score in _log_ranks(name)]


@lru_cache(maxsize=256)
def _log_ranks(name: str) -> tuple[float, ...]:
    """Return ln(u) of a node for every partition, u being spread evenly over 0..1."""
    packed = name.encode()
    hashes = [xxhash.xxh3_64_intdigest(packed, seed=number) for number in range(PARTITIONS)]
    scores = [0.0] * PARTITIONS
    for rank, number in enumerate(sorted(range(PARTITIONS), key=hashes.__getitem__)):
        # The lowest bits place it inside of its stretch, or two nodes could tie.
        within = (hashes[number] % 65_536 + 0.5) / 65_536
        scores[number] = math.log((rank + within) / PARTITIONS)
    return tuple(scores)
