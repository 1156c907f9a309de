"""One request of a known API, from the first byte to the last."""

import asyncio
from functools import partial
from time import perf_counter

from routecache_middleware.adapters.asgi.body import Replay
from routecache_middleware.adapters.asgi.consult import Case, consult
from routecache_middleware.adapters.asgi.follower import follow
from routecache_middleware.adapters.asgi.head import RequestHead
from routecache_middleware.adapters.asgi.leader import Leader
from routecache_middleware.adapters.asgi.parts import Parts
from routecache_middleware.adapters.asgi.quick import Tried
from routecache_middleware.adapters.asgi.relay import Relay, Stamp
from routecache_middleware.adapters.asgi.scopes import ChildScope, attach_state
from routecache_middleware.adapters.asgi.settle import settle
from routecache_middleware.adapters.asgi.state import RouteCacheState
from routecache_middleware.adapters.asgi.types import Message, Receive, Scope, Send
from routecache_middleware.core import cache_status
from routecache_middleware.core.dialect import Dialect
from routecache_middleware.core.events import Operation, RequestFinished, WaitFinished
from routecache_middleware.core.keys import Layer
from routecache_middleware.core.models import BypassReason, DiscardReason, Outcome, ResponseMode
from routecache_middleware.core.plan import Proceed
from routecache_middleware.core.records import scopes_of
from routecache_middleware.core.settings import Mode, Tenancy
from routecache_middleware.engine.live import Live
from routecache_middleware.engine.publishing import publish_load

__all__ = ["Exchange"]

_SERVER_ERROR = 500


class Exchange:
    """Serves one request: a stored answer, a share of somebody else's, or the app's own."""

    __slots__ = ("_began_s", "_case", "_child", "_flight", "_parts", "_receive", "_send", "_state")

    def __init__(
        self,
        parts: Parts,
        dialect: Dialect,
        scope: Scope,
        receive: Receive,
        send: Send,
        *,
        head: RequestHead | None = None,
        first: Message | None = None,
        tried: Tried | None = None,
    ) -> None:
        """Begin.

        Args:
            parts: The middleware's.
            dialect: The request's API.
            scope: ASGI scope.
            receive: The server's.
            send: The server's.
            head: Its head, when that was read already.
            first: What was received of it already.
            tried: What the short way has found out.
        """
        settings = parts.engine.settings
        self._parts = parts
        self._receive = receive
        self._send = send
        stamp = Stamp(has_fields=settings.response_headers, has_timing=settings.server_timing)
        self._case = case = Case(dialect, scope, stamp, head=head)
        if first is not None:
            case.messages.append(first)
        if tried is not None:
            case.key, case.lookup = tried.key, tried.lookup
        self._flight = ""
        self._began_s = 0.0

    async def run(self) -> None:
        """Answer the request.

        Raises:
            Exception: Whatever the app or the server's ``send`` raised; nothing of our own making.
        """
        case = self._case
        try:
            answer = await consult(self._parts, case, self._receive)
        except Exception as error:  # noqa: BLE001 - a fault of ours must not fail the request
            self._parts.warn("the cache", error)
            case.bypass, answer = BypassReason.INTERNAL_ERROR, None
        if answer is not None:
            for message in answer:
                await self._send(message)
            return
        self._state = RouteCacheState(self._parts.engine)
        if case.bypass is not None or case.proceed is None:
            await self._bypass(case.bypass or BypassReason.INTERNAL_ERROR)
        else:
            await self._fly(case.proceed)

    async def _bypass(self, reason: BypassReason) -> None:
        """Forward, standing aside."""
        case, engine = self._case, self._parts.engine
        case.stamp.cache_status = cache_status.bypassed(reason)
        case.stamp.outcome = Outcome.BYPASS
        engine.recorder.bypassed(reason)
        engine.observer.request(RequestFinished(Outcome.BYPASS, bypass_reason=reason))
        self._state.outcome = Outcome.BYPASS
        self._state.bypass_reason = reason
        relay = Relay(self._send, case.stamp, self._on_status)
        child = ChildScope(case.scope, body=case.body, is_storable=False)
        await self._call_app(child, Replay(self._replayed(), self._receive), relay.send, relay)

    async def _fly(self, proceed: Proceed) -> None:
        """Lead a flight, or follow one; a follower whose leader came to nothing tries again."""
        case, engine = self._case, self._parts.engine
        flights, clock = engine.live, engine.clock
        if not proceed.may_share or case.found is None:
            await self._lead(is_joinable=False)
            return
        self._flight = f"{case.key}|{case.found.parsed.shape}"
        while not flights.is_parallel(self._flight, clock.monotonic_s()):
            leader = flights.find(self._flight)
            if leader is None or not self._may_join(leader):
                await self._lead(is_joinable=True)
                return
            if await self._follow(leader):
                return
        await self._lead(is_joinable=False)

    def _may_join(self, leader: Leader) -> bool:
        """Whether nothing that covers this request was invalidated since the leader's lookup."""
        scopes = scopes_of(self._case.tenant, (self._case.model,))
        return self._parts.engine.is_current_since(self._case.key, scopes, leader.position)

    async def _follow(self, leader: Leader) -> bool:
        case, engine = self._case, self._parts.engine
        case.stamp.cache_status = cache_status.collapsed()
        case.stamp.outcome = Outcome.COALESCED
        waiting = engine.observer.begin(
            Operation.WAIT, Layer.RESULT.value, model=case.model, verb=case.dialect.verb
        )
        is_shared = False
        try:
            is_shared = await follow(leader, self._receive, self._send, case.stamp, self._shared)
        finally:
            outcome = Outcome.COALESCED if is_shared else Outcome.ERROR
            waiting.finish(WaitFinished(outcome, leader.live.traceparent))
        return is_shared

    def _shared(self) -> None:
        """A leader's answer is about to be passed on to this request."""
        engine = self._parts.engine
        engine.recorder.layers[Layer.RESULT].coalesced += 1
        engine.observer.request(RequestFinished(Outcome.COALESCED))

    async def _lead(self, *, is_joinable: bool) -> None:
        case, engine = self._case, self._parts.engine
        self._count_miss()
        relay = Relay(self._send, case.stamp, self._on_status)
        lookup, found = case.lookup, case.found
        position = engine.table.position if lookup is None else lookup.position
        leader = Leader(
            relay,
            Replay(self._replayed(), self._receive),
            Live(position, "" if lookup is None else lookup.traceparent),
            engine.captures.start(),
            host=self,
            wanted=ResponseMode.JSON if found is None else found.parsed.mode,
            settings=engine.settings,
            stored_headers=self._parts.stored_headers,
            is_joinable=is_joinable,
        )
        if is_joinable:
            engine.live.open(self._flight, leader)
        elif case.proceed is None or not case.proceed.may_store:
            leader.keep_nothing(DiscardReason.NO_STORE)
        child = ChildScope(case.scope, body=case.body, is_storable=True)
        await leader.run(partial(self._call_app, child, leader.receive, leader.send, relay))

    def _count_miss(self) -> None:
        case, engine = self._case, self._parts.engine
        recorder = engine.recorder
        if engine.mode is Mode.SHADOW:
            case.stamp.cache_status = cache_status.bypassed(BypassReason.SHADOW)
            recorder.bypassed(BypassReason.SHADOW)
            outcome = Outcome.BYPASS
        elif case.lookup is not None and case.lookup.outcome is Outcome.ERROR:
            case.stamp.cache_status = cache_status.bypassed(BypassReason.COORDINATOR_ERROR)
            recorder.layers[Layer.RESULT].errors += 1
            outcome = Outcome.ERROR
        else:
            case.stamp.cache_status = cache_status.forwarded(case.miss)
            recorder.layers[Layer.RESULT].misses += 1
            outcome = Outcome.MISS
        case.stamp.outcome = self._state.outcome = outcome
        engine.observer.request(RequestFinished(outcome))

    # What the leader of a flight reports.

    def closed(self, leader: Leader) -> None:
        """Nobody may join any more."""
        self._parts.engine.live.close(self._flight, leader)

    def refused(self, leader: Leader, reason: DiscardReason) -> None:
        """The response's head says that nobody else can have it."""
        flights, now_s = self._parts.engine.live, self._parts.engine.clock.monotonic_s()
        if reason is DiscardReason.STATUS:
            flights.failed(self._flight, had_followers=leader.followers > 0, now_s=now_s)
        else:
            flights.unshareable(self._flight, now_s)

    def completed(self, leader: Leader) -> None:
        """The last byte was passed on: store it. The flight stays open until that is done."""
        self._parts.engine.background.run(self._settle(leader, perf_counter() - self._began_s))

    async def _settle(self, leader: Leader, duration_s: float) -> None:
        try:
            await settle(self._parts, self._case, leader, self._state, duration_s)
        finally:
            flights = self._parts.engine.live
            flights.close(self._flight, leader)
            if leader.discard is None:
                flights.succeeded(self._flight)
            leader.capture.release()

    def failed(self, leader: Leader) -> None:
        """The app raised, was cancelled or returned early; who shares the answer hears it next."""
        live, now_s = leader.live, self._parts.engine.clock.monotonic_s()
        self._parts.engine.recorder.discarded(leader.discard or DiscardReason.INCOMPLETE)
        if not live.total_bytes and not live.is_refused:
            had_followers = leader.followers > 0
            self._parts.engine.live.failed(self._flight, had_followers=had_followers, now_s=now_s)

    # The app.

    async def _call_app(
        self, child: ChildScope, receive: Receive, send: Send, relay: Relay
    ) -> None:
        """Call the app in this task, measuring its model."""
        self._describe()
        attach_state(case_scope := self._case.scope, self._state)
        child.scope["state"] = case_scope["state"]
        self._child = child
        load = self._parts.engine.load.started(self._case.model) if self._case.model else None
        began_s = self._began_s = perf_counter()
        is_failure = True
        try:
            await self._parts.app(child.scope, receive, send)
            is_failure = relay.status >= _SERVER_ERROR or not relay.status
        except asyncio.CancelledError:
            relay.is_client_gone = True
            raise
        finally:
            self._state.is_over = True
            child.give_back()
            if load is not None:
                is_failure = is_failure and not relay.is_client_gone  # no fault of the model's
                load.ended((perf_counter() - began_s) * 1000, is_failure=is_failure)
                if self._parts.engine.load.is_due(load):
                    self._parts.engine.background.run(
                        publish_load(self._parts.engine, self._case.model)
                    )

    def _describe(self) -> None:
        case, state = self._case, self._state
        state.decision, state.tenant = case.decision, case.tenant
        if case.found is not None:
            state.query_hash = case.found.fingerprint.decision

    def _replayed(self) -> list[Message]:
        case = self._case
        if case.body is None:
            return case.messages
        return [{"type": "http.request", "body": case.body, "more_body": False}]

    def _on_status(self, status: int) -> None:
        self._child.give_back()  # middleware above may look at the route in its own `send`
        settings, head = self._parts.engine.settings, self._case.head
        if settings.tenancy is Tenancy.SHARED and head is not None and head.principal:
            self._parts.engine.acceptance.observe(head.principal, status)
