"""What reading, keying and replaying the wire APIs costs, against the limits that are promised.

``python -m tests.bench.wire [--quick]``; in process, no HTTP. Ends with 1 when a limit is broken.
"""

import argparse
import asyncio
import math
import sys
from collections.abc import Sequence
from typing import NamedTuple

from tests.bench.table import aligned
from tests.bench.wire_keying import blocked_ms, keying_us
from tests.bench.wire_streams import first_byte_us, replay_ms

__all__ = ["main"]


class Figure(NamedTuple):
    """One measured figure.

    Attributes:
        name: What was measured.
        value: How much it was.
        unit: Of ``value`` and ``limit``.
        limit: What it must not exceed; infinite: it is only told.
    """

    name: str
    value: float
    unit: str
    limit: float = math.inf

    @property
    def verdict(self) -> str:
        """Whether the limit holds; empty without one."""
        if self.limit == math.inf:
            return ""
        return "yes" if self.value <= self.limit else "NO"


def measure(rounds: int) -> list[Figure]:
    """Return all figures.

    Args:
        rounds: How often everything is measured.
    """
    figures = []
    for dialect, (first, again) in keying_us(rounds).items():
        figures.append(Figure(f"{dialect}, 20 KB, at first sight", first, "us", 200))
        figures.append(Figure(f"{dialect}, 20 KB, seen before", again, "us", 20))
    for shape, worst in asyncio.run(blocked_ms(rounds)).items():
        limit = math.inf if shape.startswith("nothing") else 10
        figures.append(Figure(f"event loop blocked: {shape}", worst, "ms", limit))
    for way, took in asyncio.run(replay_ms(rounds)).items():
        limit = 5 if way.endswith("burst") else math.inf
        figures.append(Figure(f"2,000 chunks, {way}", took, "ms", limit))
    added = asyncio.run(first_byte_us(rounds))
    figures.append(Figure("first byte of a streamed miss, added", added, "us", 200))
    return figures


def render(figures: Sequence[Figure]) -> str:
    """Return the table."""
    rows = [
        (
            figure.name,
            f"{figure.value:.1f} {figure.unit}",
            "" if figure.limit == math.inf else f"{figure.limit:g} {figure.unit}",
            figure.verdict,
        )
        for figure in figures
    ]
    return aligned([("wire APIs, in process", "measured", "limit", "holds"), *rows])


def main(arguments: Sequence[str] | None = None) -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.wire", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="3 rounds instead of 15")
    given = parser.parse_args(arguments)
    figures = measure(3 if given.quick else 15)
    print(render(figures))
    sys.exit(any(figure.verdict == "NO" for figure in figures))


if __name__ == "__main__":
    main()
