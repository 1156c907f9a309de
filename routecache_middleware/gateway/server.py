"""Running the gateway: one process, which ends in peace when it is told to."""

import signal
import socket
from collections.abc import Callable
from typing import Any

from routecache_middleware.errors import ConfigurationError
from routecache_middleware.gateway.app import Gateway
from routecache_middleware.gateway.driver import needed
from routecache_middleware.gateway.server_log import log_config
from routecache_middleware.gateway.settings import GatewaySettings

__all__ = ["listening", "options", "serve", "url_of"]

_BACKLOG = 2048


def serve(
    gateway: Gateway,
    settings: GatewaySettings,
    *,
    started: Callable[[str], None],
    access_log: bool = False,
    log_level: str = "warning",
) -> None:
    """Serve until SIGTERM or SIGINT, then let answers under way end, and return.

    Args:
        gateway: What to serve.
        settings: Where, and for how long answers may go on at the end.
        started: Told the gateway's URL once it takes requests.
        access_log: Log a line per request, without its query string.
        log_level: Of the server.

    Raises:
        ConfigurationError: The address cannot be used, or a package is missing.
    """
    uvicorn: Any = needed("uvicorn")
    listener = listening(settings.host, settings.port)
    url = url_of(settings.host, listener)
    how = options(settings, access_log=access_log, log_level=log_level)
    server = uvicorn.Server(uvicorn.Config(gateway.app, **how))
    server.startup = _Startup(server, lambda: started(url))
    if gateway.admin is not None:
        server.shutdown = _Shutdown(server, gateway.admin.stop)
    # The server raises a signal again once it has stopped; that is then no reason to die of it.
    before = {number: signal.signal(number, _stay) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        server.run(sockets=[listener])
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        listener.close()


def options(settings: GatewaySettings, *, access_log: bool, log_level: str) -> dict[str, Any]:
    """Return how the server is set up, in one process or in several."""
    return {
        "access_log": access_log,
        "log_level": log_level,
        "log_config": log_config(),
        "server_header": False,  # the upstream's own is passed on
        "proxy_headers": False,
        "timeout_graceful_shutdown": settings.drain_whole_s,
    }


def listening(host: str, port: int) -> socket.socket:
    """Return a socket that listens.

    Raises:
        ConfigurationError: The address cannot be used.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host.strip("[]"), port), family=family, backlog=_BACKLOG)
    except OSError as error:
        raise ConfigurationError(
            f"the gateway cannot listen on {host}, port {port}: {error.strerror}; "
            "choose another one with --host and --port (0: any that is free)"
        ) from error


def url_of(host: str, listener: socket.socket) -> str:
    """Return the URL under which it can be asked."""
    shown = f"[{host.strip('[]')}]" if ":" in host else host
    return f"http://{shown}:{listener.getsockname()[1]}"


class _Startup:
    """The server's start, and word of it once it is over."""

    def __init__(self, server: Any, started: Callable[[], None]) -> None:
        self._server = server
        self._start = server.startup
        self._started = started

    async def __call__(self, sockets: list[socket.socket] | None = None) -> None:
        await self._start(sockets=sockets)
        if self._server.started:
            self._started()


class _Shutdown:
    """The server's end, before which streams that have none of their own are ended."""

    def __init__(self, server: Any, stop: Callable[[], None]) -> None:
        self._shutdown = server.shutdown
        self._stop = stop

    async def __call__(self, sockets: list[socket.socket] | None = None) -> None:
        self._stop()
        await self._shutdown(sockets=sockets)


def _stay(number: int, frame: object) -> None:
    """Do nothing: the server has stopped already."""
