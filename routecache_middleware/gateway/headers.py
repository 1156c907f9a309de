"""Which header fields pass, in which direction. Pure.

A gateway is two connections. What is said of one of them (RFC 9110 section 7.6.1) must not reach
the other: fields that were named in ``Connection``, and those that frame the message.
"""

from collections.abc import Iterable
from typing import Final

from routecache_middleware.core.principal import CREDENTIAL_HEADERS

__all__ = [
    "Fields",
    "is_anthropic",
    "request_fields",
    "response_fields",
    "without_credentials",
    "without_named",
]

Fields = list[tuple[bytes, bytes]]

_HOP_BY_HOP: Final = frozenset(
    {
        b"connection",
        b"keep-alive",
        b"proxy-authenticate",
        b"proxy-authentication-info",
        b"proxy-authorization",
        b"proxy-connection",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
    }
)
_OF_THE_CLIENTS_CONNECTION: Final = frozenset(
    {b"content-length", b"expect", b"host", b"http2-settings", b"via"}
)
_OF_THE_SERVER: Final = frozenset({b"date"})  # the server that runs us writes it
_CREDENTIAL_PARAMETERS: Final = frozenset({b"access_token", b"api_key", b"key"})


def request_fields(headers: Iterable[tuple[bytes, bytes]], *, via: bytes) -> Fields:
    """Return what of a client's header the upstream gets; the body's length is not in it.

    Args:
        headers: The client's, names in lower case.
        via: What to say in ``Via`` besides what came.
    """
    pairs = list(headers)
    dropped = _HOP_BY_HOP | _OF_THE_CLIENTS_CONNECTION | _named(pairs)
    # Servers that turn names into variables take "_" for "-": a field could come in twice.
    fields = [(n, v) for n, v in pairs if n not in dropped and b"_" not in n]
    if not any(name == b"accept-encoding" for name, _ in fields):
        fields.append((b"accept-encoding", b"identity"))
    stations = [value for name, value in pairs if name == b"via"]
    fields.append((b"via", b", ".join([*stations, via])))
    return fields


def without_named(headers: Iterable[tuple[bytes, bytes]]) -> Fields | None:
    """Return a client's header without what its ``Connection`` names; None: that is all of it.

    The upstream never sees those fields. So the cache may not either: it would keep the answer that
    came without them for those who mean them.
    """
    pairs = list(headers)
    named = _named(pairs) - _HOP_BY_HOP - _OF_THE_CLIENTS_CONNECTION
    if not any(name in named for name, _ in pairs):
        return None
    return [(name, value) for name, value in pairs if name not in named]


def response_fields(headers: Iterable[tuple[bytes, bytes]]) -> Fields:
    """Return what of an upstream's header the client gets, names in lower case."""
    pairs = [(name.lower(), value) for name, value in headers]
    dropped = _HOP_BY_HOP | _OF_THE_SERVER | _named(pairs)
    if any(name == b"transfer-encoding" for name, _ in pairs):
        dropped |= {b"content-length"}  # it says nothing then: RFC 9112 section 6.3
    return [(name, value) for name, value in pairs if name not in dropped]


def without_credentials(
    fields: Fields, query: bytes, credential_headers: frozenset[bytes] = CREDENTIAL_HEADERS
) -> tuple[Fields, bytes]:
    """Return header fields and query string without what says who is asking."""
    kept = [(name, value) for name, value in fields if name not in credential_headers]
    parts = [p for p in query.split(b"&") if p.partition(b"=")[0] not in _CREDENTIAL_PARAMETERS]
    return kept, b"&".join(parts)


def is_anthropic(path: str, headers: Iterable[tuple[bytes, bytes]]) -> bool:
    """Whether a request is one of Anthropic's API."""
    return "/v1/messages" in path or any(name == b"anthropic-version" for name, _ in headers)


def _named(headers: Iterable[tuple[bytes, bytes]]) -> frozenset[bytes]:
    """Fields that ``Connection`` names: they are of that connection alone."""
    values = [value for name, value in headers if name == b"connection"]
    return frozenset(word.strip().lower() for value in values for word in value.split(b","))
