"""``routecache stats``: what the cache has counted."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from routecache_middleware.cli.reaching import Desk, Place, ask, reaching
from routecache_middleware.cli.repeating import EVERY, repeat, until_told
from routecache_middleware.cli.showing import AS_JSON, figure, period, say, share, table, tell

if TYPE_CHECKING:
    from rich.console import RenderableType

__all__ = ["stats"]

_OUTCOMES = ("hit", "stale", "miss", "coalesced", "bypass", "error")


@click.command("stats", context_settings={"help_option_names": ["-h", "--help"]})
@reaching
@click.option("--watch", "-w", is_flag=True, help="Show it anew until Ctrl-C.")
@EVERY
@click.option("--times", default=0, hidden=True, help="With --watch: how many times.")
@AS_JSON
def stats(
    *, url: str | None, config: Path | None, watch: bool, every: float, times: int, as_json: bool
) -> None:
    """Show lookups and hit rates, what was saved, and the nodes of the store.

    Numbers are those of all processes that share the store. With --watch and --json: a line each
    time.

    Exit codes: 0 done, or with --watch ended with Ctrl-C, 1 the cache cannot be asked, 2 wrong
    arguments.
    """

    async def run(desk: Desk) -> None:
        async def shown() -> "RenderableType | None":
            found = await desk.get("/stats")
            if not as_json:
                return _shown(found)
            tell(found, is_line=watch)
            return None

        if watch:
            await repeat(shown, every, times)
            return
        once = await shown()
        if once is not None:
            say(once)

    with until_told(is_watching=watch):
        ask(Place(url, config), run)


def _shown(found: Any) -> "RenderableType":
    from rich.console import Group  # noqa: PLC0415 - not for --help

    total = found["total"]
    rows = [
        (
            layer,
            share(total["hit_rates"][layer]) if any(counts.values()) else "-",
            *(figure(int(counts.get(outcome, 0))) for outcome in _OUTCOMES),
            figure(found["layers"][layer]["entries"]),
        )
        for layer, counts in total["lookups"].items()
    ]
    saved = total["saved"]
    summary = [
        ("store", found["coordinator"]),
        ("processes", figure(total["workers"])),
        ("nodes", figure(found["cluster_nodes"])),
        ("invalidations", figure(int(total["invalidations"]))),
        ("tokens saved", figure(int(saved["input_tokens"] + saved["output_tokens"]))),
        ("cost saved", f"{saved['usd']:.2f} USD"),
        ("time saved", period(saved["time_s"])),
    ]
    return Group(
        table("Lookups", ("cache", "hit rate", *_OUTCOMES, "entries"), rows),
        table("Cache", ("", "<"), summary),
    )
