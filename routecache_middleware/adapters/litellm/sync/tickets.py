"""What is remembered of each call between LiteLLM's questions; bounded, by ``litellm_call_id``."""

import threading
from typing import Any

import msgspec
from cachetools import FIFOCache

from routecache_middleware.adapters.litellm.part import Kwargs
from routecache_middleware.adapters.litellm.sync.flight import Flight
from routecache_middleware.adapters.litellm.sync.rules import Asked
from routecache_middleware.adapters.litellm.sync.subjects import call_type_of
from routecache_middleware.core.models import BypassReason, Position

__all__ = ["Ticket", "Tickets"]

_MAX_CALLS = 4096
_MAX_RECALLED = 256  # they hold requests, and are needed for no longer than a lookup


class Ticket(msgspec.Struct):
    """One call, from its lookup to its answer.

    Attributes:
        asked: What it asks for.
        subject: The argument that holds the prompt; see :mod:`.subjects`.
        model: The model as LiteLLM was asked for it.
        position: The captured position.
        started_s: When it was looked up, on the monotonic clock.
        has_failed: The lookup has failed.
        flight: The flight that it leads, if any.
    """

    asked: Asked
    subject: str
    model: object
    position: Position
    started_s: float
    has_failed: bool = False
    flight: Flight | None = None

    def is_of(self, kwargs: Kwargs) -> bool:
        """Whether an answer is that of the call itself, and not of a part of it."""
        return self.subject in kwargs and self.model == kwargs.get("model")


class Tickets:
    """Thread-safe; forgetting one costs a write, no more."""

    def __init__(self) -> None:
        self._begin()

    def add(self, kwargs: Kwargs, ticket: Ticket) -> None:
        """Remember a call until its answer comes; another attempt takes the place of the first."""
        with self._lock:
            self._tickets[kwargs["litellm_call_id"]] = ticket

    def find(self, kwargs: Kwargs) -> Ticket | None:
        """Return the ticket of a call."""
        with self._lock:
            return self._tickets.get(kwargs.get("litellm_call_id"))

    def take(self, kwargs: Kwargs) -> Ticket | None:
        """Return the ticket of a call to the first who asks; an answer is kept once."""
        with self._lock:
            return self._tickets.pop(kwargs.get("litellm_call_id"), None)

    def take_own(self, kwargs: Kwargs) -> Ticket | None:
        """As :meth:`take`, unless what is given is only a part of the call."""
        with self._lock:
            ticket = self._tickets.get(kwargs.get("litellm_call_id"))
            if ticket is None or not ticket.is_of(kwargs):
                return None
            del self._tickets[kwargs["litellm_call_id"]]
            return ticket

    def capture(self, kwargs: Kwargs, position: Position) -> None:
        """Remember the position of a call that is not looked up."""
        call_id = kwargs.get("litellm_call_id")
        with self._lock:
            if call_id not in self._tickets:
                self._positions[call_id] = position

    def captured(self, kwargs: Kwargs) -> Position | None:
        """Return the position of a call that was not looked up, once."""
        with self._lock:
            return self._positions.pop(kwargs.get("litellm_call_id"), None)

    def remember(self, kwargs: Kwargs, asked: Asked | BypassReason) -> None:
        """Remember what a call asks for, or why it is not cached, while it is looked up."""
        with self._lock:
            self._asked[kwargs.get("litellm_call_id")] = (_what(kwargs), asked)

    def recall(self, kwargs: Kwargs) -> Asked | BypassReason | None:
        """Return that, if it is known."""
        with self._lock:
            what, asked = self._asked.get(kwargs.get("litellm_call_id"), (None, None))
        return asked if what == _what(kwargs) else None

    def begin_in_child(self) -> None:
        """Begin anew after a fork: the parent's calls are not the child's."""
        self._begin()

    def _begin(self) -> None:
        self._lock = threading.Lock()
        self._tickets: FIFOCache[Any, Ticket] = FIFOCache(_MAX_CALLS)
        self._positions: FIFOCache[Any, Position] = FIFOCache(_MAX_CALLS)
        self._asked: FIFOCache[Any, tuple[object, Asked | BypassReason | None]] = FIFOCache(
            _MAX_RECALLED
        )


def _what(kwargs: Kwargs) -> object:
    """Return what tells a call from the one that it is a part of."""
    return kwargs.get("model"), call_type_of(kwargs)
