"""What is known of one request, as far as it has come."""

import msgspec

from routecache_middleware.adapters.asgi.gate import Slot, Ticket
from routecache_middleware.adapters.asgi.head import ANONYMOUS, RequestHead
from routecache_middleware.adapters.asgi.items import Items
from routecache_middleware.adapters.asgi.relay import Stamp
from routecache_middleware.adapters.asgi.types import Message, Scope
from routecache_middleware.core.dialect import Dialect
from routecache_middleware.core.directives import NO_DIRECTIVES, Directives
from routecache_middleware.core.keys import CacheKey
from routecache_middleware.core.models import BypassReason, Entry, MissReason, RoutingDecision
from routecache_middleware.core.overrides import RequestPolicy
from routecache_middleware.core.plan import Proceed
from routecache_middleware.engine.identify import Identified, Several
from routecache_middleware.engine.lookup import Lookup

__all__ = ["Case"]

_AGE = frozenset({b"age"})  # an answer that was put together is as old as its oldest part


class Case(msgspec.Struct):
    """One request and what is known of it so far.

    Attributes:
        dialect: Its API.
        scope: Its ASGI scope.
        stamp: What will be written into the response's head.
        messages: What was received of it; to be replayed to the app.
        head: What its head says.
        body: The body to forward when it differs from what was received, else None.
        found: What its body asks for, once known.
        decision: The routing decision, when there is a router.
        directives: What the client asks of the cache.
        ttl_s: How long it asks for the answer to be fresh, or None.
        policy: What holds for it.
        model: The model to ask: the decision's, or the one requested.
        tenant: Whose entries it may see.
        key: Key of its answer.
        proceed: What the cache may do for it; None: stand aside.
        bypass: Why the cache stands aside.
        slot: By what the gate knows it, when there is a gate.
        ticket: Its right to be answered without the app being asked, when there is a gate.
        lookup: What was found, when something was looked for.
        items: What was found of the items of a request for several.
        miss: Why the app has to be asked.
        is_stale: It was answered with what is past its lifetime.
        aside_s: For how long it waited for its client or the router, seconds.
        shadow: What it would have been answered with, had the cache been on.
        is_refresh: Nobody waits for the answer: it takes the place of one that was served stale.
    """

    dialect: Dialect
    scope: Scope
    stamp: Stamp
    messages: list[Message] = []
    head: RequestHead | None = None
    body: bytes | None = None
    found: Identified | None = None
    decision: RoutingDecision | None = None
    directives: Directives = NO_DIRECTIVES
    ttl_s: float | None = None
    policy: RequestPolicy | None = None
    model: str = ""
    tenant: str = ""
    key: CacheKey = CacheKey("")
    proceed: Proceed | None = None
    bypass: BypassReason | None = None
    slot: Slot | None = None
    ticket: Ticket | None = None
    lookup: Lookup | None = None
    items: Items | None = None
    miss: MissReason | None = None
    is_stale: bool = False
    aside_s: float = 0.0
    shadow: Entry | None = None
    is_refresh: bool = False

    @property
    def flight(self) -> str:
        """Who has the same name for it can share one answer."""
        form = "" if self.found is None else self.found.parsed.shape
        return f"{self.key}|{form}" + ("" if self.items is None else self.items.flight_mark)

    @property
    def parts(self) -> int:
        """How many entries are made of its answer."""
        return len(self.found.items) if isinstance(self.found, Several) else 1

    def shareable(self, stored_headers: frozenset[bytes]) -> frozenset[bytes]:
        """Return which response headers those get who share its answer."""
        is_joint = self.items is not None and self.items.wanted
        return stored_headers | _AGE if is_joint else stored_headers

    def is_private(self) -> bool:
        """Whether what is stored for this caller is for nobody else."""
        who = "" if self.head is None else self.head.principal
        return self.tenant == who and who not in {"", ANONYMOUS}
