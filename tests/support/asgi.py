"""A scripted ASGI server: clients that read, stall and leave when the test says so.

No sleeps: a test moves things by events and then lets the loop :func:`settle`.
"""

import asyncio
from collections.abc import Iterable, Sequence
from typing import Any, Self

from routecache_middleware.adapters.asgi.types import ASGIApp, Message, Scope
from tests.support.chat import ask

__all__ = [
    "KEY",
    "PATH",
    "Client",
    "Options",
    "Pair",
    "Response",
    "fetch",
    "scope_of",
    "settle",
]

PATH = "/v1/chat/completions"
KEY = (b"authorization", b"Bearer key-1")

Pair = tuple[bytes, bytes]
Options = dict[str, Any]
"""What :class:`Client` takes by keyword."""


async def settle(turns: int = 30) -> None:
    """Let every task run as far as it can."""
    for _ in range(turns):
        await asyncio.sleep(0)


def scope_of(
    *,
    headers: Iterable[Pair] = (KEY,),
    path: str = PATH,
    method: str = "POST",
    spec: str = "2.3",
    content_type: bytes | None = b"application/json",
    **more: object,
) -> Scope:
    """Return an HTTP scope as uvicorn builds it."""
    types = [] if content_type is None else [(b"content-type", content_type)]
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": spec},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "root_path": "",
        "query_string": b"",
        "headers": [(b"host", b"gateway"), *types, *headers],
        "client": ("127.0.0.1", 5),
        "server": ("127.0.0.1", 8000),
        "state": {},
        **more,
    }


class Response:
    """What one client got."""

    def __init__(self, messages: Sequence[Message]) -> None:
        self.messages = list(messages)
        self.starts = [m for m in messages if m["type"] == "http.response.start"]
        self.bodies = [m for m in messages if m["type"] == "http.response.body"]

    @property
    def status(self) -> int:
        """HTTP status code."""
        status: int = self.starts[0]["status"]
        return status

    @property
    def headers(self) -> list[Pair]:
        """The header fields as they were sent."""
        return list(self.starts[0]["headers"])

    @property
    def body(self) -> bytes:
        """All body bytes so far."""
        return b"".join(m.get("body", b"") for m in self.bodies)

    @property
    def is_complete(self) -> bool:
        """Whether the response was ended cleanly."""
        return bool(self.bodies) and not self.bodies[-1].get("more_body", False)

    def all(self, name: str) -> list[str]:
        """Every value of a header, in order."""
        return [value.decode() for key, value in self.headers if key.lower() == name.encode()]

    def get(self, name: str) -> str | None:
        """The last value of a header."""
        values = self.all(name)
        return values[-1] if values else None

    @property
    def outcome(self) -> str | None:
        """``X-RouteCache``."""
        return self.get("x-routecache")


class Client:
    """One request, from the server's side of the ASGI interface.

    Attributes:
        scope: The scope that the app gets.
        got: What reached the client, in order.
        dropped: What was sent after the client had left (spec 2.3: silently).
        log: Shared by several clients to see the order among them: ``(name, message)``.
    """

    def __init__(
        self,
        app: ASGIApp,
        body: bytes | Sequence[Message] | None = None,
        *,
        scope: Scope | None = None,
        block_at: int | None = None,
        fail_at: int | None = None,
        leave_at: int | None = None,
        name: str = "",
        log: list[tuple[str, Message]] | None = None,
        **scoped: Any,
    ) -> None:
        """Prepare a request.

        Args:
            app: What to call.
            body: The request's body, or the messages to play.
            scope: Its scope; None: :func:`scope_of` with ``scoped``.
            block_at: ``send`` of this message (counted from 0) waits for :meth:`unblock`.
            fail_at: ``send`` raises ``OSError`` from this message on (spec 2.4).
            leave_at: The client leaves right after it got this message.
            name: What it is called in ``log``.
            log: Where it notes what it got.
            scoped: See :func:`scope_of`.
        """
        self._app = app
        self.scope = scope_of(**scoped) if scope is None else scope
        if body is None:
            body = ask()
        if isinstance(body, bytes):
            body = [{"type": "http.request", "body": body, "more_body": False}]
        self.to_receive: list[Message] = list(body)
        self.got: list[Message] = []
        self.dropped: list[Message] = []
        self.receives = 0
        self._block_at, self._fail_at, self._leave_at = block_at, fail_at, leave_at
        self._name, self._log = name, log
        self._is_gone = asyncio.Event()
        self._unblocked = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    async def receive(self) -> Message:
        """Play the request, then wait for the client to leave."""
        self.receives += 1
        if self.to_receive:
            return self.to_receive.pop(0)
        await self._is_gone.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Message) -> None:
        """Take a message as the client would."""
        number = len(self.got) + len(self.dropped)
        if self._block_at is not None and number == self._block_at:
            await self._unblocked.wait()
        if self._is_gone.is_set() or (self._fail_at is not None and number >= self._fail_at):
            self.dropped.append(message)
            if self._is_2_4 or self._fail_at is not None:
                raise OSError("the client is gone")
            return
        self.got.append(message)
        if self._log is not None:
            self._log.append((self._name, message))
        if number == self._leave_at:
            self.disconnect()

    @property
    def _is_2_4(self) -> bool:
        return bool(self.scope["asgi"]["spec_version"] >= "2.4")

    def start(self) -> Self:
        """Begin in a task of its own."""
        self._task = asyncio.get_running_loop().create_task(
            self._app(self.scope, self.receive, self.send)  # type: ignore[arg-type]
        )
        return self

    def disconnect(self) -> None:
        """The client leaves."""
        self._is_gone.set()
        self._unblocked.set()  # as servers do: nobody waits for a connection that is gone

    def unblock(self) -> None:
        """The client reads on."""
        self._unblocked.set()

    def cancel(self) -> None:
        """The server cancels the request's task."""
        assert self._task is not None
        self._task.cancel()

    @property
    def task(self) -> asyncio.Task[None]:
        """The request's task."""
        assert self._task is not None
        return self._task

    @property
    def is_done(self) -> bool:
        """Whether the request is over."""
        return self._task is not None and self._task.done()

    @property
    def response(self) -> Response:
        """What the client has got so far."""
        return Response(self.got)

    async def end(self) -> Response:
        """Wait for the request to end; raises what it raised."""
        await asyncio.wait_for(self.task, 10)
        return self.response

    async def error(self) -> BaseException | None:
        """Wait for the request to end; returns what it raised."""
        _, pending = await asyncio.wait((self.task,), timeout=10)
        assert not pending, "the request does not end"
        if self.task.cancelled():
            return asyncio.CancelledError()
        return self.task.exception()


async def fetch(
    app: ASGIApp, body: bytes | Sequence[Message] | None = None, **options: Any
) -> Response:
    """Make one request and return its response."""
    return await Client(app, body, **options).start().end()
