"""Running the gateway in several processes that share one port, until it is told to stop.

uvicorn's supervisor starts them, asks them whether they are alive and replaces those that are not;
SIGHUP replaces one after the other, so that they read the configuration anew. What is added here:
word of when all have started; an end to a start that fails, and to a stop that hangs; a pause
between attempts to replace a worker that cannot start.

The processes share the listening socket. A connection that nobody has taken yet belongs to none of
them, so that a worker that is killed takes with it what it was answering, and nothing else.
"""

import inspect
import logging
import multiprocessing
import signal
import socket
import time
from collections.abc import Callable
from typing import Any, Final

import uvicorn
from uvicorn.supervisors import Multiprocess

from routecache_middleware.errors import ConfigurationError
from routecache_middleware.gateway.server import listening, options, url_of
from routecache_middleware.gateway.settings import GatewaySettings
from routecache_middleware.gateway.worker import Blueprint, Worker

__all__ = ["serve_several"]

_TICK_S: Final = 0.1
_CLOSE_S: Final = 10.0  # beyond what answers under way are given
_YOUNG_S: Final = 10.0  # a worker that dies younger than this had better be left alone for a while
_LONGEST_PAUSE_S: Final = 30.0

_logger = logging.getLogger("routecache")


def serve_several(
    blueprint: Blueprint,
    settings: GatewaySettings,
    *,
    started: Callable[[str], None],
    access_log: bool = False,
    log_level: str = "warning",
) -> None:
    """Serve with ``settings.workers`` processes until SIGTERM or SIGINT; then they end in peace.

    Args:
        blueprint: What each of them makes its gateway from.
        settings: Where to listen, how many they are, and for how long answers may go on at the end.
        started: Told the gateway's URL once all of them take requests.
        access_log: Log a line per request.
        log_level: Of the servers.

    Raises:
        ConfigurationError: The address cannot be used, or a worker did not start.
    """
    listener = listening(settings.host, settings.port)
    url = url_of(settings.host, listener)
    ready = multiprocessing.get_context("spawn").Semaphore(0)
    config = uvicorn.Config(
        Worker(blueprint, ready, is_verbose=access_log),
        factory=True,
        workers=settings.workers,
        **options(settings, access_log=access_log, log_level=log_level),
    )
    before = {number: signal.getsignal(number) for number in signal.valid_signals()}
    try:
        supervisor = _Supervisor(config, [listener], ready, lambda: started(url))
        supervisor.patience_s = settings.drain_whole_s + _CLOSE_S
        supervisor.run()
    finally:
        _restore(before)
        listener.close()
    if supervisor.has_failed:
        raise ConfigurationError(
            "a worker of the gateway did not start; the log above says why. Try --workers 1"
        )


class _Supervisor(Multiprocess):
    """uvicorn's, with a word at the start and a limit to the end.

    Attributes:
        has_failed: A worker has not started.
        patience_s: How long workers may take to end.
    """

    def __init__(
        self,
        config: uvicorn.Config,
        sockets: list[socket.socket],
        ready: Any,
        started: Callable[[], None],
    ) -> None:
        given: Any = {"config": config, "sockets": sockets}
        if "target" in inspect.signature(Multiprocess.__init__).parameters:  # before 0.54
            given["target"] = uvicorn.Server(config).run
        super().__init__(**given)
        self._ready = ready
        self._started = started
        self.has_failed = False
        self.patience_s = _CLOSE_S
        self._known: dict[int | None, float] = {}  # process id: monotonic, when it was first seen
        self._pause_s = self._not_before_s = 0.0

    def init_processes(self) -> None:
        """Start all, and wait until they have; one that dies meanwhile ends it all."""
        super().init_processes()
        self._note()
        awaited = self.processes_num
        while awaited and not self.should_exit.is_set():
            if self._ready.acquire(timeout=_TICK_S):
                awaited -= 1
            self.handle_signals()
            if self._dead():
                self.has_failed = True
                self.should_exit.set()
        if not awaited:
            self._started()

    def keep_subprocess_alive(self) -> None:
        """Replace those that have died or hang, after a pause if they die young."""
        now_s = time.monotonic()
        if self.should_exit.is_set() or now_s < self._not_before_s:
            return
        before = list(self.processes)
        super().keep_subprocess_alive()
        if self.should_exit.is_set():  # uvicorn has found one that will never start
            self.has_failed = True
            return
        gone = [one for one in before if one not in self.processes]
        for one in gone:
            why = _why(one.process.exitcode)
            _logger.warning("worker %s of the gateway has ended (%s); replaced", one.pid, why)
        if gone:
            youngest_s = min(now_s - self._known[one.pid] for one in gone)
            is_young = youngest_s < _YOUNG_S
            self._pause_s = min(_LONGEST_PAUSE_S, 2 * self._pause_s or 1.0) if is_young else 0.0
            self._not_before_s = now_s + self._pause_s
        self._note()

    def terminate_all(self) -> None:
        """Tell all to end; nobody takes connections any more."""
        for one in self.sockets:
            one.close()
        super().terminate_all()

    def join_all(self) -> None:
        """Wait for their end, and kill those that take too long."""
        deadline_s = time.monotonic() + self.patience_s
        for one in self.processes:
            one.process.join(max(0.0, deadline_s - time.monotonic()))
            if one.process.is_alive():
                _logger.warning("worker %s of the gateway does not end; it is killed", one.pid)
                one.process.kill()
                one.process.join()

    def _dead(self) -> list[Any]:
        return [one for one in self.processes if not one.process.is_alive()]

    def _note(self) -> None:
        now_s = time.monotonic()
        self._known = {one.pid: self._known.get(one.pid, now_s) for one in self.processes}


def _why(code: int | None) -> str:
    """Say how a process ended. One that hung was killed by uvicorn, and looks as if by others."""
    if code == -signal.SIGKILL:
        return f"signal {-code}: killed, out of memory, or it hung"
    return f"exit code {code}" if code is None or code >= 0 else f"signal {-code}"


def _restore(handlers: dict[Any, Any]) -> None:
    for number, handler in handlers.items():
        if handler is not None and signal.getsignal(number) is not handler:
            signal.signal(number, handler)
