"""Faults of the network between a client and a server on this machine."""

import json
from typing import Literal, get_args

from tests.support.child import ModuleChild

__all__ = ["Direction", "FaultName", "FaultProxy", "start_proxy"]

FaultName = Literal["pass", "hang", "delay", "reset", "refuse", "half_open", "slow_close"]
Direction = Literal["both", "up", "down"]


class FaultProxy:
    """A TCP proxy in a process of its own, so that a busy event loop cannot slow it down."""

    def __init__(self, target_port: int) -> None:
        self._child = ModuleChild("tests.support.fault_proxy", str(target_port))

    @property
    def port(self) -> int:
        """Where it listens on 127.0.0.1; stays the same."""
        return self._child.port

    @property
    def url(self) -> str:
        """``redis://127.0.0.1:PORT/0``."""
        return f"redis://127.0.0.1:{self.port}/0"

    def mode(self, name: FaultName, *, seconds: float = 0.0, direction: Direction = "both") -> None:
        """Behave so from now on, existing connections included; returns once it holds.

        Args:
            name: ``pass``: as a wire. ``hang``: accept, carry nothing; what waits is carried when
                the mode changes. ``delay``: hold each chunk for ``seconds``, each way. ``reset``:
                RST to all connections, old and new. ``refuse``: the same, and nobody listens.
                ``half_open``: the server's side is gone and the client is not told, ever: the
                connections of that time stay dead in later modes. ``slow_close``: the next answer
                is cut in half and the connection ends after ``seconds``.
            seconds: Of ``delay`` and ``slow_close``.
            direction: ``up`` holds ``hang`` and ``delay`` to what flows to the server, ``down`` to
                what flows to the client: a command took effect and its answer is lost.
        """
        if name not in get_args(FaultName):
            raise ValueError(f"no such fault: {name!r}")
        order = {"name": name, "seconds": seconds, "direction": direction}
        assert self._child.ask(json.dumps(order)) == "ok"

    def close(self) -> None:
        """End it and all connections through it; idempotent."""
        self._child.close()


def start_proxy(target_port: int) -> FaultProxy:
    """Start a proxy in front of a port of 127.0.0.1; it passes everything at first."""
    return FaultProxy(target_port)
