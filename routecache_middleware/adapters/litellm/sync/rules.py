"""What the sync door has to know of requests and answers: the rules that async calls follow."""

from typing import Any, Protocol

import msgspec

from routecache_middleware.adapters.litellm.part import Kwargs
from routecache_middleware.adapters.litellm.sync.query import Query
from routecache_middleware.core.models import (
    BypassReason,
    DiscardReason,
    Entry,
    Position,
    Scope,
)

__all__ = ["Asked", "Rules"]


class Asked(msgspec.Struct, frozen=True):
    """A request that the cache takes part in.

    Attributes:
        query: What to look up.
        form: Wire form and whatever else tells flights of one key apart.
        scopes: What invalidates an answer to it, as far as that is known beforehand.
        may_look_up: Ask the coordinator.
        may_serve: Answer from what is found; False in shadow mode.
        may_store: Keep a good answer.
        may_share: Wait for, or be waited for by, identical requests.
        is_routed: A Router makes the call, which it does in an event loop of its own.
        request: What the rules themselves keep of it.
    """

    query: Query
    form: str
    scopes: tuple[Scope, ...]
    may_look_up: bool
    may_serve: bool
    may_store: bool
    may_share: bool
    is_routed: bool
    request: Any


class Rules(Protocol):
    """From any thread, without an event loop; prompts stay inside."""

    def ask(self, kwargs: Kwargs, call_type: str) -> Asked | BypassReason | None:
        """Understand a request; None: there is nothing to say about it."""

    def verb(self, call_type: str) -> str:
        """Return ``gen_ai.operation.name`` of such a call; empty for one that is not cached."""

    def keep(
        self, asked: Asked, result: object, position: Position, duration_ms: float
    ) -> Entry | DiscardReason:
        """Make an entry of an answer, or say why not."""

    def answer(self, asked: Asked, entry: Entry) -> Any:
        """Return what LiteLLM reads back, made for one caller; None: it cannot be read."""
