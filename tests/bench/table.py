"""The benchmark's figures as text."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Row:
    """Medians of one target.

    Attributes:
        name: The target.
        requests_per_s: Requests answered per second.
        ratio: The same over that of the bare app in the same round.
        p50_ms: Median latency, milliseconds.
        p99_ms: 99th percentile of latency, milliseconds.
        cpu_us: The server's processor time per request, microseconds.
        added_cpu_us: How much of it is not the bare app's.
    """

    name: str
    requests_per_s: float
    ratio: float
    p50_ms: float
    p99_ms: float
    cpu_us: float
    added_cpu_us: float


_HEAD = ("over HTTP", "req/s", "ratio", "p50 ms", "p99 ms", "CPU us", "added us")
_LEGEND = """\
ratio and added us: against the bare app in the same round
CPU us: user and system time of the server per request, HTTP included"""


def render(rows: Sequence[Row], in_process_us: Mapping[str, float]) -> str:
    """Return both tables."""
    http = [
        (
            row.name,
            f"{row.requests_per_s:,.0f}",
            f"{row.ratio:.2f}",
            f"{row.p50_ms:.2f}",
            f"{row.p99_ms:.2f}",
            f"{row.cpu_us:.0f}",
            f"{row.added_cpu_us:+.0f}",
        )
        for row in rows
    ]
    plain = [(name, f"{value_us:.1f}") for name, value_us in in_process_us.items()]
    in_process = [("in process, no HTTP, best batch", "us"), *plain]
    return "\n\n".join([aligned([_HEAD, *http]), aligned(in_process), _LEGEND])


def aligned(lines: Sequence[Sequence[str]]) -> str:
    """Return rows of cells as columns; the first row is the head."""
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    first, *others = lines
    ruler = "  ".join("-" * width for width in widths)
    return "\n".join([_line(first, widths), ruler, *(_line(line, widths) for line in others)])


def _line(words: Sequence[str], widths: Sequence[int]) -> str:
    name, *figures = words
    cells = [name.ljust(widths[0])]
    cells += [word.rjust(width) for word, width in zip(figures, widths[1:], strict=True)]
    return "  ".join(cells).rstrip()
