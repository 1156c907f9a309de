"""Connections to one server, handed from command to command.

The driver's own pool costs as much as the rest of a GET (measured: 1.26 of the driver's bare GET
with it, 0.75 with this), because it also measures, retries and repairs, which we do elsewhere. Its
connections are used as they are: a connection that fails, or whose user is cancelled half way, is
closed by itself and connects again with its next command, so no answer ever goes to the wrong one.
"""

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

from routecache_middleware.coordinators.redis.failures import is_reply

__all__ = ["Pool"]


class Pool:
    """A bounded number of connections; nothing is connected before it is used."""

    __slots__ = ("_all", "_connect", "_free", "_is_closed", "_timeout_s", "_unused")

    def __init__(self, connect: Callable[[], Any], *, limit: int, timeout_s: float) -> None:
        """Prepare.

        Args:
            connect: Makes one of the driver's connections, without timeouts for reads and writes.
            limit: How many there are at most; then commands wait for each other.
            timeout_s: How long a command may take, waiting and connecting included.
        """
        self._connect = connect
        self._timeout_s = timeout_s
        self._unused = asyncio.Semaphore(limit)
        self._free: list[Any] = []
        self._all: list[Any] = []
        self._is_closed = False

    async def run(self, command: Sequence[Any]) -> Any:
        """Run one command; an error reply is raised, as all of the driver's errors are.

        Raises:
            TimeoutError: It took too long.
        """
        try:
            async with asyncio.timeout(self._timeout_s), self._unused:
                connection = await self._take()
                try:
                    await connection.send_packed_command(connection.pack_command(*command))
                    return await connection.read_response()
                finally:
                    self._free.append(connection)
        except TimeoutError:
            await self._drop_idle()
            raise

    async def run_all(self, commands: Sequence[Sequence[Any]]) -> list[Any]:
        """Send commands in one go and return their replies; an error reply stands for its reply.

        Raises:
            TimeoutError: It took too long.
        """
        try:
            async with asyncio.timeout(self._timeout_s), self._unused:
                connection = await self._take()
                try:
                    await connection.send_packed_command(connection.pack_commands(commands))
                    return [await _read(connection) for _ in commands]
                except BaseException:
                    # Replies may be under way that nobody waits for.
                    await connection.disconnect(nowait=True)
                    raise
                finally:
                    self._free.append(connection)
        except TimeoutError:
            await self._drop_idle()
            raise

    async def aclose(self) -> None:
        """Close every connection, under whoever uses it; idempotent."""
        self._is_closed = True
        for connection in self._all:
            with suppress(Exception):  # what cannot be closed is gone already
                await connection.disconnect()

    async def _drop_idle(self) -> None:
        """Close what nobody uses: one connection that went silent is seldom the only one.

        A network that swallows packets leaves all of them half open, and each would cost a command
        its timeout once the network is back.
        """
        idle, self._free = self._free, []
        for connection in idle:
            self._all.remove(connection)
            with suppress(Exception):  # as in aclose
                await connection.disconnect(nowait=True)

    async def _take(self) -> Any:
        if self._is_closed:
            raise ConnectionError("the connections were closed")
        if not self._free:
            connection = self._connect()
            self._all.append(connection)
            return connection
        connection = self._free.pop()
        if connection.is_connected and await _is_over(connection):
            await connection.disconnect(nowait=True)
        return connection


async def _is_over(connection: Any) -> bool:
    """Whether the server has closed an idle connection, or has sent what nobody asked for."""
    try:
        return bool(await connection.can_read())
    except Exception:  # noqa: BLE001 - however it says that it is closed
        return True


async def _read(connection: Any) -> Any:
    try:
        return await connection.read_response()
    except Exception as error:
        if is_reply(error):
            return error
        raise
