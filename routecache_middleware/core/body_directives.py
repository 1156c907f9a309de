"""LiteLLM's ``cache`` object in a request body: what a client asks of the cache, per request.

LiteLLM's proxy reads it and does not send it on, so neither may we: an upstream would refuse it,
and it says nothing about the answer, so it is not part of the key. Its words are those of LiteLLM
1.106 (``DynamicCacheControl``); of theirs, ``ttl`` is how long the answer is kept and ``s-maxage``
how old an answer may be. A word that is not known is passed over, as it is there, and a number may
be given as text; what has the wrong type has the cautious meaning: it can keep an answer out of the
cache, never bring one in.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from routecache_middleware.core.directives import NO_DIRECTIVES, Directives, both

__all__ = [
    "BODY_FIELD",
    "BodyDirectives",
    "asked_ttl_s",
    "has_asked",
    "read_body_directives",
    "with_body",
]

BODY_FIELD = "cache"
_MAX_DELTA_S = 2**31
_NO = frozenset({"", "0", "false", "no"})
_USE = "use-cache"
_AGES = ("s-maxage", "s-max-age")
_WORDS = frozenset({"ttl", *_AGES, "no-cache", "no-store", "namespace", _USE})


@dataclass(frozen=True, slots=True)
class BodyDirectives:
    """What a ``cache`` object says.

    Attributes:
        directives: In the words of ``Cache-Control``.
        namespace: Answers are kept apart by it; empty: the one that all others share.
        ttl_s: How long the answer is to be fresh, within what the operator allows, or None.
        is_opted_in: ``use-cache``: whether the client asks to be cached, or None if it does not
            say; for deployments that cache only on request.
    """

    directives: Directives = NO_DIRECTIVES
    namespace: str = field(default="", repr=False)
    ttl_s: float | None = None
    is_opted_in: bool | None = None


def read_body_directives(payload: Mapping[str, object]) -> BodyDirectives | None:
    """Read the object; None when there is none, or it is something else under the same name.

    It is ours if it is empty or has one of the words.
    """
    found = payload.get(BODY_FIELD)
    if not isinstance(found, dict) or (found and _WORDS.isdisjoint(found)):
        return None
    max_age_s = min((_age(found[name]) for name in _AGES if _is_said(found, name)), default=None)
    namespace = found.get("namespace")
    is_apart = isinstance(namespace, list | dict)  # in a place that has no name
    return BodyDirectives(
        directives=Directives(
            no_cache=is_apart or _is_on(found, "no-cache") or max_age_s == 0,
            no_store=is_apart or _is_on(found, "no-store"),
            max_age_s=None if max_age_s is None else math.floor(max_age_s),
        ),
        namespace="" if is_apart or namespace is None else str(namespace),
        ttl_s=_age(found["ttl"]) if _is_said(found, "ttl") else None,
        is_opted_in=_opted_in(found),
    )


def with_body(said: Directives, asked: BodyDirectives | None) -> Directives:
    """Return what a request asks for in its head (``said``) and in its body together."""
    if asked is None:
        return said
    directives = both(said, asked.directives)
    if asked.is_opted_in is False:
        return replace(directives, no_cache=True, no_store=True)
    return directives


def asked_ttl_s(in_head_s: float | None, asked: BodyDirectives | None) -> float | None:
    """For how long a request asks to be kept: the shorter of what its head and its body say."""
    said = (in_head_s, None if asked is None else asked.ttl_s)
    return min((ttl_s for ttl_s in said if ttl_s is not None), default=None)


def has_asked(ttl_s: float | None, asked: BodyDirectives | None) -> bool:
    """Whether a request asks to be cached."""
    return ttl_s is not None or (asked is not None and asked.is_opted_in is True)


def _is_said(found: Mapping[str, object], name: str) -> bool:
    return found.get(name) is not None


def _is_on(found: Mapping[str, object], name: str) -> bool:
    """Whether a prohibition is in force: as soon as it is there, unless it says that it is not."""
    return _is_said(found, name) and not _says_no(found[name])


def _opted_in(found: Mapping[str, object]) -> bool | None:
    if found.get(_USE) is True:
        return True
    return False if _is_said(found, _USE) and _says_no(found[_USE]) else None


def _says_no(value: object) -> bool:
    return value in (False, 0) or str(value).strip().lower() in _NO


def _age(value: object) -> float:
    seconds = _seconds(value)
    return 0.0 if seconds is None else seconds


def _seconds(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        seconds = float(value)
    except (ValueError, OverflowError):  # the latter: an integer beyond all floats
        return None
    return min(seconds, _MAX_DELTA_S) if seconds >= 0 else None
