"""Running the administration app by itself, until it is told to stop."""

import signal
import socket
from collections.abc import Callable

import uvicorn
from starlette.types import ASGIApp

from routecache_middleware.admin.settings import AdminSettings
from routecache_middleware.errors import ConfigurationError
from routecache_middleware.wiring.cache import RouteCache

__all__ = ["serve"]

_DRAIN_S = 2


async def serve(
    app: ASGIApp, cache: RouteCache, settings: AdminSettings, *, started: Callable[[str], None]
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
    listener = _listener(settings.host, settings.port)
    shown = f"[{settings.host.strip('[]')}]" if ":" in settings.host else settings.host
    config = uvicorn.Config(
        app, access_log=False, log_level="warning", timeout_graceful_shutdown=_DRAIN_S
    )
    server = _Server(config, lambda: started(f"http://{shown}:{listener.getsockname()[1]}"))
    # The server raises a signal again once it has stopped; that is then no reason to die of it.
    before = {number: signal.signal(number, _stay) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        async with cache:
            await server.serve(sockets=[listener])
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        listener.close()


class _Server(uvicorn.Server):
    """Says when it has started."""

    def __init__(self, config: uvicorn.Config, started: Callable[[], None]) -> None:
        super().__init__(config)
        self._tell = started

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start, and say so."""
        await super().startup(sockets)
        if self.started:
            self._tell()


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
