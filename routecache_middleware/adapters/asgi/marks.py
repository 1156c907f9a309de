"""The response fields that say what the cache did."""

from routecache_middleware.adapters.asgi.types import Headers
from routecache_middleware.core.models import Outcome, RoutingDecision

__all__ = ["HIT_MARK", "has_mark", "mark", "server_timing"]

_SHORT = {
    Outcome.HIT: b"HIT",
    Outcome.STALE: b"STALE",
    Outcome.MISS: b"MISS",
    Outcome.COALESCED: b"COALESCED",
    Outcome.BYPASS: b"BYPASS",
    Outcome.ERROR: b"MISS",
}
HIT_MARK = (b"x-routecache", b"HIT")
_OURS = frozenset({b"x-routecache"})
_OF_THE_DECISION = frozenset({b"x-routecache-decision", b"x-routecache-model"})
_REUSED = frozenset({Outcome.HIT, Outcome.STALE, Outcome.COALESCED})


def mark(
    headers: Headers, cache_status: bytes, outcome: Outcome, decision: RoutingDecision | None
) -> None:
    """Append our fields to a response's headers; our ``Cache-Status`` is the last of its name.

    They take the place of what a gateway further back wrote under the same names: to a client they
    say what the nearest one did. ``Cache-Status`` has a member for each (RFC 9211 section 2).
    """
    if has_mark(headers):
        ours = _OURS if decision is None else _OURS | _OF_THE_DECISION
        headers[:] = [pair for pair in headers if pair[0].lower() not in ours]
    headers.append((b"cache-status", cache_status))
    headers.append((b"x-routecache", _SHORT[outcome]))
    if decision is not None:
        model = decision.selected_model
        if model.isascii() and model.isprintable():  # anything else has no place in a header
            headers.append((b"x-routecache-model", model.encode("ascii")))
        was_reused = decision.outcome in _REUSED
        headers.append((b"x-routecache-decision", b"HIT" if was_reused else b"MISS"))


def has_mark(headers: Headers) -> bool:
    """Whether our fields are in a head already."""
    return any(name.lower() == b"x-routecache" for name, _ in headers)


def server_timing(ours_s: float, app_s: float | None = None) -> tuple[bytes, bytes]:
    """``Server-Timing``: milliseconds spent in the cache and, when it was asked, in the app."""
    value = f"routecache;dur={ours_s * 1000:.3f}"
    if app_s is not None:
        value += f", app;dur={app_s * 1000:.3f}"
    return (b"server-timing", value.encode("ascii"))
