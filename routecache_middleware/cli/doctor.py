"""``routecache doctor``: is all as it should be, and if not, what to do."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import click

from routecache_middleware.cli.checkup import Finding, Verdict, check_app, check_here, check_store
from routecache_middleware.cli.reaching import Desk, Place, ask, reaching
from routecache_middleware.cli.showing import AS_JSON, console, tell
from routecache_middleware.errors import ConfigurationError

__all__ = ["doctor"]

_SICK = 3
_MARKS = {
    Verdict.GOOD: "[green]ok  [/]",
    Verdict.ODD: "[yellow]odd [/]",
    Verdict.BAD: "[red]BAD [/]",
}


@click.command("doctor", context_settings={"help_option_names": ["-h", "--help"]})
@reaching
@AS_JSON
def doctor(*, url: str | None, config: Path | None, as_json: bool) -> None:
    """Check configuration, store, clocks and versions, and say what to do about what is wrong.

    Exit codes: 0 nothing is wrong (some things may be odd), 1 it cannot look, 2 wrong arguments, 3
    something is wrong.
    """
    place = Place(url, config)
    findings: list[Finding] = []

    async def run(desk: Desk) -> None:
        check = check_app if desk.cache is None else check_store
        findings.extend(await check(desk))

    try:
        findings += check_here(place)
    except ConfigurationError as error:
        findings.append(Finding("configuration", Verdict.BAD, str(error)))
    if all(one.verdict is not Verdict.BAD for one in findings):
        try:
            ask(place, run, has_to_answer=False)
        except click.ClickException as error:
            findings.append(Finding("reach", Verdict.BAD, error.format_message()))
    is_sick = any(one.verdict is Verdict.BAD for one in findings)
    if as_json:
        tell({"is_well": not is_sick, "findings": [asdict(one) for one in findings]})
    else:
        _show(findings)
    if is_sick:
        raise SystemExit(_SICK)


def _show(findings: Sequence[Finding]) -> None:
    from rich.markup import escape  # noqa: PLC0415 - not for --help

    where = console()
    for one in findings:
        where.print(f"{_MARKS[one.verdict]} {one.name}: {escape(one.found)}")
        if one.remedy:
            where.print(f"     {escape(one.remedy)}")
