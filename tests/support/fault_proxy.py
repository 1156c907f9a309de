"""A TCP proxy that misbehaves on command; see :mod:`tests.support.faults`.

``python -m tests.support.fault_proxy TARGET_PORT`` prints its port, then takes one JSON object a
line, ``{"name": "delay", "seconds": 0.1, "direction": "both"}``, and answers ``ok`` once it holds.
"""

import asyncio
import contextlib
import json
import socket
import struct
import sys
from dataclasses import dataclass

_CHUNK_BYTES = 65_536
_LINGER_0 = struct.pack("ii", 1, 0)
"""``SO_LINGER`` of zero seconds: closing sends RST."""


@dataclass(frozen=True, slots=True)
class Mode:
    """How the proxy behaves now."""

    name: str = "pass"
    seconds: float = 0.0
    direction: str = "both"

    def holds_for(self, direction: str) -> bool:
        """Whether it concerns what flows ``up`` to the server or ``down`` to the client."""
        return self.direction in {"both", direction}


class Link:
    """One client's connection and the one to the server that belongs to it."""

    def __init__(
        self, proxy: "Proxy", reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self._proxy = proxy
        self._client_reader, self._client = reader, writer
        self._server: asyncio.StreamWriter | None = None
        self._is_severed = False

    async def run(self) -> None:
        """Carry bytes both ways until one side is done, or for ever if it is severed."""
        try:
            server_reader, self._server = await asyncio.open_connection(
                "127.0.0.1", self._proxy.target_port
            )
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._carry(self._client_reader, self._server, "up"))
                tasks.create_task(self._carry(server_reader, self._client, "down"))
        except* OSError:
            self.reset()
        finally:
            self._proxy.links.discard(self)
            for writer in (self._client, self._server):
                if writer is not None:
                    writer.close()

    def reset(self) -> None:
        """End both connections with RST."""
        for writer in (self._client, self._server):
            if writer is not None:
                _reset(writer)

    def sever(self) -> None:
        """End the server's side without a word to the client, who waits for ever."""
        self._is_severed = True
        if self._server is not None:
            _reset(self._server)

    async def _carry(
        self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, direction: str
    ) -> None:
        while True:
            try:
                data = await source.read(_CHUNK_BYTES)
            except OSError:
                if not self._is_severed:
                    raise
                data = b""
            mode = await self._proxy.passage(direction)
            if self._is_severed:
                await self._go_silent(direction)
            if not data:
                with contextlib.suppress(OSError):
                    sink.write_eof()
                return
            if mode.name == "slow_close" and direction == "down":
                await self._close_slowly(data, mode.seconds)
                return
            sink.write(data)
            await sink.drain()

    async def _go_silent(self, direction: str) -> None:
        if direction == "down":
            await asyncio.get_running_loop().create_future()  # until the client gives up
        while await self._client_reader.read(_CHUNK_BYTES):
            pass
        raise ConnectionResetError("the client gave up")

    async def _close_slowly(self, data: bytes, seconds: float) -> None:
        self._client.write(data[: len(data) // 2])
        await self._client.drain()
        await asyncio.sleep(seconds)
        self._client.write_eof()


class Proxy:
    """The listener, its links and the mode that all of them are in."""

    def __init__(self, target_port: int) -> None:
        self.target_port = target_port
        self.links: set[Link] = set()
        self._mode = Mode()
        self._changed = asyncio.Event()
        self._server: asyncio.Server | None = None
        self.port = 0

    async def listen(self) -> None:
        """Open the port, the same one as before if there was one."""
        if self._server is None:
            self._server = await asyncio.start_server(self._accept, "127.0.0.1", self.port)
            self.port = self._server.sockets[0].getsockname()[1]

    async def set_mode(self, mode: Mode) -> None:
        """Behave so from now on, existing connections included."""
        self._mode = mode
        self._changed.set()
        self._changed = asyncio.Event()
        if mode.name in {"reset", "refuse"}:
            for link in list(self.links):
                link.reset()
        if mode.name == "half_open":
            for link in list(self.links):
                link.sever()
        if mode.name == "refuse":
            self._stop_listening()
        else:
            await self.listen()

    async def passage(self, direction: str) -> Mode:
        """Wait as long as the mode wants bytes of this direction to wait."""
        while self._mode.name == "hang" and self._mode.holds_for(direction):
            await self._changed.wait()
        mode = self._mode
        if mode.name == "delay" and mode.holds_for(direction):
            await asyncio.sleep(mode.seconds)
        return mode

    def _stop_listening(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._mode.name == "reset":
            _reset(writer)
            return
        link = Link(self, reader, writer)
        self.links.add(link)
        if self._mode.name == "half_open":
            link.sever()
        await link.run()


def _reset(writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_0)
    writer.transport.abort()


async def _main(target_port: int) -> None:
    proxy = Proxy(target_port)
    await proxy.listen()
    print(proxy.port, flush=True)  # noqa: T201 - the parent reads it
    loop = asyncio.get_running_loop()
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        await proxy.set_mode(Mode(**json.loads(line)))
        print("ok", flush=True)  # noqa: T201 - the parent waits for it


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(_main(int(sys.argv[1])))
