"""One request of a known API, from the first byte to the last."""

import asyncio
from collections.abc import Awaitable
from functools import partial
from time import perf_counter

from routecache_middleware.adapters.asgi.app_call import AppCall
from routecache_middleware.adapters.asgi.boarding import Boarding, Landed, unless_gone
from routecache_middleware.adapters.asgi.body import Replay
from routecache_middleware.adapters.asgi.case import Case
from routecache_middleware.adapters.asgi.consult import consult
from routecache_middleware.adapters.asgi.follower import follow
from routecache_middleware.adapters.asgi.head import RequestHead
from routecache_middleware.adapters.asgi.joining import (
    Ready,
    join,
    may_join,
    new_claim,
    renewed,
    shared_answer,
)
from routecache_middleware.adapters.asgi.landing import Landing
from routecache_middleware.adapters.asgi.leader import Leader
from routecache_middleware.adapters.asgi.misses import Wait, count_miss, count_shared, count_time
from routecache_middleware.adapters.asgi.parts import Parts
from routecache_middleware.adapters.asgi.quick import Tried
from routecache_middleware.adapters.asgi.refresh import nowhere, refresh, stays
from routecache_middleware.adapters.asgi.relay import Relay, Stamp
from routecache_middleware.adapters.asgi.rescue import Rescue, rescue_for, saved_by
from routecache_middleware.adapters.asgi.rest import call_for
from routecache_middleware.adapters.asgi.scopes import ChildScope, state_above
from routecache_middleware.adapters.asgi.state import RouteCacheState
from routecache_middleware.adapters.asgi.types import Message, Receive, Scope, Send
from routecache_middleware.core import cache_status
from routecache_middleware.core.budget import Budget, open_budget
from routecache_middleware.core.dialect import Dialect
from routecache_middleware.core.events import Operation, RequestFinished, WaitFinished
from routecache_middleware.core.keys import Layer
from routecache_middleware.core.models import (
    BypassReason,
    DiscardReason,
    Outcome,
    Position,
    ResponseMode,
)
from routecache_middleware.core.plan import Proceed
from routecache_middleware.engine.claims import Alone, Claim, Led, Why
from routecache_middleware.engine.leases import FAILING_S, Lease
from routecache_middleware.engine.live import Live, ReaderLeftError

__all__ = ["Exchange"]


class Exchange:
    """Serves one request: a stored answer, a share of somebody else's, or the app's own."""

    __slots__ = (
        "_budget",
        "_call",
        "_case",
        "_flight",
        "_late",
        "_lease",
        "_parts",
        "_receive",
        "_rescue",
        "_send",
        "_state",
    )

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
        case: Case | None = None,
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
            case: All that is known of it, when that is known already.
        """
        settings = parts.engine.settings
        self._parts = parts
        self._receive = receive
        self._send = send
        if case is None:
            stamp = Stamp(
                has_fields=settings.response_headers,
                has_timing=settings.server_timing,
                yields=parts.gate is not None,
                is_below=state_above(scope) is not None,
            )
            case = Case(dialect, scope, stamp, head=head)
        self._case = case
        if first is not None:
            case.messages.append(first)
        if tried is not None:
            case.key, case.lookup = tried.key, tried.lookup
        self._flight = ""
        self._budget: Budget | None = None
        self._lease: Lease | None = None
        self._late: Claim | None = None  # it waited too long for somebody else
        self._rescue: Rescue | None = None

    async def run(self) -> None:
        """Answer the request.

        Raises:
            Exception: Whatever the app or the server's ``send`` raised; nothing of our own making.
        """
        case, began_s = self._case, perf_counter()
        try:
            answer = await self._consult()
        except Exception as error:  # noqa: BLE001 - a fault of ours must not fail the request
            self._parts.warn("the cache", error)
            case.bypass, answer = BypassReason.INTERNAL_ERROR, None
        count_time(self._parts, case, began_s, is_answered=answer is not None)
        if answer is not None:
            if case.is_stale:
                refresh(self._parts, case, self._remake)
            for message in answer:
                await self._send(message)
            return
        self._state = RouteCacheState(self._parts.engine)
        self._call = call_for(self._parts, case, self._state)
        if case.bypass is not None or case.proceed is None:
            await self._bypass(case.bypass or BypassReason.INTERNAL_ERROR)
        else:
            await self._fly(case.proceed)

    async def _remake(self, case: Case) -> None:
        again = Exchange(self._parts, case.dialect, case.scope, stays, nowhere, case=case)
        await again.refresh()

    async def refresh(self) -> None:
        """Make the answer anew, for nobody in particular, unless somebody is at it already."""
        case, engine = self._case, self._parts.engine
        found, proceed, lookup = case.found, case.proceed, case.lookup
        if found is None or proceed is None or lookup is None:
            return
        self._state = RouteCacheState(engine)
        self._call = AppCall(self._parts, case, self._state)
        self._flight = case.flight
        position = lookup.position
        claim = new_claim(self._parts, case, is_promoted=False)
        if claim is not None:
            joined = await claim.ask()
            if not isinstance(joined, Led):
                return
            self._lease, position = joined.lease, joined.position
        if engine.live.find(self._flight) is None:
            await self._run(self._open(position, is_joinable=proceed.may_share))
        elif self._lease is not None:
            self._lease.give_back()

    def _consult(self) -> Awaitable[list[Message] | None]:
        consulting = consult(self._parts, self._case, self._receive)
        # A coordinator inside this process makes nobody wait.
        is_shared = self._parts.engine.coordinator.is_shared
        return self._within_budget(consulting) if is_shared else consulting

    async def _within_budget(
        self, consulting: Awaitable[list[Message] | None]
    ) -> list[Message] | None:
        with open_budget(self._parts.engine.settings.coordinator_timeout_s) as self._budget:
            return await consulting

    async def _send_all(self, answer: list[Message]) -> None:
        for message in answer:
            await self._send(message)

    async def _bypass(self, reason: BypassReason) -> None:
        """Forward, standing aside."""
        case, engine = self._case, self._parts.engine
        case.stamp.cache_status = cache_status.bypassed(reason)
        case.stamp.outcome = Outcome.BYPASS
        if self._parts.gate is None:
            engine.recorder.bypassed(reason)
            engine.recorder.models.count(Outcome.BYPASS, case.model, case.dialect.verb)
            engine.observer.request(RequestFinished(Outcome.BYPASS, bypass_reason=reason))
        self._state.outcome = Outcome.BYPASS
        self._state.bypass_reason = reason
        relay = Relay(self._send, case.stamp, self._call.on_status)
        child = ChildScope(case.scope, body=case.body, is_storable=False)
        await self._call.run(child, Replay(self._call.replayed(), self._receive), relay.send, relay)

    async def _fly(self, proceed: Proceed) -> None:
        """Lead a flight, or follow one; a follower whose leader came to nothing tries again."""
        case, engine = self._case, self._parts.engine
        flights, clock = engine.live, engine.clock
        if not proceed.may_share or case.found is None:
            await self._lead(is_joinable=False)
            return
        self._flight = case.flight
        while not flights.is_parallel(self._flight, clock.monotonic_s()):
            flight: Leader | Boarding | None = flights.find(self._flight)
            if flight is not None and may_join(self._parts, case, flight.position):
                if await self._follow(flight) or await self._fall_back(flight):
                    return
            elif engine.fleet is None:
                await self._lead(is_joinable=True)
                return
            elif await self._board():
                return
        await self._lead(is_joinable=False)

    async def _follow(self, flight: Leader | Boarding) -> bool:
        case, engine = self._case, self._parts.engine
        case.stamp.cache_status = cache_status.collapsed()
        case.stamp.outcome = Outcome.COALESCED
        waiting = engine.observer.begin(
            Operation.WAIT, Layer.RESULT.value, model=case.model, verb=case.dialect.verb
        )
        is_shared, origin, wait = False, "", Wait(self._parts)
        try:
            landed: Landed
            if isinstance(flight, Boarding):
                landed = await unless_gone(self._receive, asyncio.shield(flight.landed))
            else:
                landed = flight
            if isinstance(landed, Leader):
                origin = landed.live.traceparent
                shared = partial(count_shared, self._parts, case, wait)
                is_shared = await follow(landed, self._receive, self._send, case.stamp, shared)
            elif landed is not None:
                origin = landed.entry.origin
                answer = await shared_answer(self._parts, case, landed.entry)
                if answer is not None:
                    is_shared = True
                    wait.answered()
                    await self._send_all(answer)
        except ReaderLeftError:
            return True
        finally:
            wait.ended()
            outcome = Outcome.COALESCED if wait.is_shared else Outcome.ERROR
            waiting.finish(WaitFinished(outcome, origin))
        return is_shared

    async def _fall_back(self, flight: Leader | Boarding) -> bool:
        """Answer with what is stale, if that is there and the upstream has just failed."""
        has_failed = isinstance(flight, Leader) and saved_by(flight.relay.status)
        rescue = rescue_for(self._parts, self._case) if has_failed else None
        answer = None if rescue is None else await rescue.answer()
        if answer is not None:
            await self._send_all(answer)
        return answer is not None

    async def _board(self) -> bool:
        """Ask the other processes who makes the answer, and let others join meanwhile.

        Returns:
            False when nothing came of it, and this request has to find another way.
        """
        parts, case, flights = self._parts, self._case, self._parts.engine.live
        claim = new_claim(parts, case, is_promoted=flights.has_failed(self._flight))
        if claim is None:
            await self._lead(is_joinable=True)
            return True
        boarding = Boarding(parts.engine.table.position)
        flights.open(self._flight, boarding)
        landed: Landed = None
        try:
            joined = await join(
                parts, case, claim, self._receive, renewed(self._budget, parts.engine.settings)
            )
            if isinstance(joined, Ready):
                landed = joined.plan
            elif isinstance(joined, Alone) and joined.why is Why.FAILING:
                flights.unshareable(self._flight, parts.engine.clock.monotonic_s(), FAILING_S)
                return False
            elif joined is not None:
                self._lease = joined.lease if isinstance(joined, Led) else None
                is_late = isinstance(joined, Alone) and joined.why is Why.WAITED_TOO_LONG
                self._late = claim if is_late else None
                landed = self._open(joined.position, is_joinable=True)
        finally:
            flights.close(self._flight, boarding)
            boarding.landed.set_result(landed)
        if isinstance(joined, Ready):
            await self._send_all(joined.answer)
        elif isinstance(landed, Leader):
            await self._run(landed)
        return True

    async def _lead(self, *, is_joinable: bool) -> None:
        lookup = self._case.lookup
        position = self._parts.engine.table.position if lookup is None else lookup.position
        await self._run(self._open(position, is_joinable=is_joinable))

    def _open(self, position: Position, *, is_joinable: bool) -> Leader:
        """Begin to lead; from now on others may follow."""
        case, engine = self._case, self._parts.engine
        self._rescue = rescue = rescue_for(self._parts, case)
        outcome = count_miss(self._parts, case, is_known=rescue is None)
        case.stamp.outcome = self._state.outcome = outcome
        lookup, found = case.lookup, case.found
        leader = Leader(
            Relay(
                self._send,
                case.stamp,
                self._call.on_status,
                None if rescue is None else rescue.on_status,
            ),
            Replay(self._call.replayed(), self._receive),
            Live(position, "" if lookup is None else lookup.traceparent),
            engine.captures.start(case.parts),
            host=Landing(
                self._parts,
                case,
                self._call,
                flight=self._flight,
                lease=self._lease,
                late=self._late,
            ),
            wanted=ResponseMode.JSON if found is None else found.parsed.mode,
            settings=engine.settings,
            stored_headers=case.shareable(self._parts.stored_headers),
            is_joinable=is_joinable,
            is_private=case.is_private(),
        )
        if is_joinable:
            engine.live.open(self._flight, leader)
        elif case.proceed is None or not case.proceed.may_store:
            leader.keep_nothing(DiscardReason.NO_STORE)
        return leader

    def _run(self, leader: Leader) -> Awaitable[None]:
        """Call the app as the leader."""
        child = ChildScope(self._case.scope, body=self._case.body, is_storable=True)
        send, relay = leader.send, leader.relay
        running = leader.run(partial(self._call.run, child, leader.receive, send, relay))
        rescue = self._rescue
        return running if rescue is None else rescue.run(running, relay, self._send)
