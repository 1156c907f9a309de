"""Cache keys: one prefix per layer, every part escaped, so that no two keys are ever ambiguous.

    route:<query_hash>                     route:<tenant>@<query_hash>
    result:<query_hash>:<model_id>         result:<tenant>@<query_hash>:<model_id>
    meta:<model_id>                        meta:<tenant>@<model_id>
    load:<model_id>                        load:<tenant>@<model_id>

Parts are percent-escaped down to the unreserved characters of RFC 3986 section 2.3, so neither
``:`` nor ``@`` can occur inside a part, whatever a client or a tenant name contains.
"""

from collections.abc import Callable
from enum import StrEnum
from typing import NamedTuple, NewType
from urllib.parse import quote_from_bytes, unquote_to_bytes

__all__ = [
    "CacheKey",
    "KeyParts",
    "Layer",
    "escape",
    "model_key",
    "parse_key",
    "result_key",
    "route_key",
]

_KEPT = 4096  # parts whose escaped form is remembered
_MAX_KEPT = 256  # characters that such a part has at most

CacheKey = NewType("CacheKey", str)
"""A key built by this module. Never build one by hand."""


class Layer(StrEnum):
    """The four kinds of thing that are cached; the value is the key prefix."""

    ROUTING = "route"
    """Which model a router chose for a query."""
    RESULT = "result"
    """A complete answer, JSON or stream."""
    METADATA = "meta"
    """Capabilities, load and average response time of a model."""
    LOAD = "load"
    """Live load of a model."""


class KeyParts(NamedTuple):
    """The unescaped parts of a key; parts that a layer does not have are empty."""

    layer: Layer
    tenant: str
    query_hash: str
    model_id: str


class _Escaped(dict[str, str]):
    """Parts and what they become; a hit costs a lookup in a dict, which keys are made of often.

    Long ones are not kept: a client chooses the name of its model, up to a megabyte of it.
    """

    __slots__ = ()

    def __missing__(self, part: str) -> str:
        escaped = quote_from_bytes(part.encode("utf-8", "surrogatepass"), safe="")
        if len(part) <= _MAX_KEPT:
            if len(self) >= _KEPT:
                self.clear()
            self[part] = escaped
        return escaped


_escaped = _Escaped()
escape: Callable[[str], str] = _escaped.__getitem__
"""Percent-escape everything but letters, digits and ``-._~``; any Unicode is accepted."""


def route_key(query_hash: str, tenant: str = "") -> CacheKey:
    """Key of a routing decision."""
    scope = f"{escape(tenant)}@" if tenant else ""
    return CacheKey(f"route:{scope}{escape(query_hash)}")


def result_key(query_hash: str, model_id: str, tenant: str = "") -> CacheKey:
    """Key of a query result made by ``model_id``."""
    scope = f"{escape(tenant)}@" if tenant else ""
    return CacheKey(f"result:{scope}{escape(query_hash)}:{escape(model_id)}")


def model_key(layer: Layer, model_id: str, tenant: str = "") -> CacheKey:
    """Key of a model's metadata or load metrics; without a tenant they are everybody's."""
    scope = f"{escape(tenant)}@" if tenant else ""
    return CacheKey(f"{layer.value}:{scope}{escape(model_id)}")


def parse_key(key: str) -> KeyParts:
    """Take a key apart again.

    Raises:
        ValueError: ``key`` was not built by this module.
    """
    prefix, colon, rest = key.partition(":")
    layer = Layer(prefix if colon else "")
    scope, separator, parts = rest.rpartition("@")
    tenant = _unescape(scope) if separator else ""
    match layer, [_unescape(part) for part in parts.split(":")]:
        case Layer.ROUTING, [query_hash]:
            return KeyParts(layer, tenant, query_hash, "")
        case Layer.RESULT, [query_hash, model_id]:
            return KeyParts(layer, tenant, query_hash, model_id)
        case ((Layer.METADATA | Layer.LOAD), [model_id]):
            return KeyParts(layer, tenant, "", model_id)
        case _:
            # Without the key, which names a tenant.
            raise ValueError(
                f"not a cache key: it has too many or too few parts for {layer.value}:"
            )


def _unescape(part: str) -> str:
    return unquote_to_bytes(part).decode("utf-8", "surrogatepass")
