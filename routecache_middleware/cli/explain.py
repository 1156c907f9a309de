"""``routecache explain``: what would become of a request, and why."""

import json
from pathlib import Path
from typing import Any, TextIO

import click

from routecache_middleware.cli.reaching import Desk, Place, ask, reaching
from routecache_middleware.cli.showing import AS_JSON, tell

__all__ = ["explain"]

_MOST_BYTES = 2_000_000


@click.command("explain", context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("request", type=click.File("r", encoding="utf-8"))
@reaching
@click.option("--path", default="/v1/chat/completions", show_default=True, help="Where it goes.")
@click.option(
    "--header",
    "-H",
    "headers",
    multiple=True,
    metavar="'NAME: VALUE'",
    help="A header of it; the client's credential decides whose it is.",
)
@click.option("--tenant", default=None, help="Whose it is, instead of whom the headers name.")
@click.option(
    "--neighbour",
    default=None,
    type=click.File("r", encoding="utf-8"),
    help="Another request, to be compared with.",
)
@AS_JSON
def explain(
    *,
    request: TextIO,
    url: str | None,
    config: Path | None,
    path: str,
    headers: tuple[str, ...],
    tenant: str | None,
    neighbour: TextIO | None,
    as_json: bool,
) -> None:
    """Say whether the cache would serve, keep or share a REQUEST, and what its key is made of.

    REQUEST is a file with the JSON body; - reads it from the standard input. Nothing is stored and
    nothing counted, and no part of a prompt is shown.

    Exit codes: 0 done, 1 the cache cannot be asked, 2 wrong arguments.
    """
    body: dict[str, Any] = {"body": _read(request), "path": path, "headers": _headers(headers)}
    if tenant is not None:
        body["tenant"] = tenant
    if neighbour is not None:
        body["neighbour"] = _read(neighbour)

    async def run(desk: Desk) -> Any:
        return await desk.post("/explain", body)

    found = ask(Place(url, config), run)
    if as_json:
        tell(found["explanation"])
    else:
        click.echo(found["text"])


def _read(file: TextIO) -> str:
    text = file.read(_MOST_BYTES + 1)
    if len(text) > _MOST_BYTES:
        raise click.BadParameter(f"{file.name} has more than {_MOST_BYTES:,} characters")
    try:
        json.loads(text)
    except (ValueError, RecursionError) as error:  # its text may quote a prompt
        raise click.BadParameter(f"{file.name} is no JSON ({type(error).__name__})") from None
    return text


def _headers(given: tuple[str, ...]) -> dict[str, str]:
    found = {}
    for one in given:
        name, colon, value = one.partition(":")
        if not colon or not name.strip():
            raise click.BadParameter("a header is written as 'NAME: VALUE'", param_hint="--header")
        found[name.strip().lower()] = value.strip()
    return found
