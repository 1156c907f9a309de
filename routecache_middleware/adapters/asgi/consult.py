"""Consulting the cache about one request: everything that happens before the app is asked.

:func:`consult` never sends anything and never calls the app. What it finds out it writes down in a
:class:`Case`, so that whatever goes wrong here, the request can still be forwarded as it came.
"""

import dataclasses
from time import perf_counter

from msgspec.structs import replace

from routecache_middleware.adapters.asgi.answers import not_cached
from routecache_middleware.adapters.asgi.batch import look_up_items
from routecache_middleware.adapters.asgi.body import read_body, spliced
from routecache_middleware.adapters.asgi.case import Case
from routecache_middleware.adapters.asgi.head import RequestHead
from routecache_middleware.adapters.asgi.heeding import cut, heed, policy_forbids, request_of
from routecache_middleware.adapters.asgi.parts import Parts, Routing
from routecache_middleware.adapters.asgi.serving import as_hit, body_for
from routecache_middleware.adapters.asgi.types import Message, Receive
from routecache_middleware.core.choices import Mode, Tenancy
from routecache_middleware.core.directives import Directives
from routecache_middleware.core.events import RequestFinished
from routecache_middleware.core.keys import CacheKey, Layer, result_key, route_key
from routecache_middleware.core.models import BypassReason, MissReason, Outcome, RoutingDecision
from routecache_middleware.core.plan import Bypass, Serve, plan_request
from routecache_middleware.core.records import read_decision
from routecache_middleware.core.splice import replace_model
from routecache_middleware.engine.identify import Identified, Several
from routecache_middleware.engine.reading import read_out

__all__ = ["consult", "entry_tenant"]

_SHARED_TENANT = "shared"
# Members of an Enum are slow to read from their class on Python 3.11: 75 ns each.
_OFF = Mode.OFF
_RESULT = Layer.RESULT
_SHARED = Tenancy.SHARED


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
    case.directives, case.ttl_s = head.directives, head.ttl_s
    case.bypass = await _understand(parts, case, head, receive)
    found = case.found
    if case.bypass is None and found is not None:
        answer = await _look_up(parts, case, head, found)
        if answer is not None:
            return answer
    if _must_not_forward(parts, case):
        engine.recorder.result.count(Outcome.MISS)
        engine.recorder.models.count(Outcome.MISS, case.model, case.dialect.verb)
        engine.observer.request(RequestFinished(Outcome.MISS))
        return not_cached(case.dialect, case.stamp, case.bypass or case.miss)
    return None


def _must_not_forward(parts: Parts, case: Case) -> bool:
    is_on = parts.engine.mode not in (Mode.SHADOW, Mode.OFF)
    # Behind a gate there are an authentication and another cache, neither of which was asked yet.
    return case.directives.only_if_cached and is_on and parts.gate is None


async def _understand(
    parts: Parts, case: Case, head: RequestHead, receive: Receive
) -> BypassReason | None:
    """Read, parse and route a request. Returns why the cache has to stand aside, or None."""
    engine = parts.engine
    if head.unreadable is not None:
        return head.unreadable
    if head.refusal is not None and parts.routing is None:
        message = await receive()
        case.messages.append(message)
        # Of a longer one the app need not wait for the end if it refuses such requests.
        if not message.get("more_body", False):
            await cut(parts, case, head, message.get("body", b""))
        return head.refusal
    began_s = perf_counter()
    body = await read_body(receive, engine.settings.max_request_bytes, case.messages)
    case.aside_s = perf_counter() - began_s
    if body is None:
        return BypassReason.BODY_TOO_LARGE
    found = parts.identifier.recall(head.context, body)
    if found is None:
        found = await parts.identifier.identify(case.dialect, head.context, body)
    if isinstance(found, BypassReason):
        await cut(parts, case, head, body)
        return found
    case.found, case.model = found, found.parsed.model
    case.tenant = entry_tenant(parts, head)
    if found.asked is not None:
        body = await heed(parts, case, head, found.asked, body)
    is_open = not head.context.model  # what the path names cannot be changed in the body
    routing, verb = parts.routing, case.dialect.verb
    if is_open and routing is not None and routing.wants(found.parsed.model, verb):
        trouble = await _route(parts, case, head, found, body)
        if trouble is not None:
            return trouble
    # In that mode it was read only because there is a router.
    refusal = BypassReason.DISABLED if engine.mode is _OFF else head.refusal
    return refusal or policy_forbids(parts, case, found, body)


def entry_tenant(parts: Parts, head: RequestHead) -> str:
    """Return whose entries a request may see: its own tenant's, or those that all share."""
    if parts.engine.settings.tenancy is not _SHARED or head.tenant != head.principal:
        return head.tenant
    return _SHARED_TENANT


async def _route(
    parts: Parts, case: Case, head: RequestHead, found: Identified, body: bytes
) -> BypassReason | None:
    routing = parts.routing
    if routing is None or head.is_signed:
        return BypassReason.SIGNED
    request = request_of(case, found, body)
    try:
        if _must_not_forward(parts, case):
            decided = await _decided(parts, case, found, routing)
            if decided is None:
                case.found = None  # under which model to look is not known
                return None
            decision = decided
        elif head.refusal is None:
            decision = await parts.cache.route(
                found.fingerprint.decision,
                routing.computing(request),
                tenant=case.tenant,
                store=not case.directives.no_store,
                eligible=routing.eligible,
            )
        else:  # without a tenant there is nothing to cache a decision under
            decision = await routing.decide(request)
    except Exception as error:  # noqa: BLE001 - the router is the user's; the app gets the request as it came
        parts.warn("the router", error)
        return BypassReason.ROUTER_ERROR
    if decision.outcome is Outcome.MISS:
        case.aside_s += decision.decide_ms / 1000
    if decision.selected_model != found.parsed.model:
        case.body = await spliced(
            replace_model,
            body,
            decision.selected_model,
            in_thread_bytes=parts.engine.settings.hash_in_thread_bytes,
        )
    case.decision = case.stamp.decision = decision
    case.model = decision.selected_model
    return None


async def _decided(
    parts: Parts, case: Case, found: Identified, routing: Routing
) -> RoutingDecision | None:
    """Return the decision that is stored: who says only-if-cached has the router not asked."""
    engine = parts.engine
    counters, stored = engine.recorder.layers[Layer.ROUTING], None
    if engine.may_read(Layer.ROUTING):
        key = route_key(found.fingerprint.decision, case.tenant)
        lookup = await engine.lookup(Layer.ROUTING, key, may_be_stale=True)
        stored = read_out(lookup.plan, read_decision)
        counters.count(Outcome.MISS if stored is None else lookup.outcome)
    usable = None if stored is None else routing.usable(stored)
    if usable is None:
        case.miss = MissReason.ABSENT if stored is None else MissReason.INELIGIBLE
    return usable


async def _look_up(
    parts: Parts, case: Case, head: RequestHead, found: Identified
) -> list[Message] | None:
    engine = parts.engine
    settings, mode = engine.settings, engine.mode
    policy = engine.policy if case.policy is None else case.policy.policy
    if case.decision is not None and not engine.policies.allow(case.model, case.scope["path"]):
        case.bypass = BypassReason.POLICY
        return None
    plan = plan_request(found.parsed, case.directives, settings, policy, mode, model=case.model)
    if isinstance(plan, Bypass):
        case.bypass = plan.reason
        return None
    case.key = result_key(found.fingerprint.result, case.model, case.tenant)
    if not _is_accepted(parts, case, head, found):
        case.miss = MissReason.UNAUTHORISED
        plan = replace(plan, may_look_up=False, may_serve=False, may_share=False)
    elif not plan.may_look_up:
        case.miss = MissReason.REQUEST
    case.proceed = plan
    if not plan.may_look_up:
        return None
    if isinstance(found, Several):
        return await look_up_items(parts, case, head, found, plan)
    lookup = case.lookup
    if lookup is None:
        case.lookup = lookup = await engine.lookup(
            _RESULT,
            case.key,
            asked=_limits(parts, case),
            model=case.model,
            verb=case.dialect.verb,
            former=_former_keys(case, head, found) if found.former else (),
            tenant=case.tenant,
            # Not what cannot be made anew, or only in the eyes of whoever admits requests.
            may_be_stale=plan.may_store and parts.gate is None,
        )
    if not isinstance(lookup.plan, Serve):
        case.miss = lookup.plan.reason
        return None
    return await _serve(parts, case, lookup.plan, found)


def _limits(parts: Parts, case: Case) -> Directives:
    """How old or stale an answer the client accepts; behind a gate none that is stale."""
    if parts.gate is None or case.directives.max_stale_s is None:
        return case.directives
    return dataclasses.replace(case.directives, max_stale_s=0.0)


def _is_accepted(parts: Parts, case: Case, head: RequestHead, found: Identified) -> bool:
    """Whether the app would let this request in, as far as is known here."""
    engine, gate = parts.engine, parts.gate
    if gate is not None:
        case.slot = gate.slot(head, found.parsed)
        case.ticket = gate.admit(case.slot)
        return case.ticket is not None
    settings = engine.settings
    if settings.tenancy is not _SHARED or settings.authenticated_upstream:
        return True
    return engine.acceptance.is_accepted(head.principal)


def _former_keys(case: Case, head: RequestHead, found: Identified) -> tuple[CacheKey, ...]:
    """Keys that the answer had under former secrets: both of its hashes depend on the secret."""
    is_shared = case.tenant != head.tenant
    tenants = (case.tenant,) * len(found.former) if is_shared else head.former_tenants
    return tuple(
        result_key(fingerprint.result, case.model, tenant)
        for fingerprint, tenant in zip(found.former, tenants, strict=True)
    )


async def _serve(parts: Parts, case: Case, plan: Serve, found: Identified) -> list[Message] | None:
    engine, entry, parsed = parts.engine, plan.entry, found.parsed
    body: bytes | None = entry.body
    if entry.shape != parsed.shape:
        body = await body_for(parts, case, entry, found)
    if body is None:
        case.miss = MissReason.CONVERSION
        return None
    if case.proceed is None or not case.proceed.may_serve:  # shadow mode
        engine.recorder.shadow_hits += 1
        case.shadow = replace(entry, body=body)
        return None
    case.is_stale = plan.is_stale
    return as_hit(parts, case, plan, body, parsed.mode)
