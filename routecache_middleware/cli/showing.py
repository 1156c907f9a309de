"""Showing answers: tables for people, JSON for programs.

Colours only on a terminal, and never when ``NO_COLOR`` is set; in a pipe tables have no lines and
as much room as they need.
"""

import json
import re
import sys
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.table import Table

__all__ = [
    "AS_JSON",
    "address",
    "console",
    "figure",
    "period",
    "say",
    "share",
    "size",
    "table",
    "tell",
]

AS_JSON = click.option("--json", "as_json", is_flag=True, help="Answer in JSON.")
"""The option that every command has."""

_IN_A_PIPE = 1_000  # columns: nothing is cut
_KIB = 1024
_QUERY = re.compile(r"([?#]).*", re.DOTALL)
_MINUTE_S, _HOUR_S, _DAY_S = 60, 3600, 86_400


def console(*, is_error: bool = False) -> "Console":
    """Return where to show things."""
    from rich.console import Console  # noqa: PLC0415 - not for --help

    stream = sys.stderr if is_error else sys.stdout
    width = None if stream.isatty() else _IN_A_PIPE
    return Console(file=stream, width=width, highlight=False)


def tell(answer: object, *, is_line: bool = False) -> None:
    """Write JSON; ``is_line``: on one line, as one of several."""
    click.echo(json.dumps(answer, indent=None if is_line else 2, default=str))


def say(*shown: "RenderableType") -> None:
    """Write tables and text."""
    where = console()
    for one in shown:
        where.print(one)


def table(title: str, columns: Sequence[str], rows: Iterable[Sequence[str]]) -> "Table":
    """Return a table. The first column is text, the others figures; ``<`` before a name: text."""
    from rich import box  # noqa: PLC0415 - not for --help
    from rich.table import Table  # noqa: PLC0415 - as above
    from rich.text import Text  # noqa: PLC0415 - as above

    is_terminal = sys.stdout.isatty()
    made = Table(
        title=title,
        title_justify="left",
        title_style="bold",
        box=box.SIMPLE_HEAD if is_terminal else None,
        pad_edge=False,
    )
    rows = list(rows)
    for number, name in enumerate(columns):
        is_text = number == 0 or name.startswith("<")
        # What a row is called is never cut, however narrow the terminal: commands want it whole.
        widest = max((len(row[0]) for row in rows), default=None) if number == 0 else None
        made.add_column(
            name.removeprefix("<"), justify="left" if is_text else "right", min_width=widest
        )
    for row in rows:
        made.add_row(*map(Text, row))  # never as markup: names come from clients
    return made


def address(url: str) -> str:
    """Write a URL without user, password and query, where a key may be."""
    from routecache_middleware.coordinators.url import mask_url  # noqa: PLC0415 - not for --help

    return _QUERY.sub(r"\1***", mask_url(url))


def figure(value: Any) -> str:
    """Write a number: whole ones with separators, others short; what is not known as a dash."""
    if value is None:
        return "-"
    return f"{value:,}" if isinstance(value, int) else f"{value:,.4g}"


def share(value: float | None) -> str:
    """Write a part of a whole as a percentage."""
    return "-" if value is None else f"{100 * value:.1f} %"


def size(count: float | None) -> str:
    """Write bytes."""
    if count is None:
        return "-"
    for unit in ("B", "KiB", "MiB"):
        if abs(count) < _KIB:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= _KIB
    return f"{count:.2f} GiB"


def period(seconds: float | None) -> str:
    """Write a time span."""
    if seconds is None:
        return "-"
    if abs(seconds) < 1:
        return f"{1000 * seconds:.3g} ms"
    if abs(seconds) < _MINUTE_S:
        return f"{seconds:.1f} s"
    for unit, length_s in (("d", _DAY_S), ("h", _HOUR_S), ("min", _MINUTE_S)):
        if abs(seconds) >= length_s:
            return f"{seconds / length_s:.1f} {unit}"
    return f"{seconds:g} s"
