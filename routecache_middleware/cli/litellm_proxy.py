"""``routecache litellm``: LiteLLM's proxy with the cache in it, and before it."""

import os
from importlib.util import find_spec
from pathlib import Path

import click

__all__ = ["litellm_proxy"]

_APP = "routecache_middleware.adapters.litellm.fastlane.entry:create_app"
_FAST_LANE = "ROUTECACHE_LITELLM_FAST_LANE"
_NEEDED = ("fastapi", "orjson", "uvicorn")


@click.command("litellm", context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--config",
    "-c",
    required=True,
    envvar="CONFIG_FILE_PATH",
    type=click.Path(exists=True, dir_okay=False, readable=True, path_type=Path),
    help="LiteLLM's configuration file.",
)
@click.option(
    "--host",
    default="0.0.0.0",  # noqa: S104 - as LiteLLM's own command does
    show_default=True,
    help="Address to listen on.",
)
@click.option("--port", default=4000, show_default=True, help="Port to listen on.")
@click.option(
    "--num_workers",
    "--num-workers",
    default=1,
    show_default=True,
    type=click.IntRange(min=1),
    help="Number of worker processes; more than 1 need a store that they share.",
)
@click.option(
    "--fast-lane/--no-fast-lane",
    default=None,
    help="Answer hits before LiteLLM's own stack; by default as the configuration says.",
)
@click.option("--access-log/--no-access-log", default=False, help="Print a line per request.")
@click.option(
    "--ssl_certfile_path",
    "--ssl-certfile",
    type=click.Path(exists=True),
    default=None,
    help="Certificate, to answer over TLS.",
)
@click.option(
    "--ssl_keyfile_path",
    "--ssl-keyfile",
    type=click.Path(exists=True),
    default=None,
    help="Its private key.",
)
@click.option(
    "--keepalive_timeout",
    type=int,
    default=5,
    show_default=True,
    help="For how long an unused connection is kept, seconds.",
)
def litellm_proxy(
    *,
    config: Path,
    host: str,
    port: int,
    num_workers: int,
    fast_lane: bool | None,
    access_log: bool,
    ssl_certfile_path: str | None,
    ssl_keyfile_path: str | None,
    keepalive_timeout: int,
) -> None:
    """Run LiteLLM's proxy with the cache in it, and before it.

    The configuration file is LiteLLM's own; the cache is put in place also when the file does not
    name it. A database is not migrated from here: run "litellm --config FILE
    --skip_server_startup" for that.

    Several workers need a store that they share, such as url: lmdb:///var/cache/routecache under
    callback_settings.routecache: what is invalidated in one of them reaches the others only there.

    Exit codes: 0 stopped as told, 1 it cannot start, 2 wrong arguments.
    """
    _check_packages()
    import uvicorn  # noqa: PLC0415 - known to be there only now

    from routecache_middleware.gateway.server_log import log_config  # noqa: PLC0415 - as above

    os.environ["CONFIG_FILE_PATH"] = str(config.resolve())  # of the workers, too
    if fast_lane is not None:
        os.environ[_FAST_LANE] = "true" if fast_lane else "false"
    uvicorn.run(
        _APP,
        factory=True,
        host=host,
        port=port,
        workers=num_workers,
        access_log=access_log,
        log_config=log_config(),
        ssl_certfile=ssl_certfile_path,
        ssl_keyfile=ssl_keyfile_path,
        timeout_keep_alive=keepalive_timeout,
    )


def _check_packages() -> None:
    """Raise what click shows as an error, with exit code 1, unless the proxy can run."""
    if find_spec("litellm") is None:
        raise click.ClickException(
            "LiteLLM is not installed; pip install 'routecache-middleware[litellm]' "
            "'litellm[proxy]'"
        )
    missing = [name for name in _NEEDED if find_spec(name) is None]
    if missing:
        raise click.ClickException(
            f"LiteLLM's proxy needs {', '.join(missing)}; pip install 'litellm[proxy]'"
        )
