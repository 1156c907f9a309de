"""``routecache keys``: some of what is stored."""

from pathlib import Path
from typing import Any

import click

from routecache_middleware.cli.reaching import Desk, Place, ask, reaching
from routecache_middleware.cli.showing import AS_JSON, figure, period, say, size, table, tell

__all__ = ["keys"]

_COLUMNS = ("entry", "<model", "<query", "<tenant", "<state", "age", "left", "size", "made in")


@click.command("keys", context_settings={"help_option_names": ["-h", "--help"]})
@reaching
@click.option(
    "--layer",
    "-l",
    default="result",
    show_default=True,
    type=click.Choice(["result", "route", "meta"]),
    help="Which cache.",
)
@click.option("--model", "-m", default=None, help="Only what this model made, or was chosen by.")
@click.option(
    "--limit", "-n", default=20, show_default=True, type=click.IntRange(1, 200), help="How many."
)
@AS_JSON
def keys(
    *,
    url: str | None,
    config: Path | None,
    layer: str,
    model: str | None,
    limit: int,
    as_json: bool,
) -> None:
    """Show some of the entries, the latest first: a sample, never a scan.

    Queries and tenants are shown as parts of their hashes; prompts and answers never.

    Exit codes: 0 done, 1 the cache cannot be asked, 2 wrong arguments.
    """

    async def run(desk: Desk) -> Any:
        return await desk.get("/entries", layer=layer, model=model, limit=limit)

    found = ask(Place(url, config), run)
    if as_json:
        tell(found)
        return
    rows = [
        (
            row["id"],
            row["model"],
            row["query"],
            row["tenant"] or "-",
            row["state"],
            period(row["age_s"]),
            period(row["ttl_s"]),
            size(row["size_bytes"]),
            period(row["made_in_ms"] / 1000),
        )
        for row in found["entries"]
    ]
    say(table(f"Entries of {layer}", _COLUMNS, rows))
    say(f"{len(rows)} of {figure(found['total'])}; {figure(found['looked_at'])} were looked at.")
    if found["trouble"]:
        raise click.ClickException(found["trouble"])
