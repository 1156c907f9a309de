"""Who is asking: one opaque name made of every credential that a request carries.

Full values, never prefixes: two tokens that share their first 200 characters are two principals.
"""

import hashlib
from collections.abc import Iterable
from urllib.parse import unquote_to_bytes

__all__ = ["CREDENTIAL_HEADERS", "principal", "query_credentials"]

CREDENTIAL_HEADERS = frozenset(
    {
        b"api-key",
        b"authorization",
        b"cf-access-jwt-assertion",
        b"cookie",
        b"ocp-apim-subscription-key",
        b"proxy-authorization",
        b"x-amzn-oidc-data",
        b"x-api-key",
        b"x-forwarded-email",
        b"x-forwarded-user",
        b"x-goog-api-key",
        b"x-litellm-api-key",
        b"x-ms-client-principal",
    }
)
"""Request headers that say who is asking, lower case."""

_CREDENTIAL_PARAMETERS = frozenset({b"access_token", b"api_key", b"key"})


def query_credentials(query: bytes) -> list[tuple[bytes, bytes]]:
    """Credentials in a query string, as ``(name, value)`` pairs, unescaped."""
    if not query:
        return []
    # Bytes all the way: as text, all values that are not UTF-8 would become the same one.
    pairs = (map(_unquoted, part.partition(b"=")) for part in query.split(b"&"))
    return [(b"?" + name, value) for name, _, value in pairs if name in _CREDENTIAL_PARAMETERS]


def principal(credentials: Iterable[tuple[bytes, bytes]], secret: bytes = b"") -> str:
    """Name the principal: 32 hex digits, or empty when no credential has a value.

    Args:
        credentials: ``(name, value)`` pairs; their order does not matter.
        secret: Deployment secret that keys the hash (BLAKE2b-128, RFC 7693), at most 64 bytes.
    """
    present = sorted((name, value) for name, value in credentials if value.strip())
    if not present:
        return ""
    digest = hashlib.blake2b(digest_size=16, key=secret, person=b"routecache.who")
    for part in (part for pair in present for part in pair):
        digest.update(len(part).to_bytes(8, "big"))
        digest.update(part)
    return digest.hexdigest()


def _unquoted(text: bytes) -> bytes:
    return unquote_to_bytes(text.replace(b"+", b" "))
