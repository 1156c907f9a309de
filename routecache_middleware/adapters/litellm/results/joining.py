"""Waiting for an answer that somebody else is getting, here or in another process."""

import asyncio

from routecache_middleware.adapters.litellm.results.board import Board, Flight
from routecache_middleware.adapters.litellm.results.calls import Ask, Call
from routecache_middleware.adapters.litellm.results.keying import Identified
from routecache_middleware.core.budget import open_budget
from routecache_middleware.core.events import Operation, WaitFinished
from routecache_middleware.core.keys import Layer
from routecache_middleware.core.models import Entry, Outcome, ResponseMode, Scope
from routecache_middleware.core.plan import Serve
from routecache_middleware.core.ports import OpenOperation
from routecache_middleware.core.records import scopes_of
from routecache_middleware.engine.claims import Claim, Joined, Led, Served, Terms, Why
from routecache_middleware.engine.engine import Engine
from routecache_middleware.engine.fleet import Fleet
from routecache_middleware.engine.leases import FAILING_S

__all__ = ["Joining", "Reply"]

Reply = tuple[Serve, Outcome]
"""What somebody else has made, and how it came."""

_ERROR = Outcome.ERROR


class Joining:
    """Finds somebody to wait for, or lets others wait for this call."""

    __slots__ = ("_board", "_engine")

    def __init__(self, engine: Engine, board: Board) -> None:
        self._engine = engine
        self._board = board

    async def join(self, call: Call, ask: Ask, found: Identified, witness: object) -> Reply | None:
        """Return somebody else's answer; None: get it, for others too where that may be."""
        board, flights = self._board, self._engine.live
        mine, deadline_s = _named(ask, found.parsed.shape), board.now_s() + board.timeout_s
        while not flights.is_parallel(mine, board.now_s()):
            flight = self._open_flight(ask, found)
            if flight is None or not self._may_join(ask, found, flight):
                return await self._lead(call, ask, found, mine, witness)
            if not board.may_wait(call, flight):
                return None
            entry = await self._follow(call, found, flight, deadline_s)
            plan = None if entry is None else self._judge(call, ask, entry)
            if isinstance(plan, Serve):
                return plan, Outcome.COALESCED
            if board.now_s() >= deadline_s:
                break
        return None

    def _open_flight(self, ask: Ask, found: Identified) -> Flight | None:
        """What could be joined."""
        mine = found.parsed.shape
        for shape in (mine, *_ALSO.get(mine, ())):
            flight = self._engine.live.find(_named(ask, shape))
            if isinstance(flight, Flight):
                return flight
        return None

    def _may_join(self, ask: Ask, found: Identified, flight: Flight) -> bool:
        """Whether nothing that covers it was invalidated since its leader's lookup."""
        return self._engine.is_current_since(ask.keys.key, _scopes(found), flight.position)

    def _judge(self, call: Call, ask: Ask, entry: Entry) -> Serve | None:
        plan = self._engine.judge(ask.keys.key, entry, call.controls.directives)
        return plan if isinstance(plan, Serve) else None

    async def _follow(
        self, call: Call, found: Identified, flight: Flight, deadline_s: float
    ) -> Entry | None:
        waiting, entry = self._begin_waiting(call, found), None
        flight.followers += 1
        try:
            # Waits for no longer than the flight itself may last, and does not end it.
            await asyncio.wait((flight.landed,), timeout=deadline_s - self._board.now_s())
            entry = flight.landed.result() if flight.landed.done() else None
        finally:
            flight.followers -= 1
            _finish(waiting, entry)
        return entry

    async def _lead(
        self, call: Call, ask: Ask, found: Identified, key: str, witness: object
    ) -> Reply | None:
        board, engine = self._board, self._engine
        is_promoted = engine.live.has_failed(key)
        flight = board.open(key, call, ask)
        fleet = engine.fleet
        if fleet is None or not _may_ask(call, ask):
            flight.watch(witness)
            return None
        joined: Joined | None = None
        try:
            claim = self._claim(fleet, call, ask, found, is_promoted=is_promoted)
            joined = await self._ask(claim, call, found)
        finally:
            if joined is None:
                flight.fail(is_given_up=True)
        return self._settled(joined, claim, ask, flight, witness)

    def _settled(
        self, joined: Joined, claim: Claim, ask: Ask, flight: Flight, witness: object
    ) -> Reply | None:
        if isinstance(joined, Served):
            flight.answer(joined.plan.entry)
            flight.end()
            return joined.plan, Outcome.COALESCED if claim.has_waited else Outcome.HIT
        ask.position = flight.position = joined.position
        if isinstance(joined, Led):
            ask.lease = joined.lease
        elif joined.why is Why.FAILING:
            flight.end(FAILING_S)
            return None
        elif joined.why is Why.WAITED_TOO_LONG:
            ask.late = claim
        flight.watch(witness)
        return None

    def _claim(
        self, fleet: Fleet, call: Call, ask: Ask, found: Identified, *, is_promoted: bool
    ) -> Claim:
        settings = self._engine.settings
        is_stream = found.parsed.mode is ResponseMode.STREAM
        max_wait_s = settings.stream_wait_s if is_stream else settings.max_wait_s
        return fleet.claim(
            Terms(
                key=ask.keys.key,
                form=found.parsed.shape,
                scopes=_scopes(found),
                max_wait_s=min(max_wait_s, self._board.timeout_s),
                asked=call.controls.directives,
                is_promoted=is_promoted,
                seen=None if ask.lookup is None else ask.lookup.entry,
            )
        )

    async def _ask(self, claim: Claim, call: Call, found: Identified) -> Joined:
        # The whole time again: in a herd most of what the lookup took was this process's own work
        # for the others, and a lease that is given up costs a call.
        with open_budget(self._engine.settings.coordinator_timeout_s):
            joined = await claim.ask()
        if joined is not None:
            return joined
        waiting, entry = self._begin_waiting(call, found), None
        try:
            joined = await claim.wait()
            entry = joined.plan.entry if isinstance(joined, Served) else None
        finally:
            _finish(waiting, entry)
        return joined

    def _begin_waiting(self, call: Call, found: Identified) -> OpenOperation:
        observer = self._engine.observer
        return observer.begin(
            Operation.WAIT, Layer.RESULT.value, model=found.model, verb=call.api.verb
        )


# An answer in one piece can be made of a stream, if that carries its usage.
_ALSO = {"json": ("stream+usage",), "stream": ("stream+usage",)}


def _named(ask: Ask, shape: str) -> str:
    return f"{ask.keys.key}|litellm {shape}"


def _may_ask(call: Call, ask: Ask) -> bool:
    """Whether other processes are asked: not when the lookup has failed already."""
    if call.proceed is None or not call.proceed.may_store:
        return False
    return ask.lookup is not None and ask.lookup.outcome is not _ERROR


def _scopes(found: Identified) -> tuple[Scope, ...]:
    return scopes_of(found.tenant.name, found.models)


def _finish(waiting: OpenOperation, entry: Entry | None) -> None:
    if entry is None:
        waiting.finish(WaitFinished(Outcome.ERROR))
    else:
        waiting.finish(WaitFinished(Outcome.COALESCED, entry.origin))
