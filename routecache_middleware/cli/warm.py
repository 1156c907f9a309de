"""``routecache warm``: what is known of models is stored before somebody asks."""

import json
import tomllib
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import click

from routecache_middleware.cli.reaching import Desk, Place, ask, reaching
from routecache_middleware.cli.showing import AS_JSON, console, figure, tell

__all__ = ["warm"]

_AT_ONCE = 50
_FAILED = 1


@click.command("warm", context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("models", nargs=-1)
@click.option(
    "--from",
    "source",
    default=None,
    type=click.Path(exists=True, dir_okay=False, readable=True, path_type=Path),
    metavar="FILE",
    help="TOML or JSON: by model a table of its capabilities. Without MODELS: all of them.",
)
@reaching
@AS_JSON
def warm(
    *,
    models: tuple[str, ...],
    source: Path | None,
    url: str | None,
    config: Path | None,
    as_json: bool,
) -> None:
    """Store the metadata of MODELS, ahead of need.

    A gateway's admin app loads it as it was built to. A store knows nothing of models: then --from
    names a file that does.

    Exit codes: 0 done, 1 some could not be stored, or none, 2 wrong arguments.
    """
    place = Place(url, config)
    known = {} if source is None else _read(source)
    wanted = _wanted(place, models, known, has_source=source is not None)

    async def run(desk: Desk) -> dict[str, Any]:
        total: dict[str, Any] = {"requested": 0, "warmed": 0, "failed": {}, "duration_s": 0.0}
        with _progress(len(wanted)) as progress:
            for start in range(0, len(wanted), _AT_ONCE):
                some = wanted[start : start + _AT_ONCE]
                done = await _warmed(desk, some, known)
                for name in ("requested", "warmed", "duration_s"):
                    total[name] += done[name]
                total["failed"] |= done["failed"]
                if progress is not None:
                    progress.advance(progress.task_ids[0], len(some))
        return total

    found = ask(place, run)
    if as_json:
        tell(found)
    else:
        click.echo(f"{figure(found['warmed'])} of {figure(found['requested'])} models are stored.")
        for model, error in found["failed"].items():
            click.echo(f"{model}: {error}", err=True)
    if found["failed"]:
        raise SystemExit(_FAILED)


def _wanted(
    place: Place, models: tuple[str, ...], known: Mapping[str, object], *, has_source: bool
) -> list[str]:
    if place.is_app and has_source:
        raise click.UsageError("--from is for a store; an admin app loads metadata by itself")
    if not place.is_app and not has_source:
        raise click.UsageError(
            "a store knows nothing of models; name a file that does: --from FILE"
        )
    wanted = list(dict.fromkeys(models or known))
    unknown = [model for model in wanted if has_source and model not in known]
    if unknown:
        raise click.UsageError(f"the file says nothing of {', '.join(unknown)}")
    if not wanted:
        raise click.UsageError("name the models")
    return wanted


def _read(source: Path) -> dict[str, Mapping[str, object]]:
    try:
        text = source.read_text(encoding="utf-8")
        found = json.loads(text) if source.suffix == ".json" else tomllib.loads(text)
    except (OSError, ValueError, RecursionError) as error:
        raise click.BadParameter(f"{source} cannot be read: {error}", param_hint="--from") from None
    if not isinstance(found, dict) or not all(isinstance(one, dict) for one in found.values()):
        raise click.BadParameter(
            f'{source} has to have a table for each model, such as [gpt-4o] or ["gpt-4.1"]',
            param_hint="--from",
        )
    return found


async def _warmed(
    desk: Desk, models: list[str], known: Mapping[str, Mapping[str, object]]
) -> dict[str, Any]:
    if desk.cache is None:
        answer: dict[str, Any] = await desk.post("/warm", {"models": models})
        return answer
    from dataclasses import asdict  # noqa: PLC0415 - not for --help

    from routecache_middleware import ModelMetadata  # noqa: PLC0415 - as above

    async def load(model: str) -> ModelMetadata:
        return ModelMetadata(model, capabilities=known[model])

    return asdict(await desk.cache.warm(models, load=load))


def _progress(total: int) -> AbstractContextManager[Any]:
    from rich.progress import Progress  # noqa: PLC0415 - not for --help

    where = console(is_error=True)
    if not where.is_terminal:
        return nullcontext()
    progress = Progress(console=where, transient=True)
    progress.add_task("Warming", total=total)
    return progress
