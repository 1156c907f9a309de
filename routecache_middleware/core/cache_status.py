"""The ``Cache-Status`` field of a response (RFC 9211), and the short ``X-RouteCache``.

We append our member last: closest to the user. On a streamed miss ``stored`` is unknown when the
header leaves, so it is never claimed.
"""

from routecache_middleware.core.models import BypassReason, MissReason

__all__ = ["bypassed", "collapsed", "forwarded", "hit"]

_CACHE = b"routecache"

_FORWARDED = {
    None: b"routecache; fwd=miss",
    MissReason.ABSENT: b"routecache; fwd=miss",
    MissReason.EXPIRED: b"routecache; fwd=stale",
    MissReason.INVALIDATED: b"routecache; fwd=miss; detail=invalidated",
    MissReason.REQUEST: b"routecache; fwd=request",
    MissReason.CONVERSION: b"routecache; fwd=miss; detail=conversion",
    MissReason.INELIGIBLE: b"routecache; fwd=miss; detail=ineligible",
    MissReason.UNAUTHORISED: b"routecache; fwd=miss; detail=unauthorised",
}


def hit(ttl_s: float, served_by: str) -> bytes:
    """Served from the cache; ``ttl`` is negative when stale (RFC 9211 section 2.6)."""
    return b"routecache; hit; ttl=%d; detail=%s" % (ttl_s, served_by.encode("ascii"))


def forwarded(reason: MissReason | None) -> bytes:
    """Forwarded because the cache could not answer (RFC 9211 section 2.2)."""
    return _FORWARDED[reason]


def collapsed() -> bytes:
    """Got the answer of another request that was already under way (RFC 9211 section 2.5)."""
    return b"routecache; fwd=miss; collapsed"


def bypassed(reason: BypassReason) -> bytes:
    """Forwarded without a lookup."""
    return b"%s; fwd=bypass; detail=%s" % (_CACHE, reason.value.encode("ascii"))
