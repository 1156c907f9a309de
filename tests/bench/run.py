"""Runs the benchmark: interleaved rounds over HTTP, then the figures without HTTP.

A ratio is taken within a round, between neighbours of the same seconds, and the median over the
rounds is reported: other load on the machine then hits both sides alike.
"""

import argparse
import contextlib
import dataclasses
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from tests.bench.inprocess import measure_in_process
from tests.bench.load import Load, Sample, generator, run_load
from tests.bench.servers import LOAD_CPU, Server, pinned, serving
from tests.bench.table import Row, render
from tests.bench.targets import CHAT_PATH, CREDENTIAL, OTHER_PATH, request_body


@dataclass(frozen=True)
class Target:
    """What is measured: which app, which request, and the ``X-RouteCache`` it has to get."""

    name: str
    app: str
    path: str
    body: bytes
    outcome: str
    is_unique: bool = False


BARE = "bare app"
TARGETS = (
    Target(BARE, "bare", CHAT_PATH, request_body(), ""),
    Target("other path, behind the cache", "cached", OTHER_PATH, request_body(), ""),
    Target("hit", "cached", CHAT_PATH, request_body(), "HIT"),
    Target("hit, streamed", "streamed", CHAT_PATH, request_body(stream=True), "HIT"),
    Target("hit, routed", "routed", CHAT_PATH, request_body(model="auto"), "HIT"),
    Target("miss", "cached", CHAT_PATH, request_body(), "MISS", is_unique=True),
)


@dataclass(frozen=True)
class Measured:
    """One target in one round."""

    sample: Sample
    cpu_us: float


def measure(target: Target, server: Server, seconds: float) -> Measured:
    """Load a server with one target's requests."""
    load = Load(
        url=f"http://127.0.0.1:{server.port}{target.path}",
        authorization=CREDENTIAL,
        body=target.body,
        is_unique=target.is_unique,
        seconds=seconds,
    )
    before_s = server.cpu_s()
    with pinned(LOAD_CPU):
        sample = run_load(load)
    used_s = server.cpu_s() - before_s
    if sample.errors:
        raise SystemExit(f"{target.name}: {sample.errors} requests failed")
    return Measured(sample, used_s / max(sample.requests, 1) * 1e6)


def check(target: Target, server: Server) -> None:
    """Make sure that the target is what its name says."""
    body = target.body.replace(b"@", b"fresh" if target.is_unique else b"0", 1)
    server.post(target.path, body)
    if target.is_unique:
        body = body.replace(b"fresh", b"fresher")
    got = server.post(target.path, body)
    if got != (200, target.outcome):
        raise SystemExit(f"{target.name}: status and outcome are {got}, not {target.outcome!r}")


def run_rounds(rounds: int, seconds: float) -> Mapping[str, Sequence[Measured]]:
    """Measure every target once per round."""
    measured: dict[str, list[Measured]] = {target.name: [] for target in TARGETS}
    with contextlib.ExitStack() as stack:
        apps = dict.fromkeys(target.app for target in TARGETS)
        servers = {app: stack.enter_context(serving(app)) for app in apps}
        for target in TARGETS:
            check(target, servers[target.app])
            measure(target, servers[target.app], 1)  # warm up
        for number in range(rounds):
            print(f"round {number + 1} of {rounds}", file=sys.stderr, flush=True)
            for target in TARGETS:
                result = measure(target, servers[target.app], seconds)
                measured[target.name].append(result)
    return measured


def summarise(measured: Mapping[str, Sequence[Measured]]) -> list[Row]:
    """Return the medians, and the ratios to the bare app of the same round."""
    bare = measured[BARE]
    return [
        Row(
            name=name,
            requests_per_s=median(one.sample.requests_per_s for one in rounds),
            ratio=median(
                one.sample.requests_per_s / base.sample.requests_per_s
                for one, base in zip(rounds, bare, strict=True)
            ),
            p50_ms=median(one.sample.p50_ms for one in rounds),
            p99_ms=median(one.sample.p99_ms for one in rounds),
            cpu_us=median(one.cpu_us for one in rounds),
            added_cpu_us=median(
                one.cpu_us - base.cpu_us for one, base in zip(rounds, bare, strict=True)
            ),
        )
        for name, rounds in measured.items()
    ]


def main(arguments: Sequence[str] | None = None) -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="2 rounds of 1 s instead of 5 of 3 s")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the figures there")
    given = parser.parse_args(arguments)
    rounds, seconds = (2, 1.0) if given.quick else (5, 3.0)
    rows = summarise(run_rounds(rounds, seconds))
    in_process = measure_in_process(rounds)
    print(f"\n{rounds} rounds of {seconds:.0f} s, load from {generator()}, medians\n")
    print(render(rows, in_process))
    if given.json:
        figures = {
            "http": [dataclasses.asdict(row) for row in rows],
            "in_process_us": dict(in_process),
        }
        given.json.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
