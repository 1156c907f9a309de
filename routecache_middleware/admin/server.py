"""Running the administration app by itself, until it is told to stop."""

import signal
import socket
from collections.abc import Awaitable, Callable
from typing import Any

from routecache_middleware.admin.door import Door
from routecache_middleware.admin.settings import AdminSettings
from routecache_middleware.errors import ConfigurationError
from routecache_middleware.wiring.cache import RouteCache

__all__ = ["serve"]

_DRAIN_S = 2


async def serve(
    app: Door, cache: RouteCache, settings: AdminSettings, *, started: Callable[[str], None]
) -> None:
    """Serve until SIGTERM or SIGINT; the cache is open meanwhile.

    Args:
        app: What to serve.
        cache: What it is about.
        settings: Where to listen.
        started: Told the URL once requests are taken.

    Raises:
        ConfigurationError: The address cannot be used, or the coordinator cannot work.
    """
    import uvicorn  # noqa: PLC0415 - an extra, known to be there only now

    listener = _listener(settings.host, settings.port)
    shown = f"[{settings.host.strip('[]')}]" if ":" in settings.host else settings.host
    config = uvicorn.Config(
        app, access_log=False, log_level="warning", timeout_graceful_shutdown=_DRAIN_S
    )
    url = f"http://{shown}:{listener.getsockname()[1]}"
    server: Any = uvicorn.Server(config)
    server.startup = _Then(server.startup, lambda: started(url) if server.started else None)
    server.shutdown = _First(app.stop, server.shutdown)
    # The server raises a signal again once it has stopped; that is then no reason to die of it.
    before = {number: signal.signal(number, _stay) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        async with cache:
            await server.serve(sockets=[listener])
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        listener.close()


_Step = Callable[..., Awaitable[None]]


class _Then:
    """A step of the server, and what follows on it."""

    def __init__(self, step: _Step, then: Callable[[], None]) -> None:
        self._step = step
        self._then = then

    async def __call__(self, *args: Any, **kwargs: Any) -> None:
        await self._step(*args, **kwargs)
        self._then()


class _First:
    """A step of the server, and what comes before it: nobody waits for streams without an end."""

    def __init__(self, first: Callable[[], None], step: _Step) -> None:
        self._first = first
        self._step = step

    async def __call__(self, *args: Any, **kwargs: Any) -> None:
        self._first()
        await self._step(*args, **kwargs)


def _listener(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host.strip("[]"), port), family=family)
    except OSError as error:
        raise ConfigurationError(
            f"the admin app cannot listen on {host}, port {port}: {error.strerror}; choose another "
            "one with --host and --port (0: any that is free)"
        ) from error


def _stay(number: int, frame: object) -> None:
    """Do nothing: the server has stopped already."""
