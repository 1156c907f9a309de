"""A link to a whole Cluster: the driver knows who holds which slot, and follows MOVED and ASK."""

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from typing import Any

from routecache_middleware.coordinators.ending import together
from routecache_middleware.coordinators.redis.address import Node
from routecache_middleware.coordinators.redis.failures import failure, is_reply
from routecache_middleware.coordinators.redis.link import Command, Link, NodeUse
from routecache_middleware.core.ports import Clock
from routecache_middleware.errors import CoordinatorError

__all__ = ["ClusterLink"]


class ClusterLink(Link):
    """Commands go to the primary of their key's slot, those of a batch to several at once."""

    spans_keys = False

    def __init__(self, client: Any, *, max_connections: int, clock: Clock) -> None:
        """Prepare; nothing is asked yet.

        Args:
            client: The driver's cluster client; closed with the link.
            max_connections: How many commands run at a time; the driver fails those in excess.
            clock: For latencies.
        """
        super().__init__(clock)
        self._client = client
        self._has_started = False
        self._is_closed = False
        self._running = asyncio.Semaphore(max_connections)

    async def call(self, *command: Any) -> Any:
        """Run one command, which names its key as the first argument, or is a script."""
        started_s = self._clock.monotonic_s()
        use = None
        try:
            async with self._running:
                await self._initialize()
                use = self._use(command)
                reply = await self._client.execute_command(*command)
        except Exception as error:
            if use is not None:
                use.count(self._clock.monotonic_s() - started_s, is_error=True)
            raise failure(error) from error
        use.count(self._clock.monotonic_s() - started_s, is_error=False)
        return reply

    async def batch(self, commands: Sequence[Command]) -> list[Any]:
        """Run commands side by side; each may go to another node."""
        if len(commands) == 1:
            return [await self._caught(commands[0])]
        return await together(*(self._caught(command) for command in commands))

    async def primaries(self) -> list[Any]:
        """Return the driver's names for all primaries, for :meth:`on`.

        Raises:
            CoordinatorError: Nobody knows who they are.
        """
        try:
            await self._initialize()
        except Exception as error:
            raise failure(error) from error
        return list(self._client.get_primaries())

    async def on(self, node: Any, command: Command) -> Any:
        """Run a command on one node.

        Raises:
            CoordinatorError: It failed.
        """
        try:
            return await self._client.execute_command(*command, target_nodes=node)
        except Exception as error:
            raise failure(error) from error

    async def ask_all(
        self, commands: Sequence[Command], *, replicas: bool = False
    ) -> list[tuple[Node, list[Any] | None]]:
        """Run commands on every primary, or every node; None for one that does not answer.

        Raises:
            CoordinatorError: Nobody knows who they are.
        """
        nodes = await self.primaries()
        if replicas:
            nodes = list(self._client.get_nodes())
        replies = await together(*(self._ask(node, commands) for node in nodes))
        named = [Node(node.host, int(node.port)) for node in nodes]
        return list(zip(named, replies, strict=True))

    async def primary_of(self, key: str) -> Node:
        """Ask the Cluster anew who holds ``key``; the driver's own errors come out."""
        if self._has_started:
            await self._client.nodes_manager.initialize()
        await self._initialize()
        self._has_started = True
        node = self._client.get_node_from_key(key)
        return Node(node.host, int(node.port))

    async def aclose(self) -> None:
        """Close every connection. The driver's own way skips most while it doubts its nodes."""
        self._is_closed = True
        manager = self._client.nodes_manager
        nodes = {*manager.nodes_cache.values()} | {*manager.startup_nodes.values()}
        tasks = [task for node in (manager, *nodes) for task in node._background_tasks]  # noqa: SLF001
        await asyncio.gather(*tasks, return_exceptions=True)
        for close in (
            self._client.aclose,
            manager.aclose,
            partial(manager.aclose, "startup_nodes"),
        ):
            with suppress(Exception):  # what cannot be closed is gone already
                await close()

    async def _initialize(self) -> None:
        """Let the driver find its nodes; at once, unless it has doubts."""
        if self._is_closed:  # it would connect anew
            raise ConnectionError("the connections were closed")
        await self._client.initialize()

    async def _caught(self, command: Command) -> Any:
        try:
            return await self.call(*command)
        except Exception as error:
            if is_reply(error.__cause__):
                return error.__cause__
            raise

    async def _ask(self, node: Any, commands: Sequence[Command]) -> list[Any] | None:
        try:
            return [await self.on(node, command) for command in commands]
        except CoordinatorError:
            return None

    def _use(self, command: Command) -> NodeUse:
        key = command[3] if command[0] in ("EVALSHA", "EVAL") else command[1]
        slots = self._client.nodes_manager.slots_cache
        nodes = slots.get(self._client.keyslot(key))
        name = str(Node(nodes[0].host, int(nodes[0].port))) if nodes else ""
        return self.uses.setdefault(name, NodeUse())
