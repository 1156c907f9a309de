"""Asking the other processes, on behalf of a request whose answer is not there yet."""

from time import perf_counter

import msgspec

from routecache_middleware.adapters.asgi.boarding import unless_gone
from routecache_middleware.adapters.asgi.case import Case
from routecache_middleware.adapters.asgi.parts import Parts
from routecache_middleware.adapters.asgi.scopes import state_above
from routecache_middleware.adapters.asgi.serving import as_coalesced, as_hit, body_for
from routecache_middleware.adapters.asgi.types import Message, Receive
from routecache_middleware.core.budget import Budget, use_budget
from routecache_middleware.core.events import Operation, WaitFinished
from routecache_middleware.core.keys import Layer
from routecache_middleware.core.models import (
    Entry,
    MissReason,
    Outcome,
    Position,
    ResponseMode,
)
from routecache_middleware.core.plan import Serve
from routecache_middleware.core.records import scopes_of
from routecache_middleware.core.settings import Settings
from routecache_middleware.engine.claims import (
    Alone,
    Claim,
    Joined,
    Led,
    Served,
    Terms,
    Why,
    how_waited,
)
from routecache_middleware.engine.identify import Several
from routecache_middleware.engine.live import ReaderLeftError

__all__ = ["Ready", "join", "may_join", "new_claim", "renewed", "shared_answer"]


class Ready(msgspec.Struct, frozen=True):
    """Another process has made the answer: the entry, and the response made of it."""

    plan: Serve
    answer: list[Message]


def new_claim(parts: Parts, case: Case, *, is_promoted: bool) -> Claim | None:
    """Begin to ask for the lease of a request's answer; None when the other processes stay out.

    They do when there are none, when the request is for several things (each would need a lease),
    when nothing could be stored, when the lookup has failed already, and below another cache: that
    may hold the lease that we would wait for.
    """
    engine, proceed, found, lookup = parts.engine, case.proceed, case.found, case.lookup
    fleet = engine.fleet
    if fleet is None or proceed is None or found is None or lookup is None:
        return None
    if not proceed.may_store or lookup.outcome is Outcome.ERROR or state_above(case.scope):
        return None
    if isinstance(found, Several):
        return None
    settings, parsed = engine.settings, found.parsed
    is_stream = parsed.mode is ResponseMode.STREAM
    return fleet.claim(
        Terms(
            key=case.key,
            form=parsed.shape,
            scopes=scopes_of(case.tenant, (case.model,)),
            # Of a stream nothing is seen elsewhere before its end.
            max_wait_s=settings.stream_wait_s if is_stream else settings.max_wait_s,
            asked=case.directives,
            is_promoted=is_promoted,
            seen=lookup.entry,
        )
    )


def may_join(parts: Parts, case: Case, position: Position) -> bool:
    """Whether nothing that covers a request was invalidated since a leader's lookup."""
    engine, scopes = parts.engine, scopes_of(case.tenant, (case.model,))
    keys = (case.key,) if case.items is None else (case.key, *case.items.keys)
    return all(engine.is_current_since(key, scopes, position) for key in keys)


def renewed(budget: Budget | None, settings: Settings) -> Budget | None:
    """Return the budget for the question who leads.

    A coordinator that has failed has none left. One that has answered gets the whole time again: in
    a herd most of what the lookup took was this process's own work for the others, and a lease that
    is given up costs a call.
    """
    if budget is not None and budget.remaining_s > 0:
        budget.remaining_s = settings.coordinator_timeout_s
    return budget


async def join(
    parts: Parts, case: Case, claim: Claim, receive: Receive, budget: Budget | None
) -> Led | Alone | Ready | None:
    """Find out who makes the answer, and wait for it if somebody else does.

    Returns:
        None when the client left while it waited.
    """
    try:
        while True:
            with use_budget(budget):
                joined = await claim.ask()
            if joined is None:
                joined = await _wait(parts, case, claim, receive)
            if not isinstance(joined, Served):
                return joined
            ready = await _answer(parts, case, claim, joined.plan)
            if ready is not None:
                return ready
            claim.seen, case.miss = joined.plan.entry, MissReason.CONVERSION
    except ReaderLeftError:
        return None
    except Exception as error:  # noqa: BLE001 - a fault of ours must not fail the request
        parts.warn("the fleet", error)
        return Alone(Why.ERROR, parts.engine.table.position)


async def shared_answer(parts: Parts, case: Case, entry: Entry) -> list[Message] | None:
    """Return the response that this process's leader got from another one; None: it will not do."""
    plan = parts.engine.judge(case.key, entry, case.directives)
    if case.found is None or not isinstance(plan, Serve):
        return None
    try:
        body = await body_for(parts, case, entry, case.found)
    except Exception as error:  # noqa: BLE001 - as above
        parts.warn("the fleet", error)
        return None
    mode = case.found.parsed.mode
    return None if body is None else as_coalesced(parts, case, plan, body, mode)


async def _wait(parts: Parts, case: Case, claim: Claim, receive: Receive) -> Joined:
    waiting = parts.engine.observer.begin(
        Operation.WAIT, Layer.RESULT.value, model=case.model, verb=case.dialect.verb
    )
    joined: Joined | None = None
    began_s = perf_counter()
    try:
        joined = await unless_gone(receive, claim.wait(), _give_back)
    finally:
        parts.engine.recorder.waited(Layer.RESULT, how_waited(joined), perf_counter() - began_s)
        if isinstance(joined, Served):
            waiting.finish(WaitFinished(Outcome.COALESCED, joined.plan.entry.origin))
        else:
            waiting.finish(WaitFinished(Outcome.ERROR))
    return joined


async def _answer(parts: Parts, case: Case, claim: Claim, plan: Serve) -> Ready | None:
    found = case.found
    body = None if found is None else await body_for(parts, case, plan.entry, found)
    if found is None or body is None:
        return None
    serve = as_coalesced if claim.has_waited else as_hit
    return Ready(plan, serve(parts, case, plan, body, found.parsed.mode))


def _give_back(joined: Joined) -> None:
    if isinstance(joined, Led):
        joined.lease.give_back()
