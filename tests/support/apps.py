"""Scripted apps: each message leaves when the test says so."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence

from routecache_middleware.adapters.asgi.types import Message, Receive, Scope, Send
from tests.support.asgi import Pair, settle
from tests.support.chat import completion

__all__ = [
    "JSON_HEADERS",
    "SSE_HEADERS",
    "Answer",
    "Call",
    "ScriptedApp",
    "json_answer",
    "sse_answer",
]

JSON_HEADERS = [(b"content-type", b"application/json")]
SSE_HEADERS = [(b"content-type", b"text/event-stream; charset=utf-8")]

Answer = Sequence[Message]


def json_answer(
    body: bytes | None = None,
    *,
    status: int = 200,
    headers: Iterable[Pair] = JSON_HEADERS,
    has_length: bool = True,
) -> list[Message]:
    """Messages of an answer in one piece."""
    body = completion() if body is None else body
    length = [(b"content-length", b"%d" % len(body))] if has_length else []
    return [
        {"type": "http.response.start", "status": status, "headers": [*headers, *length]},
        {"type": "http.response.body", "body": body, "more_body": False},
    ]


def sse_answer(
    pieces: Sequence[bytes], *, headers: Iterable[Pair] = SSE_HEADERS, status: int = 200
) -> list[Message]:
    """Messages of a stream: one for each piece, then an empty one that ends it."""
    return [
        {"type": "http.response.start", "status": status, "headers": list(headers)},
        *({"type": "http.response.body", "body": piece, "more_body": True} for piece in pieces),
        {"type": "http.response.body", "body": b"", "more_body": False},
    ]


class Call:
    """One call of a scripted app.

    Attributes:
        scope: The scope it got.
        received: The messages it got.
        task: The task it runs in.
        sent: How many of its messages have left.
        saw: How it learned that nobody listens: ``http.disconnect``, or the error's name.
    """

    def __init__(self, scope: Scope) -> None:
        self.scope = scope
        self.received: list[Message] = []
        self.task = asyncio.current_task()
        self.sent = 0
        self.saw = ""
        self._gate = asyncio.Semaphore(0)

    @property
    def body(self) -> bytes:
        """The request body as the app got it."""
        return b"".join(m.get("body", b"") for m in self.received)

    async def step(self, count: int = 1) -> None:
        """Let ``count`` more messages leave, or let the failure happen."""
        for _ in range(count):
            self._gate.release()
            await settle()

    async def rush(self, count: int) -> None:
        """Let ``count`` more messages leave without giving way in between."""
        for _ in range(count):
            self._gate.release()
        await settle()

    async def may_go_on(self) -> None:
        """Wait for :meth:`step`."""
        await self._gate.acquire()


class ScriptedApp:
    """An app that answers by script.

    Attributes:
        answers: What the n-th call answers; the last one goes on for all further calls.
        calls: The calls so far.
        on_call: Called first thing in each call.
        after: Awaited after the last message, as background tasks are.
    """

    def __init__(
        self,
        *answers: Answer,
        is_stepped: bool = False,
        fails_at: int | None = None,
        returns_at: int | None = None,
        listens: bool = False,
        on_call: Callable[[Call], None] | None = None,
        after: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        """Write the script.

        Args:
            answers: One for each call.
            is_stepped: Each message, and the failure, waits for :meth:`Call.step`.
            fails_at: Raise instead of sending this message.
            returns_at: Return instead of sending this message.
            listens: Stop when ``receive`` says ``http.disconnect``, as Starlette's streams do.
            on_call: See the class.
            after: See the class.
        """
        self.answers: list[Answer] = list(answers) or [json_answer()]
        self.calls: list[Call] = []
        self.fails_at = fails_at
        self.is_stepped = is_stepped
        self._returns_at = returns_at
        self._listens = listens
        self.on_call = on_call
        self.after = after

    @property
    def call(self) -> Call:
        """The latest call."""
        return self.calls[-1]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        answer = self.answers[min(len(self.calls), len(self.answers) - 1)]
        call = Call(scope)
        self.calls.append(call)
        if self.on_call is not None:
            self.on_call(call)
        try:
            await self._receive(call, receive)
            if self._listens:
                await self._stream_until_disconnect(call, answer, receive, send)
            else:
                await self._stream(call, answer, send)
        except (OSError, asyncio.CancelledError) as error:
            call.saw = call.saw or type(error).__name__
            raise
        if self.after is not None:
            await self.after()

    async def _receive(self, call: Call, receive: Receive) -> None:
        while True:
            message = await receive()
            call.received.append(message)
            if message["type"] != "http.request" or not message.get("more_body", False):
                return

    async def _stream(self, call: Call, answer: Answer, send: Send) -> None:
        for number, message in enumerate(answer):
            if self.is_stepped:
                await call.may_go_on()
            if number == self.fails_at:
                raise RuntimeError("the upstream failed")
            if number == self._returns_at:
                return
            await send(message)
            call.sent += 1

    async def _stream_until_disconnect(
        self, call: Call, answer: Answer, receive: Receive, send: Send
    ) -> None:
        stream = asyncio.ensure_future(self._stream(call, answer, send))
        listener = asyncio.ensure_future(receive())
        try:
            await asyncio.wait((stream, listener), return_when=asyncio.FIRST_COMPLETED)
            if listener.done() and not stream.done():
                call.saw = str(listener.result()["type"])
        finally:
            for task in (stream, listener):
                if not task.done():
                    task.cancel()
            await asyncio.gather(stream, listener, return_exceptions=True)
        if not stream.cancelled():
            stream.result()
