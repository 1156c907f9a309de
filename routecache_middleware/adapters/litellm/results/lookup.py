"""Looking an answer up, and waiting for it when somebody else is getting it already."""

from contextlib import suppress
from typing import Any

import msgspec

from routecache_middleware.adapters.litellm.outcomes import lane_tag
from routecache_middleware.adapters.litellm.results.board import Board
from routecache_middleware.adapters.litellm.results.calls import Ask, Call
from routecache_middleware.adapters.litellm.results.counting import Counting
from routecache_middleware.adapters.litellm.results.heeding import Heeding
from routecache_middleware.adapters.litellm.results.joining import Joining
from routecache_middleware.adapters.litellm.results.keying import Identified
from routecache_middleware.core.budget import open_budget
from routecache_middleware.core.directives import NO_DIRECTIVES
from routecache_middleware.core.invalidation import InvalidationRow, tag_scope
from routecache_middleware.core.keys import Layer
from routecache_middleware.core.models import Entry, MissReason, Outcome
from routecache_middleware.core.plan import Bypass, Serve
from routecache_middleware.engine.engine import Engine
from routecache_middleware.engine.lookup import Lookup
from routecache_middleware.errors import CoordinatorError

__all__ = ["Json", "Lookups", "readable"]

Json = dict[str, Any]

_RESULT = Layer.RESULT
_decode = msgspec.json.Decoder(dict[str, Any]).decode


class Lookups:
    """Finds answers; one per process."""

    __slots__ = ("_counting", "_engine", "_has_lane", "_heeding", "_joining")

    def __init__(
        self,
        engine: Engine,
        board: Board,
        counting: Counting,
        heeding: Heeding,
        *,
        has_lane: bool = False,
    ) -> None:
        """Build one.

        Args:
            engine: Where answers are.
            board: Who is getting which.
            counting: What is counted.
            heeding: What the policy says.
            has_lane: Whether answers may also be kept by the fast lane in front of us.
        """
        self._has_lane = has_lane
        self._engine = engine
        self._counting = counting
        self._heeding = heeding
        self._joining = Joining(engine, board)

    def plan(self, call: Call) -> bool:
        """Decide what may be done for a call; whether anything may. Counts if nothing may."""
        heeding, found = self._heeding, call.identified
        if call.proceed is not None:
            return True
        if isinstance(found, Identified):
            if call.held is None:  # of several inputs the first
                call.held = heeding.held(found, call.controls)
            plan = heeding.plan(found, call.controls, call.held)
            call.record.model = found.model
            if not isinstance(plan, Bypass):
                call.proceed = plan
                call.record.granted_s = heeding.lifetime_s(call.held, call.controls)
                return True
            self._counting.bypassed(call, plan.reason)
        elif found is not None:
            self._counting.bypassed(call, found)
        return False

    async def find(self, call: Call, ask: Ask, witness: object) -> Json | None:
        """Return the answer to a call; None: get it.

        ``witness``: see :meth:`.Flight.watch`.
        """
        engine, proceed, found = self._engine, call.proceed, call.identified
        if proceed is None or not isinstance(found, Identified):
            return None
        if not engine.is_open():
            await self._open()
        call.record.keys.add(ask.keys.key)
        if not proceed.may_look_up:
            if self._has_lane and call.controls.directives.no_cache:
                await self._forget(ask)
            self._counting.missed(call, ask, MissReason.REQUEST)
            return None
        lookup = ask.lookup = await self._look_up(call, ask, found)
        ask.position = lookup.position
        reason: MissReason | None = MissReason.CONVERSION
        if not isinstance(lookup.plan, Serve):
            reason = lookup.plan.reason
        elif not proceed.may_serve:  # shadow mode
            engine.recorder.shadow_hits += 1
            ask.is_written = True  # a cache that serves would have left it as it was
        else:
            answer = self._serve(call, found, lookup.plan, Outcome.HIT)
            if answer is not None:
                engine.recorder.popular.seen(ask.keys.key)
                return answer
        if proceed.may_share:
            reply = await self._joining.join(call, ask, found, witness)
            answer = None if reply is None else self._serve(call, found, *reply)
            if answer is not None:
                return answer
        self._counting.missed(call, ask, reason)
        return None

    def _serve(self, call: Call, found: Identified, plan: Serve, outcome: Outcome) -> Json | None:
        answer = readable(plan.entry, found)
        if answer is not None:
            self._counting.served(call, plan, outcome, found.tenant.name)
        return answer

    async def _forget(self, ask: Ask) -> None:
        """Drop what the fast lane keeps of an answer that a client wants to have anew."""
        row = InvalidationRow(tag_scope(lane_tag(ask.keys.key)))
        with suppress(CoordinatorError):  # it holds in this process, and is recorded later
            await self._engine.invalidate((row,))
        ask.position = self._engine.table.position

    async def _open(self) -> None:
        if not self._engine.coordinator.is_shared:
            await self._engine.ensure_open()
            return
        with open_budget(self._engine.settings.coordinator_timeout_s):
            await self._engine.ensure_open()

    async def _look_up(self, call: Call, ask: Ask, found: Identified) -> Lookup:
        engine, keys, verb = self._engine, ask.keys, call.api.verb
        asked = call.controls.directives
        if not keys.former and asked is NO_DIRECTIVES:
            lookup = engine.lookup_now(_RESULT, keys.key, model=found.model, verb=verb)
            if lookup is not None:
                return lookup
        looking = engine.lookup(
            _RESULT,
            keys.key,
            asked=asked,
            model=found.model,
            verb=verb,
            former=keys.former,
            tenant=found.tenant.name,
        )
        if not engine.coordinator.is_shared:
            return await looking
        with open_budget(engine.settings.coordinator_timeout_s):
            return await looking


def readable(entry: Entry, found: Identified) -> Json | None:
    """Return the answer in an entry, made anew; None when it cannot serve this request.

    A stream that was not asked for its usage carries none, and LiteLLM would invent it.
    """
    if not entry.has_usage and entry.shape == "stream" != found.parsed.shape:
        return None
    try:
        return _decode(entry.body)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return None
