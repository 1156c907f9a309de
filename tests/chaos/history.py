"""Runs workers under a nemesis and adds up what they saw.

    python -m tests.chaos.history redis://127.0.0.1:6379/0 --reads 100000

Workers are stopped and continued, killed and replaced, while they read and invalidate. ``faults``
may do something to the coordinator besides.
"""

import argparse
import json
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Self

from tests.chaos.truth import MODELS, Truth
from tests.chaos.worker import Orders, Report

__all__ = ["History", "run_history"]

_MOST_S = 600.0


@dataclass(kw_only=True)
class History:
    """The sum of all reports; see :class:`tests.chaos.worker.Report`."""

    reads: int = 0
    made: int = 0
    invalidations: int = 0
    unrecorded: int = 0
    late: int = 0
    late_s: float = 0.0
    kills: int = 0
    pauses: int = 0
    stale: list[str] = field(default_factory=list)

    def add(self, report: Report) -> None:
        """Take a worker's last report in."""
        self.reads += report.reads
        self.made += report.made
        self.invalidations += report.invalidations
        self.unrecorded += report.unrecorded
        self.late += report.late
        self.late_s = max(self.late_s, report.late_s)
        self.stale += report.stale


class _Process:
    """A worker process and its latest report."""

    def __init__(self, orders: Orders) -> None:
        self.report = Report()
        self.orders = orders
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.chaos.worker", json.dumps(asdict(orders))],
            stdout=subprocess.PIPE,
            text=True,
        )
        self._listener = threading.Thread(target=self._listen, daemon=True)
        self._listener.start()

    def _listen(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            try:
                self.report = Report(**json.loads(line))
            except ValueError:  # killed in the middle of a line
                return

    def send(self, sign: signal.Signals) -> None:
        """Send a signal."""
        self._process.send_signal(sign)

    def end(self) -> Report:
        """Kill it, and return what it had told."""
        self._process.send_signal(signal.SIGCONT)
        self._process.kill()
        self._process.wait()
        self._listener.join(5)
        assert self._process.stdout is not None
        self._process.stdout.close()
        return self.report

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.end()


def run_history(
    url: str,
    *,
    reads: int,
    processes: int = 3,
    seed: int = 1,
    bound_s: float = 1.0,
    with_nemesis: bool = True,
    faults: Callable[[float], None] = lambda _: None,
) -> History:
    """Let workers read ``reads`` times in all; ``faults`` is called often, with the seconds so far.

    Each model is invalidated by one process alone, the first ``processes - 1`` share them; the last
    one only reads.
    """
    truth, chance, history = Truth.create(), random.Random(seed), History()
    orders = [
        Orders(
            url=url,
            truth=truth.name,
            seed=seed * 100 + number,
            bound_s=bound_s,
            invalidates=tuple(range(number, MODELS, max(1, processes - 1)))
            if number < max(1, processes - 1)
            else (),
        )
        for number in range(processes)
    ]
    running = [_Process(one) for one in orders]
    began_s = time.monotonic()
    try:
        while history.reads + sum(one.report.reads for one in running) < reads:
            if time.monotonic() - began_s > _MOST_S:
                raise TimeoutError("the workers do not get on")
            faults(time.monotonic() - began_s)
            time.sleep(0.2)
            if with_nemesis and chance.random() < 0.2:
                _afflict(running, chance, history)
    finally:
        for one in running:
            history.add(one.end())
        truth.close(unlink=True)
    return history


def _afflict(running: list[_Process], chance: random.Random, history: History) -> None:
    """Pause a process, or kill and replace one that only reads: only it can tell its versions."""
    if chance.random() < 0.7:
        victim = chance.choice(running)
        victim.send(signal.SIGSTOP)
        time.sleep(chance.uniform(0.05, 2.0))
        victim.send(signal.SIGCONT)
        history.pauses += 1
    else:
        number = chance.randrange(len(running))
        history.add(running[number].end())
        running[number] = _Process(running[number].orders)
        history.kills += 1


def main(arguments: Sequence[str] | None = None) -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos.history", description=__doc__)
    parser.add_argument("url")
    parser.add_argument("--reads", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args(arguments)
    history = run_history(given.url, reads=given.reads, seed=given.seed)
    sys.stdout.write(json.dumps(asdict(history), indent=2) + "\n")
    sys.exit(1 if history.stale else 0)


if __name__ == "__main__":
    main()
