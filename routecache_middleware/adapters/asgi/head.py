"""Reading the head of a request: who is asking, what for, and whether we can take part.

Heads repeat, so what is read from one is remembered under the header fields that matter.
"""

import logging
from collections import OrderedDict
from collections.abc import Callable

import msgspec
from msgspec.structs import replace

from routecache_middleware.adapters.asgi.types import Scope
from routecache_middleware.core.dialect import Dialect, place_of
from routecache_middleware.core.directives import (
    NO_DIRECTIVES,
    Directives,
    parse_directives,
    parse_ttl,
)
from routecache_middleware.core.fingerprint import KeyContext
from routecache_middleware.core.models import BypassReason
from routecache_middleware.core.policy import CachePolicy
from routecache_middleware.core.principal import (
    CREDENTIAL_HEADERS,
    principal,
    query_credentials,
)
from routecache_middleware.core.settings import Settings
from routecache_middleware.dialects.table import path_model

__all__ = ["ANONYMOUS", "HeadReader", "RequestHead", "TenantOf"]

TenantOf = Callable[[Scope], str | None]
"""Says whose a request is, from its ASGI scope; None or empty: nobody's, so nothing is cached."""

_logger = logging.getLogger("routecache")

_CONTENT_SEMANTICS = frozenset(
    {
        b"anthropic-beta",
        b"anthropic-user-profile-id",
        b"anthropic-version",
        b"anthropic-workspace-id",
        b"openai-beta",
        b"openai-organization",
        b"openai-project",
        b"x-goog-fieldmask",
        b"x-policy-id",
        b"x-goog-user-project",
    }
)
_SIGNATURES = frozenset(
    {
        b"content-digest",
        b"content-md5",
        b"digest",
        b"repr-digest",
        b"signature",
        b"signature-input",
        b"x-amz-content-sha256",
        b"x-hub-signature-256",
        b"x-signature",
    }
)
_TTL = b"routecache-ttl"
_PLUMBING = frozenset({b"cache-control", b"content-encoding", b"content-type", b"pragma", _TTL})

ANONYMOUS = "anonymous"
"""Principal and tenant of all who carry no credential, where they may be served."""
_MEMO_SIZE = 4096


class RequestHead(msgspec.Struct, frozen=True):
    """What the head of a request says.

    Attributes:
        context: Its part of the key.
        principal: Who is asking; empty when there is no credential.
        tenant: Whose entries it may see; empty: none, so nothing is cached.
        former_tenants: What ``tenant`` would be under each of the former secrets.
        directives: What the client asks of the cache.
        ttl_s: How long it asks for the answer to be fresh, or None.
        unreadable: Why the body is none of our business, or None.
        refusal: Why nothing may be cached although the body is readable, or None.
        is_signed: A header vouches for the body's bytes, so they must not be changed.
        is_plain: The client asks nothing special of the cache, and the body is readable.
    """

    context: KeyContext
    principal: str
    tenant: str
    former_tenants: tuple[str, ...] = ()
    directives: Directives = NO_DIRECTIVES
    ttl_s: float | None = None
    unreadable: BypassReason | None = None
    refusal: BypassReason | None = None
    is_signed: bool = False
    is_plain: bool = False

    def __repr__(self) -> str:  # tenants may have names
        return f"RequestHead({self.context!r}, {self.unreadable or self.refusal or 'readable'})"


class HeadReader:
    """Reads heads; holds no per-request state beyond the memo."""

    def __init__(
        self,
        settings: Settings,
        policy: CachePolicy,
        tenant_of: TenantOf | None,
        *,
        is_quiet: bool = False,
    ) -> None:
        self._settings = settings
        self._tenant_of = tenant_of
        self._credentials = CREDENTIAL_HEADERS | _encode(settings.credential_headers)
        self._semantics = _CONTENT_SEMANTICS | _encode(policy.key_headers)
        self._relevant = self._credentials | self._semantics | _SIGNATURES | _PLUMBING
        self._memo: OrderedDict[tuple[object, ...], RequestHead] = OrderedDict()
        self._has_warned_of_tenant = self._has_warned_of_anonymous = is_quiet

    def read(self, dialect: Dialect, scope: Scope) -> RequestHead:
        """Read the head of a request of a known dialect."""
        relevant = self._relevant
        fields = tuple([pair for pair in scope["headers"] if pair[0] in relevant])
        query, root_path = scope.get("query_string", b""), scope.get("root_path", "")
        slot = (scope["path"], root_path, query, fields)
        try:
            head = self._memo.get(slot)
        except TypeError:  # pairs may be lists; servers send tuples
            fields = tuple([(pair[0], pair[1]) for pair in fields])
            slot = (scope["path"], root_path, query, fields)
            head = self._memo.get(slot)
        if head is None:
            head = self._parse(dialect, scope["path"], root_path, query, fields)
            if len(self._memo) >= _MEMO_SIZE:
                self._memo.popitem(last=False)
            self._memo[slot] = head
        user = scope.get("user")
        if user is not None:
            head = self._with_user(head, user, query, fields)
        if self._tenant_of is not None:
            return self._with_tenant(head, self._tenant_of, scope)
        return head if head.principal else self._without_principal(head)

    def _parse(
        self,
        dialect: Dialect,
        path: str,
        root_path: str,
        query: bytes,
        fields: tuple[tuple[bytes, bytes], ...],
    ) -> RequestHead:
        semantic = tuple([pair for pair in fields if pair[0] in self._semantics])
        named = dict(fields)
        cache_control = b",".join(value for name, value in fields if name == b"cache-control")
        who = self._principal(query, fields)
        directives = parse_directives(cache_control, named.get(b"pragma", b""))
        unreadable = _unreadable(named)
        place = place_of(dialect, path, query)
        return RequestHead(
            context=KeyContext(
                dialect.name,
                root_path,
                place.path,
                place.query,
                semantic,
                model=path_model(path),
                form=place.form,
            ),
            principal=who,
            tenant=who,
            former_tenants=self._former_principals(query, fields),
            directives=directives,
            ttl_s=parse_ttl(named[_TTL]) if _TTL in named else None,
            unreadable=unreadable,
            is_signed=not _SIGNATURES.isdisjoint(named),
            is_plain=directives is NO_DIRECTIVES and unreadable is None,
        )

    def _principal(
        self,
        query: bytes,
        fields: tuple[tuple[bytes, bytes], ...],
        extra: tuple[tuple[bytes, bytes], ...] = (),
    ) -> str:
        held = self._held(query, fields, extra)
        return principal(held, self._settings.secret)

    def _former_principals(
        self,
        query: bytes,
        fields: tuple[tuple[bytes, bytes], ...],
        extra: tuple[tuple[bytes, bytes], ...] = (),
    ) -> tuple[str, ...]:
        secrets = self._settings.previous_secrets
        if not secrets:
            return ()
        held = self._held(query, fields, extra)
        return tuple(principal(held, secret) for secret in secrets)

    def _held(
        self,
        query: bytes,
        fields: tuple[tuple[bytes, bytes], ...],
        extra: tuple[tuple[bytes, bytes], ...],
    ) -> list[tuple[bytes, bytes]]:
        held = [pair for pair in fields if pair[0] in self._credentials]
        return [*held, *query_credentials(query), *extra]

    def _unchanged(self, tenant: str) -> tuple[str, ...]:
        """What a tenant that no secret goes into was under the former ones."""
        return (tenant,) * len(self._settings.previous_secrets)

    def _with_user(
        self,
        head: RequestHead,
        user: object,
        query: bytes,
        fields: tuple[tuple[bytes, bytes], ...],
    ) -> RequestHead:
        identity = _identity(user)
        if not identity:
            return head
        extra = ((b"scope.user", identity.encode()),)
        who = self._principal(query, fields, extra)
        former = self._former_principals(query, fields, extra)
        return replace(head, principal=who, tenant=who, former_tenants=former)

    def _with_tenant(self, head: RequestHead, tenant_of: TenantOf, scope: Scope) -> RequestHead:
        try:
            tenant = tenant_of(scope)
            if not isinstance(tenant, str | None):
                raise TypeError("a tenant is a str or None")  # noqa: TRY301 - as if it had raised
        except Exception as error:  # noqa: BLE001 - the callable is the user's; the request goes on uncached
            if not self._has_warned_of_tenant:
                self._has_warned_of_tenant = True
                _logger.warning(
                    "tenant() raised %s: such requests are not cached", type(error).__name__
                )
            return replace(head, tenant="", refusal=BypassReason.TENANT_ERROR)
        if not tenant:
            return replace(head, tenant="", refusal=BypassReason.NO_PRINCIPAL)
        return replace(head, tenant=tenant, former_tenants=self._unchanged(tenant))

    def _without_principal(self, head: RequestHead) -> RequestHead:
        if self._settings.allow_anonymous:
            former = self._unchanged(ANONYMOUS)
            return replace(head, principal=ANONYMOUS, tenant=ANONYMOUS, former_tenants=former)
        if not self._has_warned_of_anonymous:
            self._has_warned_of_anonymous = True
            _logger.warning(
                "a request carries no credential, so it is not cached; if that is intended, set "
                "allow_anonymous=True (all such requests then share entries) or pass tenant="
            )
        return replace(head, refusal=BypassReason.NO_PRINCIPAL)


def _encode(names: frozenset[str]) -> frozenset[bytes]:
    return frozenset(name.encode("latin-1") for name in names)


def _unreadable(named: dict[bytes, bytes]) -> BypassReason | None:
    if named.get(b"content-encoding", b"").strip().lower() not in (b"", b"identity"):
        return BypassReason.CONTENT_ENCODING
    media_type, _, parameters = named.get(b"content-type", b"").lower().partition(b";")
    if media_type.strip() != b"application/json":
        return BypassReason.CONTENT_TYPE
    charset = parameters.partition(b"charset=")[2].partition(b";")[0].strip(b' "')
    return None if charset in (b"", b"utf-8", b"utf8") else BypassReason.CONTENT_TYPE


def _identity(user: object) -> str:
    """Name of an authenticated Starlette-like user, or empty."""
    if not getattr(user, "is_authenticated", False):
        return ""
    for attribute in ("identity", "display_name"):
        try:
            name = getattr(user, attribute, "")
        except NotImplementedError:  # Starlette's SimpleUser has no identity of its own
            continue
        if isinstance(name, str) and name:
            return name
    return ""
