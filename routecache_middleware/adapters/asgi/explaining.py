"""Explaining what a middleware would do with a request: its head is read as requests' are."""

from collections.abc import Mapping

from msgspec.structs import replace

from routecache_middleware.adapters.asgi.batch import may_be_changed
from routecache_middleware.adapters.asgi.consult import entry_tenant
from routecache_middleware.adapters.asgi.head import HeadReader, RequestHead, TenantOf
from routecache_middleware.adapters.asgi.layer import Match
from routecache_middleware.adapters.asgi.parts import Parts
from routecache_middleware.adapters.asgi.types import Scope
from routecache_middleware.core.choices import Tenancy
from routecache_middleware.core.directives import parse_ttl
from routecache_middleware.core.explanation import RequestExplanation
from routecache_middleware.core.models import BypassReason, Outcome
from routecache_middleware.core.reasons import NotOurs, meaning
from routecache_middleware.wiring.explaining import explain
from routecache_middleware.wiring.explanations import GivenRequest, check_given
from routecache_middleware.wiring.understanding import Question, Setup

__all__ = ["Explainer", "scope_of"]

_PARTS = {"headers", "method", "path"}
_TTL_FIELD = b"routecache-ttl"
_CONTENT_TYPE = (b"content-type", b"application/json")


class Explainer:
    """Explains requests to one middleware; holds nothing of them."""

    __slots__ = ("_match", "_parts", "_setup", "_tenant_of")

    def __init__(self, parts: Parts, match: Match, tenant_of: TenantOf | None) -> None:
        routing = parts.routing
        self._parts = parts
        self._match = match
        self._tenant_of = tenant_of
        self._setup = Setup(
            parts.engine,
            parts.identifier,
            wants=None if routing is None else routing.wants,
            eligible=None if routing is None else routing.eligible,
        )

    async def explain_scope(
        self,
        scope: Scope,
        body: bytes,
        *,
        tenant: str | None = None,
        neighbour: bytes | None = None,
        full: bool = False,
    ) -> RequestExplanation:
        """Explain a request; see :meth:`RouteCacheMiddleware.explain_scope`."""
        check_given(body=body, tenant=tenant, neighbour=neighbour, full=full)
        if not isinstance(scope, Mapping) or not scope.keys() >= _PARTS:
            found = scope.get("type") if isinstance(scope, Mapping) else type(scope).__name__
            raise TypeError(f"scope is a {found}; it has to be the ASGI scope of an HTTP request")
        dialect = self._match(scope["method"], scope["path"])
        if dialect is None:
            is_known = self._match("POST", scope["path"]) is not None
            reason = NotOurs.METHOD if is_known else NotOurs.PATH
            return RequestExplanation(
                outcome=Outcome.BYPASS, reason=reason.value, because=meaning(reason)
            )
        engine = self._parts.engine
        # A reader of its own: neither its memory nor its warnings are those of requests.
        tenant_of = self._tenant_of if tenant is None else None
        reader = HeadReader(engine.settings, engine.policy, tenant_of, is_quiet=True)
        head = reader.read(dialect, scope)
        if tenant is not None:
            former = (tenant,) * len(engine.settings.previous_secrets)
            refusal = None if tenant else BypassReason.NO_PRINCIPAL
            head = replace(head, tenant=tenant, former_tenants=former, refusal=refusal)
        allowed = entry_tenant(self._parts, head) if tenant is None else tenant
        is_own = allowed == head.tenant
        question = Question(
            dialect=dialect,
            path=scope["path"],
            context=head.context,
            body=body,
            tenant=allowed,
            is_hash=tenant is None and allowed == head.principal,
            former_tenants=head.former_tenants if is_own else (allowed,) * len(head.former_tenants),
            directives=head.directives,
            asked_ttl_s=_asked_ttl_s(scope),
            unreadable=head.unreadable,
            refusal=head.refusal,
            is_signed=head.is_signed,
            is_fixed=not may_be_changed(scope, head),
            is_accepted=tenant is not None or self._is_accepted(head),
            neighbour=neighbour,
            is_full=full,
        )
        return await explain(self._setup, question)

    async def explain(self, given: GivenRequest) -> RequestExplanation:
        """Explain a request; see :meth:`RouteCacheMiddleware.explain`."""
        return await self.explain_scope(
            scope_of(given),
            given.body,
            tenant=given.tenant,
            neighbour=given.neighbour,
            full=given.full,
        )

    def _is_accepted(self, head: RequestHead) -> bool:
        engine = self._parts.engine
        settings = engine.settings
        if settings.tenancy is not Tenancy.SHARED or settings.authenticated_upstream:
            return True
        return engine.acceptance.is_accepted(head.principal)


def scope_of(given: GivenRequest) -> Scope:
    """Return the ASGI scope of a request; without a content type that of JSON is added."""
    has_type = any(name == _CONTENT_TYPE[0] for name, _ in given.fields)
    return {
        "type": "http",
        "method": given.method.upper(),
        "path": given.path,
        "root_path": given.root_path,
        "query_string": given.query_string,
        "headers": [*given.fields, *(() if has_type else (_CONTENT_TYPE,))],
        "state": {},
        **({} if given.user is None else {"user": given.user}),
    }


def _asked_ttl_s(scope: Scope) -> int | None:
    values = [value for name, value in scope["headers"] if name == _TTL_FIELD]
    return parse_ttl(values[0]) if values else None
