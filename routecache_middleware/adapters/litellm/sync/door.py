"""The way in for calls that are not async: what LiteLLM asks its cache from threads.

LiteLLM calls :meth:`SyncDoor.get` before it asks the provider and :meth:`SyncDoor.put` when it has
an answer, both in the caller's thread (a stream's answer: in the thread that has read it to its
end). In between, a ticket per call keeps what was looked up and the position that was captured.
"""

import asyncio
import logging
import time
from typing import Any

from routecache_middleware.adapters.litellm.options import Options
from routecache_middleware.adapters.litellm.outcomes import Outcomes
from routecache_middleware.adapters.litellm.part import Kwargs
from routecache_middleware.adapters.litellm.sync.board import Board
from routecache_middleware.adapters.litellm.sync.flight import End, Flight
from routecache_middleware.adapters.litellm.sync.key import SyncKey
from routecache_middleware.adapters.litellm.sync.lanes import Lane
from routecache_middleware.adapters.litellm.sync.rules import Asked, Rules
from routecache_middleware.adapters.litellm.sync.subjects import (
    call_type_of,
    has_our_key,
    is_inner_stream,
    is_whole,
    subject_of,
)
from routecache_middleware.adapters.litellm.sync.tickets import Ticket, Tickets
from routecache_middleware.core.choices import Mode
from routecache_middleware.core.events import Operation, RequestFinished, WaitFinished
from routecache_middleware.core.keys import Layer
from routecache_middleware.core.models import (
    BypassReason,
    DiscardReason,
    Entry,
    Outcome,
)
from routecache_middleware.core.plan import Serve
from routecache_middleware.engine.engine import Engine
from routecache_middleware.engine.lookup import Lookup

__all__ = ["SyncDoor"]

_logger = logging.getLogger("routecache")


class SyncDoor:
    """Looks up, waits for others, and stores; from any thread. Its methods never raise."""

    def __init__(
        self, engine: Engine, lane: Lane, rules: Rules, options: Options, outcomes: Outcomes
    ) -> None:
        """Prepare; nothing is opened before the first lookup."""
        self._engine = engine
        self._lane = lane
        self._rules = rules
        self._timeout_s = options.flight_timeout_s if engine.settings.coalescing else 0.0
        self._outcomes = outcomes
        self._board = Board()
        self._tickets = Tickets()
        self._has_told = False

    def get(self, kwargs: Kwargs) -> Any:
        """Return the answer to a call in the form that LiteLLM reads back, or None."""
        try:
            return self._get(kwargs)
        except Exception as error:  # noqa: BLE001 - a fault of ours must not fail the call
            self._fault(error)
            return None

    def key(self, kwargs: Kwargs) -> SyncKey:
        """Return the key of a call, for LiteLLM to show; empty when it is not cached.

        LiteLLM asks before the lookup of a stream, and after every hit.
        """
        try:
            asked = self._tickets.recall(kwargs) or self._understand(kwargs)
        except Exception as error:  # noqa: BLE001 - as above
            self._fault(error)
            asked = None
        return SyncKey(asked.query.key if isinstance(asked, Asked) else "")

    def put(self, result: object, kwargs: Kwargs) -> None:
        """Keep the answer to a call; a second one to the same call is ignored."""
        try:
            self._put(result, kwargs)
        except Exception as error:  # noqa: BLE001 - as above
            self._fault(error)

    def calling(self, kwargs: Kwargs) -> None:
        """The provider is asked. Without a lookup before it (``no-cache``) this is the position."""
        self._tickets.capture(kwargs, self._lane.position())

    def succeeded(self, kwargs: Kwargs) -> None:
        """The caller has its answer; what is not here soon will never be."""
        ticket = self._tickets.find(kwargs)
        if ticket is not None and ticket.flight is not None:
            ticket.flight.expire()

    def failed(self, kwargs: Kwargs) -> None:
        """The call has failed."""
        self._give_up(kwargs, End.FAILED)

    def close(self) -> None:
        """Let everybody go and finish what is under way, within a bounded time; idempotent."""
        self._board.clear()
        self._lane.close()

    def before_fork(self) -> None:
        """This process is about to fork; followed by one of the next two."""
        self._lane.before_fork()

    def after_fork(self) -> None:
        """It has forked, and this is the parent."""
        self._lane.after_fork()

    def begin_in_child(self) -> None:
        """It has forked, and this is the child: no call is under way here."""
        for inner in (self._lane, self._board, self._tickets):
            inner.begin_in_child()

    # -- before the call

    def _get(self, kwargs: Kwargs) -> Any:
        call_id = kwargs.get("litellm_call_id")
        if is_inner_stream(kwargs):
            self._give_up(kwargs, End.UNSHAREABLE)  # LiteLLM will not bring the outer one
        recalled = self._tickets.recall(kwargs) if has_our_key(kwargs) else None
        asked = recalled or self._understand(kwargs)
        if not isinstance(asked, Asked) or not isinstance(call_id, str):
            if isinstance(asked, BypassReason):
                self._count_refused(asked, kwargs, call_id)
            return None
        started_s, is_error, position = time.monotonic(), False, self._lane.position()
        if asked.may_look_up:
            found = self._lane.lookup(asked.query)
            answer = self._serve(asked, found, call_id)
            if answer is not None:
                return answer
            if isinstance(found.plan, Serve) and not asked.may_serve:
                self._engine.recorder.shadow_hits += 1
                self._count_shadow(asked, call_id)
                return None  # and no ticket: a cache that serves would have left it as it was
            is_error, position = found.outcome is Outcome.ERROR, found.position
        ticket = Ticket(
            asked, subject_of(kwargs), kwargs.get("model"), position, started_s, is_error
        )
        if asked.may_share and self._timeout_s > 0:
            answer = self._share(ticket, kwargs["litellm_logging_obj"], call_id)
            if answer is not None:
                return answer
        self._tickets.add(kwargs, ticket)
        if self._engine.mode is Mode.SHADOW:
            self._count_shadow(asked, call_id)
        else:
            self._count(Outcome.ERROR if is_error else Outcome.MISS, asked, call_id)
        return None

    def _understand(self, kwargs: Kwargs) -> Asked | BypassReason | None:
        """Say what a call asks for; None when there is nothing to cache."""
        if not is_whole(kwargs):
            return None
        asked = self._rules.ask(kwargs, call_type_of(kwargs))
        if asked is not None:
            self._tickets.remember(kwargs, asked)
        return asked

    def _serve(self, asked: Asked, found: Lookup, call_id: str) -> Any:
        if not isinstance(found.plan, Serve):
            return None
        if not asked.may_serve:
            return None
        answer = self._rules.answer(asked, found.plan.entry)
        if answer is not None:
            self._count(Outcome.HIT, asked, call_id, found.plan)
        return answer

    def _share(self, ticket: Ticket, call: object, call_id: str) -> Any:
        """Lead a flight, or follow one; a follower whose leader came to nothing tries again."""
        asked, until_s = ticket.asked, ticket.started_s + self._timeout_s
        key = f"{asked.query.key}|{asked.form}"
        is_stream = asked.form != "json"
        mine = Flight(key, call_id, ticket.position, call=call, is_stream=is_stream)
        while time.monotonic() < until_s:
            flight = self._board.enter(
                mine,
                may_wait=asked.is_routed or not _is_in_loop(),
                may_join=lambda other: self._may_join(asked, other),
            )
            if flight is None:
                return None
            if flight.call_id == call_id:
                ticket.flight = flight
                return self._look_again(ticket, flight, call_id)
            answer = self._follow(asked, flight, until_s, call_id)
            if answer is not None or flight.end is End.UNSHAREABLE:
                return answer
        return None

    def _may_join(self, asked: Asked, flight: Flight) -> bool:
        return self._lane.is_current_since(asked.query.key, asked.scopes, flight.position)

    def _look_again(self, ticket: Ticket, flight: Flight, call_id: str) -> Any:
        """Find what was stored between this call's lookup and its taking the lead."""
        if not self._board.has_landed_since(flight.key, ticket.started_s):
            return None
        found = self._lane.lookup(ticket.asked.query)
        ticket.position = max(ticket.position, found.position)
        answer = self._serve(ticket.asked, found, call_id)
        if answer is not None and isinstance(found.plan, Serve):
            self._board.answered(flight, found.plan.entry)
            self._board.stored(flight)
        return answer

    def _follow(self, asked: Asked, flight: Flight, until_s: float, call_id: str) -> Any:
        waiting = self._engine.observer.begin(
            Operation.WAIT, Layer.RESULT.value, model=asked.query.model, verb=asked.query.verb
        )
        answer, plan, origin = None, None, ""
        try:
            flight.wait(until_s)
            entry = flight.entry
            if entry is not None:
                origin = entry.origin
                judged = self._lane.judge(asked.query, entry)
                if isinstance(judged, Serve):
                    plan, answer = judged, self._rules.answer(asked, entry)
        finally:
            outcome = Outcome.ERROR if answer is None else Outcome.COALESCED
            waiting.finish(WaitFinished(outcome, origin))
        if answer is not None:
            self._count(Outcome.COALESCED, asked, call_id, plan)
        return answer

    # -- after the call

    def _put(self, result: object, kwargs: Kwargs) -> None:
        ticket = self._tickets.take_own(kwargs) or self._refreshing(kwargs)
        if ticket is None:
            return
        duration_ms = (time.monotonic() - ticket.started_s) * 1000
        entry: Entry | DiscardReason = DiscardReason.INCOMPLETE
        if not getattr(kwargs.get("cache_key"), "is_cut_off", False):
            entry = self._rules.keep(ticket.asked, result, ticket.position, duration_ms)
        flight = ticket.flight
        if isinstance(entry, DiscardReason):
            self._engine.recorder.discarded(entry)
            if flight is not None:
                self._board.ended(flight, End.UNSHAREABLE)
            return
        if flight is not None:
            self._board.answered(flight, entry)
        self._store(ticket, entry)

    def _store(self, ticket: Ticket, entry: Entry) -> None:
        flight = ticket.flight

        def then(_: object) -> None:
            if flight is not None:
                self._board.stored(flight)

        if not ticket.asked.may_store or not self._engine.may_write(Layer.RESULT):
            then(None)
        elif ticket.has_failed:  # a coordinator that makes callers wait is left alone
            self._engine.recorder.result.write_errors += 1
            then(None)
        else:
            self._lane.put(ticket.asked.query.key, entry, then)

    def _refreshing(self, kwargs: Kwargs) -> Ticket | None:
        """Return a ticket for a call that was not looked up because it asked for a new answer."""
        control, position = kwargs.get("cache"), self._tickets.captured(kwargs)
        if position is None or not isinstance(control, dict) or not control.get("no-cache"):
            return None
        asked = self._understand(kwargs)
        if not isinstance(asked, Asked):
            return None
        return Ticket(asked, subject_of(kwargs), kwargs.get("model"), position, time.monotonic())

    def _give_up(self, kwargs: Kwargs, end: End) -> None:
        ticket = self._tickets.take(kwargs)
        if ticket is not None and ticket.flight is not None:
            self._board.ended(ticket.flight, end)

    # -- telling

    def _count(
        self, outcome: Outcome, asked: Asked, call_id: str, plan: Serve | None = None
    ) -> None:
        recorder, query = self._engine.recorder, asked.query
        recorder.result.count(outcome)
        recorder.models.count(outcome, query.model, query.verb)
        self._engine.observer.request(RequestFinished(outcome))
        record = self._outcomes.of(call_id)
        record.outcome = outcome
        if plan is not None:
            recorder.saved_results.served(plan.entry, query.tenant)
            if outcome is Outcome.HIT:
                recorder.popular.seen(query.key)
            record.age_s, record.ttl_s = plan.age_s, plan.ttl_s

    def _count_shadow(self, asked: Asked, call_id: str) -> None:
        query = asked.query
        self._count_bypass(BypassReason.SHADOW, query.model, query.verb, call_id)

    def _count_refused(self, reason: BypassReason, kwargs: Kwargs, call_id: object) -> None:
        model, verb = kwargs.get("model"), self._rules.verb(call_type_of(kwargs))
        self._count_bypass(reason, model if isinstance(model, str) else "", verb, call_id)

    def _count_bypass(self, reason: BypassReason, model: str, verb: str, call_id: object) -> None:
        self._engine.recorder.models.count(Outcome.BYPASS, model, verb)
        self._engine.recorder.bypassed(reason)
        self._engine.observer.request(RequestFinished(Outcome.BYPASS, bypass_reason=reason))
        record = self._outcomes.of(call_id)
        record.outcome, record.reason = Outcome.BYPASS, reason.value

    def _fault(self, error: Exception) -> None:
        if not self._has_told:  # its text may quote a prompt: the type has to do
            self._has_told = True
            _logger.warning(
                "the cache failed inside LiteLLM (%s); calls go on without it", type(error).__name__
            )


def _is_in_loop() -> bool:
    """Whether this thread runs an event loop: what a leader waits for may need that very loop."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True
