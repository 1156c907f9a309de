"""The servers that are measured: uvicorn, one worker, all with the same settings."""

import contextlib
import http.client
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.bench.targets import CREDENTIAL

SERVER_CPU = 0
LOAD_CPU = 1
START_TIMEOUT_S = 20.0


@dataclass(frozen=True)
class Server:
    """A running server."""

    port: int
    pid: int

    def cpu_s(self) -> float:
        """Processor time it has used; 0.0 where there is no ``/proc``."""
        stat = Path(f"/proc/{self.pid}/stat")
        if not stat.exists():
            return 0.0
        # proc(5): utime and stime are fields 14 and 15; the second field may hold spaces.
        fields = stat.read_text(encoding="ascii").rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def post(self, path: str, body: bytes) -> tuple[int, str]:
        """Send one request; returns the status and ``X-RouteCache``."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)
        try:
            headers = {"authorization": CREDENTIAL, "content-type": "application/json"}
            connection.request("POST", path, body, headers)
            answer = connection.getresponse()
            answer.read()
            return answer.status, answer.headers.get("x-routecache", "")
        finally:
            connection.close()


@contextlib.contextmanager
def pinned(cpu: int) -> Iterator[None]:
    """Start what is started inside on one processor, where the system can do that."""
    if not hasattr(os, "sched_setaffinity") or cpu not in os.sched_getaffinity(0):
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {cpu})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


@contextlib.contextmanager
def serving(app: str, *, cpu: int = SERVER_CPU) -> Iterator[Server]:
    """Serve a factory of :mod:`tests.bench.targets` while inside."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
    command = [sys.executable, "-m", "uvicorn", "--factory", f"tests.bench.targets:{app}"]
    options = ["--loop", "uvloop", "--http", "httptools", "--no-access-log"]
    with pinned(cpu):
        process = subprocess.Popen(
            [*command, *options, "--log-level", "warning", "--port", str(port)]
        )
    try:
        _wait_until_open(process, port)
        yield Server(port, process.pid)
    finally:
        process.terminate()
        process.wait()


def _wait_until_open(process: subprocess.Popen[bytes], port: int) -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline and process.poll() is None:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)):
            return
        time.sleep(0.05)
    raise SystemExit("a server did not start; what it printed stands above")
