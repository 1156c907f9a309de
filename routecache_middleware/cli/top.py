"""``routecache top``: which models are asked for, and how often the cache answers for them."""

import time
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from routecache_middleware.cli.exposed import samples
from routecache_middleware.cli.reaching import Desk, Place, ask, reaching
from routecache_middleware.cli.repeating import EVERY, repeat, until_told
from routecache_middleware.cli.showing import AS_JSON, figure, say, share, table, tell
from routecache_middleware.core.metrics import REQUESTS, SAVED_COST, SAVED_TOKENS, Metric

if TYPE_CHECKING:
    from rich.console import RenderableType

__all__ = ["top"]

Row = dict[str, float | str | None]
_SERVED = ("hit", "stale")
_ASKED = ("hit", "stale", "miss", "coalesced", "error")


@click.command("top", context_settings={"help_option_names": ["-h", "--help"]})
@reaching
@click.option("--watch", "-w", is_flag=True, help="Show it anew until Ctrl-C, with rates.")
@EVERY
@click.option("--times", default=0, hidden=True, help="With --watch: how many times.")
@click.option(
    "--limit", "-n", default=20, show_default=True, type=click.IntRange(1, 100), help="How many."
)
@AS_JSON
def top(
    *,
    url: str | None,
    config: Path | None,
    watch: bool,
    every: float,
    times: int,
    limit: int,
    as_json: bool,
) -> None:
    """Show the models that are asked for most: requests, hit rate, and what was saved.

    Numbers are those of all processes that share the store; at most 50 models are named.

    Exit codes: 0 done, or with --watch ended with Ctrl-C, 1 the cache cannot be asked, 2 wrong
    arguments.
    """
    before: dict[str, tuple[float, float]] = {}

    async def run(desk: Desk) -> None:
        async def shown() -> "RenderableType | None":
            rows = _rows(await desk.metrics(), time.monotonic(), before)[:limit]
            if not as_json:
                return _shown(rows)
            tell({"models": rows}, is_line=watch)
            return None

        if watch:
            await repeat(shown, every, times)
            return
        once = await shown()
        if once is not None:
            say(once)

    with until_told(is_watching=watch):
        ask(Place(url, config), run)


def _rows(exposed: str, now_s: float, before: dict[str, tuple[float, float]]) -> list[Row]:
    """Return a row by model, most requests first; ``before``: when and how many last time."""
    outcomes: dict[str, dict[str, float]] = defaultdict(lambda: defaultdict(float))
    for (model, _, outcome), count in _of(exposed, REQUESTS):
        outcomes[model][outcome] += count
    tokens: dict[str, float] = defaultdict(float)
    usd: dict[str, float] = defaultdict(float)
    for (_, model), count in _of(exposed, SAVED_TOKENS):
        tokens[model] += count
    for (model,), count in _of(exposed, SAVED_COST):
        usd[model] += count
    rows: list[Row] = []
    for model, counts in outcomes.items():
        requests, asked = sum(counts.values()), sum(counts[word] for word in _ASKED)
        then = before.get(model)
        rows.append(
            {
                "model": model,
                "requests": int(requests),
                "per_second": None if then is None else (requests - then[1]) / (now_s - then[0]),
                "hit_rate": sum(counts[word] for word in _SERVED) / asked if asked else None,
                "saved_tokens": int(tokens[model]),
                "saved_usd": usd[model],
            }
        )
        before[model] = now_s, requests
    return sorted(rows, key=lambda row: (-float(row["requests"] or 0), str(row["model"])))


def _of(exposed: str, metric: Metric) -> list[tuple[tuple[str, ...], float]]:
    names = [name.replace(".", "_") for name in metric.attributes]
    return [
        (tuple(labels[name] for name in names), value)
        for labels, value in samples(exposed, metric.prometheus)
    ]


def _shown(rows: list[Row]) -> "RenderableType":
    columns = ("model", "requests", "a second", "hit rate", "tokens saved", "USD saved")
    return table(
        "Models",
        columns,
        [
            (
                str(row["model"]),
                figure(row["requests"]),
                figure(row["per_second"]),
                share(row["hit_rate"]),  # type: ignore[arg-type]
                figure(row["saved_tokens"]),
                f"{row['saved_usd']:.2f}",
            )
            for row in rows
        ],
    )
