"""What the cache has saved: tokens, time and money, less the time that the cache itself took.

When a counter moves: with each request that is answered with what was stored, fresh or stale, and
with each that shares what another process has just stored. It then has not cost what the stored
answer cost to make: its tokens, and the time the upstream took. A follower of a call in this
process is counted as a request without tokens: nobody knows yet what the answer costs.

Only integers and floats are added up while requests are served; money is worked out when somebody
asks, so that prices may change.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TypeVar

from routecache_middleware.core.keys import Layer
from routecache_middleware.core.models import Entry
from routecache_middleware.core.prices import NO_PRICES, Prices

__all__ = ["OTHER", "CacheTime", "LayerSavings", "SavedRow", "SavingsReport", "report"]

OTHER = "_OTHER"
"""Stands for the models and tenants beyond those that are counted by name."""

_Key = TypeVar("_Key")

_MOST_TENANTS = 1_000
_MOST_MODELS = 100  # for each tenant


class _Cell:
    """What was saved for one tenant with one model."""

    __slots__ = (
        "input_tokens",
        "output_tokens",
        "requests",
        "upstream_ms",
        "without_time",
        "without_tokens",
    )

    def __init__(self) -> None:
        self.requests = self.without_tokens = self.without_time = 0
        self.input_tokens = self.output_tokens = 0
        self.upstream_ms = 0.0


class LayerSavings:
    """Adds up what one layer has saved; false while that is nothing."""

    __slots__ = ("_cells",)

    def __init__(self) -> None:
        self._cells: dict[str, dict[str, _Cell]] = {}

    def __bool__(self) -> bool:
        return bool(self._cells)

    def served(self, entry: Entry, tenant: str) -> None:
        """An entry was used instead of making it anew."""
        try:
            cell = self._cells[tenant][entry.model_id]
        except KeyError:
            cell = self._cell(tenant, entry.model_id)
        cell.requests += 1
        cell.upstream_ms += entry.cost_ms
        if entry.input_tokens or entry.output_tokens:
            cell.input_tokens += entry.input_tokens
            cell.output_tokens += entry.output_tokens
        else:
            cell.without_tokens += 1

    def shared(self, model: str, tenant: str) -> None:
        """A call under way was shared; what it costs is not known yet."""
        cell = self._cell(tenant, model)
        cell.requests += 1
        cell.without_tokens += 1
        cell.without_time += 1

    def rows(self, layer: Layer, prices: Prices) -> "Iterator[SavedRow]":
        """Yield what was saved so far, by tenant and model."""
        for tenant, models in list(self._cells.items()):
            for model, cell in list(models.items()):
                price = prices.find(model)
                yield SavedRow(
                    layer=layer,
                    model=model,
                    tenant=tenant,
                    requests=cell.requests,
                    without_tokens=cell.without_tokens,
                    without_time=cell.without_time,
                    input_tokens=cell.input_tokens,
                    output_tokens=cell.output_tokens,
                    upstream_s=cell.upstream_ms / 1000,
                    usd=None if price is None else price.usd(cell.input_tokens, cell.output_tokens),
                )

    def _cell(self, tenant: str, model: str) -> _Cell:
        if tenant not in self._cells and len(self._cells) >= _MOST_TENANTS:
            tenant = OTHER
        models = self._cells.setdefault(tenant, {})
        if model not in models and len(models) >= _MOST_MODELS:
            model = OTHER
        return models.setdefault(model, _Cell())


class CacheTime:
    """How long requests were in the cache, measured; of the fastest hits one in 64.

    Not counted is what a request would have waited for without a cache as well: for its client's
    body, for the router and for the app.

    Attributes:
        timed_s: Time of the requests that were measured one by one.
        timed_hits: How many of them were hits.
    """

    __slots__ = ("_sampled", "_sampled_s", "timed_hits", "timed_s")

    def __init__(self) -> None:
        self.timed_s = self._sampled_s = 0.0
        self.timed_hits = self._sampled = 0

    def took(self, seconds: float, *, is_hit: bool) -> None:
        """A request was in the cache for so long."""
        self.timed_s += max(0.0, seconds)
        self.timed_hits += is_hit

    def sampled(self, seconds: float) -> None:
        """One of the hits that are not measured one by one took so long."""
        self._sampled_s += max(0.0, seconds)
        self._sampled += 1

    def total_s(self, hits: int) -> float:
        """Return the time of all requests, of which so many were hits.

        Hits that were not measured count as long as those of their kind that were; before the first
        of these as nothing.
        """
        untimed = max(0, hits - self.timed_hits)
        return self.timed_s + (untimed * self._sampled_s / self._sampled if self._sampled else 0.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class SavedRow:
    """What one layer has saved for one tenant with one model.

    Attributes:
        layer: The layer.
        model: The model that need not be asked, or :data:`OTHER`.
        tenant: For whom, opaque, or :data:`OTHER`.
        requests: Requests that were answered with what was there.
        without_tokens: Those of them whose tokens nobody has counted.
        without_time: Those of them whose time is not in ``upstream_s``: it was not known yet.
        input_tokens: Input tokens not sent.
        output_tokens: Output tokens not made.
        upstream_s: What the upstream, or the router, would have taken, seconds.
        usd: What the tokens would have cost; None: nobody says what the model costs.
    """

    layer: Layer
    model: str
    tenant: str
    requests: int = 0
    without_tokens: int = 0
    without_time: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    upstream_s: float = 0.0
    usd: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SavingsReport:
    """What was saved since the cache was made, in this process.

    Attributes:
        rows: By layer, model and tenant.
        cache_s: How long requests were in the cache: hits, and those that had to go on as well.
    """

    rows: tuple[SavedRow, ...] = ()
    cache_s: float = 0.0

    @property
    def requests(self) -> int:
        """Requests answered with what was there; a decision and an answer count apart."""
        return sum(row.requests for row in self.rows)

    @property
    def input_tokens(self) -> int:
        """Input tokens not sent."""
        return sum(row.input_tokens for row in self.rows)

    @property
    def output_tokens(self) -> int:
        """Output tokens not made."""
        return sum(row.output_tokens for row in self.rows)

    @property
    def usd(self) -> float:
        """What the tokens would have cost, as far as prices are known; see :attr:`unpriced`."""
        return sum(row.usd for row in self.rows if row.usd is not None)

    @property
    def unpriced(self) -> tuple[str, ...]:
        """Models whose tokens are counted, but not in :attr:`usd`: nobody says what they cost."""
        return tuple(
            sorted(
                {
                    row.model
                    for row in self.rows
                    if row.usd is None and (row.input_tokens or row.output_tokens)
                }
            )
        )

    @property
    def saved_s(self) -> float:
        """Time that clients did not wait, less what the cache took; below 0 it has cost some."""
        return sum(row.upstream_s for row in self.rows) - self.cache_s

    def by_layer(self) -> dict[str, SavedRow]:
        """Return the sums by layer."""
        return _by(self.rows, lambda row: row.layer.value)

    def by_model(self) -> dict[str, SavedRow]:
        """Return the sums by model."""
        return _by(self.rows, lambda row: row.model)

    def by_tenant(self) -> dict[str, SavedRow]:
        """Return the sums by tenant."""
        return _by(self.rows, lambda row: row.tenant)

    def merged(self, *others: "SavingsReport") -> "SavingsReport":
        """Return the report of several processes together."""
        reports = (self, *others)
        rows = [row for one in reports for row in one.rows]
        joint = _by(rows, lambda row: (row.layer.value, row.model, row.tenant))
        return SavingsReport(
            rows=tuple(joint.values()), cache_s=sum(one.cache_s for one in reports)
        )


def report(
    layers: Iterable[tuple[Layer, LayerSavings]],
    time: CacheTime,
    *,
    hits: int,
    prices: Prices = NO_PRICES,
) -> SavingsReport:
    """Return what was saved.

    Args:
        layers: What each layer has saved.
        time: What the cache took.
        hits: How many answers came from it, for the time of those that were not measured.
        prices: What models cost.
    """
    rows = [row for layer, saved in layers for row in saved.rows(layer, prices)]
    return SavingsReport(rows=tuple(rows), cache_s=time.total_s(hits))


def _by(rows: Iterable[SavedRow], key: Callable[[SavedRow], _Key]) -> dict[_Key, SavedRow]:
    groups: dict[_Key, list[SavedRow]] = {}
    for row in rows:
        groups.setdefault(key(row), []).append(row)
    return {name: _sum(group) for name, group in groups.items()}


def _sum(rows: list[SavedRow]) -> SavedRow:
    """Return one row for several; what they do not have in common is :data:`OTHER`."""
    first = rows[0]
    models, tenants = {row.model for row in rows}, {row.tenant for row in rows}
    known = [row.usd for row in rows if row.usd is not None]
    return SavedRow(
        layer=first.layer,
        model=first.model if len(models) == 1 else OTHER,
        tenant=first.tenant if len(tenants) == 1 else OTHER,
        requests=sum(row.requests for row in rows),
        without_tokens=sum(row.without_tokens for row in rows),
        without_time=sum(row.without_time for row in rows),
        input_tokens=sum(row.input_tokens for row in rows),
        output_tokens=sum(row.output_tokens for row in rows),
        upstream_s=sum(row.upstream_s for row in rows),
        usd=sum(known) if known else None,
    )
