"""One of several worker processes: what is made in it, and what it does beyond serving.

A worker is spawned, so that it inherits nothing but the socket and what can be pickled. It reads
the configuration itself: one that is started anew has what the file says by then.
"""

import asyncio
import logging
import multiprocessing
import os
import signal
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from routecache_middleware.adapters.asgi.types import ASGIApp, Message, Receive, Scope, Send
from routecache_middleware.errors import ConfigurationError
from routecache_middleware.gateway.app import Gateway
from routecache_middleware.gateway.settings import GatewaySettings
from routecache_middleware.wiring.config import load_table

__all__ = ["Blueprint", "Worker", "set_up_logging"]

_CANNOT_START = 1  # not uvicorn's 3, at which its supervisor would end the workers that are well

_logger = logging.getLogger("routecache")


@dataclass(frozen=True, slots=True)
class Blueprint:
    """What a gateway is made from; can be pickled.

    Attributes:
        overrides: Settings of the gateway that were given as arguments.
        toml_path: The configuration file, or None: the one that the environment names, if any.
        store: The store's URL, or None: the configured one.
    """

    overrides: Mapping[str, Any] = field(default_factory=dict)
    toml_path: Path | None = None
    store: str | None = field(default=None, repr=False)

    def settings(self) -> GatewaySettings:
        """Read the gateway's settings.

        Raises:
            ConfigurationError: One is wrong.
        """
        return load_table(GatewaySettings, "gateway", toml_path=self.toml_path, **self.overrides)

    def gateway(self) -> Gateway:
        """Build the gateway; errors as for :class:`.app.Gateway`."""
        return Gateway(self.settings(), store=self.store, toml_path=self.toml_path)


class Counted(Protocol):
    """A semaphore between processes."""

    def release(self) -> None:
        """Count one more."""


@dataclass(frozen=True, slots=True)
class Worker:
    """Makes the ASGI app in a worker process, where the server calls it; can be pickled.

    Attributes:
        blueprint: What it is made from.
        ready: Counts the workers that have started.
        is_verbose: Whether requests are logged.
    """

    blueprint: Blueprint
    ready: Counted
    is_verbose: bool = False

    def __call__(self) -> ASGIApp:
        """Return the app. Called by the server, in its event loop, after it has taken the signals.

        Raises:
            SystemExit: The configuration is wrong by now; the log says how.
        """
        set_up_logging(is_verbose=self.is_verbose)
        try:
            gateway = self.blueprint.gateway()
        except ConfigurationError as error:
            _logger.error("a worker of the gateway cannot start: %s", error)  # noqa: TRY400 - its text is all
            sys.exit(_CANNOT_START)
        if gateway.admin is not None:
            for number in (signal.SIGTERM, signal.SIGINT):
                signal.signal(number, _First(gateway.admin.stop, signal.getsignal(number)))
        _end_with_parent()
        return _Telling(gateway.app, self.ready)


def set_up_logging(*, is_verbose: bool) -> None:
    """Show warnings, and with ``is_verbose`` more than that, on standard error."""
    logging.basicConfig(level=logging.INFO if is_verbose else logging.WARNING)
    logging.getLogger("httpx").setLevel(logging.WARNING)  # it logs whole URLs, keys in them


class _First:
    """A signal's handler, and what happens before it: streams without an end are ended."""

    def __init__(self, first: Callable[[], None], handler: Any) -> None:
        self._loop = asyncio.get_running_loop()
        self._first = first
        self._handler = handler

    def __call__(self, number: int, frame: Any) -> None:
        self._loop.call_soon_threadsafe(self._first)
        self._handler(number, frame)


def _end_with_parent() -> None:
    """See to it that this process ends when its parent was killed: else it would keep the port."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        loop = asyncio.get_running_loop()
        loop.add_reader(parent.sentinel, _orphaned, loop, parent.sentinel)


def _orphaned(loop: asyncio.AbstractEventLoop, sentinel: int) -> None:
    loop.remove_reader(sentinel)
    _logger.warning("the gateway's first process is gone; worker %d ends", os.getpid())
    os.kill(os.getpid(), signal.SIGTERM)


class _Telling:
    """The app, and word of it when it has started."""

    def __init__(self, app: ASGIApp, ready: Counted) -> None:
        self._app = app
        self._ready = ready

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "lifespan":
            await self._app(scope, receive, send)
            return

        async def telling(message: Message) -> None:
            await send(message)
            if message["type"] == "lifespan.startup.complete":
                self._ready.release()

        await self._app(scope, receive, telling)
