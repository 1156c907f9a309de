"""Who is asking the proxy, by everything that an authentication could look at.

LiteLLM's authentication may be the operator's own code, which may judge by any header at all. So
it is not the known credentials that count here but every header that is not known to be of no
consequence. Two requests that differ in one of them are two principals.
"""

from hashlib import blake2b

from msgspec.structs import replace

from routecache_middleware.adapters.asgi.head import HeadReader, RequestHead
from routecache_middleware.adapters.asgi.types import Scope
from routecache_middleware.core.dialect import Dialect
from routecache_middleware.core.models import BypassReason
from routecache_middleware.core.policy import CachePolicy
from routecache_middleware.core.principal import principal, query_credentials
from routecache_middleware.core.settings import Settings

__all__ = ["LaneHead", "LaneHeads"]

Fields = tuple[tuple[bytes, bytes], ...]

_STAINLESS = (
    b"arch",
    b"async",
    b"custom-poll-interval",
    b"helper-method",
    b"lang",
    b"os",
    b"package-version",
    b"poll-helper",
    b"raw-response",
    b"read-timeout",
    b"retry-count",
    b"runtime",
    b"runtime-version",
    b"stream-helper",
    b"timeout",
)
_OF_NO_CONSEQUENCE = frozenset(
    {
        b"accept",
        b"accept-charset",
        b"accept-encoding",
        b"accept-language",
        b"b3",
        b"connection",
        b"content-length",
        b"date",
        b"dnt",
        b"expect",
        b"idempotency-key",
        b"keep-alive",
        b"priority",
        b"request-id",
        b"te",
        b"traceparent",
        b"tracestate",
        b"transfer-encoding",
        b"x-amzn-trace-id",
        b"x-b3-parentspanid",
        b"x-b3-sampled",
        b"x-b3-spanid",
        b"x-b3-traceid",
        b"x-cloud-trace-context",
        b"x-correlation-id",
        b"x-request-id",
        b"x-request-start",
        *(b"x-stainless-" + name for name in _STAINLESS),
    }
)
_PLUMBING = frozenset({b"cache-control", b"content-encoding", b"content-type", b"pragma"})
# The same answer is right wherever its owner is; but whether they may have it is asked anew.
_WAY = frozenset(
    {
        b"cf-connecting-ip",
        b"forwarded",
        b"host",
        b"true-client-ip",
        b"user-agent",
        b"via",
        b"x-client-ip",
        b"x-envoy-external-address",
        b"x-forwarded-for",
        b"x-forwarded-host",
        b"x-forwarded-port",
        b"x-forwarded-proto",
        b"x-real-ip",
    }
)
_OWN_PREFIX = b"x-litellm-"
_OWN_KEY = b"x-litellm-api-key"
_MEMO_SIZE = 4096


class LaneHead(RequestHead, frozen=True):
    """What the head of a request says.

    Attributes:
        via: Where it came from and where it goes: address, client, path.
    """

    via: str = ""


class LaneHeads(HeadReader):
    """Reads heads; holds no per-request state beyond the memo."""

    def __init__(self, settings: Settings, policy: CachePolicy) -> None:
        super().__init__(settings, policy, None)
        self._heads: dict[tuple[object, ...], LaneHead] = {}

    def read(self, dialect: Dialect, scope: Scope) -> RequestHead:
        """Read the head of a request of a known dialect."""
        skipped = _OF_NO_CONSEQUENCE
        fields: Fields = tuple(
            [(pair[0], pair[1]) for pair in scope["headers"] if pair[0] not in skipped]
        )
        query, root_path = scope.get("query_string", b""), scope.get("root_path", "")
        client = scope.get("client")
        address = client[0] if client else ""
        slot = (scope["path"], root_path, query, address, fields)
        head = self._heads.get(slot)
        if head is None:
            plain = self._parse(dialect, scope["path"], root_path, query, fields)
            head = self._lane_head(plain, query, fields, repr((*slot[:4], _only(fields, _WAY))))
            if len(self._heads) >= _MEMO_SIZE:  # a storm of new heads; forgetting costs little
                self._heads.clear()
            self._heads[slot] = head
        return head

    def _lane_head(self, plain: RequestHead, query: bytes, fields: Fields, via: str) -> LaneHead:
        held = [pair for pair in fields if pair[0] not in _PLUMBING | _WAY]
        held += query_credentials(query)
        who = principal(held, self._settings.secret)
        refusal = _refusal(who, held)
        return LaneHead(
            # Where the path names a model, LiteLLM answers with that one, but may look at the
            # body's for whether it is allowed. So the path is part of a lease and so is the body's
            # model, and a request whose body names none is left to LiteLLM.
            context=replace(plain.context, model=""),
            principal=who,
            tenant=_tenant(who),
            former_tenants=tuple(
                _tenant(principal(held, secret)) for secret in self._settings.previous_secrets
            ),
            directives=plain.directives,
            unreadable=plain.unreadable,
            refusal=refusal,
            is_signed=plain.is_signed,
            is_plain=plain.is_plain and refusal is None,
            via=blake2b(via.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest(),
        )


def _tenant(who: str) -> str:
    """Never a principal itself: those may be made one by ``tenancy="shared"``."""
    return f"lane-{who}" if who else ""


def _only(fields: Fields, names: frozenset[bytes]) -> Fields:
    return tuple([pair for pair in fields if pair[0] in names])


def _refusal(who: str, held: list[tuple[bytes, bytes]]) -> BypassReason | None:
    if not who:
        return BypassReason.NO_PRINCIPAL
    for name, _ in held:
        # LiteLLM is told to do something; a browser needs the answers of LiteLLM's CORS.
        if name == b"origin" or (name.startswith(_OWN_PREFIX) and name != _OWN_KEY):
            return BypassReason.DISABLED
    return None
