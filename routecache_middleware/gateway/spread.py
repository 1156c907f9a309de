"""Connections in several small pools instead of a large one.

httpcore (1.0.9) looks at every connection of a pool when a request begins and when it ends: of each
idle one it asks the system whether it was closed, and counts all the others. With 16 connections
that was more than half of what a miss cost, and it grows with their square. A request goes to the
pool with the most room, so that together they hold as many as the one did.
"""

from collections.abc import AsyncIterator, Callable

import httpx

__all__ = ["Spread", "spread"]

_POOLS = 16


class _Pool:
    __slots__ = ("free", "transport")

    def __init__(self, transport: httpx.AsyncBaseTransport, size: int) -> None:
        self.transport = transport
        self.free = size  # below 0: so many wait


class Spread(httpx.AsyncBaseTransport):
    """Hands each request to one of several transports."""

    def __init__(self, pools: list[tuple[httpx.AsyncBaseTransport, int]]) -> None:
        """Take the transports, and how many connections each may have."""
        self._pools = [_Pool(transport, size) for transport, size in pools]

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Return an answer, whose body is still to be read; its connection is free after that."""
        pool = max(self._pools, key=_room)  # the first of those: connections are used again
        pool.free -= 1
        try:
            response = await pool.transport.handle_async_request(request)
        except BaseException:
            pool.free += 1
            raise
        assert isinstance(response.stream, httpx.AsyncByteStream)  # noqa: S101 - for type checkers
        response.stream = _Counted(response.stream, pool)
        return response

    async def aclose(self) -> None:
        """Close all connections."""
        for pool in self._pools:
            await pool.transport.aclose()


def spread(
    make: Callable[[httpx.Limits], httpx.AsyncBaseTransport], limits: httpx.Limits
) -> Spread:
    """Return a transport that keeps to ``limits``, made of several of what ``make`` returns."""
    most = limits.max_connections or _POOLS
    count = min(_POOLS, most)
    sizes = [most // count + (number < most % count) for number in range(count)]
    return Spread([(make(_limits(size, limits)), size) for size in sizes])


def _limits(size: int, limits: httpx.Limits) -> httpx.Limits:
    return httpx.Limits(
        max_connections=size,
        # Unused ones end by their age: httpcore takes used ones for unused when it counts.
        max_keepalive_connections=size,
        keepalive_expiry=limits.keepalive_expiry,
    )


class _Counted(httpx.AsyncByteStream):
    """A body, at whose end its connection is free again."""

    def __init__(self, stream: httpx.AsyncByteStream, pool: _Pool) -> None:
        self._stream = stream
        self._pool: _Pool | None = pool

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self._stream.__aiter__()

    async def aclose(self) -> None:
        try:
            await self._stream.aclose()
        finally:
            pool, self._pool = self._pool, None
            if pool is not None:
                pool.free += 1


def _room(pool: _Pool) -> int:
    return pool.free
