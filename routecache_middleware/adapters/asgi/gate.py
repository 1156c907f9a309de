"""The seam for hosts that decide themselves who may be answered without being asked.

Where the cache stands in front of a gateway's own authentication, a stored answer may only go to
somebody whom the gateway has let in, and the gateway's books have to learn of it. A gate knows
both; without one, whoever may see an entry gets it.
"""

from typing import Protocol

import msgspec

from routecache_middleware.adapters.asgi.head import RequestHead
from routecache_middleware.core.dialect import ParsedRequest
from routecache_middleware.core.models import Entry
from routecache_middleware.core.request import LLMRequest

__all__ = ["Gate", "Slot", "Ticket"]


class Slot(msgspec.Struct, frozen=True, gc=False):
    """By what a gate knows a request.

    Attributes:
        holder: Who is asking.
        what: What for, and how it came: a hashable.
    """

    holder: str
    what: tuple[str, ...]


class Ticket(Protocol):
    """The right of one request to be answered without the app being asked."""

    def served(self, entry: Entry | None) -> None:
        """It was; with this stored answer, or (None) with a share of one that is under way."""


class Gate(Protocol):
    """Decides who may be answered without the app being asked. Never waits, never raises."""

    def slot(self, head: RequestHead, parsed: ParsedRequest) -> Slot:
        """Name a request."""

    def admit(self, slot: Slot) -> Ticket | None:
        """Return the ticket of such a request; None: the app has to be asked."""

    def shown(self, request: LLMRequest, slot: Slot) -> LLMRequest | None:
        """Return a request as the policy behind the gate would be asked about it.

        None: it is not admitted, and so it is asked about only there.
        """
