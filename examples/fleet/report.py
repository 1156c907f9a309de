"""What the tour of the fleet prints: a row for each promise, and the cluster's figures. Pure."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rich import box
from rich.table import Table

from examples.quickstart_report import TABLE_WIDTH, format_ms

LEGEND = """\
MISS asked the model, HIT did not, COALESCED waited for a call that another request had begun
model calls   requests that reached the model, from all gateways together
store reads   entries that the gateways asked the cluster for: none while a near cache answers
ms            time inside the gateway, the model included (sum of the Server-Timing header)"""


@dataclass(frozen=True, kw_only=True)
class Row:
    """One step of the tour.

    Attributes:
        step: What was done.
        seen: What came of it.
        promised: What should have.
        holds: Whether it did.
    """

    step: str
    seen: str
    promised: str
    holds: bool


@dataclass(frozen=True, kw_only=True)
class Answer:
    """One answer of a gateway.

    Attributes:
        status: HTTP status; 0 when none came.
        outcome: ``X-RouteCache``, or what went wrong.
        gateway_ms: Sum of the durations in ``Server-Timing``; None when there was none.
        client_ms: From sending the request to having the whole answer.
        text: What the model said.
    """

    status: int
    outcome: str
    gateway_ms: float | None
    client_ms: float
    text: str = ""

    @property
    def is_ok(self) -> bool:
        """Whether it is what the client asked for."""
        return self.status == 200  # noqa: PLR2004 - HTTP's OK


def outcomes(answers: Sequence[Answer]) -> str:
    """Return the outcomes, counted when there are many: ``MISS, HIT`` or ``1 MISS, 149 HIT``."""
    words = [answer.outcome for answer in answers]
    if len(words) <= 3:  # noqa: PLR2004 - as many as there are gateways
        return ", ".join(words)
    rarest_first = sorted(Counter(words).items(), key=lambda pair: pair[1])
    return ", ".join(f"{count} {word}" for word, count in rarest_first)


def times(answers: Sequence[Answer]) -> str:
    """Return the times inside the gateways: ``1.2 and 0.8 ms``."""
    return " and ".join(format_ms(answer.gateway_ms) for answer in answers) + " ms"


def counted(number: int, what: str) -> str:
    """Return ``1 model call`` or ``2 model calls``."""
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def quantile(values: Sequence[float], share: float) -> float:
    """Return the value that ``share`` of ``values`` do not exceed; 0 when there are none."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else 0.0


def rows_table(rows: Sequence[Row]) -> Table:
    """Return the table of all steps; fits into ``TABLE_WIDTH`` columns."""
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, padding=(0, 1, 0, 0), width=TABLE_WIDTH)
    table.add_column("what was done", ratio=5)
    table.add_column("what came of it", ratio=7)
    table.add_column("promised", ratio=3)
    table.add_column("", no_wrap=True)
    for row in rows:
        verdict = "[green]ok[/]" if row.holds else "[bold red]NO[/]"
        table.add_row(row.step, row.seen, row.promised, verdict)
    return table


def nodes_table(cluster: Mapping[str, Any]) -> Table:
    """Return the nodes of ``cluster_stats()``, as one gateway sees them."""
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, padding=(0, 1, 0, 0))
    for name in ("node", "state", "role"):
        table.add_column(name)
    for name in ("keys", "memory MB", "ops", "errors", "latency ms"):
        table.add_column(name, justify="right")
    for node in cluster["nodes"]:
        style = "green" if node["state"] == "up" else "red"
        table.add_row(
            node["name"],
            f"[{style}]{node['state']}[/]",
            node["role"],
            str(node["keys"]),
            f"{node['bytes'] / 1e6:.1f}",
            str(node["ops"]),
            str(node["errors"]),
            format_ms(node["latency_ms"]),
        )
    return table


def processes_table(cluster: Mapping[str, Any]) -> Table:
    """Return how far each gateway had read the invalidation log, and when it said so."""
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, padding=(0, 1, 0, 0))
    table.add_column("gateway process")
    table.add_column("invalidation log")
    table.add_column("told, s ago", justify="right")
    for process in cluster["processes"]:
        has_all = process["position"] >= cluster["position"]
        read = "read to its end" if has_all else "not yet read to its end"
        table.add_row(process["process"], read, f"{process['age_s']:.1f}")
    return table


def problems(rows: Sequence[Row]) -> list[str]:
    """Return a sentence for every promise that was not kept."""
    return [f"{row.step}: {row.seen}; promised: {row.promised}" for row in rows if not row.holds]
