"""A real Valkey Cluster: masters that share the slots evenly, and their replicas."""

import contextlib
from collections.abc import Sequence
from pathlib import Path

from tests.support.child import wait_until
from tests.support.valkey.resp import Reply, ReplyError
from tests.support.valkey.server import ValkeyServer, free_ports, start_server

__all__ = ["ValkeyCluster", "start_cluster"]

_SLOTS = 16_384


class ValkeyCluster:
    """The nodes of a cluster.

    Attributes:
        servers: All of them; those that were made masters come first.
    """

    def __init__(self, servers: Sequence[ValkeyServer]) -> None:
        self.servers = list(servers)

    @property
    def urls(self) -> list[str]:
        """Each node's own address, ``redis://127.0.0.1:PORT/0``."""
        return [server.url for server in self.servers]

    @property
    def url(self) -> str:
        """``redis+cluster://127.0.0.1:PORT,127.0.0.1:PORT,...``."""
        return "redis+cluster://" + ",".join(f"127.0.0.1:{s.port}" for s in self.servers)

    def masters(self) -> list[ValkeyServer]:
        """Return the masters that own slots now, as a living node sees it."""
        return [self._server_at(row) for row in self._rows()]

    def node_of(self, key: str) -> ValkeyServer:
        """Return the master that holds ``key`` now, as a living node sees it."""
        slot = self._ask("CLUSTER", "KEYSLOT", key)
        assert isinstance(slot, int)
        for row in self._rows():
            first, last = row[0], row[1]
            assert isinstance(first, int)
            assert isinstance(last, int)
            if first <= slot <= last:
                return self._server_at(row)
        raise LookupError(f"nobody owns slot {slot} of {key!r}")

    def flush(self) -> None:
        """Forget all keys on all masters."""
        for server in self.masters():
            server.command("FLUSHALL")

    def heal(self) -> None:
        """Start dead nodes again, resume paused ones, and wait until all of them agree."""
        for server in self.servers:
            if not server.is_running:
                server.restart()
            server.resume()
        self.wait_until_whole()

    def wait_until_whole(self) -> None:
        """Wait until every node lives, all slots are served and all replicas follow."""
        wait_until(self.is_whole, "the cluster is whole", timeout_s=60)

    def is_whole(self) -> bool:
        """Whether all nodes are up, agree about it, and every replica has its master's data."""
        with contextlib.suppress(OSError, ReplyError):
            return all(self._sees_all_well(server) for server in self.servers)
        return False

    def close(self) -> None:
        """End all nodes; idempotent."""
        for server in self.servers:
            server.close()

    def _sees_all_well(self, server: ValkeyServer) -> bool:
        nodes = server.text("CLUSTER", "NODES").splitlines()
        is_linked = all(line.split()[7] == "connected" for line in nodes)
        is_doubted = any("fail" in line.split()[2] for line in nodes)
        state = server.text("CLUSTER", "INFO")
        replication = server.text("INFO", "replication")
        return (
            len(nodes) == len(self.servers)
            and is_linked
            and not is_doubted
            and "cluster_state:ok" in state
            and f"cluster_slots_ok:{_SLOTS}" in state
            and ("role:master" in replication or "master_link_status:up" in replication)
        )

    def _rows(self) -> list[list[Reply]]:
        rows = self._ask("CLUSTER", "SLOTS")
        assert isinstance(rows, list)
        return [row for row in rows if isinstance(row, list)]

    def _server_at(self, row: list[Reply]) -> ValkeyServer:
        address = row[2]
        assert isinstance(address, list)
        return next(server for server in self.servers if server.port == address[1])

    def _ask(self, *args: str) -> Reply:
        for server in self.servers:
            if server.is_running:
                with contextlib.suppress(OSError):
                    return server.command(*args, timeout_s=1.0)
        raise ConnectionError("no node of the cluster answers")


def start_cluster(
    directory: Path,
    *options: str,
    masters: int = 3,
    replicas: int = 1,
    node_timeout_ms: int = 2_000,
) -> ValkeyCluster:
    """Start a cluster and wait until all nodes agree and all replicas follow (about 3 s).

    Args:
        directory: A folder of the test's own.
        options: More command line for every node.
        masters: How many share the slots.
        replicas: How many follow each of them.
        node_timeout_ms: Silence after which a node counts as failed; a failover takes about twice
            that.
    """
    clustered = (
        *("--cluster-enabled", "yes"),
        *("--cluster-config-file", "nodes.conf"),
        *("--cluster-node-timeout", str(node_timeout_ms)),
        *("--cluster-require-full-coverage", "no"),
        *options,
    )
    cluster = ValkeyCluster([])
    try:
        for port in free_ports(masters * (1 + replicas), bus=True):
            cluster.servers.append(start_server(directory, *clustered, port=port))
        _introduce(cluster.servers, masters)
        _attach(cluster.servers[:masters], cluster.servers[masters:])
        cluster.wait_until_whole()
    except BaseException:
        cluster.close()
        raise
    return cluster


def _introduce(servers: Sequence[ValkeyServer], masters: int) -> None:
    for number, server in enumerate(servers):
        # Before they meet: nodes of equal epoch would quarrel about who owns what.
        server.command("CLUSTER", "SET-CONFIG-EPOCH", number + 1)
    for number, server in enumerate(servers[:masters]):
        first, after = number * _SLOTS // masters, (number + 1) * _SLOTS // masters
        server.command("CLUSTER", "ADDSLOTSRANGE", first, after - 1)
    for server in servers[1:]:
        servers[0].command("CLUSTER", "MEET", "127.0.0.1", server.port)
    known = f"cluster_known_nodes:{len(servers)}"
    for server in servers:
        wait_until(lambda s=server: known in s.text("CLUSTER", "INFO"), "all nodes have met")  # type: ignore[misc]


def _attach(masters: Sequence[ValkeyServer], replicas: Sequence[ValkeyServer]) -> None:
    for number, replica in enumerate(replicas):
        master_id = masters[number % len(masters)].text("CLUSTER", "MYID")
        wait_until(lambda r=replica, m=master_id: _follows(r, m), "a replica knows its master")  # type: ignore[misc]


def _follows(replica: ValkeyServer, master_id: str) -> bool:
    try:
        return replica.command("CLUSTER", "REPLICATE", master_id) == b"OK"
    except ReplyError:  # it has not heard of that node yet
        return False
