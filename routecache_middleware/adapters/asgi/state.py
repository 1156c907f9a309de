"""What the app finds in ``scope["state"]["routecache"]``."""

import math
from typing import TYPE_CHECKING

from routecache_middleware.core.models import BypassReason, Outcome, RoutingDecision

if TYPE_CHECKING:
    from routecache_middleware.adapters.asgi.gate import Slot

__all__ = ["RouteCacheState"]


class RouteCacheState:
    """What the cache knows of a request that it forwards, and what the app may tell it.

    With another cache above, what the app tells holds for that one too. Of a stream it has to be
    told before the terminal marker is sent (``[DONE]``, ``message_stop``): clients hang up at that,
    and the app, cancelled where it waits, gets no further.

    Attributes:
        decision: The routing decision, when there is a router.
        outcome: ``miss`` or ``bypass``: a hit never reaches the app.
        bypass_reason: Why the cache stands aside, or None.
        query_hash: The decision hash, or empty when the request could not be read.
        tenant: Whose request it is, opaque, or empty.
        cache: Identity of the cache that handles the request.
        slot: By what a gate knows the request, when there is one.
        outer: The state of another cache above that is waiting for this answer, or None.
        is_over: The app is done. Servers that keep ``scope["state"]`` show it to later requests.
    """

    __slots__ = (
        "_age_s",
        "_is_vetoed",
        "_models",
        "_owners",
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
        "slot",
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
        self.slot: Slot | None = None
        self._is_vetoed = False
        self._ttl_s: float | None = None
        self._tags: tuple[str, ...] = ()
        self._served_by = ""
        self._models: tuple[str, ...] = ()
        self._owners: tuple[str, ...] = ()
        self._age_s = 0.0

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

    @property
    def models(self) -> tuple[str, ...]:
        """Further models that had a part in the answer."""
        return self._models

    @property
    def owners(self) -> tuple[str, ...]:
        """Further tenants whose answer it is."""
        return self._owners

    @property
    def age_s(self) -> float:
        """How old the answer was when the app gave it, seconds."""
        return self._age_s

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

    def depends_on(self, *model_ids: str) -> None:
        """Let the invalidation of these models, too, drop this answer."""
        self._models += model_ids
        if self.outer is not None:
            self.outer.depends_on(*model_ids)

    def owned_by(self, *tenants: str) -> None:
        """Let the invalidation of these tenants, too, drop this answer. Nobody else gets it."""
        self._owners += tenants
        if self.outer is not None:
            self.outer.owned_by(*tenants)

    def made_before(self, age_s: float) -> None:
        """The app did not make this answer now but that many seconds ago: its age counts on.

        Raises:
            ValueError: Not a finite number of seconds, 0 or more.
        """
        if not (math.isfinite(age_s) and age_s >= 0):
            raise ValueError(
                f"age is {age_s!r}; it has to be a finite number of seconds, 0 or more"
            )
        self._age_s = age_s
        if self.outer is not None:
            self.outer.made_before(age_s)
