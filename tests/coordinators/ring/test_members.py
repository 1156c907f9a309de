"""Nodes that come and go, and this process's view of them."""

import asyncio

import pytest

from routecache_middleware.coordinators.ring.members import Members
from routecache_middleware.core.cluster import NodeState
from routecache_middleware.core.keys import result_key
from routecache_middleware.errors import ConfigurationError, CoordinatorError
from routecache_middleware.testing.clock import FakeClock
from tests.coordinators.ring.simulated import Link, Network, Server, SimulatedNode

KEY = result_key("0" * 32, "m")


class Ring:
    """Members made of simulated nodes, all of them up."""

    def __init__(self, count: int) -> None:
        self.clock = FakeClock()
        self.network = Network()
        self.members = Members(((self.node(f"n{n}"), 1.0) for n in range(count)), self.clock)
        for member in self.members:
            self.bring_up(member.name)

    def node(self, name: str) -> SimulatedNode:
        return SimulatedNode(Server(name, self.clock), self.network, "p")

    def bring_up(self, name: str) -> None:
        member = self.members.get(name)
        assert member is not None
        member.health.answers()
        member.health.joined()

    def fail(self, name: str) -> None:
        member = self.members.get(name)
        assert member is not None
        member.health.failed(0.0, 0.0, was_refused=True)


async def test_nodes_that_are_down_are_passed_over() -> None:
    ring = Ring(4)
    order = [member.name for member in ring.members.in_line(KEY)]
    assert order == list(ring.members.placement.order_of(KEY))
    ring.fail(order[0])
    assert [member.name for member in ring.members.in_line(KEY)] == order[1:]


async def test_every_change_makes_a_new_view_and_says_what_moved() -> None:
    ring = Ring(3)
    assert (ring.members.view_version, ring.members.moved_share) == (1, 0.0)
    ring.members.add(ring.node("new"), 1.0)
    assert ring.members.view_version == 2
    assert ring.members.moved_share == pytest.approx(0.25, abs=0.02)
    ring.members.remove("new")
    assert ring.members.view_version == 3
    assert ring.members.moved_share == pytest.approx(0.25, abs=0.02)


async def test_the_last_node_stays() -> None:
    ring = Ring(2)
    ring.members.remove("n0")
    with pytest.raises(ConfigurationError, match="last of its ring"):
        ring.members.remove("n1")
    assert len(ring.members) == 1


async def test_the_last_node_in_view_stays_in_view() -> None:
    ring = Ring(2)
    first, second = ring.members
    assert ring.members.remove_from_view(first)
    assert not ring.members.remove_from_view(second)
    assert list(ring.members.placement.weights) == ["n1"]


async def test_when_the_only_node_in_view_is_unregistered_the_others_return() -> None:
    ring = Ring(2)
    first, _ = ring.members
    ring.members.remove_from_view(first)
    ring.members.remove("n1")
    assert list(ring.members.placement.weights) == ["n0"]


async def test_a_node_that_returns_to_view_gets_its_keys_back() -> None:
    ring = Ring(3)
    before = ring.members.placement.partitions_per_node()
    first = next(iter(ring.members))
    ring.members.remove_from_view(first)
    ring.members.return_to_view(first)
    assert ring.members.placement.partitions_per_node() == before
    assert ring.members.view_version == 3
    ring.members.return_to_view(first)
    assert ring.members.view_version == 3


@pytest.mark.parametrize("weight", [0.0, -1.0, 1001.0, float("nan"), float("inf")])
async def test_a_weight_out_of_range_is_refused(weight: float) -> None:
    ring = Ring(1)
    with pytest.raises(ConfigurationError, match="weight"):
        ring.members.add(ring.node("new"), weight)
    assert ring.members.view_version == 1


async def test_a_node_is_in_the_ring_once() -> None:
    ring = Ring(2)
    with pytest.raises(ConfigurationError, match="twice"):
        ring.members.add(ring.node("n1"), 1.0)
    with pytest.raises(ConfigurationError, match="no node 'other'"):
        ring.members.remove("other")


def test_a_ring_needs_a_node() -> None:
    with pytest.raises(ConfigurationError, match="no node"):
        Members((), FakeClock())


async def test_what_a_node_was_asked_is_counted() -> None:
    ring = Ring(1)
    (member,) = ring.members
    await member.ask(member.node.ping(), 1.0)
    assert (member.ops, member.errors) == (1, 0)
    ring.network.links["p", "n0"] = Link.REFUSED
    with pytest.raises(CoordinatorError):
        await member.ask(member.node.ping(), 1.0)
    assert (member.ops, member.errors) == (2, 1)
    assert member.health.state is NodeState.DOWN


async def test_no_answer_in_time_is_a_failure() -> None:
    ring = Ring(1)
    (member,) = ring.members
    ring.network.links["p", "n0"] = Link.HUNG
    with pytest.raises(CoordinatorError, match="in time"):
        await member.ask(member.node.ping(), 0.01)
    assert member.health.state is NodeState.SUSPECT


async def test_a_process_that_overslept_does_not_blame_the_node() -> None:
    """Stopped for a second, it finds every deadline passed and every answer waiting."""
    ring = Ring(1)
    (member,) = ring.members
    ring.network.links["p", "n0"] = Link.HUNG
    asyncio.get_running_loop().call_later(0.001, ring.clock.advance, 1.0)
    with pytest.raises(CoordinatorError):
        await member.ask(member.node.ping(), 0.01)
    assert member.health.state is NodeState.UP


async def test_a_caller_who_leaves_is_no_failure_of_the_node() -> None:
    ring = Ring(1)
    (member,) = ring.members
    ring.network.links["p", "n0"] = Link.HUNG
    task = asyncio.ensure_future(member.ask(member.node.ping(), 1.0))
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait((task,))
    assert (member.errors, member.health.state) == (0, NodeState.UP)
