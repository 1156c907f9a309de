"""Warming: load the metadata of many models ahead of need, a few at a time."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable

from routecache_middleware.core.keys import Layer
from routecache_middleware.core.models import ModelMetadata
from routecache_middleware.core.records import (
    Provenance,
    checked_metadata,
    metadata_entry,
    metadata_key,
)
from routecache_middleware.core.reports import WarmReport
from routecache_middleware.engine.engine import Engine
from routecache_middleware.engine.leases import Placing

__all__ = ["warm"]

_NOT_STORED = "NotStored"


async def warm(
    engine: Engine,
    model_ids: Iterable[str],
    load: Callable[[str], Awaitable[ModelMetadata]],
    concurrency: int,
) -> WarmReport:
    """Load and store the metadata of every model; one that fails does not stop the rest.

    In a mode in which nothing is stored nothing is loaded either, and every model has failed.
    """
    models = list(dict.fromkeys(model_ids))
    started_s = engine.clock.monotonic_s()
    warming = _Warming(engine, load, models)
    if engine.may_write(Layer.METADATA) and engine.settings.metadata_ttl_s > 0:
        await engine.ensure_open()
        await asyncio.gather(*(warming.work() for _ in range(min(concurrency, len(models)))))
    else:
        warming.failed = dict.fromkeys(models, _NOT_STORED)
    engine.recorder.warm_operations += len(models) - len(warming.failed)
    return WarmReport(
        requested=len(models),
        warmed=len(models) - len(warming.failed),
        failed=warming.failed,
        duration_s=engine.clock.monotonic_s() - started_s,
    )


class _Warming:
    """One call of :func:`warm`."""

    __slots__ = ("_engine", "_load", "_models", "failed")

    def __init__(
        self,
        engine: Engine,
        load: Callable[[str], Awaitable[ModelMetadata]],
        models: Iterable[str],
    ) -> None:
        self._engine = engine
        self._load = load
        self._models = iter(models)
        self.failed: dict[str, str] = {}

    async def work(self) -> None:
        """Load and store models, one after the other, until none is left."""
        for model_id in self._models:
            try:
                is_stored = await self._one(model_id)
            except Exception as error:  # noqa: BLE001 - the loader is the user's; the report names the failure
                self.failed[model_id] = type(error).__name__
            else:
                if not is_stored:
                    self.failed[model_id] = _NOT_STORED

    async def _one(self, model_id: str) -> bool:
        engine = self._engine
        position = await engine.sync()  # before loading: see core.invalidation
        metadata = checked_metadata(await self._load(model_id))
        made = Provenance(engine.clock.now_s(), engine.settings.metadata_ttl_s, position)
        entry = metadata_entry(metadata, made, also=model_id)
        return await engine.put(metadata_key(model_id), entry) is Placing.STORED
