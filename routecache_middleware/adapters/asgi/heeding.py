"""Heeding what a request's body asks of the cache, and what the operator's policy says of it."""

from routecache_middleware.adapters.asgi.body import spliced
from routecache_middleware.adapters.asgi.case import Case
from routecache_middleware.adapters.asgi.head import RequestHead
from routecache_middleware.adapters.asgi.parts import Parts
from routecache_middleware.core.body_directives import (
    BODY_FIELD,
    BodyDirectives,
    asked_ttl_s,
    has_asked,
    with_body,
)
from routecache_middleware.core.models import BypassReason
from routecache_middleware.core.request import LLMRequest
from routecache_middleware.core.splice import remove_member
from routecache_middleware.engine.identify import Identified

__all__ = ["cut", "heed", "policy_forbids", "request_of"]

_NAMED = b'"' + BODY_FIELD.encode() + b'"'


async def heed(
    parts: Parts, case: Case, head: RequestHead, asked: BodyDirectives, body: bytes
) -> bytes:
    """Take in what the body asks of the cache, and return the body to forward: without that."""
    case.directives = with_body(head.directives, asked)
    case.ttl_s = asked_ttl_s(head.ttl_s, asked)
    return await _without(parts, case, head, body)


async def cut(parts: Parts, case: Case, head: RequestHead, body: bytes) -> None:
    """Forward a request that cannot be cached without what only a cache understands.

    Whether or not the cache may take part, clients write the same body, and an upstream refuses
    members that it does not know.
    """
    is_small = len(body) <= parts.engine.settings.max_request_bytes
    if is_small and _NAMED in body and await parts.identifier.is_asked(body):
        await _without(parts, case, head, body)


async def _without(parts: Parts, case: Case, head: RequestHead, body: bytes) -> bytes:
    if head.is_signed:
        return body
    limit = parts.engine.settings.hash_in_thread_bytes
    case.body = await spliced(remove_member, body, BODY_FIELD, in_thread_bytes=limit)
    return case.body


def policy_forbids(parts: Parts, case: Case, found: Identified, body: bytes) -> BypassReason | None:
    """Find out what policy holds for a request; it may be that its answer is not cached at all."""
    if parts.gate is not None and found.parsed.bypass is not None:
        return found.parsed.bypass  # where the policy allows it all the same, the app answers
    held = case.policy = parts.engine.policies.decided(
        found.parsed.model,
        case.scope["path"],
        lambda: _shown(parts, case, found, body),
        has_asked=has_asked(case.ttl_s, found.asked),
        warn=parts.warn,
    )
    return None if held.is_cached else BypassReason.POLICY


def _shown(parts: Parts, case: Case, found: Identified, body: bytes) -> LLMRequest | None:
    """Return what the policy is asked about; None: whoever the request is forwarded to asks it."""
    request, gate, head = request_of(case, found, body), parts.gate, case.head
    if gate is None or head is None:
        return request
    return gate.shown(request, gate.slot(head, found.parsed))


def request_of(case: Case, found: Identified, body: bytes) -> LLMRequest:
    """Return the request as routers and policies see it."""
    return LLMRequest(
        model=found.parsed.model,
        dialect=case.dialect.name,
        path=case.scope["path"],
        mode=found.parsed.mode,
        query_hash=found.fingerprint.decision,
        tenant=case.tenant,
        body=body,
    )
