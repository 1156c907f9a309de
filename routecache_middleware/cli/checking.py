"""What is given on the command line, checked before anything is done with it."""

from math import isfinite
from typing import Any

import click

from routecache_middleware.cli.showing import address

__all__ = ["Finite", "check_address"]

_MOST_PORT = 65_535


class Finite(click.FloatRange):
    """A number that is one: ``nan`` lies in every range, and JSON has no word for either."""

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """Return the number; anything else is wrong usage."""
        number: float = super().convert(value, param, ctx)
        if not isfinite(number):
            self.fail(f"{value!r} is not a finite number.", param, ctx)
        return number


def check_address(url: str) -> None:
    """Raise unless a URL names a server that may be asked over HTTP.

    Raises:
        click.BadParameter: It does not; a password in it is not shown.
    """
    import httpx  # noqa: PLC0415 - not for --help

    try:
        read = httpx.URL(url)
        is_one = read.scheme in {"http", "https"} and bool(read.host)
        # The parser takes any number for a port.
        is_one = is_one and (read.port is None or 0 < read.port <= _MOST_PORT)
    except httpx.InvalidURL:
        is_one = False
    if not is_one:
        raise click.BadParameter(
            f"{address(url)!r} is no address of a server; one is http://HOST:PORT"
        )
