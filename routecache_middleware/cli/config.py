"""``routecache config``: what is in force."""

from pathlib import Path
from typing import Any

import click

from routecache_middleware.cli.reaching import Desk, Place, ask, reaching
from routecache_middleware.cli.showing import AS_JSON, say, table, tell
from routecache_middleware.errors import ConfigurationError
from routecache_middleware.wiring.config import (
    configured_url,
    load_policy,
    load_settings,
    load_table,
)

__all__ = ["config"]

_ELSEWHERE = "what a running gateway has, its admin app says: --url http://HOST:PORT"


@click.command("config", context_settings={"help_option_names": ["-h", "--help"]})
@reaching
@click.option("--changed", is_flag=True, help="Only what is not the default.")
@AS_JSON
def config(*, url: str | None, config: Path | None, changed: bool, as_json: bool) -> None:
    """Show settings and policy in force.

    With --url http://HOST:PORT those of the gateway behind that admin app. Else those that a
    process started here would have: from the environment and the configuration file; the store is
    not asked for anything. Of secrets it says only whether they are set.

    Exit codes: 0 done, 1 it is wrong or cannot be asked for, 2 wrong arguments.
    """
    place = Place(url, config)
    found = ask(place, _asked) if place.is_app else _found(place)
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
    where = "in force there" if place.is_app else f"as found here; {_ELSEWHERE}"
    say(f"routecache {found['version']}, {found['url'] or found['coordinator']} ({where})")
    for name, values in parts.items():
        rows = [(key, _written(value)) for key, value in sorted(values.items())]
        say(table(name.capitalize(), ("name", "<value"), rows))


async def _asked(desk: Desk) -> Any:
    return await desk.get("/config")


def _found(place: Place) -> Any:
    """Return what environment and configuration file say; nothing is opened.

    Raises:
        click.ClickException: It makes no sense.
    """
    from routecache_middleware import RouteCache  # noqa: PLC0415 - not for --help
    from routecache_middleware.admin import AdminSettings  # noqa: PLC0415 - as above
    from routecache_middleware.admin.configuration import in_force  # noqa: PLC0415 - as above

    path = place.config
    try:
        cache = RouteCache(
            url=configured_url(place.url, toml_path=path),
            settings=load_settings(toml_path=path),
            policy=load_policy(toml_path=path),
            observers=[],
        )
        return in_force(cache, load_table(AdminSettings, "admin", toml_path=path))
    except ConfigurationError as error:
        raise click.ClickException(str(error)) from error


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
