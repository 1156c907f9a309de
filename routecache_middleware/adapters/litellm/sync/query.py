"""One lookup, as a value."""

import msgspec

from routecache_middleware.core.directives import NO_DIRECTIVES, Directives
from routecache_middleware.core.keys import CacheKey

__all__ = ["Query"]


class Query(msgspec.Struct, frozen=True):
    """What to look up; as for :meth:`.Engine.lookup`."""

    key: CacheKey
    former: tuple[CacheKey, ...] = ()
    tenant: str = ""
    model: str = ""
    verb: str = ""
    asked: Directives = NO_DIRECTIVES
