"""Services: what the administration app is made of, for its views."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from routecache_middleware.admin.audit import Audit
from routecache_middleware.admin.keeper import Keeper
from routecache_middleware.admin.listing import Listing
from routecache_middleware.admin.live import Live
from routecache_middleware.admin.settings import AdminSettings
from routecache_middleware.admin.values import Sections
from routecache_middleware.core.models import ModelMetadata
from routecache_middleware.wiring.cache import RouteCache

__all__ = ["Load", "Services"]

Load = Callable[[str], Awaitable[ModelMetadata]]
"""Loads what is to be known of a model, as for ``RouteCache.warm``."""


@dataclass(frozen=True, kw_only=True)
class Services:
    """What the app is made of.

    Attributes:
        cache: What it is about.
        settings: Its own.
        sections: Further parts of the statistics.
        load: What warming asks, or None.
        listing: Samples of what is stored.
        audit: The log of changes.
        keeper: Keeps the history.
        live: Streams it.
    """

    cache: RouteCache
    settings: AdminSettings
    sections: Sections
    load: Load | None
    listing: Listing = field(init=False)
    audit: Audit = field(init=False)
    keeper: Keeper = field(init=False)
    live: Live = field(init=False)

    def __post_init__(self) -> None:
        keeper = Keeper(self.cache, is_kept=self.settings.keep_history)
        for name, made in (
            ("listing", Listing(self.cache.engine)),
            ("audit", Audit(self.cache.engine)),
            ("keeper", keeper),
            ("live", Live(self.cache, keeper)),
        ):
            object.__setattr__(self, name, made)
