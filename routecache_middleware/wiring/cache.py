"""RouteCache: the cache as a library. The ASGI middleware is built on the same object."""

from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import replace
from functools import partial
from types import TracebackType
from typing import Self

from routecache_middleware.core.keys import CacheKey, Layer, model_key, result_key, route_key
from routecache_middleware.core.models import (
    Entry,
    ModelMetadata,
    Outcome,
    Position,
    QueryResult,
    RoutingDecision,
)
from routecache_middleware.core.ports import Clock, Coordinator, Observer
from routecache_middleware.core.records import (
    decision_entry,
    metadata_entry,
    read_decision,
    read_metadata,
    read_result,
    result_entry,
    scopes_of,
)
from routecache_middleware.core.reports import WarmReport
from routecache_middleware.core.settings import CachePolicy, Mode, Settings
from routecache_middleware.core.stats import CacheStats
from routecache_middleware.engine.get_or_compute import Wanted, get_or_compute
from routecache_middleware.engine.single_flight import SingleFlight
from routecache_middleware.engine.warming import warm
from routecache_middleware.errors import ConfigurationError
from routecache_middleware.wiring.build import build_engine
from routecache_middleware.wiring.config import configured_url, load_policy, load_settings
from routecache_middleware.wiring.eligibility import Eligible, choose
from routecache_middleware.wiring.invalidation import Invalidations
from routecache_middleware.wiring.records import Records

__all__ = ["RouteCache"]


class RouteCache(Records, Invalidations):
    """Routing decisions, answers, model metadata and load metrics behind one object.

    Nothing is opened before ``open()`` (or ``async with``, or the first use). Methods take their
    options by keyword:

    * ``tenant``: whose it is; tenants never see each other's entries.
    * ``tags``: names under which ``invalidate_tag`` drops what is stored.
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
    ) -> None:
        """Build a cache; opens nothing.

        Args:
            url: Which coordinator; None: ``ROUTECACHE_URL``, the configuration file, or ``memory://``.
            coordinator: A coordinator built elsewhere, instead of ``url``.
            settings: How it behaves; None: from the environment and the configuration file.
            policy: What may be cached; None: likewise.
            observers: Who watches; None: OpenTelemetry spans.
            clock: Time; None: the system's.

        Raises:
            ConfigurationError: A setting or the URL is wrong, or a package it needs is missing.
        """
        super().__init__(
            build_engine(
                url=configured_url(url),
                coordinator=coordinator,
                settings=settings or load_settings(),
                policy=policy or load_policy(),
                observers=observers,
                clock=clock,
            )
        )
        self._decisions: SingleFlight[RoutingDecision] = SingleFlight(self.engine.clock)
        self._results: SingleFlight[QueryResult] = SingleFlight(self.engine.clock)
        self._metadata: SingleFlight[ModelMetadata] = SingleFlight(self.engine.clock)

    @classmethod
    def from_url(
        cls, url: str, *, settings: Settings | None = None, policy: CachePolicy | None = None
    ) -> Self:
        """Build a cache on the coordinator that ``url`` names, such as ``memory://``; opens nothing.

        Raises:
            ConfigurationError: The URL is wrong or a package it needs is missing.
        """
        return cls(url=url, settings=settings, policy=policy)

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
        """Finish writes (for at most ``drain_timeout_s``) and close the coordinator; idempotent."""
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
            tenant, tags, ttl_s, refresh, store: See the class.
            eligible: Says whether a model may be used right now. A cached decision whose model may
                not falls back to its best eligible alternative; when there is none it is made anew.

        Raises:
            Exception: Whatever ``compute`` raised.
        """
        key, names = route_key(query_hash, tenant), tuple(tags)
        wanted = Wanted(
            layer=Layer.ROUTING,
            key=key,
            scopes=scopes_of(tenant, (), names),
            decode=partial(_eligible_decision, eligible),
            compute=compute,
            encode=partial(self._encode_decision, key, ttl_s, tenant, names),
            refresh=refresh,
            store=store,
        )
        came = await get_or_compute(self.engine, self._decisions, wanted)
        decision = choose(came.value, eligible) or came.value
        if decision.outcome is came.outcome:
            return decision
        return replace(decision, outcome=came.outcome)

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
        """Return the answer of a model to a query: cached, shared with a concurrent caller, or computed.

        ``compute`` returns the body, or a whole :class:`QueryResult`. Only complete answers belong
        in a cache: raise when there is none.

        Raises:
            Exception: Whatever ``compute`` raised.
        """
        key, names = result_key(query_hash, model_id, tenant), tuple(tags)
        wanted = Wanted(
            layer=Layer.RESULT,
            key=key,
            scopes=scopes_of(tenant, (model_id,), names),
            decode=read_result,
            compute=partial(self._compute_result, model_id, compute),
            encode=partial(self._encode_result, key, ttl_s, tenant, names),
            refresh=refresh,
            store=store and self.settings.result_caching,
        )
        came = await get_or_compute(self.engine, self._results, wanted)
        return replace(came.value, outcome=came.outcome)

    async def metadata(
        self,
        model_id: str,
        load: Callable[[str], Awaitable[ModelMetadata]],
        *,
        tags: Iterable[str] = (),
        ttl_s: float | None = None,
        refresh: bool = False,
        store: bool = True,
    ) -> ModelMetadata:
        """Return what is known of a model: cached, or from ``load``, once for concurrent callers.

        A record that only live measurement made does not count: the loader is still asked.

        Raises:
            Exception: Whatever ``load`` raised.
        """
        key, names = model_key(Layer.METADATA, model_id), tuple(tags)
        wanted = Wanted(
            layer=Layer.METADATA,
            key=key,
            scopes=scopes_of("", (model_id,), names),
            decode=_loaded_metadata,
            compute=partial(load, model_id),
            encode=partial(self._encode_metadata, key, ttl_s, names),
            refresh=refresh,
            store=store,
        )
        came = await get_or_compute(self.engine, self._metadata, wanted)
        return replace(came.value, outcome=came.outcome)

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
        """
        if concurrency < 1:
            raise ValueError(f"concurrency is {concurrency!r}; it has to be at least 1")
        return await warm(self.engine, model_ids, load, concurrency)

    def stats(self) -> CacheStats:
        """Return a snapshot of all counters."""
        return self.engine.stats()

    def _encode_decision(
        self,
        key: CacheKey,
        ttl_s: float | None,
        tenant: str,
        tags: tuple[str, ...],
        decision: RoutingDecision,
        position: Position,
        origin: str,
    ) -> Entry:
        if not decision.router_version:
            decision = replace(decision, router_version=self.settings.router_version)
        made = self._made(key, Layer.ROUTING, ttl_s, position, tenant, tags, origin)
        return decision_entry(decision, made)

    def _encode_result(
        self,
        key: CacheKey,
        ttl_s: float | None,
        tenant: str,
        tags: tuple[str, ...],
        result: QueryResult,
        position: Position,
        origin: str,
    ) -> Entry:
        made = self._made(key, Layer.RESULT, ttl_s, position, tenant, tags, origin)
        return result_entry(result, made, shape=result.mode.value)

    def _encode_metadata(
        self,
        key: CacheKey,
        ttl_s: float | None,
        tags: tuple[str, ...],
        metadata: ModelMetadata,
        position: Position,
        origin: str,
    ) -> Entry:
        made = self._made(key, Layer.METADATA, ttl_s, position, "", tags, origin)
        return metadata_entry(metadata, made)

    async def _compute_result(
        self, model_id: str, compute: Callable[[], Awaitable[bytes | QueryResult]]
    ) -> QueryResult:
        started_s = self.engine.clock.monotonic_s()
        made = await compute()
        if isinstance(made, QueryResult):
            return made
        elapsed_ms = (self.engine.clock.monotonic_s() - started_s) * 1000
        return QueryResult(made, model_id, elapsed_ms)


def _eligible_decision(
    eligible: Eligible | None, entry: Entry, outcome: Outcome, age_s: float
) -> RoutingDecision | None:
    return choose(read_decision(entry, outcome, age_s), eligible)


def _loaded_metadata(entry: Entry, outcome: Outcome, age_s: float) -> ModelMetadata | None:
    metadata = read_metadata(entry, outcome, age_s)
    return None if metadata.is_observed else metadata
