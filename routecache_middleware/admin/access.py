"""Who may use the administration app: whoever has a token, or whoever sits at this machine."""

import hashlib
import hmac
import secrets
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from routecache_middleware.admin.settings import AdminSettings, is_loopback
from routecache_middleware.admin.values import Answer, refused
from routecache_middleware.errors import ConfigurationError

__all__ = ["ANYBODY", "Authorize", "Principal", "authorizer"]

_NO_TOKEN = "send the admin token as a bearer token in the Authorization header"  # noqa: S105
_NOT_HERE = "without a token this is for this machine alone; set ROUTECACHE_ADMIN_TOKEN"
# A proxy on this machine passes on what comes from elsewhere.
_FORWARDED = ("forwarded", "x-forwarded-for", "x-forwarded-host", "x-real-ip", "via")


@dataclass(frozen=True, slots=True)
class Principal:
    """Who asks.

    Attributes:
        name: For the audit log; no credential.
        may_change: Whether they may do more than look.
    """

    name: str
    may_change: bool = True


ANYBODY = Principal("")
"""Somebody whom ``authorize`` lets in without saying who it is."""

Authorize = Callable[[Any], Awaitable[Answer | Principal | None]]
"""Is given Starlette's request. Returns how it is refused; or who it is; or None: let them in."""


def authorizer(settings: AdminSettings, *, is_local: bool) -> Authorize:
    """Return what lets in whom the settings allow.

    Args:
        settings: With the tokens.
        is_local: Without a token this machine may use the app, and nobody else.

    Raises:
        ConfigurationError: There is no token, and it is not local.
    """
    if settings.token or settings.read_token:
        return _ByToken(settings)
    if is_local:
        return _by_machine
    raise ConfigurationError(
        "the admin app has no token, and others than this machine could reach it; set "
        "ROUTECACHE_ADMIN_TOKEN (16 characters or more), or let it listen on 127.0.0.1 alone (in "
        "code: and pass is_local=True)"
    )


class _ByToken:
    """Compares what is sent with every token there is, always for as long.

    Digests are compared, keyed anew in each process, so that neither the length of a token nor how
    much of it was right can be told from how long it took.
    """

    def __init__(self, settings: AdminSettings) -> None:
        self._key = secrets.token_bytes(32)
        self._full = self._digest(settings.token or secrets.token_hex())
        self._read = self._digest(settings.read_token or secrets.token_hex())

    async def __call__(self, request: Any) -> Answer | Principal | None:
        scheme, _, sent = request.headers.get("authorization", "").partition(" ")
        found = self._digest(sent.strip() if scheme.lower() == "bearer" else "")
        is_full = hmac.compare_digest(found, self._full)
        is_read = hmac.compare_digest(found, self._read)
        if is_full:
            return Principal("token")
        if is_read:
            return Principal("read token", may_change=False)
        return refused(401, _NO_TOKEN)

    def _digest(self, token: str) -> bytes:
        sent = token.encode("utf-8", "surrogateescape")
        return hashlib.blake2b(sent, key=self._key, digest_size=32).digest()


async def _by_machine(request: Any) -> Answer | Principal | None:
    """Let in who asks from this machine, under its own name: a page elsewhere has none of these."""
    client = request.client
    is_here = client is not None and is_loopback(client.host)
    is_forwarded = any(name in request.headers for name in _FORWARDED)
    # A name that an attacker has made to point here is still the attacker's (DNS rebinding).
    if not is_here or is_forwarded or not is_loopback(host_name(request.headers.get("host", ""))):
        return refused(403, _NOT_HERE)
    return Principal("this machine")


def host_name(host: str) -> str:
    """Return the name of a ``Host`` field, without its port."""
    if host.startswith("["):
        return host.partition("]")[0] + "]"
    return host.partition(":")[0]
