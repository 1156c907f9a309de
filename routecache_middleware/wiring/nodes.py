"""The methods of RouteCache about the nodes that a coordinator consists of."""

from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from routecache_middleware.core.cluster import ClusterStats
from routecache_middleware.engine.engine import Engine
from routecache_middleware.errors import ConfigurationError, CoordinatorError

__all__ = ["Nodes"]

T = TypeVar("T")


class Nodes:
    """Part of :class:`RouteCache`."""

    engine: Engine

    async def cluster_stats(self) -> ClusterStats:
        """Ask every node for its figures, and say which processes have read the log how far.

        Raises:
            CoordinatorError: The coordinator cannot be asked.
        """
        await self.engine.ensure_open()
        return await _asked(self.engine.coordinator.cluster_stats())

    async def register_node(self, url: str, weight: float = 1.0) -> str:
        """Add a node to a ring; returns its name, for :meth:`unregister_node`.

        Args:
            url: Where it is, as in the ring's own URL: ``host:port``, or a whole URL.
            weight: Its share of the keys, relative to the other nodes'.

        Raises:
            ConfigurationError: The coordinator is no ``ring://``, or the URL or weight is wrong.
            CoordinatorError: The node cannot be reached.
        """
        register = self._of_a_ring("register")
        await self.engine.ensure_open()
        name: str = await _asked(register(url, weight))
        return name

    async def unregister_node(self, name: str) -> None:
        """Take a node out of a ring; what it held is made anew.

        Raises:
            ConfigurationError: The coordinator is no ``ring://``, or has no such node, or no other.
            CoordinatorError: The coordinator cannot be asked.
        """
        unregister = self._of_a_ring("unregister")
        await self.engine.ensure_open()
        await _asked(unregister(name))

    def _of_a_ring(self, method: str) -> Callable[..., Awaitable[Any]]:
        # What stands in front of a ring passes on what the ring offers beyond the port.
        coordinator = self.engine.coordinator
        found: Callable[..., Awaitable[Any]] | None = getattr(coordinator, method, None)
        if found is None:
            raise ConfigurationError(
                f"coordinator {coordinator.name} has a fixed set of nodes; only ring://node,node,"
                "... takes nodes in and lets them go while it runs"
            )
        return found


async def _asked(answer: Awaitable[T]) -> T:
    try:
        return await answer
    except (ConfigurationError, CoordinatorError):
        raise
    except Exception as error:  # a third party's coordinator may raise anything
        raise CoordinatorError("the coordinator failed") from error
