"""LiteLLM's app as the fast lane calls it: what it says of a request is written down on the way.

LiteLLM's hooks know who was let in, and the response's head what came of it; only both together
make a lease. They meet in a :class:`Visit`, which a context variable carries through FastAPI.
"""

from collections.abc import Callable, Mapping
from contextvars import ContextVar

from routecache_middleware.adapters.asgi.gate import Slot
from routecache_middleware.adapters.asgi.state import RouteCacheState
from routecache_middleware.adapters.asgi.types import (
    ASGIApp,
    Headers,
    Message,
    Receive,
    Scope,
    Send,
)
from routecache_middleware.adapters.litellm.fastlane.dialect import CHAT, LaneDialect
from routecache_middleware.adapters.litellm.fastlane.leases import Accepted, Leases
from routecache_middleware.adapters.litellm.fastlane.paths import LanePaths
from routecache_middleware.adapters.litellm.outcomes import CallOutcome, Outcomes, lane_tag
from routecache_middleware.core.models import Outcome

__all__ = ["Below", "Visit", "current_visit"]

_REFUSED = (401, 403)
_REUSED = frozenset({Outcome.HIT, Outcome.STALE, Outcome.COALESCED})


class Visit:
    """One request on its way through LiteLLM.

    Attributes:
        lane: Its API.
        accepted: Who was let in; None: nobody, or nobody who may have a lease.
        call_id: LiteLLM's name of the call.
        tenant: For whom our cache inside LiteLLM would keep the answer, or empty.
        is_refused: Something that was done on its behalf speaks against a lease; that is final.
        is_over: Its response has begun: what is said of it now comes too late.
    """

    __slots__ = ("accepted", "call_id", "is_over", "is_refused", "lane", "tenant")

    def __init__(self, lane: LaneDialect) -> None:
        self.lane = lane
        self.accepted: Accepted | None = None
        self.call_id = ""
        self.tenant = ""
        self.is_over = self.is_refused = False

    def judge(self, accepted: Accepted | None) -> None:
        """Take in what is said of the request, or of a part of it: the strictest word counts."""
        self.is_refused = self.is_refused or accepted is None
        self.accepted = None if self.is_refused else accepted


current_visit: ContextVar[Visit | None] = ContextVar("routecache_visit", default=None)
"""The visit that this code runs on behalf of."""


class Below:
    """The app below the fast lane."""

    def __init__(
        self,
        app: ASGIApp,
        leases: Leases,
        outcomes: Outcomes,
        paths: LanePaths,
        objection: Callable[[], str | None],
        *,
        goes_by_model: bool = False,
    ) -> None:
        """Wrap ``app``.

        Args:
            app: LiteLLM's.
            leases: Where leases are written.
            outcomes: How our cache inside LiteLLM has served each call.
            paths: Which API each path is in.
            objection: Names what every request has to pass.
            goes_by_model: What is cached depends on the model that was asked for.
        """
        self._app = app
        self._leases = leases
        self._outcomes = outcomes
        self._paths = paths
        self._objection = objection
        self._goes_by_model = goes_by_model

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass one request on."""
        state = (scope.get("state") or {}).get("routecache")
        lane = self._paths.lane_of(scope.get("path", ""))
        if lane is None or not isinstance(state, RouteCacheState):
            await self._app(scope, receive, send)
            return
        visit = Visit(lane)
        token = current_visit.set(visit)
        try:
            await self._app(scope, receive, _Watch(self, state, visit, send).send)
        finally:
            self.ended(state, visit)  # also when the client has left before the last message
            visit.is_over = True
            current_visit.reset(token)

    def answered(self, state: RouteCacheState, visit: Visit, status: int, head: Headers) -> None:
        """The head of a response is there."""
        visit.is_over = True
        named = {name.lower(): value.decode("latin-1") for name, value in head}
        self._describe(state, visit, named)
        if state.slot is None:
            return
        accepted = visit.accepted
        if self._goes_by_model and accepted and not self._leases.is_named(state.slot, accepted):
            # An alias of the key's, or a model in the path: in front of LiteLLM it would be judged
            # by another name than inside.
            state.no_store()
            visit.judge(None)
        if status in _REFUSED:
            self._leases.revoke(state.slot.holder)
        elif 200 <= status < 300:  # noqa: PLR2004 - the 2xx class
            self._grant(state.slot, visit.accepted)

    def _grant(self, slot: Slot, accepted: Accepted | None) -> None:
        if accepted is None:  # the key was changed since, or the request was let in by another way
            self._leases.end(slot)
        elif self._objection() is None:
            self._leases.grant(slot, accepted)
        else:
            self._leases.clear()

    def _describe(self, state: RouteCacheState, visit: Visit, head: Mapping[bytes, str]) -> None:
        """Say what the entry has to know that may be made of the answer."""
        if visit.tenant:
            state.owned_by(visit.tenant)
        group = head.get(b"x-litellm-model-group", "")
        for name in (group, head.get(b"x-litellm-model-name", "")):
            if name:
                state.depends_on(name)
        if head.get(b"x-litellm-attempted-fallbacks", "0") != "0":
            # It is kept under the model that answered, or not at all when that is not said.
            if group and visit.accepted is not None and group != visit.accepted.model:
                state.served_by(group)
            else:
                state.no_store()
        found = self._outcomes.peek(visit.call_id)
        if found is not None and found.outcome is not None:
            _copy(state, found)
        elif visit.lane is not CHAT or b"x-litellm-cache-key" in head:
            # It may come out of LiteLLM's own cache, and nobody knows how old it is then. That it
            # did is said of chats, but not of every embedding and message.
            state.no_store()

    def ended(self, state: RouteCacheState, visit: Visit) -> None:
        """The last of the response is there, and not yet passed on."""
        found = self._outcomes.peek(visit.call_id)
        if found is not None and found.is_cut_off:
            state.no_store()


def _copy(state: RouteCacheState, found: CallOutcome) -> None:
    """Say of an answer what our cache inside LiteLLM knows of it."""
    if found.outcome in _REUSED:  # it came out of there: here it is no younger, nor lasts longer
        state.made_before(found.age_s)
        state.set_ttl(max(0.0, found.age_s + found.ttl_s))
    elif found.outcome is Outcome.BYPASS or found.is_partly_stored:
        # What is not kept there is not kept here; nor is what has parts of several ages.
        state.no_store()
    elif found.granted_s is not None:  # it lasts as long as the one in there
        state.set_ttl(found.granted_s)
    # A client who has one of them made anew means this copy of it too.
    state.add_tags(*map(lane_tag, found.keys))


class _Watch:
    """The ``send`` of one request."""

    __slots__ = ("_below", "_send", "_state", "_visit")

    def __init__(self, below: Below, state: RouteCacheState, visit: Visit, send: Send) -> None:
        self._below = below
        self._state = state
        self._visit = visit
        self._send = send

    async def send(self, message: Message) -> None:
        """Pass a message on."""
        if message["type"] == "http.response.start":
            self._below.answered(
                self._state, self._visit, message["status"], list(message.get("headers", ()))
            )
        elif not message.get("more_body", False):
            self._below.ended(self._state, self._visit)
        await self._send(message)
