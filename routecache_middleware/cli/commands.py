"""Which commands there are. A new one is one file beside this one and one row here."""

from importlib import import_module
from typing import NamedTuple, cast

import click

__all__ = ["COMMANDS", "Row", "routecache"]


class Row(NamedTuple):
    """One command.

    Attributes:
        summary: What the list of commands says of it.
        factory: ``module:command``, imported on first use.
    """

    summary: str
    factory: str


COMMANDS: dict[str, Row] = {
    "admin": Row(
        "Run the administration app and the dashboard.",
        "routecache_middleware.cli.admin:admin",
    ),
    "bench": Row(
        "Measure how fast a gateway answers, with the cache and without.",
        "routecache_middleware.cli.bench:bench",
    ),
    "config": Row(
        "Show the configuration in force.",
        "routecache_middleware.cli.config:config",
    ),
    "doctor": Row(
        "Check configuration, store, clocks and versions.",
        "routecache_middleware.cli.doctor:doctor",
    ),
    "explain": Row(
        "Say what would become of a request, and why.",
        "routecache_middleware.cli.explain:explain",
    ),
    "gateway": Row(
        "Run a caching reverse proxy in front of an LLM API.",
        "routecache_middleware.cli.gateway:gateway",
    ),
    "invalidate": Row(
        "Serve nothing any more of a model, a tenant, a tag ...",
        "routecache_middleware.cli.invalidate:invalidate",
    ),
    "keys": Row(
        "Show some of what is stored.",
        "routecache_middleware.cli.keys:keys",
    ),
    "litellm": Row(
        "Run LiteLLM's proxy with the cache in it, and before it.",
        "routecache_middleware.cli.litellm_proxy:litellm_proxy",
    ),
    "stats": Row(
        "Show what the cache has counted and saved.",
        "routecache_middleware.cli.stats:stats",
    ),
    "top": Row(
        "Show the models that are asked for most.",
        "routecache_middleware.cli.top:top",
    ),
    "warm": Row(
        "Store what is known of models, ahead of need.",
        "routecache_middleware.cli.warm:warm",
    ),
}
"""Name to command."""


class _Commands(click.Group):
    """A group whose commands are loaded when they are asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        return list(COMMANDS)

    def get_command(
        self,
        ctx: click.Context,  # noqa: ARG002 - as above
        cmd_name: str,
    ) -> click.Command | None:
        row = COMMANDS.get(cmd_name)
        if row is None:
            return None
        module, _, name = row.factory.partition(":")
        return cast("click.Command", getattr(import_module(module), name))

    def format_commands(
        self,
        ctx: click.Context,  # noqa: ARG002 - as above
        formatter: click.HelpFormatter,
    ) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, row.summary) for name, row in COMMANDS.items()])


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="routecache-middleware")
def routecache() -> None:
    """A cache in front of LLM gateways.

    Commands that look or change something need --url: of a gateway's admin app, or of a store that
    gateways share; by default the store in ROUTECACHE_URL or --config FILE. Each says more with
    --help: its options, and what its exit codes mean.
    """
