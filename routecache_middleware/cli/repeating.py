"""Asking again and again, until Ctrl-C."""

import asyncio
import sys
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click

from routecache_middleware.cli.checking import Finite
from routecache_middleware.cli.showing import console, say

if TYPE_CHECKING:
    from rich.console import RenderableType

__all__ = ["EVERY", "repeat", "until_told"]

EVERY = click.option(
    "--every",
    default=2.0,
    show_default=True,
    metavar="SECONDS",
    type=Finite(min=0.1),
    help="How often to ask with --watch.",
)
"""The option for how often."""


@contextmanager
def until_told(*, is_watching: bool) -> Iterator[None]:
    """Take Ctrl-C for the end of what was asked for, and no failure, while something is watched."""
    try:
        yield
    except KeyboardInterrupt:
        if not is_watching:
            raise


async def repeat(
    shown: Callable[[], Awaitable["RenderableType | None"]], every_s: float, times: int = 0
) -> None:
    """Show something anew every so often: in place on a terminal, else one after the other.

    Args:
        shown: Returns what to show; None: it has shown it itself.
        every_s: How often.
        times: How many times; 0: until Ctrl-C.
    """
    from rich.live import Live  # noqa: PLC0415 - not for --help

    if not sys.stdout.isatty():
        await _after_each_other(shown, every_s, times)
        return
    with Live(console=console(), auto_refresh=False, screen=False) as live:
        done = 0
        while True:
            found = await shown()
            if found is not None:
                live.update(found, refresh=True)
            done += 1
            if done == times:
                return
            await asyncio.sleep(every_s)


async def _after_each_other(
    shown: Callable[[], Awaitable["RenderableType | None"]], every_s: float, times: int
) -> None:
    done = 0
    while True:
        found = await shown()
        if found is not None:
            say(found)
        sys.stdout.flush()
        done += 1
        if done == times:
            return
        await asyncio.sleep(every_s)
