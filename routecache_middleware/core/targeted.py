"""``RouteCache-Control``: what an upstream says to this cache alone (RFC 9213).

A dictionary whose members are the directives of ``Cache-Control``. Where it is there, readable and
not empty, it counts instead of ``Cache-Control`` and ``Expires``; it is not for those downstream.

Names count in any case. Keys of a dictionary are in small letters, so strictly a field that says
``No-Store`` would be unreadable and not count at all; but directives are case-insensitive wherever
else they stand (RFC 9111 section 5.2), and a ban must not be lost for a capital letter.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from routecache_middleware.core.structured import Opaque, Value, parse_dictionary

__all__ = ["ResponseDirectives", "parse_response_directives"]

_MAX_DELTA_S = 2**31


@dataclass(frozen=True, slots=True)
class ResponseDirectives:
    """What a response says about storing it.

    Attributes:
        no_store: Do not store it (RFC 9111 section 5.2.2.5). ``no-cache`` comes to the same: not to
            be served before the upstream was asked again (5.2.2.4), which is never done here. As
            nothing is served without some of its fields either, naming fields changes nothing.
        private: It is for one caller only: never for a tenant that several share (5.2.2.7).
        max_age_s: For how long it is fresh, or None: then the cache's own setting decides
            (5.2.2.1). A value that nobody can read counts as 0. ``s-maxage`` goes before
            ``max-age``, as in every cache that several clients share (5.2.2.10).
        stale_while_revalidate_s: How long after that it may be served while it is refreshed, or
            None (RFC 5861 section 3).
        stale_if_error_s: How long after that it may be served instead of an error, or None
            (RFC 5861 section 4).
    """

    no_store: bool = False
    private: bool = False
    max_age_s: int | None = None
    stale_while_revalidate_s: int | None = None
    stale_if_error_s: int | None = None


def parse_response_directives(text: bytes) -> ResponseDirectives | None:
    """Read the field; None when it does not count: absent, empty or unreadable (RFC 9213 2.1).

    Unknown directives are ignored.

    Args:
        text: All lines of the field, joined with commas.
    """
    members = parse_dictionary(text, folds_case=True)
    if not members:
        return None
    age_s, shared_age_s = _seconds(members, "max-age"), _seconds(members, "s-maxage")
    return ResponseDirectives(
        no_store=_is_set(members, "no-store") or _is_set(members, "no-cache"),
        private=_is_set(members, "private"),
        max_age_s=age_s if shared_age_s is None else shared_age_s,
        stale_while_revalidate_s=_seconds(members, "stale-while-revalidate"),
        stale_if_error_s=_seconds(members, "stale-if-error"),
    )


def _is_set(members: Mapping[str, Value], name: str) -> bool:
    """Whether a flag is there and not false; a value of another type counts as there."""
    return members.get(name, False) is not False


def _seconds(members: Mapping[str, Value], name: str) -> int | None:
    value = members.get(name)
    if value is None:
        return None
    if isinstance(value, bool | Opaque):
        return 0
    return min(max(value, 0), _MAX_DELTA_S)
