"""``routecache gateway``: a ready caching reverse proxy in front of an LLM API."""

import json
import logging
import os
from pathlib import Path
from typing import Any

import click

from routecache_middleware.errors import ConfigurationError
from routecache_middleware.wiring.config import load_table

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
@click.option("--host", default=None, help="Address to listen on.  [default: 127.0.0.1]")
@click.option(
    "--port",
    "-p",
    default=None,
    type=click.IntRange(0, 65535),
    help="Port to listen on; 0: any that is free.  [default: 8000]",
)
@click.option(
    "--api-key-env", default=None, metavar="NAME", help="Variable with the upstream's key."
)
@click.option(
    "--client-keys-env", default=None, metavar="NAME", help="Variable with the keys of clients."
)
@click.option(
    "--admin/--no-admin",
    default=None,
    help="Serve the dashboard as well, at /routecache/.  [default: no]",
)
@click.option("--access-log/--no-access-log", default=False, help="Print a line per request.")
@click.option("--json", "as_json", is_flag=True, help="Say where it listens as a line of JSON.")
def gateway(
    *,
    upstream: str | None,
    config: Path | None,
    host: str | None,
    port: int | None,
    api_key_env: str | None,
    client_keys_env: str | None,
    admin: bool | None,
    access_log: bool,
    as_json: bool,
) -> None:
    """Run a caching reverse proxy in front of an OpenAI- or Anthropic-compatible API.

    Each client's credentials are passed on to the upstream, unless a variable with the upstream's
    key is named: then clients need keys of the gateway's own, or it listens on this machine only.
    Stop it with SIGTERM or Ctrl-C: answers under way may end.

    Exit codes: 0 stopped as told, 1 it cannot start, 2 wrong arguments.
    """
    from routecache_middleware.gateway.app import Gateway  # noqa: PLC0415 - not for --help
    from routecache_middleware.gateway.server import serve  # noqa: PLC0415 - as above
    from routecache_middleware.gateway.settings import GatewaySettings  # noqa: PLC0415 - as above

    given: dict[str, Any] = {
        "upstream": upstream,
        "host": host,
        "port": port,
        "api_key_env": api_key_env,
        "client_keys_env": client_keys_env,
        "admin": admin,
    }
    named = {name: value for name, value in given.items() if value is not None}
    logging.basicConfig(level=logging.INFO if access_log else logging.WARNING)
    logging.getLogger("httpx").setLevel(logging.WARNING)  # it logs whole URLs, keys in them
    try:
        settings = load_table(GatewaySettings, "gateway", toml_path=config, **named)
        made = Gateway(settings, toml_path=config)
        hosts = made.hosts

        def started(url: str) -> None:
            if as_json:
                line = {"event": "listening", "url": url, "pid": os.getpid(), "upstreams": hosts}
                click.echo(json.dumps(line))
            else:
                click.echo(f"Listening on {url}, in front of {', '.join(hosts)}")

        serve(
            made,
            settings,
            started=started,
            access_log=access_log,
            log_level="info" if access_log else "warning",
        )
    except ConfigurationError as error:
        raise click.ClickException(str(error)) from error
