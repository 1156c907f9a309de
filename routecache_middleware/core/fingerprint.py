"""Canonical request -> hashes. Every field counts unless a deny-list names it.

A request has two hashes. The *decision* hash leaves out the sampling parameters, which never change
which model a router picks; the *result* hash covers them too. Both start from the same state, so
the long part of a request is encoded and hashed once:

    decision = H(context, keyed - ignored - sampling, "decision", router version)
    result   = H(context, keyed - ignored - sampling, "result", sampling fields)

and with conversation scope

    decision = H'(context, what stands for the conversation, "decision", router version)

*keyed* is the payload with what means the same written the same: ``Dialect.keyed``.

H is BLAKE2b-128, keyed with the deployment secret when there is one. Each use of it has its own
personalisation (RFC 7693 section 2.8 allows for it), so hashes of different kinds never meet, and
every part is msgpack, which ends itself, so no two lists of parts run together to the same bytes.
XXH3 must not be used here: it is fast, but collisions of whole chat bodies can be made at will.
"""

import math
from collections.abc import Iterable, Mapping
from enum import Enum
from hashlib import blake2b

import msgspec

from routecache_middleware.core.canonical import DoubtfulJSONError, decode, encode, normalise
from routecache_middleware.core.choices import DecisionScope
from routecache_middleware.core.dialect import Dialect
from routecache_middleware.errors import ConfigurationError

__all__ = [
    "NAMESPACE",
    "Domain",
    "Fingerprint",
    "KeyContext",
    "fingerprint",
    "hash_query",
    "new_hash",
    "result_hashes",
]


class Domain(Enum):
    """What a hash is for: BLAKE2b's personalisation, at most 16 bytes. Never change one."""

    REQUEST = b"rc1.request"
    CONVERSATION = b"rc1.conversation"
    PART = b"rc1.part"
    QUERY_JSON = b"rc1.query.json"
    QUERY_BYTES = b"rc1.query.bytes"
    QUERY_TEXT = b"rc1.query.text"
    LITELLM = b"rc1.litellm"
    LITELLM_ROUTE = b"rc1.lite.route"
    LITELLM_ROUTER = b"rc1.lite.router"
    LITELLM_PIN = b"rc1.lite.pin"


NAMESPACE = b":namespace"
"""What a body's ``cache.namespace`` is called among the headers: no field can have such a name."""


class KeyContext(msgspec.Struct, frozen=True):
    """What of a request counts besides its body.

    Its ``repr`` shows no header and no query string, where credentials may be.

    Attributes:
        dialect: Name of the dialect.
        root_path: ASGI ``root_path``.
        path: ASGI ``path``, or what stands for it: see ``core.dialect.Place``.
        query: Raw query string.
        headers: Only those that change what an answer says, selected by the caller: lower-case
            names, in the order in which they came.
        model: The model that the path names, or empty. It is in the hashes as part of the path.
        form: What the path says of the wire form, or empty. It is in no hash: one entry serves all.
    """

    dialect: str
    root_path: str
    path: str
    query: bytes
    headers: tuple[tuple[bytes, bytes], ...]
    model: str = ""
    form: str = ""

    def __repr__(self) -> str:
        return f"KeyContext({self.dialect}, {self.path!r}, {len(self.headers)} headers)"


class Fingerprint(msgspec.Struct, frozen=True):
    """The two hashes of a request, 32 hex digits each.

    Attributes:
        decision: Identifies the request to a router.
        result: Identifies the request to a model.
    """

    decision: str
    result: str


def fingerprint(
    payload: Mapping[str, object],
    *,
    dialect: Dialect,
    context: KeyContext,
    ignored: frozenset[str] = frozenset(),
    scope: DecisionScope = DecisionScope.REQUEST,
    router_version: str = "",
    secret: bytes = b"",
) -> Fingerprint:
    """Return the hashes of a request.

    Args:
        payload: The decoded body.
        dialect: Whose deny-list and sampling parameters apply.
        context: What counts besides the body.
        ignored: Further top-level fields to leave out of both hashes.
        scope: What the decision hash covers; the result hash always covers the whole request.
        router_version: Part of the decision hash only.
        secret: Deployment secret, at most 64 bytes.

    Raises:
        DoubtfulJSONError: The payload has a part that no canonical form exists for.
        ConfigurationError: The secret is too long.
    """
    keyed = dialect.keyed(payload)
    core, sampling = _told_apart(keyed, dialect, dialect.ignored_fields | ignored)
    head = _head(context)
    state = new_hash(Domain.REQUEST, secret)
    state.update(head + encode(core))
    if scope is DecisionScope.REQUEST:
        decision = state.copy()
    else:
        decision = new_hash(Domain.CONVERSATION, secret)
        decision.update(head + encode(dialect.conversation(keyed)))
    decision.update(_parts("decision", _utf8(router_version)))
    state.update(_parts("result") + encode(sampling))
    return Fingerprint(decision=decision.hexdigest(), result=state.hexdigest())


def result_hashes(
    payloads: Iterable[Mapping[str, object]],
    *,
    dialect: Dialect,
    context: KeyContext,
    ignored: frozenset[str] = frozenset(),
    secret: bytes = b"",
    most_bytes: float = math.inf,
) -> tuple[str, ...]:
    """Return what :func:`fingerprint` has as ``result`` of each of several requests.

    Arguments and errors are those of it. The fields that the requests share are hashed with each of
    them, so short requests that share much cost more than they look like.

    Args:
        payloads: The requests.
        dialect: As there.
        context: As there.
        ignored: As there.
        secret: As there.
        most_bytes: Stop when more than that has to be hashed, and return nothing.
    """
    left_out = dialect.ignored_fields | ignored
    begun = new_hash(Domain.REQUEST, secret)
    begun.update(_head(context))
    hashes = []
    for payload in payloads:
        core, sampling = _told_apart(dialect.keyed(payload), dialect, left_out)
        packed = encode(core) + _parts("result") + encode(sampling)
        most_bytes -= len(packed)
        if most_bytes < 0:
            return ()
        state = begun.copy()
        state.update(packed)
        hashes.append(state.hexdigest())
    return tuple(hashes)


def hash_query(
    payload: Mapping[str, object] | bytes | str, *, tenant: str = "", secret: bytes = b""
) -> str:
    """Return the query hash of a payload: 32 hex digits.

    Equal JSON objects have equal hashes, whatever their key order, white space and way of writing
    numbers, and whether they come as a mapping or as bytes. No deny-list is applied: this function
    does not know which API the payload is for, so leave out yourself what never changes an answer
    (``user``, ``metadata``, ``stream`` ...).

    Args:
        payload: A mapping, the bytes of a JSON object, or plain text. Bytes that are not strictly
            one JSON object are hashed as they are. Text is never parsed, so JSON in a ``str`` does
            not have the hash of the same JSON in ``bytes``.
        tenant: Whose query it is; part of the hash.
        secret: Deployment secret, at most 64 bytes: keys the hash, so that it reveals no prompt.

    Raises:
        DoubtfulJSONError: A mapping has a part that is not JSON. It is a ``ValueError``.
        ConfigurationError: The secret is too long.
        TypeError: The payload is of another type.
    """
    domain, packed = _query_bytes(payload)
    state = new_hash(domain, secret)
    state.update(_parts(_utf8(tenant)) + packed)
    return state.hexdigest()


def new_hash(domain: Domain, secret: bytes = b"") -> blake2b:
    """Return an empty BLAKE2b-128 for one purpose, keyed with ``secret`` unless that is empty.

    Raises:
        ConfigurationError: The secret is longer than BLAKE2b's 64 bytes. It is not hashed down:
            ``Settings`` refuses it too, and both have to agree.
    """
    if len(secret) > blake2b.MAX_KEY_SIZE:
        raise ConfigurationError(
            f"secret is <{len(secret)} bytes>; it has to be at most {blake2b.MAX_KEY_SIZE} bytes"
        )
    return blake2b(digest_size=16, key=secret, person=domain.value)


def _told_apart(
    keyed: Mapping[str, object], dialect: Dialect, left_out: frozenset[str]
) -> tuple[dict[str, object], dict[str, object]]:
    """Return the fields that both hashes cover, and those that only the result hash covers."""
    sampling_fields = dialect.sampling_fields
    core: dict[str, object] = {}
    sampling: dict[str, object] = {}
    for name, value in keyed.items():
        if name not in left_out:
            (sampling if name in sampling_fields else core)[name] = value
    return core, sampling


def _head(context: KeyContext) -> bytes:
    return _parts(
        context.dialect,
        _utf8(context.root_path),
        _utf8(context.path),
        context.query,
        context.headers,
    )


def _query_bytes(payload: Mapping[str, object] | bytes | str) -> tuple[Domain, bytes]:
    if isinstance(payload, str):
        return Domain.QUERY_TEXT, _utf8(payload)
    if isinstance(payload, bytes):
        try:
            return Domain.QUERY_JSON, encode(decode(payload))
        except DoubtfulJSONError:
            return Domain.QUERY_BYTES, payload
    if isinstance(payload, Mapping):
        return Domain.QUERY_JSON, encode(normalise(payload))
    raise TypeError(
        f"hash_query takes a mapping, bytes or str, got {type(payload).__name__}; "
        "wrap a list of messages in a mapping: {'messages': [...]}"
    )


def _utf8(text: str) -> bytes:
    """Return the bytes of any Unicode: paths and tenants may have lone surrogates."""
    return text.encode("utf-8", "surrogatepass")


def _parts(*parts: object) -> bytes:
    return _PARTS.encode(parts)


_PARTS = msgspec.msgpack.Encoder()
