"""How a thread without an event loop asks the coordinator: directly, or through another thread.

An engine belongs to one event loop's thread, so calls that are not async never use the cache's own:
each lane has an engine besides, which counts into the same recorder. What the cache's own engine
knows to be invalidated counts here too, at once, also when it could not be recorded yet.
"""

from collections.abc import Callable
from typing import Protocol

from routecache_middleware.adapters.litellm.sync.direct import Direct
from routecache_middleware.adapters.litellm.sync.query import Query
from routecache_middleware.adapters.litellm.sync.remote import Remote
from routecache_middleware.core.keys import CacheKey
from routecache_middleware.core.models import Entry, Position, Scope
from routecache_middleware.core.plan import Forward, Serve
from routecache_middleware.engine.engine import Engine
from routecache_middleware.engine.leases import Placing
from routecache_middleware.engine.lookup import Lookup

__all__ = ["Lane", "lane_to"]

# Those that any thread may ask, and that answer at once.
_DIRECT = frozenset({"memory", "lmdb"})


class Lane(Protocol):
    """A way to the coordinator, from any thread; nothing here raises but for its own faults."""

    def lookup(self, query: Query) -> Lookup:
        """Look a key up, within the time that a request may wait."""

    def put(self, key: CacheKey, entry: Entry, then: Callable[[Placing], None]) -> None:
        """Store an entry; ``then`` is told what became of it, in any thread."""

    def judge(self, query: Query, entry: Entry) -> Serve | Forward:
        """Whether an entry that another caller has got may be served to this one."""

    def is_current_since(self, key: CacheKey, scopes: tuple[Scope, ...], since: Position) -> bool:
        """As :meth:`.Engine.is_current_since`."""

    def position(self) -> Position:
        """How far the log has been read here."""

    def close(self) -> None:
        """Finish what is under way, within a bounded time; idempotent. It may be used again."""

    def before_fork(self) -> None:
        """This process is about to fork; followed by one of the next two."""

    def after_fork(self) -> None:
        """It has forked, and this is the parent."""

    def begin_in_child(self) -> None:
        """It has forked, and this is the child, in which none of the other threads exists."""


def lane_to(main: Engine, url: str) -> Lane | None:
    """Return the lane to the coordinator of a cache; None when no thread can ask it."""
    if main.coordinator.name in _DIRECT and hasattr(main.coordinator, "fetch_now"):
        return Direct(main)
    return Remote(main, url) if url else None
