"""Calling the app in the request's own task, and measuring its model."""

import asyncio
from time import perf_counter

from routecache_middleware.adapters.asgi.case import Case
from routecache_middleware.adapters.asgi.parts import Parts
from routecache_middleware.adapters.asgi.relay import Relay
from routecache_middleware.adapters.asgi.scopes import ChildScope, attach_state
from routecache_middleware.adapters.asgi.state import RouteCacheState
from routecache_middleware.adapters.asgi.types import Message, Receive, Send
from routecache_middleware.core.choices import Tenancy
from routecache_middleware.engine.load import ModelLoad
from routecache_middleware.engine.publishing import publish_load

__all__ = ["AppCall"]

_SERVER_ERROR = 500


class AppCall:
    """One request's call of the app.

    Attributes:
        began_s: When the app was called, by ``perf_counter``.
        state: What the app is told, and what it has said of its answer.
    """

    __slots__ = ("_case", "_child", "_parts", "began_s", "state")

    def __init__(self, parts: Parts, case: Case, state: RouteCacheState) -> None:
        self._parts = parts
        self._case = case
        self.state = state
        self.began_s = 0.0

    async def run(self, child: ChildScope, receive: Receive, send: Send, relay: Relay) -> None:
        """Call the app; raises what it raises."""
        self._describe()
        attach_state(case_scope := self._case.scope, self.state)
        child.scope["state"] = case_scope["state"]
        self._child = child
        load = self._load()
        began_s = self.began_s = perf_counter()
        is_failure = True
        try:
            await self._parts.app(child.scope, receive, send)
            is_failure = relay.status >= _SERVER_ERROR or not relay.status
        except asyncio.CancelledError:
            relay.is_client_gone = True
            raise
        finally:
            self.state.is_over = True
            child.give_back()
            if load is not None:
                is_failure = is_failure and not relay.is_client_gone  # no fault of the model's
                load.ended((perf_counter() - began_s) * 1000, is_failure=is_failure)
                if self._parts.engine.load.is_due(load):
                    self._parts.engine.background.run(
                        publish_load(self._parts.engine, self._case.model)
                    )

    def replayed(self) -> list[Message]:
        """Return what the app gets to read first: what the client sent, unless that was changed."""
        case = self._case
        if case.body is None:
            return case.messages
        return [{"type": "http.request", "body": case.body, "more_body": False}]

    def on_status(self, status: int) -> None:
        """Learn from the head of the response, before it is passed on."""
        self._child.give_back()  # middleware above us may look at the route in its own `send`
        settings, head = self._parts.engine.settings, self._case.head
        if settings.tenancy is Tenancy.SHARED and head is not None and head.principal:
            self._parts.engine.acceptance.observe(head.principal, status)

    def _load(self) -> ModelLoad | None:
        """Count the call as under way; behind a gate is a gateway that does so itself."""
        parts, model = self._parts, self._case.model
        if not model or parts.gate is not None:
            return None
        return parts.engine.load.started(model)

    def _describe(self) -> None:
        case, state = self._case, self.state
        state.decision, state.tenant, state.slot = case.decision, case.tenant, case.slot
        if case.found is not None:
            state.query_hash = case.found.fingerprint.decision
