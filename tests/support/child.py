"""Processes that end with the test: ended by their pid, and by themselves if pytest is killed."""

import contextlib
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

__all__ = ["ROOT", "ModuleChild", "end", "tied_to_parent", "wait_until"]

ROOT = Path(__file__).resolve().parents[2]
_GRACE_S = 5.0


def wait_until(is_so: Callable[[], bool], what: str, *, timeout_s: float = 30.0) -> None:
    """Ask again and again until the answer is yes.

    Raises:
        TimeoutError: It was not, within ``timeout_s``.
    """
    deadline_s = time.monotonic() + timeout_s
    while not is_so():
        if time.monotonic() > deadline_s:
            raise TimeoutError(f"not within {timeout_s} s: {what}")
        time.sleep(0.02)


def tied_to_parent(command: list[str]) -> list[str]:
    """Return the command that runs ``command`` and dies with the thread that started it.

    A server that outlives a killed pytest would hold its port and memory for good. On systems
    without ``prctl`` the command runs untied.
    """
    launcher = Path(__file__).with_name("tied.py")
    return [sys.executable, "-I", "-S", str(launcher), *command]


def end(process: "subprocess.Popen[bytes] | subprocess.Popen[str]") -> None:
    """Kill a process of ours, stopped or not, and wait for it."""
    if process.poll() is None:
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(signal.SIGKILL)
    process.wait(_GRACE_S)


class ModuleChild:
    """``python -m module``: prints its port, takes a line and answers with one, ends at EOF.

    Attributes:
        port: The port it printed.
    """

    def __init__(self, module: str, *args: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", module, *args],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            bufsize=1,
        )
        try:
            self.port = int(self._answer())
        except BaseException:
            self.close()
            raise

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    def ask(self, line: str) -> str:
        """Send a line and return the line it answers with."""
        assert self._process.stdin is not None
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()
        return self._answer()

    def close(self) -> None:
        """End it; idempotent."""
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                with contextlib.suppress(BrokenPipeError):
                    pipe.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(_GRACE_S)
        end(self._process)

    def _answer(self) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise ChildProcessError(f"{self._process.args!r} ended with {self._process.wait(5)}")
        return line.strip()
