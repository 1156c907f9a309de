"""``routecache admin``: the administration app and the dashboard, by themselves."""

import asyncio
import json
import os
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from routecache_middleware.errors import ConfigurationError
from routecache_middleware.wiring.config import (
    configured_url,
    load_policy,
    load_settings,
    load_table,
)

if TYPE_CHECKING:
    from routecache_middleware.admin import AdminSettings

__all__ = ["admin"]

_ALONE = (
    "memory:// belongs to one process, so there is nothing to see here; mount "
    "routecache_middleware.admin.create_admin in your gateway, or use a coordinator that is shared"
)


@click.command("admin", context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--url", "-u", default=None, metavar="URL", help="Coordinator; by default the configured one."
)
@click.option(
    "--config",
    "-c",
    default=None,
    envvar="ROUTECACHE_CONFIG",
    type=click.Path(exists=True, dir_okay=False, readable=True, path_type=Path),
    help="TOML file with [routecache] and [routecache.admin].",
)
@click.option("--host", default=None, help="Address to listen on.  [default: 127.0.0.1]")
@click.option(
    "--port",
    "-p",
    default=None,
    type=click.IntRange(0, 65535),
    help="Port to listen on; 0: any that is free.  [default: 8090]",
)
@click.option("--json", "as_json", is_flag=True, help="Say where it listens as a line of JSON.")
def admin(
    *, url: str | None, config: Path | None, host: str | None, port: int | None, as_json: bool
) -> None:
    """Run the administration app and the dashboard for caches that share a coordinator.

    Settings and secret have to be those of the caches. Set ROUTECACHE_ADMIN_TOKEN, and perhaps
    ROUTECACHE_ADMIN_READ_TOKEN; without a token it listens on this machine only. Stop it with
    SIGTERM or Ctrl-C.

    Exit codes: 0 stopped as told, 1 it cannot start, 2 wrong arguments.
    """
    if find_spec("uvicorn") is None:
        raise click.ClickException(
            "uvicorn is not installed; pip install 'routecache-middleware[admin]'"
        )
    given = {"host": host, "port": port}
    try:
        asyncio.run(_serve(url, config, given, as_json=as_json))
    except ConfigurationError as error:
        raise click.ClickException(str(error)) from error


async def _serve(
    url: str | None, config: Path | None, given: dict[str, Any], *, as_json: bool
) -> None:
    from routecache_middleware import RouteCache, RouteCacheMiddleware  # noqa: PLC0415 - not for --help
    from routecache_middleware.admin import AdminSettings, create_admin  # noqa: PLC0415 - as above
    from routecache_middleware.admin.server import serve  # noqa: PLC0415 - as above
    from routecache_middleware.coordinators.url import mask_url  # noqa: PLC0415 - as above

    named = {name: value for name, value in given.items() if value is not None}
    settings = load_table(AdminSettings, "admin", toml_path=config, **named)
    cache = RouteCache(
        url=configured_url(url, toml_path=config),
        settings=load_settings(toml_path=config),
        policy=load_policy(toml_path=config),
        observers=[],
    )
    RouteCacheMiddleware(_nothing, cache=cache)  # it explains requests
    app = create_admin(cache, settings=settings, is_local=settings.is_local)
    if not cache.engine.coordinator.is_shared:
        click.echo(f"Warning: {_ALONE}.", err=True)

    store = mask_url(cache.url or "")

    def started(where: str) -> None:
        line = {"event": "listening", "url": where, "pid": os.getpid(), "store": store}
        told = [f"Listening on {where}", f"  store:   {store}", f"  lets in: {_let_in(settings)}"]
        click.echo(json.dumps(line) if as_json else "\n".join(told))

    await serve(app, cache, settings, started=started)


def _let_in(settings: "AdminSettings") -> str:
    if settings.token:
        return "who has the admin token"
    if settings.read_token:
        return "who has the read token, to look; nobody to change: no ROUTECACHE_ADMIN_TOKEN"
    return "this machine only: there is no ROUTECACHE_ADMIN_TOKEN"


async def _nothing(scope: Any, receive: Any, send: Any) -> None:
    """Be the app that the middleware would ask; nobody asks it."""
