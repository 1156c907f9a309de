"""What a client asks of the cache: ``Cache-Control`` of the request (RFC 9111 section 5.2.1)."""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import TypeVar

from routecache_middleware.core.structured import parse_integer

__all__ = ["NO_DIRECTIVES", "Directives", "both", "parse_directives", "parse_ttl"]


@dataclass(frozen=True, slots=True)
class Directives:
    """The request directives that are honoured.

    Attributes:
        no_cache: Do not serve from the cache; the answer may be stored (section 5.2.1.4).
        no_store: Store nothing, share no flight; a stored answer may still be served (5.2.1.5).
        only_if_cached: Answer from the cache or with 504 (5.2.1.7).
        no_transform: Serve only what an upstream sent, byte for byte (5.2.1.6): no JSON from a
            stored stream, and no stream from JSON.
        max_age_s: Serve only what is at most this old, or None (5.2.1.1). This is not a TTL.
        max_stale_s: What is stale may be served if it has been so for at most this long, and what
            has been so for longer may not, whatever the operator allows; infinite for any time,
            None: the request does not say (5.2.1.2).
        min_fresh_s: Serve only what stays fresh for at least this long (5.2.1.3).
    """

    no_cache: bool = False
    no_store: bool = False
    only_if_cached: bool = False
    no_transform: bool = False
    max_age_s: int | None = None
    max_stale_s: float | None = None
    min_fresh_s: float = 0.0


NO_DIRECTIVES = Directives()


# RFC 9111 section 5.2: a token, and optionally a token or a quoted string (RFC 9110 section 5.6).
_DIRECTIVE = re.compile(r"""([^\s,;="]+)\s*(?:=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s,"]*)))?""")
_MAX_DELTA_S = 2**31
_Absent = TypeVar("_Absent", int, None)


@lru_cache(maxsize=256)
def parse_directives(cache_control: bytes, pragma: bytes = b"") -> Directives:
    """Read the directives; unknown ones are ignored, and of repeated ones the first counts.

    Args:
        cache_control: All ``Cache-Control`` lines, joined with commas.
        pragma: The ``Pragma`` lines, which count only when there is no ``Cache-Control``
            (RFC 9111 section 5.4).

    What is unreadable counts as the cautious reading: ``max-age`` and ``max-stale`` as 0,
    ``min-fresh`` as more than any answer has.
    """
    if not cache_control:
        return Directives(no_cache=True) if "no-cache" in _members(pragma) else NO_DIRECTIVES
    found = _members(cache_control)
    max_age = _seconds(found, "max-age", absent=None, unreadable=0)
    return Directives(
        no_cache="no-cache" in found or max_age == 0,  # nothing stored is younger than now
        no_store="no-store" in found,
        only_if_cached="only-if-cached" in found,
        no_transform="no-transform" in found,
        max_age_s=max_age,
        max_stale_s=_max_stale(found),
        min_fresh_s=_seconds(found, "min-fresh", absent=0, unreadable=_MAX_DELTA_S),
    )


def parse_ttl(value: bytes) -> int | None:
    """Return the seconds that a ``RouteCache-TTL`` asks for; None when it does not count.

    It is a structured field, an integer (RFC 9651 section 3.3.1): how long the answer to this
    request is to be fresh when it is stored, within what the operator allows.
    """
    ttl_s = parse_integer(value)
    return None if ttl_s is None or ttl_s < 0 else min(ttl_s, _MAX_DELTA_S)


def both(one: Directives, other: Directives) -> Directives:
    """Return what satisfies two sets of directives."""
    ages = [held.max_age_s for held in (one, other) if held.max_age_s is not None]
    stale = [held.max_stale_s for held in (one, other) if held.max_stale_s is not None]
    return Directives(
        no_cache=one.no_cache or other.no_cache,
        no_store=one.no_store or other.no_store,
        only_if_cached=one.only_if_cached or other.only_if_cached,
        no_transform=one.no_transform or other.no_transform,
        max_age_s=min(ages, default=None),
        max_stale_s=min(stale, default=None),
        min_fresh_s=max(one.min_fresh_s, other.min_fresh_s),
    )


def _members(value: bytes) -> dict[str, str | None]:
    """Return directives by name; one without an argument has None."""
    found: dict[str, str | None] = {}
    for match in _DIRECTIVE.finditer(value.decode("latin-1")):
        name, quoted, token = match.groups()
        found.setdefault(name.lower(), token if quoted is None else quoted)
    return found


def _max_stale(found: Mapping[str, str | None]) -> float | None:
    if found.get("max-stale", "") is None:
        return math.inf
    return _seconds(found, "max-stale", absent=None, unreadable=0)


def _seconds(
    found: Mapping[str, str | None], name: str, *, absent: _Absent, unreadable: int
) -> int | _Absent:
    if name not in found:
        return absent
    text = found[name] or ""
    if not (text.isascii() and text.isdigit()):
        return unreadable
    digits = text.lstrip("0")
    # RFC 9111 section 1.2.2: what is larger counts as 2^31.
    if len(digits) > len(str(_MAX_DELTA_S)):
        return _MAX_DELTA_S
    return min(int(digits or 0), _MAX_DELTA_S)
