"""The get and cache methods of RouteCache: one pair per layer."""

from collections.abc import Iterable, Mapping, Sequence

from routecache_middleware.core.keys import CacheKey, Layer, model_key, result_key, route_key
from routecache_middleware.core.models import (
    Entry,
    LoadMetrics,
    ModelMetadata,
    Position,
    QueryResult,
    RoutingDecision,
)
from routecache_middleware.core.records import (
    Provenance,
    decision_entry,
    load_entry,
    metadata_entry,
    read_decision,
    read_load,
    read_metadata,
    read_result,
    result_entry,
)
from routecache_middleware.core.settings import Mode
from routecache_middleware.engine.engine import Engine
from routecache_middleware.engine.publishing import refresh_load
from routecache_middleware.engine.reading import read

__all__ = ["Records"]


class Records:
    """Part of :class:`RouteCache`, which documents the common options."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine

    async def get_routing_decision(
        self, query_hash: str, *, tenant: str = ""
    ) -> RoutingDecision | None:
        """Return the cached decision for a query, or None."""
        return await read(self.engine, Layer.ROUTING, route_key(query_hash, tenant), read_decision)

    async def cache_routing_decision(
        self,
        query_hash: str,
        selected_model: str,
        score: float = 1.0,
        *,
        tenant: str = "",
        tags: Iterable[str] = (),
        ttl_s: float | None = None,
        captured: Position | None = None,
        alternatives: Sequence[tuple[str, float]] = (),
        strategy: str = "",
        router_version: str = "",
        score_kind: str = "",
        decide_ms: float = 0.0,
    ) -> bool:
        """Store a decision. ``captured``: position captured before deciding; default: of the last miss.

        Returns:
            Whether it was stored.
        """
        decision = RoutingDecision(
            selected_model,
            score,
            tuple(alternatives),
            strategy,
            router_version or self.engine.settings.router_version,
            score_kind,
            decide_ms,
        )
        key = route_key(query_hash, tenant)
        made = self._made(key, Layer.ROUTING, ttl_s, captured, tenant, tags)
        return await self._store(key, decision_entry(decision, made))

    async def get_query_result(
        self, query_hash: str, model_id: str, *, tenant: str = ""
    ) -> QueryResult | None:
        """Return the cached answer of a model to a query, or None."""
        key = result_key(query_hash, model_id, tenant)
        return await read(self.engine, Layer.RESULT, key, read_result)

    async def cache_query_result(
        self,
        query_hash: str,
        model_id: str,
        result_data: bytes,
        response_time_ms: float = 0.0,
        *,
        content_type: str = "application/json",
        tenant: str = "",
        tags: Iterable[str] = (),
        ttl_s: float | None = None,
        captured: Position | None = None,
    ) -> bool:
        """Store an answer; the bytes come back as they are. ``captured``: as for decisions.

        Returns:
            Whether it was stored; False for more than ``max_result_bytes``.
        """
        result = QueryResult(result_data, model_id, response_time_ms, content_type)
        key = result_key(query_hash, model_id, tenant)
        made = self._made(key, Layer.RESULT, ttl_s, captured, tenant, tags)
        return await self._store(key, result_entry(result, made, shape=result.mode.value))

    async def get_model_metadata(self, model_id: str) -> ModelMetadata | None:
        """Return what is known of a model, or None."""
        await refresh_load(self.engine, model_id)
        key = model_key(Layer.METADATA, model_id)
        return await read(self.engine, Layer.METADATA, key, read_metadata)

    async def cache_model_metadata(
        self,
        model_id: str,
        capabilities: Mapping[str, object],
        current_load: float = 0.0,
        avg_response_time_ms: float = 0.0,
        *,
        tags: Iterable[str] = (),
        ttl_s: float | None = None,
        captured: Position | None = None,
    ) -> bool:
        """Store what is known of a model. Returns whether it was stored."""
        record = ModelMetadata(model_id, capabilities, current_load, avg_response_time_ms)
        key = model_key(Layer.METADATA, model_id)
        made = self._made(key, Layer.METADATA, ttl_s, captured, "", tags)
        return await self._store(key, metadata_entry(record, made))

    async def get_load_metrics(self, model_id: str) -> LoadMetrics | None:
        """Return the live load of a model, or None when nobody measured it lately."""
        await refresh_load(self.engine, model_id)
        return await read(self.engine, Layer.LOAD, model_key(Layer.LOAD, model_id), read_load)

    async def cache_load_metrics(
        self,
        model_id: str,
        *,
        in_flight: int = 0,
        requests_per_s: float = 0.0,
        avg_response_time_ms: float = 0.0,
        error_rate: float = 0.0,
        ttl_s: float | None = None,
        captured: Position | None = None,
    ) -> bool:
        """Store the load of a model as measured elsewhere. Returns whether it was stored."""
        record = LoadMetrics(model_id, in_flight, requests_per_s, avg_response_time_ms, error_rate)
        key = model_key(Layer.LOAD, model_id)
        made = self._made(key, Layer.LOAD, ttl_s, captured)
        return await self._store(key, load_entry(record, made))

    async def _store(self, key: CacheKey, entry: Entry) -> bool:
        if self.engine.mode in (Mode.OFF, Mode.READ_ONLY) or entry.freshness_lifetime_s <= 0:
            return False
        return await self.engine.put(key, entry)

    def _made(
        self,
        key: CacheKey,
        layer: Layer,
        ttl_s: float | None,
        captured: Position | None,
        tenant: str = "",
        tags: Iterable[str] = (),
        origin: str = "",
    ) -> Provenance:
        if ttl_s is not None and not 0 <= ttl_s < float("inf"):
            raise ValueError(
                f"ttl_s is {ttl_s!r}; it has to be a finite number of seconds, 0 or more"
            )
        return Provenance(
            now_s=self.engine.clock.now_s(),
            ttl_s=self.engine.settings.ttl_s(layer) if ttl_s is None else ttl_s,
            position=self.engine.captured(key) if captured is None else captured,
            tenant=tenant,
            tags=tuple(tags),
            origin=origin,
        )
