"""``routecache invalidate``: what is stored is not to be served any more."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from routecache_middleware.cli.checking import Finite
from routecache_middleware.cli.reaching import Desk, Place, ask, reaching
from routecache_middleware.cli.showing import AS_JSON, figure, tell

__all__ = ["invalidate"]

_CONTEXT = {"help_option_names": ["-h", "--help"]}
Command = Callable[..., Any]


@click.group("invalidate", context_settings=_CONTEXT)
def invalidate() -> None:
    """Serve nothing any more of what one of these covers.

    Without --yes nothing happens: it is said what would. With it, one row is written to the log of
    invalidations, whatever it covers.

    Exit codes: 0 done (or nothing, without --yes), 1 it cannot be recorded, 2 wrong arguments.
    """


def _options(command: Command) -> Command:
    made = [
        reaching,
        click.option("--yes", "-y", is_flag=True, help="Do it."),
        click.option(
            "--older-than",
            default=None,
            type=Finite(),
            metavar="UNIX_SECONDS",
            help="Spare what was finished at this time or later.",
        ),
        AS_JSON,
    ]
    for option in reversed(made):
        command = option(command)
    return command


@invalidate.command(
    "model", context_settings=_CONTEXT, short_help="Everything about a MODEL, answers included."
)
@click.argument("model")
@click.option("--tenant", default=None, help="Only this tenant's.")
@_options
def _model(*, model: str, tenant: str | None, **how: Any) -> None:
    """Everything about a MODEL: its answers, decisions for it, its metadata and load."""
    _run({"model": model, **({"tenant": tenant} if tenant else {})}, **how)


@invalidate.command("tenant", context_settings=_CONTEXT)
@click.argument("tenant")
@_options
def _tenant(*, tenant: str, **how: Any) -> None:
    """Everything of a TENANT."""
    _run({"tenant": tenant}, **how)


@invalidate.command("tag", context_settings=_CONTEXT)
@click.argument("tag")
@_options
def _tag(*, tag: str, **how: Any) -> None:
    """Everything that was stored with a TAG."""
    _run({"tag": tag}, **how)


@invalidate.command(
    "query", context_settings=_CONTEXT, short_help="One decision, or with --model one answer."
)
@click.argument("query")
@click.option("--model", default=None, help="The answer of this model; without it the decision.")
@click.option("--tenant", default=None, help="Whose query it is.")
@_options
def _query(*, query: str, model: str | None, tenant: str | None, **how: Any) -> None:
    """The decision for a QUERY (its whole hash), or with --model an answer to it."""
    named = {"query": query, "model": model, "tenant": tenant}
    _run({name: value for name, value in named.items() if value}, **how)


@invalidate.command("layer", context_settings=_CONTEXT)
@click.argument("layer", type=click.Choice(["route", "result", "meta", "load"]))
@_options
def _layer(*, layer: str, **how: Any) -> None:
    """Everything in one of the four caches."""
    _run({"layer": layer}, **how)


@invalidate.command("all", context_settings=_CONTEXT)
@_options
def _all(**how: Any) -> None:
    """Everything."""
    _run({"all": True}, **how)


def _run(
    target: dict[str, object],
    *,
    url: str | None,
    config: Path | None,
    yes: bool,
    older_than: float | None,
    as_json: bool,
) -> None:
    body = {**target, "dry_run": not yes}
    if older_than is not None:
        body["older_than"] = older_than

    async def run(desk: Desk) -> Any:
        return await desk.post("/invalidate", body)

    found = ask(Place(url, config), run)
    if as_json:
        tell(found)
        return
    if not yes:
        most, matched, seen = (found.get(n) for n in ("at_most_entries", "matched", "looked_at"))
        click.echo(f"Would invalidate {found['covers']}.")
        if most is not None:
            click.echo(f"At most {figure(most)} entries are stored there.")
        if seen:
            click.echo(
                f"It covers {figure(matched)} of {figure(seen)} entries that were looked at."
            )
        click.echo("Nothing has happened; say --yes to do it.")
        return
    click.echo(f"Invalidated {found['covers']}, at position {found['position']} of the log.")
