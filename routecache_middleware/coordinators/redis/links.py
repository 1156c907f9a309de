"""The links that a session needs, for each topology. Nothing is connected before it is used."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from routecache_middleware.coordinators.redis import driver
from routecache_middleware.coordinators.redis.address import Address, Node, Topology
from routecache_middleware.coordinators.redis.cluster_link import ClusterLink
from routecache_middleware.coordinators.redis.link import Link, Resolver, SingleLink
from routecache_middleware.coordinators.redis.pool import Pool
from routecache_middleware.coordinators.redis.reader import BLOCK_S
from routecache_middleware.core.ports import Clock

__all__ = ["Links", "connect", "connect_node"]

_READER_CONNECTIONS = 2


@dataclass(slots=True)
class Links:
    """Ways to the servers.

    Attributes:
        entries: To the entries and their leases.
        log: To the server that holds the log.
        reading: To the same, with a timeout that leaves time to wait for news.
        cluster: To the whole Cluster, if it is one; the same as ``entries``.
        refreshes: Whether to ask now and then who the primary is: one that was cut off from its
            sentinels goes on answering.
        close_more: Closes what else was opened.
    """

    entries: Link
    log: SingleLink
    reading: SingleLink
    cluster: ClusterLink | None = None
    refreshes: bool = False
    close_more: Callable[[], Awaitable[None]] | None = None

    async def aclose(self) -> None:
        """Close all of them; idempotent."""
        await asyncio.gather(self.reading.aclose(), self.log.aclose())
        if self.cluster is not None:
            await self.cluster.aclose()
        if self.close_more is not None:
            await self.close_more()


def connect(address: Address, log_key: str, clock: Clock) -> Links:
    """Return the links to what ``address`` names; ``log_key`` decides where a Cluster's log is."""
    match address.topology:
        case Topology.STANDALONE:
            return _to_server(address, _always(address.nodes[0]), clock)
        case Topology.SENTINEL:
            watchers = driver.sentinels(address)

            async def close_watchers() -> None:
                for watcher in watchers.sentinels:
                    with suppress(Exception):
                        await watcher.aclose()

            links = _to_server(address, _primary(watchers, address.service), clock)
            links.refreshes = True
            links.close_more = close_watchers
            return links
        case Topology.CLUSTER:
            return _to_cluster(address, log_key, clock)


def connect_node(address: Address, node: Node, clock: Clock) -> Links:
    """Return the links to one server among several that ``address`` names."""
    return _to_server(address, _always(node), clock)


def _to_server(address: Address, resolve: Resolver, clock: Clock) -> Links:
    link = SingleLink(resolve, _client(address, address.timeout_s), clock=clock)
    return Links(link, link, _reading(address, resolve, clock))


def _to_cluster(address: Address, log_key: str, clock: Clock) -> Links:
    client = driver.cluster(address)
    cluster = ClusterLink(client, max_connections=address.max_connections, clock=clock)

    async def resolve() -> Node:
        return await cluster.primary_of(log_key)

    log = SingleLink(resolve, _client(address, address.timeout_s), clock=clock)
    return Links(cluster, log, _reading(address, resolve, clock), cluster)


def _reading(address: Address, resolve: Resolver, clock: Clock) -> SingleLink:
    timeout_s = BLOCK_S + address.timeout_s
    connect = _client(address, timeout_s, max_connections=_READER_CONNECTIONS)
    return SingleLink(resolve, connect, clock=clock)


def _client(
    address: Address, timeout_s: float, *, max_connections: int = 0
) -> Callable[[Node], Pool]:
    limit = max_connections or address.max_connections
    return lambda node: driver.standalone(address, node, timeout_s=timeout_s, max_connections=limit)


def _always(node: Node) -> Resolver:
    async def resolve() -> Node:
        return node

    return resolve


def _primary(watchers: Any, service: str) -> Resolver:
    async def resolve() -> Node:
        host, port = await watchers.discover_master(service)
        return Node(host, int(port))

    return resolve
