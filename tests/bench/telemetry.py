"""What telemetry costs a hit: with no SDK, with a batch exporter, and with one trace in ten kept.

``python -m tests.bench.telemetry [--quick]``. Over HTTP the share of the requests per second of
processor time that is left of those of the same gateway that nobody watches; without HTTP the
processor time that a hit takes more, that of the exporters' threads included. Nothing is exported
anywhere: what a network costs is none of ours. Ends with 1 when a limit is broken.
"""

import argparse
import asyncio
import contextlib
import itertools
import math
import sys
import time
from collections.abc import Mapping, Sequence
from statistics import median

from tests.bench.inprocess import Call
from tests.bench.run import Target, check, measure
from tests.bench.servers import serving
from tests.bench.table import aligned
from tests.bench.targets import CHAT_PATH, cached, exported, request_body, sampled, untold

__all__ = ["main"]

_BATCH = 2_000
_NOBODY = "nobody watches"
_APPS = {
    _NOBODY: ("untold", untold),
    "no SDK": ("cached", cached),
    "batch exporter": ("exported", exported),
    "batch exporter, 1 in 10 sampled": ("sampled", sampled),
}
_MOST_US = {"no SDK": 3.0}
_LEAST_SHARE = {"no SDK": 0.97, "batch exporter": 0.85, "batch exporter, 1 in 10 sampled": 0.85}


def shares(rounds: int, seconds: float) -> Mapping[str, float]:
    """Return the share of the requests per processor second that is left, in the median round."""
    found: dict[str, list[float]] = {name: [] for name in _APPS}
    targets = {
        name: Target(name, app, CHAT_PATH, request_body(), "HIT")
        for name, (app, _) in _APPS.items()
    }
    with contextlib.ExitStack() as stack:
        servers = {name: stack.enter_context(serving(one.app)) for name, one in targets.items()}
        for name, target in targets.items():
            check(target, servers[name])
            measure(target, servers[name], 1)  # warm up
        for _ in range(rounds):
            # Processor time, not requests per second: others on the machine take none of it.
            cost_us = {
                name: measure(target, servers[name], seconds).cpu_us
                for name, target in targets.items()
            }
            for name, us in cost_us.items():
                found[name].append(cost_us[_NOBODY] / us)
    return {name: median(every) for name, every in found.items()}


async def added_us(batches: int) -> Mapping[str, float]:
    """Return the processor time that telemetry adds to a hit, of the best batches."""
    body = itertools.repeat(request_body())
    calls = {name: Call(make(), body) for name, (_, make) in _APPS.items()}
    best = dict.fromkeys(calls, math.inf)
    for call in calls.values():
        await call()  # the miss that stores the answer
        await asyncio.sleep(0.05)
        call.expected = b"HIT"
    for _ in range(batches):
        for name, call in calls.items():
            began_s = time.process_time()
            for _ in range(_BATCH):
                await call()
            best[name] = min(best[name], (time.process_time() - began_s) / _BATCH * 1e6)
    return {name: us - best[_NOBODY] for name, us in best.items()}


def main(arguments: Sequence[str] | None = None) -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.telemetry", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="few and short rounds")
    given = parser.parse_args(arguments)
    left = shares(*((2, 1.0) if given.quick else (5, 3.0)))
    added = asyncio.run(added_us(5 if given.quick else 30))
    rows, is_broken = [], False
    for name in _APPS:
        most, least = _MOST_US.get(name, math.inf), _LEAST_SHARE.get(name, 0.0)
        holds = added[name] <= most and left[name] >= least
        is_broken |= not holds
        rows.append((name, f"{left[name]:.2f}", f"{added[name]:.1f} us", "yes" if holds else "NO"))
    print(aligned([("a hit, where", "share of requests/s", "added CPU", "holds"), *rows]))
    sys.exit(is_broken)


if __name__ == "__main__":
    main()
