"""What somebody wants of the cache, or else makes."""

from typing import Protocol, TypeVar

from routecache_middleware.core.keys import CacheKey, Layer
from routecache_middleware.core.models import Entry, Outcome
from routecache_middleware.core.records import Provenance

__all__ = ["Wanted"]

T = TypeVar("T")


class Wanted(Protocol[T]):
    """What a caller wants, and on what terms."""

    @property
    def layer(self) -> Layer:
        """Where it is kept."""

    @property
    def key(self) -> CacheKey:
        """Under which key."""

    @property
    def tenant(self) -> str:
        """Whose it is."""

    @property
    def tags(self) -> tuple[str, ...]:
        """Names under which it can be invalidated."""

    @property
    def ttl_s(self) -> float | None:
        """Freshness lifetime, or None for the layer's."""

    @property
    def refresh(self) -> bool:
        """Make it anew even when there is one."""

    @property
    def store(self) -> bool:
        """Keep what is made."""

    def read(self, entry: Entry, age_s: float) -> T | None:
        """Take the value out of an entry, marked as a hit; None when the entry will not do."""

    async def make(self) -> T:
        """Make the value."""

    def write(self, value: T, made: Provenance) -> Entry | None:
        """Put the value into an entry; None when it is not one to keep."""

    def models(self, value: T | None) -> tuple[str, ...]:
        """Models with which the value is invalidated: of a value, or as far as known before."""

    def mark(self, value: T, outcome: Outcome) -> T:
        """Return the value for this caller, marked with how it came."""
