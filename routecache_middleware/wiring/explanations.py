"""The method of RouteCache that explains what becomes of a request, and why."""

from collections.abc import Awaitable, Iterable, Mapping
from typing import Protocol

from routecache_middleware.core.explanation import RequestExplanation
from routecache_middleware.errors import ConfigurationError

__all__ = ["Explains", "Explanations", "GivenHeaders"]

GivenHeaders = (
    Iterable[tuple[bytes, bytes]]
    | Iterable[tuple[str, str]]
    | Mapping[bytes, bytes]
    | Mapping[str, str]
)
"""Header fields as whoever asks has them; names in any case."""


class Explains(Protocol):
    """Whoever reads requests for the cache; see :meth:`Explanations.explain`."""

    def __call__(
        self,
        *,
        path: str,
        body: bytes,
        headers: GivenHeaders = (),
        method: str = "POST",
        query_string: bytes = b"",
        root_path: str = "",
        user: object = None,
        tenant: str | None = None,
        neighbour: bytes | None = None,
        full: bool = False,
    ) -> Awaitable[RequestExplanation]:
        """Explain a request."""


class Explanations:
    """Part of :class:`RouteCache`.

    Attributes:
        explainer: Who explains requests: the middleware built last with this cache, or None.
    """

    explainer: Explains | None

    async def explain(
        self,
        *,
        path: str,
        body: bytes,
        headers: GivenHeaders = (),
        method: str = "POST",
        query_string: bytes = b"",
        root_path: str = "",
        user: object = None,
        tenant: str | None = None,
        neighbour: bytes | None = None,
        full: bool = False,
    ) -> RequestExplanation:
        """Say what would become of a request to the middleware that uses this cache, and why.

        For gateways whose framework keeps the middleware to itself; see
        :meth:`RouteCacheMiddleware.explain`, which this calls.

        Raises:
            ConfigurationError: No middleware uses this cache in this process.
        """
        if self.explainer is None:
            raise ConfigurationError(
                "explain() needs to know how requests are read, and no RouteCacheMiddleware uses "
                "this cache; pass it to one as cache="
            )
        return await self.explainer(
            path=path,
            body=body,
            headers=headers,
            method=method,
            query_string=query_string,
            root_path=root_path,
            user=user,
            tenant=tenant,
            neighbour=neighbour,
            full=full,
        )
