"""RouteCache: the cache as a library. The ASGI middleware is built on the same object."""

from collections.abc import Awaitable, Callable, Iterable, Sequence
from types import TracebackType
from typing import Self

from routecache_middleware.core.choices import Mode
from routecache_middleware.core.keys import result_key, route_key
from routecache_middleware.core.models import (
    ModelMetadata,
    QueryResult,
    RoutingDecision,
)
from routecache_middleware.core.policy import CachePolicy
from routecache_middleware.core.ports import Clock, Coordinator, Observer
from routecache_middleware.core.prices import Prices
from routecache_middleware.core.records import (
    metadata_key,
)
from routecache_middleware.core.reports import WarmReport
from routecache_middleware.core.savings import SavingsReport
from routecache_middleware.core.settings import Settings
from routecache_middleware.core.shadow import ShadowReport
from routecache_middleware.core.snapshot import MetricsSnapshot
from routecache_middleware.core.stats import CacheStats
from routecache_middleware.engine.get_or_compute import get_or_compute
from routecache_middleware.engine.metering import take_snapshot
from routecache_middleware.engine.publishing import refresh_load
from routecache_middleware.engine.single_flight import SingleFlight
from routecache_middleware.engine.warming import warm
from routecache_middleware.engine.worker_stats import WorkerStats
from routecache_middleware.errors import ConfigurationError
from routecache_middleware.wiring.build import build_engine
from routecache_middleware.wiring.config import configured_url, load_policy, load_settings
from routecache_middleware.wiring.eligibility import Chooser, Eligible
from routecache_middleware.wiring.explanations import Explains, Explanations
from routecache_middleware.wiring.invalidation import Invalidations
from routecache_middleware.wiring.nodes import Nodes
from routecache_middleware.wiring.prices import LazyPrices, load_prices
from routecache_middleware.wiring.records import (
    Records,
    checked_tags,
    checked_ttl_s,
)
from routecache_middleware.wiring.wants import WantedDecision, WantedMetadata, WantedResult

__all__ = ["RouteCache"]


class RouteCache(Records, Invalidations, Nodes, Explanations):
    """Routing decisions, answers, model metadata and load metrics behind one object.

    Nothing is opened before ``open()`` (or ``async with``, or the first use). Methods take their
    options by keyword:

    * ``tenant``: whose it is; tenants never see each other's entries.
    * ``tags``: names under which ``invalidate_tag`` drops what is stored. Given to a lookup, it
      finds nothing that was stored before one of them was last invalidated.
    * ``ttl_s``: freshness lifetime in seconds, instead of the setting's.
    * ``refresh``: make the value anew even when there is one. ``store``: keep what is made.

    Records say how they came: ``outcome`` and ``age_s``. A coordinator that fails makes a lookup a
    miss and a write a no-op, both counted; only invalidations raise :class:`CoordinatorError`.
    """

    def __init__(
        self,
        *,
        url: str | None = None,
        coordinator: Coordinator | None = None,
        settings: Settings | None = None,
        policy: CachePolicy | None = None,
        observers: Sequence[Observer] | None = None,
        clock: Clock | None = None,
        prices: Callable[[], Prices] = load_prices,
    ) -> None:
        """Build a cache; opens nothing.

        Args:
            url: Which coordinator; None: ``ROUTECACHE_URL``, the configuration file, or
                ``memory://``.
            coordinator: A coordinator built elsewhere, instead of ``url``. Whoever built it closes
                it.
            settings: How it behaves; None: from the environment and the configuration file.
            policy: What may be cached; None: likewise.
            observers: Who watches; None: OpenTelemetry spans and metrics.
            clock: Time; None: the system's.
            prices: Reads what models cost, in a thread and not before that is asked for; by default
                from the configuration file, and from LiteLLM's list.

        Raises:
            ConfigurationError: A setting or the URL is wrong, or a package it needs is missing.
        """
        for name, value, kind in (
            ("settings", settings, Settings),
            ("policy", policy, CachePolicy),
        ):
            if value is not None and not isinstance(value, kind):
                found, wanted = type(value).__name__, kind.__name__
                raise ConfigurationError(f"{name} is a {found}; it has to be a {wanted}, or None")
        self._url = configured_url(url) if coordinator is None else None
        super().__init__(
            build_engine(
                url=self._url or "",
                coordinator=coordinator,
                settings=settings or load_settings(),
                policy=policy or load_policy(),
                observers=observers,
                clock=clock,
            )
        )
        self._prices = self.engine.recorder.prices = LazyPrices(prices)
        self._workers = self.engine.companion = WorkerStats(self.engine)
        self.explainer: Explains | None = None
        self._chooser = Chooser()
        self._decisions: SingleFlight[RoutingDecision] = SingleFlight(self.engine.clock)
        self._results: SingleFlight[QueryResult] = SingleFlight(self.engine.clock)
        self._metadata: SingleFlight[ModelMetadata] = SingleFlight(self.engine.clock)

    @classmethod
    def from_url(
        cls, url: str, *, settings: Settings | None = None, policy: CachePolicy | None = None
    ) -> Self:
        """Build a cache on the coordinator that ``url`` names; opens nothing.

        Raises:
            ConfigurationError: The URL is wrong or a package it needs is missing.
        """
        return cls(url=url, settings=settings, policy=policy)

    @property
    def url(self) -> str | None:
        """What it was built from, passwords included; None with a coordinator built elsewhere."""
        return self._url

    @property
    def settings(self) -> Settings:
        """The settings in force; ``mode`` alone can change."""
        return self.engine.settings

    @property
    def mode(self) -> Mode:
        """What the cache does; set it at any time, also to the plain word (``"off"``).

        Raises:
            ConfigurationError: On setting, when there is no such mode.
        """
        return self.engine.mode

    @mode.setter
    def mode(self, mode: Mode | str) -> None:
        try:
            self.engine.mode = Mode(mode)
        except ValueError:
            raise ConfigurationError(
                f"mode is {mode!r}; it has to be one of {', '.join(Mode)}"
            ) from None

    async def open(self) -> None:
        """Connect the coordinator for the running event loop; idempotent, and done on first use."""
        await self.engine.ensure_open()

    async def aclose(self) -> None:
        """Finish writes (for at most ``drain_timeout_s``) and close; idempotent.

        A coordinator that was built elsewhere stays open.
        """
        await self.engine.aclose()

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.aclose()

    async def route(
        self,
        query_hash: str,
        compute: Callable[[], Awaitable[RoutingDecision]],
        *,
        tenant: str = "",
        tags: Iterable[str] = (),
        ttl_s: float | None = None,
        refresh: bool = False,
        store: bool = True,
        eligible: Eligible | None = None,
    ) -> RoutingDecision:
        """Return the decision for a query: cached, shared with a concurrent caller, or computed.

        Args:
            query_hash: From ``hash_query``.
            compute: Makes the decision.
            tenant: See the class, also for ``tags``, ``ttl_s``, ``refresh`` and ``store``.
            tags: See the class.
            ttl_s: See the class.
            refresh: See the class.
            store: See the class.
            eligible: Says whether a model may be used right now. A decision whose model may not
                falls back to its best eligible alternative; a cached one that has none is made
                anew, and one just made is returned as it is.

        Raises:
            TypeError: ``compute`` did not return a decision.
            Exception: Whatever ``compute`` raised.
        """
        wanted = WantedDecision(
            route_key(query_hash, tenant),
            tenant,
            checked_tags(tags) if tags else (),
            checked_ttl_s(ttl_s),
            refresh,
            store,
            compute,
            self.engine.settings.router_version,
            eligible,
            self._chooser,
        )
        return await get_or_compute(self.engine, self._decisions, wanted)

    async def result(
        self,
        query_hash: str,
        model_id: str,
        compute: Callable[[], Awaitable[bytes | QueryResult]],
        *,
        tenant: str = "",
        tags: Iterable[str] = (),
        ttl_s: float | None = None,
        refresh: bool = False,
        store: bool = True,
    ) -> QueryResult:
        """Return the answer of a model to a query: cached, shared with a concurrent caller, or new.

        ``compute`` returns the body, or a whole :class:`QueryResult`. Only complete answers belong
        in a cache: raise when there is none.

        Raises:
            TypeError: ``compute`` returned neither.
            Exception: Whatever ``compute`` raised.
        """
        wanted = WantedResult(
            result_key(query_hash, model_id, tenant),
            tenant,
            checked_tags(tags) if tags else (),
            checked_ttl_s(ttl_s),
            refresh,
            store,
            compute,
            model_id,
            self.engine.clock,
        )
        return await get_or_compute(self.engine, self._results, wanted)

    async def metadata(
        self,
        model_id: str,
        load: Callable[[str], Awaitable[ModelMetadata]],
        *,
        tenant: str = "",
        tags: Iterable[str] = (),
        ttl_s: float | None = None,
        refresh: bool = False,
        store: bool = True,
    ) -> ModelMetadata:
        """Return what is known of a model: cached, or from ``load``, once for concurrent callers.

        A record that only live measurement made does not count: the loader is still asked.

        Raises:
            TypeError: ``load`` did not return metadata.
            Exception: Whatever ``load`` raised.
        """
        wanted = WantedMetadata(
            metadata_key(model_id, tenant),
            tenant,
            checked_tags(tags) if tags else (),
            checked_ttl_s(ttl_s),
            refresh,
            store,
            load,
            model_id,
        )
        await refresh_load(self.engine, model_id)
        return await get_or_compute(self.engine, self._metadata, wanted)

    async def warm(
        self,
        model_ids: Iterable[str],
        *,
        load: Callable[[str], Awaitable[ModelMetadata]],
        concurrency: int = 8,
    ) -> WarmReport:
        """Load and store the metadata of models ahead of need, ``concurrency`` at a time.

        Raises:
            ValueError: ``concurrency`` is less than 1.
            TypeError: ``model_ids`` is one string.
        """
        if concurrency < 1:
            raise ValueError(f"concurrency is {concurrency!r}; it has to be at least 1")
        if isinstance(model_ids, str):
            raise TypeError(f"model_ids is {model_ids!r}; it has to be several strings")
        return await warm(self.engine, model_ids, load, concurrency)

    def stats(self) -> CacheStats:
        """Return a snapshot of all counters."""
        return self.engine.stats()

    def metrics(self) -> MetricsSnapshot:
        """Return all numbers of this process: what OpenTelemetry and Prometheus are told."""
        return take_snapshot(self.engine)

    async def total_metrics(self) -> MetricsSnapshot:
        """Return all numbers of all processes that share the coordinator, past ones included.

        They are up to a second old. What cannot be read is as it was last read.
        """
        return await self._workers.total()

    def savings(self, prices: Prices | None = None) -> SavingsReport:
        """Return what was saved so far, in this process: tokens, money and time.

        Args:
            prices: What models cost; None: what ``[routecache.prices]`` says, and where that says
                nothing LiteLLM's list, if its package is installed. The first call reads the list,
                which takes some 25 ms.

        Raises:
            ConfigurationError: A price in the configuration makes no sense.
        """
        return self.engine.recorder.savings(self._prices.load() if prices is None else prices)

    def shadow_report(self) -> ShadowReport:
        """Return what shadow mode has found out: what it would have served, and how it compared."""
        return self.engine.recorder.shadow.report()
