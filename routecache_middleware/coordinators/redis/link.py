"""A way to a server, or to whoever is the primary just now: commands go in, replies come out.

Every failure comes out as a ``CoordinatorError``; error replies inside a batch stand in the place
of their reply, because one bad value must not cost the others.
"""

import asyncio
import hashlib
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from routecache_middleware.coordinators.redis.address import Node
from routecache_middleware.coordinators.redis.failures import failure, lost_its_node
from routecache_middleware.coordinators.redis.pool import Pool
from routecache_middleware.core.ports import Clock

__all__ = ["Command", "Link", "NodeUse", "Resolver", "Script", "SingleLink"]

Command = Sequence[Any]
"""A command and its arguments: bytes, text or numbers."""

_SMOOTHING = 0.1


class Script:
    """A Lua script and the digest that the server knows it by once it has seen it."""

    __slots__ = ("digest", "text")

    def __init__(self, text: str) -> None:
        self.text = text
        self.digest = hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()

    def by_digest(self, keys: Sequence[str], args: Sequence[Any]) -> Command:
        """Return the command that runs it, if the server knows it."""
        return ("EVALSHA", self.digest, len(keys), *keys, *args)

    def by_text(self, keys: Sequence[str], args: Sequence[Any]) -> Command:
        """Return the command that runs it in any case, and makes it known."""
        return ("EVAL", self.text, len(keys), *keys, *args)


@dataclass(slots=True)
class NodeUse:
    """What this process has asked of a node: operations, failures, moving average of the time."""

    ops: int = 0
    errors: int = 0
    latency_ms: float = 0.0

    def count(self, elapsed_s: float, *, is_error: bool) -> None:
        """An operation ended."""
        self.ops += 1
        self.errors += is_error
        elapsed_ms = elapsed_s * 1000
        if self.ops == 1:
            self.latency_ms = elapsed_ms
        self.latency_ms += (elapsed_ms - self.latency_ms) * _SMOOTHING


class Link:
    """What the parts of the coordinator need from a server, a primary, or a whole Cluster.

    Attributes:
        uses: What was asked of each node, by its name.
        spans_keys: Whether one command may name any keys; in a Cluster only those of one slot.
    """

    spans_keys = True

    def __init__(self, clock: Clock) -> None:
        self.uses: dict[str, NodeUse] = {}
        self._clock = clock

    async def call(self, *command: Any) -> Any:
        """Run one command.

        Raises:
            CoordinatorError: It failed, or the server answered with an error.
        """
        raise NotImplementedError

    async def batch(self, commands: Sequence[Command]) -> list[Any]:
        """Run commands in order on one connection; an error reply stands for its reply.

        Raises:
            CoordinatorError: The server could not be asked.
        """
        raise NotImplementedError

    async def script(self, script: Script, keys: Sequence[str], *args: Any) -> Any:
        """Run a script; all its keys share a slot.

        Raises:
            CoordinatorError: It failed.
        """
        replies = await self.scripted(script, keys, args)
        return replies[0]

    async def scripted(
        self, script: Script, keys: Sequence[str], args: Sequence[Any], *then: Command
    ) -> list[Any]:
        """Run a script, then commands on the same connection.

        Raises:
            CoordinatorError: It failed. What comes after it stands in the list even if it failed.
        """
        replies = await self._run(script.by_digest(keys, args), then)
        if type(replies[0]).__name__ == "NoScriptError":
            replies = await self._run(script.by_text(keys, args), then)
        if isinstance(replies[0], BaseException):
            raise failure(replies[0]) from replies[0]
        return replies

    async def _run(self, command: Command, then: Sequence[Command]) -> list[Any]:
        return await self.batch((command, *then))

    async def aclose(self) -> None:
        """Close every connection; idempotent."""
        raise NotImplementedError


Resolver = Callable[[], Awaitable[Node]]
"""Finds out who is the primary now."""


@dataclass(slots=True)
class _Target:
    node: Node
    pool: Pool
    use: NodeUse = field(default_factory=NodeUse)


class SingleLink(Link):
    """A link to one server: always the same, or whoever a resolver says is the primary."""

    def __init__(self, resolve: Resolver, connect: Callable[[Node], Pool], *, clock: Clock) -> None:
        """Prepare; nothing is asked yet.

        Args:
            resolve: Finds the server: at first use, and again after every failure that may mean
                that another one has taken over.
            connect: Makes the connections to it.
            clock: For latencies.
        """
        super().__init__(clock)
        self._resolve = resolve
        self._connect = connect
        self._target: _Target | None = None
        self._is_doubted = True
        self._is_closed = False
        self._resolving = asyncio.Lock()
        self._closing: set[asyncio.Task[None]] = set()

    @property
    def node(self) -> Node | None:
        """The server asked last."""
        return None if self._target is None else self._target.node

    async def call(self, *command: Any) -> Any:
        """Run one command."""
        started_s = self._clock.monotonic_s()
        target = None
        try:
            target = await self._find() if self._is_doubted else self._target
            reply = await target.pool.run(command)  # type: ignore[union-attr]
        except Exception as error:
            raise self._failed(error, target, started_s) from error
        target.use.count(self._clock.monotonic_s() - started_s, is_error=False)  # type: ignore[union-attr]
        return reply

    async def batch(self, commands: Sequence[Command]) -> list[Any]:
        """Run commands in one round trip."""
        started_s = self._clock.monotonic_s()
        target = None
        try:
            target = await self._find()
            replies = await target.pool.run_all(commands)
        except Exception as error:
            raise self._failed(error, target, started_s) from error
        target.use.count(self._clock.monotonic_s() - started_s, is_error=False)
        for reply in replies:
            if isinstance(reply, BaseException) and lost_its_node(reply):
                self._is_doubted = True
        return replies

    async def refresh(self) -> None:
        """Ask again who the primary is: a partitioned one does not tell that it no longer is.

        Raises:
            CoordinatorError: Nobody knows.
        """
        self._is_doubted = True
        try:
            await self._find()
        except Exception as error:
            raise failure(error) from error

    async def aclose(self) -> None:
        """Close every connection; nothing can be asked any more."""
        self._is_closed = True
        target, self._target, self._is_doubted = self._target, None, True
        if target is not None:
            await target.pool.aclose()
        await asyncio.gather(*self._closing)

    async def _find(self) -> _Target:
        if self._target is not None and not self._is_doubted:
            return self._target
        async with self._resolving:
            if self._target is not None and not self._is_doubted:
                return self._target
            if self._is_closed:
                raise ConnectionError("the connections were closed")
            node = await self._resolve()
            if self._target is None or self._target.node != node:
                self._replace(node)
            self._is_doubted = False
            assert self._target is not None  # noqa: S101 - for the type checker
            return self._target

    def _replace(self, node: Node) -> None:
        if self._target is not None:
            # Not awaited: closing waits for whoever is gone, and a request waits for us.
            closing = asyncio.get_running_loop().create_task(self._target.pool.aclose())
            self._closing.add(closing)
            closing.add_done_callback(self._closing.discard)
        use = self.uses.setdefault(str(node), NodeUse())
        self._target = _Target(node, self._connect(node), use)

    def _failed(self, error: Exception, target: _Target | None, started_s: float) -> Exception:
        if target is not None:
            target.use.count(self._clock.monotonic_s() - started_s, is_error=True)
        if lost_its_node(error):
            self._is_doubted = True
        return failure(error)
