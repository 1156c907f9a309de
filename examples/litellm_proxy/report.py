"""What the tour prints: a row for each step, and whether it came as it should. Pure."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from rich import box
from rich.table import Table

from examples.quickstart_report import TABLE_WIDTH, format_ms, shorten

ANSWER_WIDTH = 44

LEGEND = """\
came       X-RouteCache: MISS asked the model, HIT did not, COALESCED shared a call under way
decision   X-RouteCache-Decision: whether the auto-router's choice came from the cache
group      X-RouteCache-Model: the model group that the answer is kept under
calls      calls that have reached the model so far, counted in front of it
ms         what the client waited for the whole answer (of several: the slowest)"""


@dataclass(frozen=True, kw_only=True)
class Step:
    """One step of the tour as the client saw it.

    Attributes:
        label: What was done.
        came: ``X-RouteCache``; counted when there were several requests.
        decision: ``X-RouteCache-Decision``; nothing where no router was asked.
        group: ``X-RouteCache-Model``.
        took_ms: What the slowest request took.
        answer: What the model said.
        calls: Calls of the model by then.
    """

    label: str
    came: str
    decision: str
    group: str
    took_ms: float
    answer: str
    calls: int


EXPECTED = (
    ("MISS", "", "small", 1),
    ("HIT", "", "small", 1),
    ("MISS", "", "small", 2),
    ("HIT", "", "small", 2),
    ("MISS", "MISS", "small", 3),
    ("HIT", "HIT", "small", 3),
    ("1 MISS, 9 COALESCED", "", "small", 4),
)
"""Of each step: how it came, the decision, the group, and the model's calls by then."""


def counted(words: Sequence[str]) -> str:
    """Return words as one: themselves if all are the same, else counted: ``1 MISS, 9 HIT``."""
    if len(set(words)) == 1:
        return words[0]
    rarest_first = sorted(Counter(words).items(), key=lambda pair: pair[1])
    return ", ".join(f"{count} {word}" for word, count in rarest_first)


def unexpected(steps: Sequence[Step]) -> list[str]:
    """Return a sentence for each step that did not come as :data:`EXPECTED`."""
    got = [(step.came, step.decision, step.group, step.calls) for step in steps]
    return [
        f"{step.label}: outcome, decision, group and calls are {one}, not {expected}"
        for step, one, expected in zip(steps, got, EXPECTED, strict=True)
        if one != expected
    ]


def steps_table(steps: Sequence[Step]) -> Table:
    """Return the table; fits into ``TABLE_WIDTH`` columns."""
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, padding=(0, 1, 0, 0), width=TABLE_WIDTH)
    table.add_column("request, the model's answer", ratio=1)
    for name in ("came", "decision", "group"):
        table.add_column(name)
    for name in ("calls", "ms"):
        table.add_column(name, justify="right", no_wrap=True)
    for step in steps:
        request = f"{step.label}\n[dim]{shorten(step.answer, ANSWER_WIDTH)}[/dim]"
        came = f"[green]{step.came}[/]" if step.came == "HIT" else step.came
        took = format_ms(step.took_ms)
        table.add_row(request, came, step.decision, step.group, str(step.calls), took)
    return table
