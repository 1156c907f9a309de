"""The one model behind several gateway processes; a test ends its calls one by one."""

import asyncio
import json
import time
from collections.abc import Sequence
from typing import Self

from routecache_middleware.adapters.asgi.types import Message

__all__ = ["Upstream", "UpstreamCall"]


class UpstreamCall:
    """One call, under way until it is answered.

    Attributes:
        pid: The gateway that made it.
    """

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self._answer: asyncio.Future[Sequence[Message]] = asyncio.get_running_loop().create_future()

    def answer(self, messages: Sequence[Message]) -> None:
        """Let it end with these ASGI messages."""
        if not self._answer.done():
            self._answer.set_result(messages)

    async def answered(self) -> Sequence[Message]:
        """Wait until the test answers."""
        return await self._answer


class Upstream:
    """A socket that gateways ask.

    Attributes:
        calls: The calls so far, in order.
        automatic: When set, further calls are answered with it at once.
    """

    def __init__(self) -> None:
        self.calls: list[UpstreamCall] = []
        self.automatic: Sequence[Message] | None = None
        self._serving: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port: int = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for call in self.calls:
            call.answer([])
        if self._serving:
            await asyncio.wait(self._serving)
        await self._server.wait_closed()

    async def called(self, count: int, timeout_s: float = 20.0) -> None:
        """Wait for so many calls."""
        deadline_s = time.monotonic() + timeout_s
        while len(self.calls) < count:
            assert time.monotonic() < deadline_s, f"{len(self.calls)} calls instead of {count}"
            await asyncio.sleep(0.005)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._serving.add(task)
        task.add_done_callback(self._serving.discard)
        try:
            question = json.loads(await reader.readline())
            call = UpstreamCall(question["pid"])
            self.calls.append(call)
            if self.automatic is not None:
                call.answer(self.automatic)
            writer.write(json.dumps([_plain(m) for m in await call.answered()]).encode() + b"\n")
            await writer.drain()
        except ConnectionError:
            pass  # that gateway is gone
        finally:
            writer.close()


def _plain(message: Message) -> dict[str, object]:
    plain = dict(message)
    if "body" in plain:
        plain["body"] = plain["body"].decode()
    if "headers" in plain:
        plain["headers"] = [(name.decode(), value.decode()) for name, value in plain["headers"]]
    return plain
