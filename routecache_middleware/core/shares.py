"""What each process measured of a model's load: kept side by side, summed whenever they are read.

All shares of a model stand in the one entry of its load. Each process replaces its own, about once
a second, by reading the entry and writing it again. Two that do so at once may put back each
other's share of a second ago, which the next second mends: each is a little early or late, so that
the same two seldom meet again; none is ever counted twice. The share
of a process that is gone, or hangs, stops counting when it is as old as the entry's lifetime.

Ages, not times, are kept: the processes' clocks need not agree.
"""

import json
from collections.abc import Mapping
from typing import Any

import msgspec

from routecache_middleware.core.models import Entry, LoadMetrics
from routecache_middleware.core.records import Provenance, load_entry, read_load

__all__ = ["Share", "live_shares", "read_shared_load", "shared_load_entry", "total"]

_MAX_SHARES = 256  # processes


class Share(msgspec.Struct, frozen=True, array_like=True):
    """What one process measured of a model; fields as in :class:`.models.LoadMetrics`.

    Attributes:
        age_s: How long before the entry was written that was, seconds.
    """

    in_flight: int = 0
    requests_per_s: float = 0.0
    avg_response_time_ms: float = 0.0
    error_rate: float = 0.0
    age_s: float = 0.0


class _Body(msgspec.Struct):
    shares: dict[str, Share] = {}


def live_shares(entry: Entry, age_s: float) -> dict[str, Share]:
    """Return the shares in an entry of age ``age_s`` that still count, with their present ages.

    There are none in an entry that was measured elsewhere, or that cannot be read.
    """
    aged = {
        source: msgspec.structs.replace(share, age_s=share.age_s + max(0.0, age_s))
        for source, share in _read(entry.body).items()
    }
    return {name: one for name, one in aged.items() if one.age_s < entry.freshness_lifetime_s}


def total(model_id: str, shares: Mapping[str, Share]) -> LoadMetrics:
    """Return the load that the shares make together; averages are by requests."""
    weights = [share.requests_per_s for share in shares.values()]
    if not sum(weights):
        weights = [1.0] * len(shares)
    whole = sum(weights) or 1.0
    pairs = list(zip(weights, shares.values(), strict=True))
    return LoadMetrics(
        model_id,
        in_flight=sum(share.in_flight for share in shares.values()),
        requests_per_s=round(sum(share.requests_per_s for share in shares.values()), 3),
        avg_response_time_ms=round(sum(w * s.avg_response_time_ms for w, s in pairs) / whole, 3),
        error_rate=round(sum(w * s.error_rate for w, s in pairs) / whole, 4),
    )


def shared_load_entry(model_id: str, shares: Mapping[str, Share], made: Provenance) -> Entry:
    """Return the entry of a model's load, as the sum of ``shares``; the oldest may be left out."""
    youngest = sorted(shares.items(), key=lambda named: named[1].age_s)[:_MAX_SHARES]
    kept = dict(youngest)
    rows = {source: list(msgspec.structs.astuple(share)) for source, share in kept.items()}
    return load_entry(total(model_id, kept), made, shares=rows)


def read_shared_load(entry: Entry, age_s: float) -> LoadMetrics:
    """Take the load out of an entry, without the shares that no longer count, marked as a hit.

    Raises:
        CorruptEntryError: There is none in it.
    """
    written = read_load(entry, age_s)
    if not _read(entry.body):
        return written
    summed = total(written.model_id, live_shares(entry, age_s))
    return LoadMetrics(
        summed.model_id,
        summed.in_flight,
        summed.requests_per_s,
        summed.avg_response_time_ms,
        summed.error_rate,
        written.outcome,
        age_s,
    )


def _read(body: bytes) -> dict[str, Share]:
    try:
        if body[:1] == b"{":  # JSON, see `records`
            packed: Any = json.loads(body)
            return msgspec.convert(packed, _Body).shares
        return _decoder.decode(body).shares
    except (ValueError, RecursionError):
        return {}


_decoder = msgspec.msgpack.Decoder(_Body)
