"""``routecache config``: what is in force."""

from pathlib import Path
from typing import Any

import click

from routecache_middleware.cli.reaching import Desk, Place, ask, reaching
from routecache_middleware.cli.showing import AS_JSON, say, table, tell

__all__ = ["config"]


@click.command("config", context_settings={"help_option_names": ["-h", "--help"]})
@reaching
@click.option("--changed", is_flag=True, help="Only what is not the default.")
@AS_JSON
def config(*, url: str | None, config: Path | None, changed: bool, as_json: bool) -> None:
    """Show settings and policy in force: of a gateway's admin app its own, else those found here.

    Of secrets it says only whether they are set.

    Exit codes: 0 done, 1 it is wrong or cannot be asked for, 2 wrong arguments.
    """

    async def run(desk: Desk) -> Any:
        return await desk.get("/config")

    found = ask(Place(url, config), run)
    defaults = _defaults() if changed else {}
    parts = {
        name: {
            key: value
            for key, value in found[name].items()
            if not changed or value != defaults[name].get(key)
        }
        for name in ("settings", "policy")
    }
    if as_json:
        tell({**{name: found[name] for name in ("version", "url", "coordinator")}, **parts})
        return
    say(f"routecache {found['version']}, {found['url'] or found['coordinator']}")
    for name, values in parts.items():
        rows = [(key, _written(value)) for key, value in sorted(values.items())]
        say(table(name.capitalize(), ("name", "<value"), rows))


def _defaults() -> dict[str, dict[str, object]]:
    """Return what is in force when nobody has set anything."""
    from routecache_middleware import CachePolicy, RouteCache, Settings  # noqa: PLC0415 - not for --help
    from routecache_middleware.admin import AdminSettings  # noqa: PLC0415 - as above
    from routecache_middleware.admin.configuration import in_force  # noqa: PLC0415 - as above

    cache = RouteCache(url="memory://", settings=Settings(), policy=CachePolicy(), observers=[])
    found: Any = in_force(cache, AdminSettings())
    return {name: dict(found[name]) for name in ("settings", "policy")}


def _written(value: object) -> str:
    if isinstance(value, list | dict) and not value:
        return "-"
    return str(value)
