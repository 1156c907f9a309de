"""Companion: what works beside an engine."""

from typing import Protocol

__all__ = ["Companion"]


class Companion(Protocol):
    """What works beside an engine for as long as it is open."""

    def opened(self) -> None:
        """The coordinator was opened for the running event loop."""

    async def aclose(self) -> None:
        """The coordinator is about to be closed; never raises."""
