"""The invalidate methods of RouteCache: each is one append to the invalidation log."""

import math

from routecache_middleware.core.invalidation import (
    ALL,
    InvalidationRow,
    key_scope,
    layer_scope,
    model_scope,
    tag_scope,
    tenant_model_scope,
    tenant_scope,
)
from routecache_middleware.core.keys import Layer, result_key, route_key
from routecache_middleware.core.models import Scope
from routecache_middleware.core.reports import InvalidationReport
from routecache_middleware.engine.engine import Engine

__all__ = ["Invalidations"]


class Invalidations:
    """Part of :class:`RouteCache`.

    What is invalidated is never served again, and what was being made when the invalidation came
    is dead on arrival. Conditions narrow an invalidation: ``older_than`` (Unix seconds) spares what
    was finished at or after that time, ``router_version`` hits only decisions made by that version.

    All raise :class:`CoordinatorError` when the invalidation could not be recorded. It has then
    taken effect in this process, and recording it is tried again until it succeeds.
    """

    engine: Engine

    async def invalidate_model(
        self,
        model_id: str,
        *,
        tenant: str | None = None,
        older_than: float | None = None,
        router_version: str | None = None,
    ) -> InvalidationReport:
        """Drop a model's metadata and load, every decision that selected it, every answer it made.

        With ``tenant``: only what was stored for that tenant.
        """
        scope = model_scope(model_id) if tenant is None else tenant_model_scope(tenant, model_id)
        return await self._invalidate(scope, older_than, router_version)

    async def invalidate_routing_decision(
        self,
        query_hash: str,
        *,
        tenant: str = "",
        older_than: float | None = None,
        router_version: str | None = None,
    ) -> InvalidationReport:
        """Drop the decision for one query."""
        return await self._invalidate(
            key_scope(route_key(query_hash, tenant)), older_than, router_version
        )

    async def invalidate_query_result(
        self,
        query_hash: str,
        model_id: str,
        *,
        tenant: str = "",
        older_than: float | None = None,
        router_version: str | None = None,
    ) -> InvalidationReport:
        """Drop the answer of one model to one query."""
        return await self._invalidate(
            key_scope(result_key(query_hash, model_id, tenant)), older_than, router_version
        )

    async def invalidate_tenant(
        self, tenant: str, *, older_than: float | None = None, router_version: str | None = None
    ) -> InvalidationReport:
        """Drop everything of a tenant."""
        return await self._invalidate(tenant_scope(tenant), older_than, router_version)

    async def invalidate_tag(
        self, tag: str, *, older_than: float | None = None, router_version: str | None = None
    ) -> InvalidationReport:
        """Drop everything that was stored with a tag, whoever stored it."""
        return await self._invalidate(tag_scope(tag), older_than, router_version)

    async def invalidate_layer(
        self,
        layer: Layer | str,
        *,
        older_than: float | None = None,
        router_version: str | None = None,
    ) -> InvalidationReport:
        """Drop a whole layer: ``route``, ``result``, ``meta`` or ``load``.

        Raises:
            ValueError: There is no such layer.
        """
        return await self._invalidate(layer_scope(Layer(layer)), older_than, router_version)

    async def invalidate_all(
        self, *, older_than: float | None = None, router_version: str | None = None
    ) -> InvalidationReport:
        """Drop everything."""
        return await self._invalidate(ALL, older_than, router_version)

    async def _invalidate(
        self, scope: Scope, older_than: float | None, router_version: str | None
    ) -> InvalidationReport:
        if older_than is not None and not math.isfinite(older_than):
            raise ValueError(f"older_than is {older_than!r}; it has to be Unix seconds")
        await self.engine.ensure_open()
        receipt = await self.engine.invalidate([InvalidationRow(scope, older_than, router_version)])
        return InvalidationReport(scope, receipt.position, receipt.replicas_acknowledged)
