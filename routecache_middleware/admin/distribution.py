"""How what is stored is spread: over tenants and models, sizes, ages, and how often it is served.

Of a bounded sample, the latest entries first in most stores: shares of it are estimates, and of a
store much larger than the sample rather of what has come lately. How often answers are served is
counted in this process alone; see :mod:`routecache_middleware.engine.popularity`.
"""

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import accumulate
from typing import Final

import msgspec

from routecache_middleware.admin.listing import LISTED, EntryRow, Listing
from routecache_middleware.core.keys import CacheKey, Layer
from routecache_middleware.engine.engine import Engine

__all__ = ["Distribution", "Share", "Spread", "TopRow", "distribution"]

_TTL_S: Final = (0.0, 10.0, 60.0, 300.0, 900.0, 3600.0, 14_400.0, 86_400.0)
_AGE_S: Final = (10.0, 60.0, 300.0, 900.0, 3600.0, 14_400.0, 86_400.0)
_SIZE_BYTES: Final = (256.0, 1024.0, 4096.0, 16_384.0, 65_536.0, 262_144.0, 1_048_576.0)
_TOP: Final = 20
_CURVE: Final = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000)


class Share(msgspec.Struct, frozen=True, kw_only=True):
    """What one model has of one tenant's entries; the tenant's name is opaque."""

    tenant: str
    model: str
    entries: int
    bytes: int


class Spread(msgspec.Struct, frozen=True, kw_only=True):
    """A histogram: how many values were up to each bound, and the last ones beyond all of them."""

    bounds: tuple[float, ...]
    counts: tuple[int, ...]


class TopRow(EntryRow, frozen=True, kw_only=True):
    """An entry and how often it was served by this process, about."""

    served: int


class Distribution(msgspec.Struct, frozen=True, kw_only=True):
    """How what is stored is spread.

    Attributes:
        looked_at: Entries in the sample; ``total``: all there are, load metrics left out.
        shares: By tenant and model, answers and decisions together.
        ttl_s: Seconds of freshness left; ``age_s`` and ``size_bytes`` likewise, all of answers.
        top: The answers served most, those that are still there.
        concentration: How much of all hits the most popular answers make: how many answers, and
            their share, 0..1.
        served: Hits that were counted by answer; ``keys``: over how many answers.
        trouble: Why some could not be read, or empty.
    """

    looked_at: int
    total: int
    shares: tuple[Share, ...]
    ttl_s: Spread
    age_s: Spread
    size_bytes: Spread
    top: tuple[TopRow, ...]
    concentration: tuple[tuple[int, float], ...]
    served: int
    keys: int
    trouble: str = ""


async def distribution(engine: Engine, listing: Listing) -> Distribution:
    """Return how what is stored is spread, now or a few seconds ago."""
    sample = await listing.sample()
    answers = [listing.row(key, entry) for key, entry in sample.found[Layer.RESULT]]
    decisions = [listing.row(key, entry) for key, entry in sample.found[Layer.ROUTING]]
    popular = engine.recorder.popular.top()
    counts = [count for _, count in popular]
    looked_at, held = sum(map(len, sample.found.values())), engine.coordinator.stats()
    known = sum(held.layers[layer].entries for layer in LISTED if layer in held.layers)
    return Distribution(
        looked_at=looked_at,
        total=max(known, looked_at),  # servers are counted now and then
        shares=_shares([*answers, *decisions]),
        ttl_s=_spread(_TTL_S, (row.ttl_s for row in answers)),
        age_s=_spread(_AGE_S, (row.age_s for row in answers)),
        size_bytes=_spread(_SIZE_BYTES, (float(row.size_bytes) for row in answers)),
        top=await _top(listing, popular[:_TOP]),
        concentration=_concentration(counts),
        served=sum(counts),
        keys=len(counts),
        trouble=sample.trouble,
    )


async def _top(listing: Listing, popular: Sequence[tuple[CacheKey, int]]) -> tuple[TopRow, ...]:
    entries = await listing.read([key for key, _ in popular])
    return tuple(
        TopRow(**msgspec.structs.asdict(listing.row(key, entry)), served=count)
        for (key, count), entry in zip(popular, entries, strict=True)
        if entry is not None
    )


def _shares(rows: Iterable[EntryRow]) -> tuple[Share, ...]:
    entries: Counter[tuple[str, str]] = Counter()
    sizes: Counter[tuple[str, str]] = Counter()
    for row in rows:
        place = row.tenant, row.model
        entries[place] += 1
        sizes[place] += row.size_bytes
    return tuple(
        Share(tenant=tenant, model=model, entries=count, bytes=sizes[tenant, model])
        for (tenant, model), count in entries.most_common()
    )


def _spread(bounds: tuple[float, ...], values: Iterable[float]) -> Spread:
    counts = [0] * (len(bounds) + 1)
    for value in values:
        counts[bisect_left(bounds, value)] += 1
    return Spread(bounds=bounds, counts=tuple(counts))


def _concentration(counts: Sequence[int]) -> tuple[tuple[int, float], ...]:
    """Return how much the first 1, 2, 5 ... answers make of all hits; ``counts`` falls."""
    sums = list(accumulate(counts))
    places = sorted({*(place for place in _CURVE if place < len(sums)), len(sums)} - {0})
    return tuple((place, round(sums[place - 1] / sums[-1], 6)) for place in places)
