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
    "gateway": Row(
        "Run a caching reverse proxy in front of an LLM API.",
        "routecache_middleware.cli.gateway:gateway",
    ),
    "litellm": Row(
        "Run LiteLLM's proxy with the cache in it, and before it.",
        "routecache_middleware.cli.litellm_proxy:litellm_proxy",
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
    """A cache in front of LLM gateways."""
