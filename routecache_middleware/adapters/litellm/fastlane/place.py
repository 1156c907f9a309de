"""Where the fast lane stands: before the proxy's app, whoever started it.

``routecache litellm`` serves a :class:`Doorway`, which the lane steps into when LiteLLM has read
its configuration. Under the stock ``litellm`` command the server has LiteLLM's app in its hands
when our callback is loaded. The app's stack of middleware is built by then and closed to additions;
but Starlette looks up its outermost layer for each request, so that is replaced.
"""

from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

from routecache_middleware.adapters.asgi.types import ASGIApp, Message, Receive, Scope, Send

__all__ = ["Doorway", "stand_before", "step_aside"]

_STARTED = "lifespan.startup.complete"
_STOPPED = ("lifespan.shutdown.complete", "lifespan.shutdown.failed")
_STACK = "middleware_stack"
_BEFORE = "_routecache_stack_before"

Around = Callable[[ASGIApp], ASGIApp]
Doing = Callable[[], Awaitable[None]]


class Doorway:
    """The proxy's app, with room for the lane before it.

    Attributes:
        app: The proxy's.
        lane: What stands before it, or None.
    """

    def __init__(self, app: Any, *, on_started: Doing, on_stopped: Doing) -> None:
        """Open one.

        Args:
            app: The proxy's: a Starlette application.
            on_started: Awaited when the proxy has read its configuration, before it serves. What it
                raises keeps the server from starting.
            on_stopped: Awaited when the proxy has shut down.
        """
        self.app = app
        self.lane: ASGIApp | None = None
        self._on_started = on_started
        self._on_stopped = on_stopped
        app.state.routecache_doorway = self

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        if scope["type"] == "lifespan":
            await self.app(scope, receive, _Lifespan(send, self._on_started, self._on_stopped).send)
        else:
            await (self.lane or self.app)(scope, receive, send)


class _Lifespan:
    """The ``send`` of a lifespan."""

    def __init__(self, send: Send, on_started: Doing, on_stopped: Doing) -> None:
        self._send = send
        self._on_started = on_started
        self._on_stopped = on_stopped

    async def send(self, message: Message) -> None:
        if message["type"] == _STARTED:
            try:
                await self._on_started()
            except Exception as error:  # noqa: BLE001 - the server has to hear of it this way
                message = {"type": "lifespan.startup.failed", "message": str(error)}
        elif message["type"] in _STOPPED:
            with suppress(Exception):  # it is over anyhow
                await self._on_stopped()
        await self._send(message)


def stand_before(app: Any, around: Around) -> None:
    """Put a lane before a proxy's app, in place of one that stands there already."""
    doorway = getattr(app.state, "routecache_doorway", None)
    if isinstance(doorway, Doorway):
        doorway.lane = around(doorway.app)
        return
    before = getattr(app.state, _BEFORE, None)
    if before is None:
        before = getattr(app, _STACK) or app.build_middleware_stack()
        setattr(app.state, _BEFORE, before)
    setattr(app, _STACK, around(before))


def step_aside(app: Any) -> None:
    """Take the lane away again; idempotent."""
    doorway = getattr(app.state, "routecache_doorway", None)
    if isinstance(doorway, Doorway):
        doorway.lane = None
    before = getattr(app.state, _BEFORE, None)
    if before is not None:
        setattr(app, _STACK, before)
        setattr(app.state, _BEFORE, None)
