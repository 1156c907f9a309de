"""Where keys go: evenly, and only as far as they have to when nodes come and go."""

import random

import pytest
import xxhash

from routecache_middleware.coordinators.ring.placement import (
    PARTITIONS,
    Placement,
    moved_share,
    partition_of,
)
from routecache_middleware.core.keys import result_key

KEYS = [result_key(f"{number:032x}", "gpt-4o", "acme") for number in range(20_000)]

NAMINGS = ["10.0.0.{}:6379", "cache-{}:6379", "127.0.0.1:{}", "node-{}.cache.internal:6380"]


def names(count: int, naming: str = NAMINGS[0]) -> list[str]:
    return [naming.format(7000 + number) for number in range(count)]


def placement(count: int, naming: str = NAMINGS[0]) -> Placement:
    return Placement(dict.fromkeys(names(count, naming), 1.0))


def owners(of: Placement) -> list[str]:
    return [of.order_of(key)[0] for key in KEYS]


def fullest_share(of: Placement) -> float:
    """Keys of the fullest node, measured in its fair share of them."""
    found = owners(of)
    total = sum(of.weights.values())
    return max(
        found.count(name) / len(KEYS) * total / weight for name, weight in of.weights.items()
    )


def test_every_process_places_alike() -> None:
    """However the nodes are listed, and with every version: keys must not move with an upgrade."""
    listed = {"a:1": 1.0, "b:2": 2.0, "c:3": 1.0}
    back = dict(reversed(list(listed.items())))
    assert owners(Placement(listed)) == owners(Placement(back))
    packed = ",".join(map(Placement(listed).owner, range(PARTITIONS))).encode()
    assert xxhash.xxh3_64_hexdigest(packed) == "092d8291d9befb52"


def test_a_partition_is_one_of_4096() -> None:
    found = {partition_of(key) for key in KEYS}
    assert min(found) == 0
    assert max(found) == PARTITIONS - 1 == 4095


def test_each_partition_ranks_every_node_once() -> None:
    order = placement(5).order_of(KEYS[0])
    assert sorted(order) == names(5)


@pytest.mark.parametrize("naming", NAMINGS)
@pytest.mark.parametrize("count", range(2, 11))
def test_no_node_gets_a_tenth_more_than_the_mean(count: int, naming: str) -> None:
    assert fullest_share(placement(count, naming)) <= 1.1
    assert placement(count, naming).imbalance() <= 1.1


@pytest.mark.parametrize("weights", [(1, 2), (1, 1, 2), (1, 2, 3, 4), (1, 1, 1, 5), (0.5, 1, 1.5)])
def test_keys_follow_the_weights(weights: tuple[float, ...]) -> None:
    weighted = Placement(dict(zip(names(len(weights)), weights, strict=True)))
    assert fullest_share(weighted) <= 1.1


def test_random_sets_of_ten_nodes_are_balanced() -> None:
    """By value instead of by rank of the hashes, one in six such sets is not."""
    rng = random.Random(7)
    sets = [{f"{rng.getrandbits(32):x}:6379": 1.0 for _ in range(10)} for _ in range(15)]
    assert sum(Placement(one).imbalance() > 1.1 for one in sets) <= 1


@pytest.mark.parametrize("count", range(2, 11))
def test_a_new_node_takes_its_share_and_nothing_else_moves(count: int) -> None:
    before, after = placement(count), placement(count + 1)
    pairs = list(zip(owners(before), owners(after), strict=True))
    moved = [pair for pair in pairs if pair[0] != pair[1]]
    newcomer = names(count + 1)[-1]
    assert all(to == newcomer for _, to in moved)
    assert len(moved) / len(KEYS) == pytest.approx(1 / (count + 1), abs=0.02)
    assert moved_share(before, after) == pytest.approx(1 / (count + 1), abs=0.02)


@pytest.mark.parametrize("count", range(2, 11))
def test_only_the_keys_of_a_node_that_goes_move(count: int) -> None:
    before, gone = placement(count), names(count)[0]
    after = Placement(dict.fromkeys(names(count)[1:], 1.0))
    moved = [pair for pair in zip(owners(before), owners(after), strict=True) if pair[0] != pair[1]]
    assert all(source == gone for source, _ in moved)
    assert len(moved) / len(KEYS) == pytest.approx(1 / count, abs=0.02)
    targets = [to for _, to in moved]
    for heir in names(count)[1:]:  # they share it evenly; nobody gets it all
        assert targets.count(heir) / len(moved) < 1.5 / (count - 1)


def test_who_stands_in_is_who_would_own_the_key_without_the_node() -> None:
    full = placement(5)
    for key in KEYS[:20]:
        first, second, *_ = full.order_of(key)
        without = Placement({name: 1.0 for name in names(5) if name != first})
        assert without.order_of(key)[0] == second


def test_a_heavier_node_only_gains() -> None:
    before = Placement({"a:1": 1.0, "b:2": 1.0, "c:3": 1.0})
    after = Placement({"a:1": 2.0, "b:2": 1.0, "c:3": 1.0})
    pairs = zip(owners(before), owners(after), strict=True)
    assert {to for source, to in pairs if source != to} == {"a:1"}


def test_nothing_moves_between_equal_placements() -> None:
    assert moved_share(placement(4), placement(4)) == 0.0
