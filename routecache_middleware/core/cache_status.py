"""The ``Cache-Status`` field of a response (RFC 9211), and the short ``X-RouteCache``.

We append our member last: closest to the user. On a streamed miss ``stored`` is unknown when the
header leaves, so it is never claimed.
"""

import re
from functools import lru_cache
from math import floor

from routecache_middleware.core.models import BypassReason, MissReason

__all__ = ["bypassed", "collapsed", "forwarded", "hit", "unjoined"]

# RFC 9651 section 3.3.4: what may stand without quotes.
_TOKEN = re.compile(r"[A-Za-z*][A-Za-z0-9:/!#$%&'*+.^_`|~-]*")

_FORWARDED = {
    None: b"routecache; fwd=miss",
    MissReason.ABSENT: b"routecache; fwd=miss",
    MissReason.EXPIRED: b"routecache; fwd=stale",
    MissReason.INVALIDATED: b"routecache; fwd=miss; detail=invalidated",
    MissReason.REQUEST: b"routecache; fwd=request",
    MissReason.CONVERSION: b"routecache; fwd=miss; detail=conversion",
    MissReason.INELIGIBLE: b"routecache; fwd=miss; detail=ineligible",
    MissReason.UNAUTHORISED: b"routecache; fwd=miss; detail=unauthorised",
    MissReason.PARTIAL: b"routecache; fwd=partial",
}


def hit(ttl_s: float, served_by: str) -> bytes:
    """Served from the cache; ``ttl`` is negative when stale (RFC 9211 sections 2.1, 2.4, 2.8)."""
    return b"routecache; hit; ttl=%d; detail=%s" % (floor(ttl_s), _detail(served_by))


def forwarded(reason: MissReason | None) -> bytes:
    """Forwarded because the cache could not answer (RFC 9211 section 2.2)."""
    return _FORWARDED[reason]


def unjoined() -> bytes:
    """Forwarded although parts were there: none of what is answered comes from the cache."""
    return b"routecache; fwd=miss; detail=partial"


def collapsed() -> bytes:
    """Got the answer of another request that was already under way (RFC 9211 section 2.6)."""
    return b"routecache; fwd=miss; collapsed"


def bypassed(reason: BypassReason) -> bytes:
    """Forwarded without a lookup."""
    return b"routecache; fwd=bypass; detail=%s" % _detail(reason.value)


@lru_cache(maxsize=256)
def _detail(word: str) -> bytes:
    """Return a token, or a string for what is none (RFC 9211 section 2.8)."""
    if _TOKEN.fullmatch(word):
        return word.encode("ascii")
    # RFC 9651 section 3.3.3: printable ASCII, with two characters escaped.
    text = "".join(character if " " <= character <= "~" else "?" for character in word)
    return b'"%s"' % re.sub(r'(["\\])', r"\\\1", text).encode("ascii")
