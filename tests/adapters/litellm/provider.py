"""A scripted LLM provider: a real HTTP server in a thread of its own, which counts its calls.

::

    provider.url                               # http://127.0.0.1:<port>/v1: LiteLLM's api_base
    provider.script("hi", Answer(status=500))  # the next two calls
    provider.always(Answer(delay_s=1))         # all further ones
    provider.always("small", model="m-small")  # those for one model
    provider.always(lambda call: Answer(text=call.body["model"]))
    with provider.held():                      # calls wait until the block ends
        provider.wait_for(2)
    assert provider.count("/chat/completions") == 2
"""

import asyncio
import contextlib
import json
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Self

from tests.adapters.litellm.answers import Answer, Json, ToolCall, events, whole
from tests.adapters.litellm.vectors import embeddings

__all__ = ["Answer", "Call", "Provider", "Scripted", "ToolCall"]

_APIS = {
    "/chat/completions": "chat",
    "/completions": "completions",
    "/responses": "responses",
    "/messages": "messages",
    "/embeddings": "embeddings",
}
_TICK_S = 0.003


@dataclass(slots=True)
class Call:
    """One call.

    Attributes:
        path: Path of the URL.
        headers: Names in lower case.
        body: The parsed JSON.
        started_s: When it came, on the monotonic clock.
        number: Counted from 1.
        is_complete: Whether all of the answer was sent.
    """

    path: str
    headers: dict[str, str]
    body: Json
    started_s: float
    number: int
    is_complete: bool = field(default=False)

    @property
    def model(self) -> str:
        """The model that was asked for."""
        return str(self.body.get("model", ""))


Scripted = Answer | str | Callable[[Call], Answer | str]


class Provider:
    """The server; a context manager.

    Attributes:
        url: Base URL; ends with ``/v1``.
        calls: The calls so far, in order.
    """

    def __init__(self) -> None:
        self.calls: list[Call] = []
        self._next: dict[str | None, deque[Scripted]] = {}
        self._always: dict[str | None, Scripted] = {}
        self._gate = threading.Event()
        self._gate.set()
        self._started = threading.Event()
        self._thread = threading.Thread(target=self._run, name="provider", daemon=True)

    @property
    def url(self) -> str:
        """Base URL of the OpenAI API."""
        return f"{self.origin}/v1"

    @property
    def origin(self) -> str:
        """The URL without ``/v1``: base URL of Anthropic's client."""
        return f"http://127.0.0.1:{self.port}"

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._started.wait(10), "the provider did not start"
        return self

    def __exit__(self, *_: object) -> None:
        self._gate.set()
        self._loop.call_soon_threadsafe(self._ending.set)
        self._thread.join(10)
        assert not self._thread.is_alive(), "the provider did not end"

    def reset(self) -> None:
        """Forget calls and script."""
        self.calls.clear()
        self._next.clear()
        self._always.clear()
        self._gate.set()

    def script(self, *answers: Scripted, model: str | None = None) -> None:
        """Say how the next calls are answered, in order; ``model``: only calls for that one."""
        self._next.setdefault(model, deque()).extend(answers)

    def always(self, answer: Scripted, *, model: str | None = None) -> None:
        """Say how calls are answered once the script is through."""
        self._always[model] = answer

    def count(self, path: str | None = None, *, model: str | None = None) -> int:
        """How many calls came, to paths that end with ``path``, for ``model``."""
        return len(self.of(path, model=model))

    def of(self, path: str | None = None, *, model: str | None = None) -> list[Call]:
        """The calls that :meth:`count` counts."""
        return [
            call
            for call in list(self.calls)
            if (path is None or call.path.endswith(path)) and model in {None, call.model}
        ]

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Let no call be answered until the block ends."""
        self._gate.clear()
        try:
            yield
        finally:
            self._gate.set()

    def wait_for(self, count: int, *, timeout_s: float = 20.0) -> None:
        """Block until so many calls have come; not for the thread of an event loop."""
        deadline_s = time.monotonic() + timeout_s
        while len(self.calls) < count:
            assert time.monotonic() < deadline_s, f"{len(self.calls)} calls instead of {count}"
            time.sleep(_TICK_S)

    async def called(self, count: int, *, timeout_s: float = 20.0) -> None:
        """Wait until so many calls have come."""
        deadline_s = time.monotonic() + timeout_s
        while len(self.calls) < count:
            assert time.monotonic() < deadline_s, f"{len(self.calls)} calls instead of {count}"
            await asyncio.sleep(_TICK_S)

    def _answer(self, call: Call) -> Answer:
        scripted: Scripted = Answer()
        for name in (call.model, None):
            if self._next.get(name):
                scripted = self._next[name].popleft()
                break
            if name in self._always:
                scripted = self._always[name]
                break
        said = scripted if isinstance(scripted, str | Answer) else scripted(call)
        return Answer(text=said) if isinstance(said, str) else said

    def _run(self) -> None:
        asyncio.run(self._serve())

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._ending = asyncio.Event()
        self._open: set[asyncio.Task[None]] = set()
        server = await asyncio.start_server(self._connected, "127.0.0.1", 0, limit=1 << 24)
        self.port: int = server.sockets[0].getsockname()[1]
        self._started.set()
        await self._ending.wait()
        server.close()
        for task in list(self._open):
            task.cancel()
        if self._open:
            await asyncio.wait(self._open)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._open.add(task)
        task.add_done_callback(self._open.discard)
        try:
            while await self._exchange(reader, writer):
                pass
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass  # the client left, or the test is over
        finally:
            writer.transport.abort()

    async def _exchange(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """One request and its answer; whether there may be another."""
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        method, path, _ = head[0].split(" ", 2)
        headers = {
            name.lower(): value.strip()
            for name, _, value in (line.partition(":") for line in head[1:] if line)
        }
        body = await _body(reader, headers)
        if method != "POST":
            models = {"object": "list", "data": []}
            return await _send(writer, 200, models)
        call = Call(
            path=path.partition("?")[0],
            headers=headers,
            body=json.loads(body or b"{}"),
            started_s=time.monotonic(),
            number=len(self.calls) + 1,
        )
        answer = self._answer(call)
        self.calls.append(call)
        return await self._respond(writer, call, answer)

    async def _respond(self, writer: asyncio.StreamWriter, call: Call, answer: Answer) -> bool:
        await self._wait(answer)
        api = next((name for end, name in _APIS.items() if call.path.endswith(end)), None)
        if api is None:
            return await _send(writer, 404, _error(404, f"no such path: {call.path}"))
        if answer.status >= 400:
            error = answer.error or _error(answer.status, "scripted failure")
            return await _send(writer, answer.status, error, answer.headers)
        if api == "embeddings":
            sent = await _send(writer, 200, embeddings(call.body), answer.headers)
        elif call.body.get("stream"):
            sent = await _stream(writer, api, call, answer)
        elif answer.abort_after is not None:
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n{")
            await writer.drain()
            return False
        else:
            made = whole(api, call.body, answer, call.number)
            sent = await _send(writer, answer.status, made, answer.headers)
        call.is_complete = sent
        return sent

    async def _wait(self, answer: Answer) -> None:
        if answer.delay_s:
            await asyncio.sleep(answer.delay_s)
        gates = [self._gate] if answer.hold is None else [self._gate, answer.hold]
        while not all(gate.is_set() for gate in gates):  # noqa: ASYNC110 - of threads
            await asyncio.sleep(_TICK_S)


async def _body(reader: asyncio.StreamReader, headers: Mapping[str, str]) -> bytes:
    if headers.get("transfer-encoding", "").lower() != "chunked":
        return await reader.readexactly(int(headers.get("content-length", 0)))
    pieces = []
    while size := int((await reader.readline()).strip(), 16):
        pieces.append(await reader.readexactly(size))
        await reader.readline()
    await reader.readline()
    return b"".join(pieces)


async def _stream(writer: asyncio.StreamWriter, api: str, call: Call, answer: Answer) -> bool:
    further = "".join(f"{name}: {value}\r\n" for name, value in answer.headers.items())
    writer.write(
        b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\n"
        b"transfer-encoding: chunked\r\n" + further.encode() + b"\r\n"
    )
    for number, event in enumerate(events(api, call.body, answer, call.number)):
        if number == answer.abort_after:
            await writer.drain()
            return False
        if number and answer.chunk_delay_s:
            await asyncio.sleep(answer.chunk_delay_s)
        writer.write(b"%x\r\n%b\r\n" % (len(event), event))
        await writer.drain()
    writer.write(b"0\r\n\r\n")
    await writer.drain()
    return True


async def _send(
    writer: asyncio.StreamWriter,
    status: int,
    payload: Json,
    headers: Mapping[str, str] | None = None,
) -> bool:
    body = json.dumps(payload).encode()
    further = "".join(f"{name}: {value}\r\n" for name, value in (headers or {}).items())
    writer.write(
        f"HTTP/1.1 {status} Scripted\r\ncontent-type: application/json\r\n"
        f"content-length: {len(body)}\r\n{further}\r\n".encode()
        + body
    )
    await writer.drain()
    return True


def _error(status: int, message: str) -> Json:
    return {"error": {"message": message, "type": "scripted", "param": None, "code": str(status)}}
