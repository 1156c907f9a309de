"""stale-while-revalidate (RFC 5861 section 3): making an answer anew after a stale one was served.

The app is called once more with the same request, in a task of its own: it sees a client that stays
and reads everything.
"""

import asyncio
from collections.abc import Awaitable, Callable

from msgspec.structs import replace

from routecache_middleware.adapters.asgi.case import Case
from routecache_middleware.adapters.asgi.parts import Parts
from routecache_middleware.adapters.asgi.relay import Stamp
from routecache_middleware.adapters.asgi.types import Message
from routecache_middleware.core.events import Operation, RefreshFinished
from routecache_middleware.core.keys import Layer

__all__ = ["Remake", "nowhere", "refresh", "stays"]

Remake = Callable[[Case], Awaitable[None]]
"""Makes the answer to a request anew, for nobody in particular."""


def refresh(parts: Parts, case: Case, remake: Remake) -> None:
    """Begin to make the answer to a request anew, unless that is under way."""
    may_store = case.proceed is not None and case.proceed.may_store
    if case.key in parts.refreshing or case.directives.only_if_cached or not may_store:
        return
    parts.refreshing.add(case.key)
    # The task that serves the request goes on to send; the app must not be called inside it.
    parts.engine.background.run(_refresh(parts, _for_nobody(case), remake), is_urgent=False)


async def _refresh(parts: Parts, case: Case, remake: Remake) -> None:
    span = parts.engine.observer.begin(
        Operation.REFRESH, Layer.RESULT.value, model=case.model, verb=case.dialect.verb
    )
    if case.lookup is not None:  # hits on what is made here link to this
        case.lookup = replace(case.lookup, traceparent=span.traceparent)
    error_type = ""
    try:
        await remake(case)
    except Exception as error:  # noqa: BLE001 - nobody waits: the next request will try again
        error_type = type(error).__name__
        parts.warn("the app, asked for a fresh answer,", error)
    finally:
        parts.refreshing.discard(case.key)
        span.finish(RefreshFinished(error_type))


def _for_nobody(case: Case) -> Case:
    state = dict(case.scope.get("state") or {})
    state.pop("routecache", None)
    return Case(
        dialect=case.dialect,
        scope={**case.scope, "state": state},
        stamp=Stamp(has_fields=False, has_timing=False),
        messages=case.messages,
        head=case.head,
        body=case.body,
        found=case.found,
        decision=case.decision,
        directives=case.directives,
        ttl_s=case.ttl_s,
        policy=case.policy,
        model=case.model,
        tenant=case.tenant,
        key=case.key,
        proceed=case.proceed,
        lookup=case.lookup,
        is_refresh=True,
    )


async def stays() -> Message:
    """Receive nothing, ever: this client does not leave."""
    never: asyncio.Future[Message] = asyncio.get_running_loop().create_future()
    return await never


async def nowhere(message: Message) -> None:
    """Send to nobody."""
