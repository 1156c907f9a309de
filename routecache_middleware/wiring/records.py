"""The get and cache methods of RouteCache: one pair per layer."""

import math
from collections.abc import Iterable, Mapping, Sequence

from routecache_middleware.core.keys import CacheKey, Layer, result_key, route_key
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
    load_key,
    metadata_entry,
    metadata_key,
    read_decision,
    read_metadata,
    read_result,
    result_entry,
)
from routecache_middleware.core.shares import read_shared_load
from routecache_middleware.engine.engine import Engine
from routecache_middleware.engine.leases import Placing
from routecache_middleware.engine.publishing import refresh_load
from routecache_middleware.engine.reading import Misses, read

__all__ = ["Records", "checked_bytes", "checked_tags", "checked_ttl_s"]


class Records:
    """Part of :class:`RouteCache`, which documents the common options.

    ``captured``, where a value is stored: how far the invalidation log was known when the making of
    the value began (``engine.table.position``). Without it: where this caller's last miss of the
    key was captured; and without such a miss, now.
    """

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self._misses = Misses()

    async def get_routing_decision(
        self, query_hash: str, *, tenant: str = "", tags: Iterable[str] = ()
    ) -> RoutingDecision | None:
        """Return the cached decision for a query, or None."""
        key = route_key(query_hash, tenant)
        names = checked_tags(tags)
        return await read(self.engine, self._misses, Layer.ROUTING, key, read_decision, tags=names)

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
        """Store a decision. Returns whether it was stored."""
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
        made = await self._made(key, Layer.ROUTING, ttl_s, captured, tenant, tags)
        return await self._store(key, decision_entry(decision, made))

    async def get_query_result(
        self, query_hash: str, model_id: str, *, tenant: str = "", tags: Iterable[str] = ()
    ) -> QueryResult | None:
        """Return the cached answer of a model to a query, or None."""
        key = result_key(query_hash, model_id, tenant)
        names = checked_tags(tags)
        return await read(self.engine, self._misses, Layer.RESULT, key, read_result, tags=names)

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
        """Store an answer; the bytes come back as they are.

        Returns:
            Whether it was stored; False for more than ``max_result_bytes``.

        Raises:
            TypeError: ``result_data`` is not bytes.
        """
        result = QueryResult(checked_bytes(result_data), model_id, response_time_ms, content_type)
        key = result_key(query_hash, model_id, tenant)
        made = await self._made(key, Layer.RESULT, ttl_s, captured, tenant, tags)
        return await self._store(key, result_entry(result, made, shape=result.mode.value))

    async def get_model_metadata(
        self, model_id: str, *, tenant: str = "", tags: Iterable[str] = ()
    ) -> ModelMetadata | None:
        """Return what is known of a model, or None.

        With ``tenant``: what was stored for that tenant; what is measured live belongs to none.
        """
        await refresh_load(self.engine, model_id)
        key, names = metadata_key(model_id, tenant), checked_tags(tags)
        return await read(self.engine, self._misses, Layer.METADATA, key, read_metadata, tags=names)

    async def cache_model_metadata(
        self,
        model_id: str,
        capabilities: Mapping[str, object],
        current_load: float = 0.0,
        avg_response_time_ms: float = 0.0,
        *,
        tenant: str = "",
        tags: Iterable[str] = (),
        ttl_s: float | None = None,
        captured: Position | None = None,
    ) -> bool:
        """Store what is known of a model. Returns whether it was stored.

        Raises:
            TypeError: Something in ``capabilities`` is no JSON value.
        """
        if not isinstance(capabilities, Mapping):
            raise TypeError(f"capabilities is a {_kind(capabilities)}; it has to be a mapping")
        record = ModelMetadata(model_id, capabilities, current_load, avg_response_time_ms)
        key = metadata_key(model_id, tenant)
        made = await self._made(key, Layer.METADATA, ttl_s, captured, tenant, tags)
        return await self._store(key, metadata_entry(record, made))

    async def get_load_metrics(
        self, model_id: str, *, tenant: str = "", tags: Iterable[str] = ()
    ) -> LoadMetrics | None:
        """Return the live load of a model, or None when nobody measured it lately.

        It is the sum over all processes that share the coordinator, each as of its last second.
        ``tenant`` as for metadata.
        """
        await refresh_load(self.engine, model_id)
        key, names = load_key(model_id, tenant), checked_tags(tags)
        return await read(self.engine, self._misses, Layer.LOAD, key, read_shared_load, tags=names)

    async def cache_load_metrics(
        self,
        model_id: str,
        in_flight: int = 0,
        requests_per_s: float = 0.0,
        avg_response_time_ms: float = 0.0,
        error_rate: float = 0.0,
        *,
        tenant: str = "",
        tags: Iterable[str] = (),
        ttl_s: float | None = None,
        captured: Position | None = None,
    ) -> bool:
        """Store the load of a model as measured elsewhere. Returns whether it was stored."""
        for number in (in_flight, requests_per_s, avg_response_time_ms, error_rate):
            if not hasattr(number, "__float__"):  # numpy's count as numbers, a record does not
                raise TypeError(f"a load metric is a {_kind(number)}; it has to be a number")
        record = LoadMetrics(model_id, in_flight, requests_per_s, avg_response_time_ms, error_rate)
        key = load_key(model_id, tenant)
        made = await self._made(key, Layer.LOAD, ttl_s, captured, tenant, tags)
        return await self._store(key, load_entry(record, made))

    async def _store(self, key: CacheKey, entry: Entry) -> bool:
        if not self.engine.may_write(entry.layer) or entry.freshness_lifetime_s <= 0:
            return False
        return await self.engine.put(key, entry) is Placing.STORED

    async def _made(  # noqa: PLR0917 - private, and always the same six
        self,
        key: CacheKey,
        layer: Layer,
        ttl_s: float | None,
        captured: Position | None,
        tenant: str,
        tags: Iterable[str],
    ) -> Provenance:
        engine, names, granted_s = self.engine, checked_tags(tags), checked_ttl_s(ttl_s)
        await engine.ensure_open()
        missed_at = self._misses.take(key)
        if captured is None:
            captured = await engine.sync() if missed_at is None else missed_at
        return Provenance(
            now_s=engine.clock.now_s(),
            ttl_s=engine.settings.ttl_s(layer) if granted_s is None else granted_s,
            position=captured,
            tenant=tenant,
            tags=names,
        )


def checked_ttl_s(ttl_s: float | None) -> float | None:
    """Return ``ttl_s``.

    Raises:
        ValueError: It is not a finite number of seconds, 0 or more.
    """
    if ttl_s is not None and not 0 <= ttl_s < math.inf:
        raise ValueError(f"ttl_s is {ttl_s!r}; it has to be a finite number of seconds, 0 or more")
    return ttl_s


def checked_tags(tags: Iterable[str]) -> tuple[str, ...]:
    """Return ``tags`` as a tuple.

    Raises:
        TypeError: It is one string, whose letters would become the tags.
    """
    if isinstance(tags, str):
        # Not which: tags may name users.
        raise TypeError("tags is one string; it has to be several strings, such as a tuple of one")
    return tuple(tags)


def checked_bytes(data: object) -> bytes:
    """Return ``data`` as bytes.

    Raises:
        TypeError: It is not bytes in any form.
    """
    if isinstance(data, bytes):
        return data
    if isinstance(data, bytearray | memoryview):
        return bytes(data)
    raise TypeError(f"an answer has to be bytes, not {type(data).__name__}")


def _kind(value: object) -> str:
    return type(value).__name__
