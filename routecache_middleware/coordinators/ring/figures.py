"""What the nodes say of themselves, put together."""

import asyncio
from collections.abc import Iterable

from routecache_middleware.coordinators.ring.keeper import PROBE_TIMEOUT_S
from routecache_middleware.coordinators.ring.log import RingLog
from routecache_middleware.coordinators.ring.members import Member, Members
from routecache_middleware.coordinators.ring.node import NodeFigures
from routecache_middleware.core.cluster import ClusterStats, NodeStats, ProcessStats
from routecache_middleware.core.keys import Layer
from routecache_middleware.core.ports import CoordinatorStats, LayerUsage
from routecache_middleware.errors import CoordinatorError

__all__ = ["cluster_stats", "combined_stats"]


async def cluster_stats(members: Members, log: RingLog, process: str) -> ClusterStats:
    """Return figures of all nodes, and of all processes, the one named ``process`` first.

    A node that does not answer keeps its place, with no keys and no bytes.
    """
    nodes = list(members)
    figures = await asyncio.gather(*(_figures(member) for member in nodes))
    told = [one for of_node in figures for one in of_node.processes if one.process != process]
    return ClusterStats(
        nodes=tuple(map(_node_stats, nodes, figures)),
        processes=(ProcessStats(process=process, position=log.reached), *_latest(told)),
        position=log.reached,
        view_version=members.view_version,
        moved_share=members.moved_share,
        imbalance=members.placement.imbalance(),
    )


def combined_stats(members: Members) -> CoordinatorStats:
    """Add up what is known of the nodes without asking them."""
    of_nodes = [member.node.stats() for member in members]
    return CoordinatorStats(
        layers={
            layer: _sum(stats.layers.get(layer, LayerUsage()) for stats in of_nodes)
            for layer in Layer
        },
        nodes=len(members.serving()),
        age_s=max(stats.age_s for stats in of_nodes),
        corrupt_entries=sum(stats.corrupt_entries for stats in of_nodes),
    )


async def _figures(member: Member) -> NodeFigures:
    if not member.health.is_serving:
        return NodeFigures()
    try:
        return await member.ask(member.node.figures(), PROBE_TIMEOUT_S)
    except CoordinatorError:
        return NodeFigures()


def _node_stats(member: Member, figures: NodeFigures) -> NodeStats:
    return NodeStats(
        name=member.name,
        state=member.health.state,
        weight=member.weight,
        keys=figures.keys,
        bytes=figures.bytes,
        ops=member.ops,
        errors=member.errors,
        latency_ms=member.latency_ms,
        server=figures.server,
    )


def _latest(told: Iterable[ProcessStats]) -> list[ProcessStats]:
    """Return what each process told last; it tells every node, and may have reached some only."""
    latest: dict[str, ProcessStats] = {}
    for one in told:
        if one.process not in latest or one.age_s < latest[one.process].age_s:
            latest[one.process] = one
    return [latest[name] for name in sorted(latest)]


def _sum(usages: Iterable[LayerUsage]) -> LayerUsage:
    total = LayerUsage()
    for one in usages:
        total = LayerUsage(
            total.entries + one.entries,
            total.bytes + one.bytes,
            total.limit_bytes + one.limit_bytes,
            total.evictions + one.evictions,
            one.is_estimate,
        )
    return total
