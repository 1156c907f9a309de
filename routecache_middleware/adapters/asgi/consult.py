"""Consulting the cache about one request: everything that happens before the app is asked.

:func:`consult` never sends anything and never calls the app. What it finds out it writes down in a
:class:`Case`, so that whatever goes wrong here, the request can still be forwarded as it came.
"""

import asyncio

import msgspec
from msgspec.structs import replace

from routecache_middleware.adapters.asgi.answers import not_cached, stored_answer
from routecache_middleware.adapters.asgi.body import read_body
from routecache_middleware.adapters.asgi.head import RequestHead
from routecache_middleware.adapters.asgi.parts import Parts
from routecache_middleware.adapters.asgi.relay import Stamp
from routecache_middleware.adapters.asgi.types import Message, Receive, Scope
from routecache_middleware.core import cache_status
from routecache_middleware.core.dialect import Dialect
from routecache_middleware.core.events import RequestFinished
from routecache_middleware.core.keys import CacheKey, Layer, result_key
from routecache_middleware.core.models import BypassReason, MissReason, Outcome, RoutingDecision
from routecache_middleware.core.plan import Bypass, Proceed, Serve, plan_request
from routecache_middleware.core.request import LLMRequest
from routecache_middleware.core.settings import Mode, Tenancy
from routecache_middleware.core.splice import replace_model
from routecache_middleware.engine.engine import Lookup
from routecache_middleware.engine.identify import Identified

__all__ = ["Case", "consult"]

_SHARED_TENANT = "shared"
# Members of an Enum are slow to read from their class on Python 3.11: 75 ns each.
_HIT = Outcome.HIT
_OFF = Mode.OFF
_RESULT = Layer.RESULT
_SHARED = Tenancy.SHARED


class Case(msgspec.Struct):
    """One request and what is known of it so far.

    Attributes:
        dialect: Its API.
        scope: Its ASGI scope.
        stamp: What will be written into the response's head.
        messages: What was received of it; to be replayed to the app.
        head: What its head says.
        body: The body to forward when it differs from what was received, else None.
        found: What its body asks for, once known.
        decision: The routing decision, when there is a router.
        model: The model to ask: the decision's, or the one requested.
        tenant: Whose entries it may see.
        key: Key of its answer.
        proceed: What the cache may do for it; None: stand aside.
        bypass: Why the cache stands aside.
        lookup: What was found, when something was looked for.
        miss: Why the app has to be asked.
    """

    dialect: Dialect
    scope: Scope
    stamp: Stamp
    messages: list[Message] = []
    head: RequestHead | None = None
    body: bytes | None = None
    found: Identified | None = None
    decision: RoutingDecision | None = None
    model: str = ""
    tenant: str = ""
    key: CacheKey = CacheKey("")
    proceed: Proceed | None = None
    bypass: BypassReason | None = None
    lookup: Lookup | None = None
    miss: MissReason | None = None


async def consult(parts: Parts, case: Case, receive: Receive) -> list[Message] | None:
    """Find the answer to a request, or find out how to forward it.

    Returns:
        The whole response, or None when the app has to be asked.
    """
    engine = parts.engine
    if not engine.is_open():
        await engine.ensure_open()
    head = case.head
    if head is None:
        head = case.head = parts.heads.read(case.dialect, case.scope)
    case.bypass = await _understand(parts, case, head, receive)
    found = case.found
    if case.bypass is None and found is not None:
        answer = await _look_up(parts, case, head, found)
        if answer is not None:
            return answer
    if head.directives.only_if_cached and engine.mode not in (Mode.SHADOW, Mode.OFF):
        engine.recorder.result.count(Outcome.MISS)
        return not_cached(case.dialect, case.stamp)
    return None


async def _understand(
    parts: Parts, case: Case, head: RequestHead, receive: Receive
) -> BypassReason | None:
    """Read, parse and route a request. Returns why the cache has to stand aside, or None."""
    engine = parts.engine
    if head.unreadable is not None:
        return head.unreadable
    if head.refusal is not None and parts.routing is None:
        return head.refusal
    body = await read_body(receive, engine.settings.max_request_bytes, case.messages)
    if body is None:
        return BypassReason.BODY_TOO_LARGE
    found = parts.identifier.recall(head.context, body)
    if found is None:
        found = await parts.identifier.identify(case.dialect, head.context, body)
    if isinstance(found, BypassReason):
        return found
    case.found, case.model = found, found.parsed.model
    case.tenant = _tenant(parts, head)
    if parts.routing is not None and parts.routing.wants(found.parsed.model):
        trouble = await _route(parts, case, head, found, body)
        if trouble is not None:
            return trouble
    # In that mode it was read only because there is a router.
    return BypassReason.DISABLED if engine.mode is _OFF else head.refusal


def _tenant(parts: Parts, head: RequestHead) -> str:
    if parts.engine.settings.tenancy is not _SHARED or head.tenant != head.principal:
        return head.tenant
    return _SHARED_TENANT


async def _route(
    parts: Parts, case: Case, head: RequestHead, found: Identified, body: bytes
) -> BypassReason | None:
    routing = parts.routing
    if routing is None or head.is_signed:
        return BypassReason.SIGNED
    request = LLMRequest(
        model=found.parsed.model,
        dialect=case.dialect.name,
        path=case.scope["path"],
        mode=found.parsed.mode,
        query_hash=found.fingerprint.decision,
        tenant=case.tenant,
        body=body,
    )
    try:
        if head.refusal is None:
            decision = await parts.cache.route(
                found.fingerprint.decision,
                routing.computing(request),
                tenant=case.tenant,
                store=not head.directives.no_store,
                eligible=routing.eligible,
            )
        else:  # without a tenant there is nothing to cache a decision under
            decision = await routing.decide(request)
    except Exception as error:  # noqa: BLE001 - the router is the user's; the app gets the request as it came
        parts.warn("the router", error)
        return BypassReason.ROUTER_ERROR
    if decision.selected_model != found.parsed.model:
        case.body = replace_model(body, decision.selected_model)
    case.decision = case.stamp.decision = decision
    case.model = decision.selected_model
    return None


async def _look_up(
    parts: Parts, case: Case, head: RequestHead, found: Identified
) -> list[Message] | None:
    engine = parts.engine
    settings, mode = engine.settings, engine.mode
    plan = plan_request(found.parsed, head.directives, settings, engine.policy, mode)
    if isinstance(plan, Bypass):
        case.bypass = plan.reason
        return None
    case.key = result_key(found.fingerprint.result, case.model, case.tenant)
    needs_proof = settings.tenancy is _SHARED and not settings.authenticated_upstream
    if needs_proof and not engine.acceptance.is_accepted(head.principal):
        case.miss = MissReason.UNAUTHORISED
        plan = replace(plan, may_look_up=False, may_serve=False, may_share=False)
    elif not plan.may_look_up:
        case.miss = MissReason.REQUEST
    case.proceed = plan
    if not plan.may_look_up:
        return None
    lookup = case.lookup
    if lookup is None:
        case.lookup = lookup = await engine.lookup(
            _RESULT,
            case.key,
            max_age_s=head.directives.max_age_s,
            model=case.model,
            verb=case.dialect.verb,
        )
    if not isinstance(lookup.plan, Serve):
        case.miss = lookup.plan.reason
        return None
    return await _serve(parts, case, lookup.plan, found)


async def _serve(parts: Parts, case: Case, plan: Serve, found: Identified) -> list[Message] | None:
    engine, entry, parsed = parts.engine, plan.entry, found.parsed
    body: bytes | None = entry.body
    if entry.shape != parsed.shape:
        convert = case.dialect.render
        if len(entry.body) > engine.settings.hash_in_thread_bytes:  # 12 ms for 2,000 chunks
            body = await asyncio.to_thread(convert, entry.body, entry.mode, parsed)
        else:
            body = convert(entry.body, entry.mode, parsed)
    if body is None:
        case.miss = MissReason.CONVERSION
        return None
    if case.proceed is None or not case.proceed.may_serve:  # shadow mode
        engine.recorder.shadow_hits += 1
        return None
    return _served(parts, case, plan, body, found)


def _served(parts: Parts, case: Case, plan: Serve, body: bytes, found: Identified) -> list[Message]:
    engine, stamp = parts.engine, case.stamp
    served_by = engine.coordinator.name
    stamp.cache_status = cache_status.hit(plan.ttl_s, served_by)
    stamp.outcome = _HIT
    engine.recorder.result.hits += 1
    engine.observer.request(RequestFinished(_HIT, _RESULT, served_by))
    return stored_answer(plan.entry, body, found.parsed.mode, plan.age_s, stamp)
