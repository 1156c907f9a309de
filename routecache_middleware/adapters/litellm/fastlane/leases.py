"""Leases: who was let in by LiteLLM lately, and for what.

A lease is written when LiteLLM itself has accepted a request and answered it with 2xx. For
``auth_ttl_s`` such requests may be answered in LiteLLM's place: the same caller, by the same way,
for the same model, on behalf of the same user. It is also the account of what was answered so.
"""

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import replace

import msgspec

from routecache_middleware.adapters.asgi.gate import Slot
from routecache_middleware.adapters.asgi.head import RequestHead
from routecache_middleware.adapters.litellm.fastlane.dialect import (
    CHAT,
    LaneDialect,
    LaneRequest,
)
from routecache_middleware.adapters.litellm.fastlane.heads import LaneHead
from routecache_middleware.core.dialect import ParsedRequest
from routecache_middleware.core.models import Entry
from routecache_middleware.core.ports import Clock
from routecache_middleware.core.request import LLMRequest

__all__ = ["Accepted", "Lease", "Leases"]

_MAX_LEASES = 65_536
_MAX_ENTRIES = 64
"""Different answers whose tokens one lease remembers until they are reported."""


class Accepted(msgspec.Struct, frozen=True):
    """What LiteLLM knows of a request that it let in.

    Attributes:
        key: Hash of the key, as LiteLLM logs it.
        model: The model group asked for.
        user: The end user, or empty.
        metadata: ``user_api_key_*`` fields for LiteLLM's logs.
        lane: The API.
    """

    key: str
    model: str
    user: str
    metadata: dict[str, object]
    lane: LaneDialect = CHAT


class Lease:
    """The right to be answered in LiteLLM's place, and what was.

    Attributes:
        accepted: Who holds it.
        until_s: When it ends, by the monotonic clock.
        hits: Answers since they were last reported.
        entries: Which, by identity, and how often each.
    """

    __slots__ = ("_on_first", "accepted", "entries", "hits", "until_s")

    def __init__(
        self, accepted: Accepted, until_s: float, on_first: Callable[["Lease"], None]
    ) -> None:
        self.accepted = accepted
        self.until_s = until_s
        self.hits = 0
        self.entries: dict[int, tuple[Entry, int]] = {}
        self._on_first = on_first

    def served(self, entry: Entry | None) -> None:
        """A request was answered in LiteLLM's place."""
        self.hits += 1
        if entry is not None:
            entries, name = self.entries, id(entry)
            if name in entries:
                entries[name] = (entry, entries[name][1] + 1)
            elif len(entries) < _MAX_ENTRIES:
                entries[name] = (entry, 1)
        if self.hits == 1:
            self._on_first(self)


class Leases:
    """The leases of one process; forgetting one costs a request to LiteLLM. A :class:`.Gate`."""

    def __init__(
        self,
        clock: Clock,
        ttl_s: float,
        on_first: Callable[[Lease], None] = lambda _: None,
        tenant_of: Callable[[Accepted], str] = lambda _: "",
    ) -> None:
        """Begin with none.

        Args:
            clock: Time.
            ttl_s: How long one lasts.
            on_first: Called when a lease has something to report again.
            tenant_of: Says for whom the cache inside LiteLLM keeps answers.
        """
        self._clock = clock
        self._ttl_s = ttl_s
        self._on_first = on_first
        self._tenant_of = tenant_of
        self._held: OrderedDict[str, dict[tuple[str, ...], Lease]] = OrderedDict()
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def slot(self, head: RequestHead, parsed: ParsedRequest) -> Slot:
        """Name a request."""
        via = head.via if isinstance(head, LaneHead) else ""
        user = parsed.user if isinstance(parsed, LaneRequest) else ""
        return Slot(head.tenant, (via, parsed.model, user))

    def admit(self, slot: Slot) -> Lease | None:
        """Return the lease of such a request, while it lasts."""
        held = self._held.get(slot.holder)
        lease = None if held is None else held.get(slot.what)
        if lease is None or self._clock.monotonic_s() >= lease.until_s:
            return None
        return lease

    def shown(self, request: LLMRequest, slot: Slot) -> LLMRequest | None:
        """Return a request as the cache inside LiteLLM would show it to the policy.

        None without a lease: it cannot be said whose it is, and LiteLLM is going to be asked.
        """
        lease = self.admit(slot)
        if lease is None:
            return None
        accepted = lease.accepted
        return replace(request, dialect=accepted.lane.api, tenant=self._tenant_of(accepted))

    @staticmethod
    def is_named(slot: Slot, accepted: Accepted) -> bool:
        """Whether the model that LiteLLM took is the one that the request names."""
        return slot.what[1] == accepted.model

    def grant(self, slot: Slot, accepted: Accepted) -> None:
        """LiteLLM has let such a request in and answered it."""
        if self._ttl_s <= 0:
            return
        until_s = self._clock.monotonic_s() + self._ttl_s
        lease = self._held.setdefault(slot.holder, {}).get(slot.what)
        if lease is not None:
            lease.until_s, lease.accepted = until_s, accepted
            return
        while self._count >= _MAX_LEASES:
            _, dropped = self._held.popitem(last=False)
            self._count -= len(dropped)
        self._held.setdefault(slot.holder, {})[slot.what] = Lease(accepted, until_s, self._on_first)
        self._count += 1

    def revoke(self, holder: str) -> None:
        """End all leases of a caller."""
        self._count -= len(self._held.pop(holder, ()))

    def end(self, slot: Slot) -> None:
        """End one lease: LiteLLM has let such a request in, but this must not be taken for more."""
        held = self._held.get(slot.holder)
        if held is not None and held.pop(slot.what, None) is not None:
            self._count -= 1

    def clear(self) -> None:
        """End all of them."""
        self._held.clear()
        self._count = 0
