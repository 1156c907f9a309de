"""What a client asks of the cache: ``Cache-Control`` of the request (RFC 9111 section 5.2.1)."""

import re
from dataclasses import dataclass
from functools import lru_cache

__all__ = ["NO_DIRECTIVES", "Directives", "parse_directives"]


@dataclass(frozen=True, slots=True)
class Directives:
    """The request directives that are honoured.

    Attributes:
        no_cache: Do not serve from the cache; the answer may be stored (section 5.2.1.4).
        no_store: Store nothing, share no flight; a stored answer may still be served (5.2.1.5).
        only_if_cached: Answer from the cache or with 504 (5.2.1.7).
        max_age_s: Serve only what is at most this old, or None (5.2.1.1). This is not a TTL.
    """

    no_cache: bool = False
    no_store: bool = False
    only_if_cached: bool = False
    max_age_s: int | None = None


NO_DIRECTIVES = Directives()


# RFC 9111 section 5.2: a token, and optionally a token or a quoted string (RFC 9110 section 5.6).
_DIRECTIVE = re.compile(r"""([^\s,;="]+)\s*(?:=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s,"]*)))?""")
_MAX_DELTA_S = 2**31


@lru_cache(maxsize=256)
def parse_directives(cache_control: bytes, pragma: bytes = b"") -> Directives:
    """Read the directives; unknown ones are ignored, and of repeated ones the first counts.

    Args:
        cache_control: All ``Cache-Control`` lines, joined with commas.
        pragma: The ``Pragma`` lines, which count only when there is no ``Cache-Control``
            (RFC 9111 section 5.4).

    An unreadable ``max-age`` counts as 0: the cautious reading.
    """
    if not cache_control:
        return Directives(no_cache=True) if "no-cache" in _members(pragma) else NO_DIRECTIVES
    found = _members(cache_control)
    max_age = _delta_seconds(found["max-age"]) if "max-age" in found else None
    return Directives(
        no_cache="no-cache" in found or max_age == 0,  # nothing stored is younger than now
        no_store="no-store" in found,
        only_if_cached="only-if-cached" in found,
        max_age_s=max_age,
    )


def _members(value: bytes) -> dict[str, str]:
    found: dict[str, str] = {}
    for match in _DIRECTIVE.finditer(value.decode("latin-1")):
        name, quoted, token = match.groups(default="")
        found.setdefault(name.lower(), quoted or token)
    return found


def _delta_seconds(text: str) -> int:
    if not (text.isascii() and text.isdigit()):
        return 0
    digits = text.lstrip("0")
    # RFC 9111 section 1.2.2: what is larger counts as 2^31.
    return (
        _MAX_DELTA_S
        if len(digits) > len(str(_MAX_DELTA_S))
        else min(int(digits or 0), _MAX_DELTA_S)
    )
