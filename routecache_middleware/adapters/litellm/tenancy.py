"""Whose a call is: the tenant for whom answers and decisions are kept.

Behind the proxy LiteLLM says so in the call's metadata. Which of two dictionaries it writes to
depends on the endpoint, and on some endpoints a client can fill in the other one. So both are read,
and where they disagree the tenant is made of both: a forged second identity leads to a tenant of
its own, never into somebody else's.
"""

import logging
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from routecache_middleware.adapters.litellm.options import Isolation
from routecache_middleware.core.principal import principal
from routecache_middleware.core.settings import Settings

__all__ = ["Tenancy", "Tenant", "tenant_of"]

_logger = logging.getLogger("routecache")

_PLACES = ("metadata", "litellm_metadata")


class Tenant(msgspec.Struct, frozen=True):
    """Whose a call is.

    Attributes:
        name: 32 hex digits; empty where everybody shares.
        former: The names under former deployment secrets, in their order.
    """

    name: str
    former: tuple[str, ...] = ()


class Tenancy:
    """Names tenants as the settings ask for."""

    __slots__ = ("_has_warned", "_is_proxy", "_isolation", "_settings")

    def __init__(self, settings: Settings, isolation: Isolation, *, is_proxy: bool) -> None:
        self._settings = settings
        self._isolation = isolation
        self._is_proxy = is_proxy
        self._has_warned = False

    def of(self, kwargs: Mapping[str, Any]) -> Tenant | None:
        """Return the tenant of a call; None, and one warning, when it does not say whose it is."""
        name = self._name(kwargs, self._settings.secret)
        if name is None:
            if self._settings.allow_anonymous:
                return Tenant("", ("",) * len(self._settings.previous_secrets))
            self._warn()
            return None
        former = (self._name(kwargs, secret) for secret in self._settings.previous_secrets)
        return Tenant(name, tuple(one or "" for one in former))

    def _name(self, kwargs: Mapping[str, Any], secret: bytes) -> str | None:
        return tenant_of(kwargs, isolation=self._isolation, is_proxy=self._is_proxy, secret=secret)

    def _warn(self) -> None:
        if not self._has_warned:
            self._has_warned = True
            _logger.warning(
                "a call through the proxy has no key, so nothing is cached for it: "
                "set allow_anonymous=true if that is intended; logged only once"
            )


def tenant_of(
    kwargs: Mapping[str, Any], *, isolation: Isolation, is_proxy: bool, secret: bytes = b""
) -> str | None:
    """Name the tenant of a call.

    Args:
        kwargs: The call's keyword arguments.
        isolation: Who shares with whom.
        is_proxy: Whether this is LiteLLM's proxy; in the SDK all calls have one tenant.
        secret: Deployment secret that keys the name, at most 64 bytes.

    Returns:
        32 hex digits; empty where everybody shares; None when a call through the proxy does not
        say whose it is.
    """
    if not is_proxy or isolation is Isolation.NONE:
        return ""
    found: set[tuple[bytes, bytes]] = set()
    for place in _PLACES:
        metadata = kwargs.get(place)
        if isinstance(metadata, Mapping):
            found.update(_identity(metadata, isolation))
    return principal(found, secret) or None


def _identity(metadata: Mapping[str, Any], isolation: Isolation) -> Iterator[tuple[bytes, bytes]]:
    """Yield ``(name, value)`` pairs; none when nobody is named."""
    team = _text(metadata.get("user_api_key_team_id"))
    organization = _text(metadata.get("user_api_key_org_id"))
    key = _text(metadata.get("user_api_key"))
    user = _text(metadata.get("user_api_key_user_id"))
    if isolation is Isolation.TEAM and team:
        yield b"team", team
    elif isolation is Isolation.ORGANIZATION and organization:
        yield b"organization", organization
    elif key:  # a hash already: LiteLLM never hands the key itself on
        yield b"key", key
    elif user:  # authenticated without a key, by a token of an identity provider say
        yield b"user", user
        yield b"user's team", team


def _text(value: object) -> bytes:
    return value.encode("utf-8", "surrogatepass") if isinstance(value, str) else b""
