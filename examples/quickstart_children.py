"""The child processes of a tour: each logs into a file, says where it runs, and is ended."""

import contextlib
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import FrameType
from typing import Self

from rich.console import Console

from examples.quickstart_report import TABLE_WIDTH

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

RUNNING_ON = re.compile(r"running on (http://\S+)")
_STOP_TIMEOUT_S = 5.0
_LAST_LINES = 15


class ChildError(Exception):
    """A child process ended or kept silent; the text says which, and carries its last log lines."""


class Children:
    """Starts child processes and ends them all on leaving the ``with`` block.

    Args:
        folder: Where their log files go.
        root: Their working directory.
    """

    def __init__(self, folder: Path, root: Path) -> None:
        self._folder = folder
        self._root = root
        self._started: dict[str, subprocess.Popen[bytes]] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        with _signals_held():
            for child in self._started.values():
                child.terminate()
            deadline = time.monotonic() + _STOP_TIMEOUT_S
            for child in self._started.values():
                try:
                    child.wait(max(0.0, deadline - time.monotonic()))
                except subprocess.TimeoutExpired:
                    child.kill()
                    child.wait()

    def start(
        self,
        name: str,
        arguments: Sequence[str],
        *,
        environment: Mapping[str, str],
        timeout_s: float,
    ) -> str:
        """Start ``python -m <arguments>`` and return the URL that it says it is running on.

        Raises:
            ChildError: It ended, or did not come up in time.
        """
        self.spawn(name, [sys.executable, "-u", "-m", *arguments], environment=environment)
        return self.wait_for(name, RUNNING_ON, timeout_s=timeout_s)[1]

    def spawn(
        self, name: str, command: Sequence[str], *, environment: Mapping[str, str] | None = None
    ) -> None:
        """Start a command, in the root folder, its output in a log of its own."""
        with self._log(name).open("wb") as out, _signals_held():
            self._started[name] = subprocess.Popen(  # noqa: S603 - our own programs
                command,
                cwd=self._root,
                env={**os.environ, **(environment or {})},
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                # Its own session: Ctrl-C reaches the tour alone, which ends its children.
                start_new_session=True,
            )

    def wait_for(self, name: str, ready: re.Pattern[str], *, timeout_s: float) -> re.Match[str]:
        """Wait until a child has logged what ``ready`` finds, and return that.

        Raises:
            ChildError: It, or another child, ended, or it did not log it in time.
        """
        log = self._log(name)
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            if found := ready.search(log.read_text(encoding="utf-8", errors="replace")):
                return found
            self.check()
            time.sleep(0.05)
        raise ChildError(f"{name} did not come up within {timeout_s:.0f} s.\n{last_lines(log)}")

    def kill(self, name: str) -> None:
        """End a child with SIGKILL, as a crash would; it is not missed by :meth:`check`."""
        with _signals_held():
            child = self._started.pop(name)
            child.kill()
            child.wait()

    def check(self) -> None:
        """Raise ChildError when one of them has ended."""
        for name, child in self._started.items():
            if child.poll() is not None:
                ending = f"{name} ended with status {child.returncode}."
                raise ChildError(f"{ending}\n{last_lines(self._log(name))}")

    def logs(self) -> str:
        """Return the last lines of every child's log."""
        return "\n".join(f"{name}:\n{last_lines(self._log(name))}" for name in self._started)

    def _log(self, name: str) -> Path:
        return self._folder / f"{name.replace(' ', '_')}.log"


def last_lines(log: Path) -> str:
    """Return the end of a log file, indented."""
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    return "\n".join(f"  | {line}" for line in lines[-_LAST_LINES:]) or "  | (nothing was logged)"


@contextlib.contextmanager
def _signals_held() -> Iterator[None]:
    """Let no signal in between: a child would be started and forgotten, or only half ended."""
    came: list[int] = []

    def remember(number: int, _frame: FrameType | None) -> None:
        came.append(number)

    handlers = {number: signal.signal(number, remember) for number in STOP_SIGNALS}
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
    if came:
        signal.raise_signal(came[0])


def report_failure(take: Callable[[Console], int], *, is_terminal: bool) -> int:
    """Take a tour and return its exit status; a child that fails is told, without a traceback."""
    console = Console(width=None if is_terminal else TABLE_WIDTH)
    try:
        return take(console)
    except ChildError as error:
        Console(stderr=True, soft_wrap=True).print(str(error), markup=False, highlight=False)
        return 1
