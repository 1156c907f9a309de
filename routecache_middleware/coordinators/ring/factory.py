"""Builds the coordinator of ``ring://``, with its guard and its near cache."""

from dataclasses import replace
from functools import partial

from routecache_middleware.coordinators.compression import ZstdCompressor
from routecache_middleware.coordinators.redis.address import Address, Node, Topology
from routecache_middleware.coordinators.redis.driver import check_driver
from routecache_middleware.coordinators.redis.factory import limit_bytes, wrap
from routecache_middleware.coordinators.redis.links import connect_node
from routecache_middleware.coordinators.ring.coordinator import RingCoordinator
from routecache_middleware.coordinators.ring.redis_node import RedisNode
from routecache_middleware.coordinators.url import CoordinatorUrl
from routecache_middleware.core.choices import Compression
from routecache_middleware.core.codec import EntryCodec
from routecache_middleware.core.ports import Clock, Coordinator
from routecache_middleware.core.settings import Settings

__all__ = ["create", "create_bare"]

_NODE_SCHEMES = frozenset({"redis", "rediss", "valkey", "valkeys", "ring", "rings"})


def create(url: CoordinatorUrl, settings: Settings, clock: Clock) -> Coordinator:
    """Build the coordinator of ``ring://[user:password@]host:port,...?weights=2,1,...``.

    ``rings://`` is the same over TLS. User, password and options are those of ``redis://``, and
    hold for all nodes.

    Raises:
        ConfigurationError: The URL or an option is wrong, or redis-py is missing.
    """
    return wrap(create_bare(url, settings, clock), url, settings, clock)


def create_bare(url: CoordinatorUrl, settings: Settings, clock: Clock) -> RingCoordinator:
    """Build it without guard and near cache.

    Raises:
        ConfigurationError: The URL or an option is wrong, or redis-py is missing.
    """
    address = _address(url)
    weights = _weights(url, len(address.nodes))
    check_driver()
    make = partial(_node, address, settings, clock)
    return RingCoordinator(
        [(make(node), weight) for node, weight in zip(address.nodes, weights, strict=True)],
        connect=lambda text: make(_place(text)),
        clock=clock,
        timeout_s=settings.coordinator_timeout_s,
    )


def _node(address: Address, settings: Settings, clock: Clock, node: Node) -> RedisNode:
    compressor = ZstdCompressor() if settings.compression is Compression.ZSTD else None
    limit = limit_bytes(settings)
    return RedisNode(
        lambda: connect_node(address, node, clock),
        str(node),
        prefix=address.prefix,
        codec=EntryCodec(max_bytes=limit, compressor=compressor),
        limit_bytes=limit,
        clock=clock,
    )


def _address(url: CoordinatorUrl) -> Address:
    options = {name: value for name, value in url.options.items() if name != "weights"}
    # Several hosts and no database, as a Cluster's URL has them.
    address = Address.parse(replace(url, options=options), topology=Topology.CLUSTER)
    return replace(address, topology=Topology.STANDALONE)


def _place(text: str) -> Node:
    """Return the host and port of a node to register; of a URL only these count."""
    scheme, separator, rest = text.rpartition("://")
    location, _, options = rest.partition("?")
    host, _, path = location.rpartition("@")[2].partition("/")
    url = CoordinatorUrl("ring://" + host, "ring", host, {})
    if separator and scheme not in _NODE_SCHEMES:
        raise url.error("names a node by another scheme", "host:port, or redis://host:port")
    if options or path not in ("", "0"):
        raise url.error(
            "names a node with a path or options of its own", "host:port: the ring's options hold"
        )
    return Address.parse(url, topology=Topology.STANDALONE).nodes[0]


def _weights(url: CoordinatorUrl, count: int) -> list[float]:
    text = url.options.get("weights")
    if text is None:
        return [1.0] * count
    try:
        weights = [float(weight) for weight in text.split(",")]
    except ValueError:
        weights = []
    if len(weights) != count:
        raise url.error(f"has weights={text!r}", f"a number for each of the {count} nodes")
    return weights
