"""The configuration in force, with nothing in it that opens anything."""

from collections.abc import Mapping
from dataclasses import fields
from typing import Any, Final

from routecache_middleware import __version__
from routecache_middleware.admin.settings import AdminSettings
from routecache_middleware.coordinators.url import mask_url
from routecache_middleware.wiring.cache import RouteCache

__all__ = ["in_force"]

_SECRET: Final = frozenset({"previous_secrets", "read_token", "secret", "token"})


def in_force(cache: RouteCache, admin: AdminSettings) -> dict[str, object]:
    """Return settings and policy as they are in force; of secrets only whether they are set."""
    url = cache.url
    return {
        "version": __version__,
        "mode": cache.mode.value,
        "url": None if url is None else mask_url(url),
        "coordinator": cache.engine.coordinator.name,
        "settings": {**_plain(cache.settings), "mode": cache.mode.value},
        "policy": _plain(cache.engine.policy),
        "admin": _plain(admin),
    }


def _plain(record: Any) -> dict[str, object]:
    return {
        field.name: _masked(value) if field.name in _SECRET else _value(value)
        for field in fields(record)
        for value in (getattr(record, field.name),)
    }


def _masked(value: object) -> object:
    """Return what stands for a secret, or for several."""
    if isinstance(value, tuple):
        return [_masked(one) for one in value]
    return "<set>" if value else "<not set>"


def _value(value: object) -> object:
    """Return a JSON value for one of a setting."""
    if isinstance(value, frozenset):
        return sorted(value)
    if isinstance(value, tuple):
        return [_value(one) for one in value]
    if value is None or isinstance(value, bool | int | float | str | Mapping):
        return value
    if callable(value):
        return f"<{getattr(value, '__qualname__', type(value).__qualname__)}>"
    return _plain(value)
