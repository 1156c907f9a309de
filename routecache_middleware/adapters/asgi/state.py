"""What the app finds in ``scope["state"]["routecache"]``."""

import math

from routecache_middleware.core.models import BypassReason, Outcome, RoutingDecision

__all__ = ["RouteCacheState"]


class RouteCacheState:
    """What the cache knows of a request that it forwards, and what the app may tell it.

    With another cache above, what the app tells holds for that one too.

    Attributes:
        decision: The routing decision, when there is a router.
        outcome: ``miss`` or ``bypass``: a hit never reaches the app.
        bypass_reason: Why the cache stands aside, or None.
        query_hash: The decision hash, or empty when the request could not be read.
        tenant: Whose request it is, opaque, or empty.
        cache: Identity of the cache that handles the request.
        outer: The state of another cache above that is waiting for this answer, or None.
        is_over: The app is done. Servers that keep ``scope["state"]`` show it to later requests.
    """

    __slots__ = (
        "_is_vetoed",
        "_served_by",
        "_tags",
        "_ttl_s",
        "bypass_reason",
        "cache",
        "decision",
        "is_over",
        "outcome",
        "outer",
        "query_hash",
        "tenant",
    )

    def __init__(self, cache: object) -> None:
        self.cache = cache
        self.outer: RouteCacheState | None = None
        self.is_over = False
        self.decision: RoutingDecision | None = None
        self.outcome = Outcome.MISS
        self.bypass_reason: BypassReason | None = None
        self.query_hash = ""
        self.tenant = ""
        self._is_vetoed = False
        self._ttl_s: float | None = None
        self._tags: tuple[str, ...] = ()
        self._served_by = ""

    @property
    def is_vetoed(self) -> bool:
        """Whether the app said that its answer must not be stored."""
        return self._is_vetoed

    @property
    def ttl_s(self) -> float | None:
        """The lifetime that the app gave its answer, or None."""
        return self._ttl_s

    @property
    def tags(self) -> tuple[str, ...]:
        """The tags that the app gave its answer."""
        return self._tags

    @property
    def model_served(self) -> str:
        """The model that the app named as the one that answered, or empty."""
        return self._served_by

    def no_store(self) -> None:
        """Do not store this answer."""
        self._is_vetoed = True
        if self.outer is not None:
            self.outer.no_store()

    def set_ttl(self, seconds: float) -> None:
        """Give this answer a freshness lifetime of its own.

        Raises:
            ValueError: Not a finite number of seconds, 0 or more.
        """
        if not (math.isfinite(seconds) and seconds >= 0):
            raise ValueError(
                f"ttl is {seconds!r}; it has to be a finite number of seconds, 0 or more"
            )
        self._ttl_s = seconds
        if self.outer is not None:
            self.outer.set_ttl(seconds)

    def add_tags(self, *tags: str) -> None:
        """Let ``invalidate_tag`` drop this answer."""
        self._tags += tags
        if self.outer is not None:
            self.outer.add_tags(*tags)

    def served_by(self, model_id: str) -> None:
        """Another model answered than the one asked for (a fallback): store the answer under it."""
        self._served_by = model_id
        if self.outer is not None:
            self.outer.served_by(model_id)
