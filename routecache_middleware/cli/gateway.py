"""``routecache gateway``: a ready caching reverse proxy in front of an LLM API."""

import json
import os
from pathlib import Path
from typing import Any

import click

from routecache_middleware.errors import ConfigurationError

__all__ = ["gateway"]


@click.command("gateway", context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--upstream",
    "-u",
    default=None,
    metavar="URL",
    help="Base URL of an OpenAI- or Anthropic-compatible API, as a client library is given it.",
)
@click.option(
    "--config",
    "-c",
    default=None,
    envvar="ROUTECACHE_CONFIG",
    type=click.Path(exists=True, dir_okay=False, readable=True, path_type=Path),
    help="TOML file with [routecache] and [routecache.gateway].",
)
@click.option(
    "--store",
    "-s",
    default=None,
    metavar="URL",
    help="Where answers are kept: memory://, lmdb:///DIRECTORY, redis://HOST:6379/0 ... One with a "
    "password had better stand in ROUTECACHE_URL.  [default: the configured one, else memory://]",
)
@click.option("--host", default=None, help="Address to listen on.  [default: 127.0.0.1]")
@click.option(
    "--port",
    "-p",
    default=None,
    type=click.IntRange(0, 65535),
    help="Port to listen on; 0: any that is free.  [default: 8000]",
)
@click.option(
    "--workers",
    "-w",
    default=None,
    type=click.IntRange(1),
    metavar="N",
    help="Processes that answer; more than 1 need a store that they share: not memory://.  "
    "[default: 1]",
)
@click.option(
    "--api-key-env",
    default=None,
    metavar="NAME",
    help="Environment variable with the upstream's key.  [default: clients send their own]",
)
@click.option(
    "--client-keys-env",
    default=None,
    metavar="NAME",
    help="Environment variable with the keys that clients may use, separated by commas.",
)
@click.option(
    "--admin/--no-admin",
    default=None,
    help="Serve the dashboard and /metrics as well, at /routecache/, to who has the token in "
    "ROUTECACHE_ADMIN_TOKEN; without one, to this machine only.  [default: no]",
)
@click.option("--access-log/--no-access-log", default=False, help="Print a line per request.")
@click.option("--json", "as_json", is_flag=True, help="Say where it listens as a line of JSON.")
def gateway(
    *,
    upstream: str | None,
    config: Path | None,
    store: str | None,
    host: str | None,
    port: int | None,
    workers: int | None,
    api_key_env: str | None,
    client_keys_env: str | None,
    admin: bool | None,
    access_log: bool,
    as_json: bool,
) -> None:
    """Run a caching reverse proxy in front of an OpenAI- or Anthropic-compatible API.

    Each client's credentials are passed on to the upstream, unless a variable with the upstream's
    key is named: then clients need keys of the gateway's own, or it listens on this machine only.
    Stop it with SIGTERM or Ctrl-C: answers under way may end. SIGHUP replaces several workers one
    by one, and they read the configuration anew.

    Exit codes: 0 stopped as told, 1 it cannot start, 2 wrong arguments.
    """
    from routecache_middleware.gateway.driver import needed  # noqa: PLC0415 - not for --help
    from routecache_middleware.gateway.server import serve  # noqa: PLC0415 - as above
    from routecache_middleware.gateway.summary import summary  # noqa: PLC0415 - as above
    from routecache_middleware.gateway.worker import Blueprint, set_up_logging  # noqa: PLC0415 - as above

    given: dict[str, Any] = {
        "upstream": upstream,
        "host": host,
        "port": port,
        "workers": workers,
        "api_key_env": api_key_env,
        "client_keys_env": client_keys_env,
        "admin": admin,
    }
    named = {name: value for name, value in given.items() if value is not None}
    set_up_logging(is_verbose=access_log)
    blueprint = Blueprint(named, config, store)
    try:
        settings, made = blueprint.settings(), blueprint.gateway()

        def started(url: str) -> None:
            told = summary(made, url)
            click.echo(json.dumps(told.record(os.getpid())) if as_json else told.text())

        how: dict[str, Any] = {
            "access_log": access_log,
            "log_level": "info" if access_log else "warning",
        }
        if settings.workers == 1:
            serve(made, settings, started=started, **how)
            return
        needed("uvicorn")
        from routecache_middleware.gateway.supervisor import serve_several  # noqa: PLC0415 - as above

        serve_several(blueprint, settings, started=started, **how)
    except ConfigurationError as error:
        raise click.ClickException(str(error)) from error
