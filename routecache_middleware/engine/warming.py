"""Warming: load the metadata of many models ahead of need, a few at a time."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable

from routecache_middleware.core.keys import Layer, model_key
from routecache_middleware.core.models import ModelMetadata
from routecache_middleware.core.records import Provenance, metadata_entry
from routecache_middleware.core.reports import WarmReport
from routecache_middleware.engine.engine import Engine

__all__ = ["warm"]


async def warm(
    engine: Engine,
    model_ids: Iterable[str],
    load: Callable[[str], Awaitable[ModelMetadata]],
    concurrency: int,
) -> WarmReport:
    """Load and store the metadata of every model; one that fails does not stop the rest."""
    models = list(dict.fromkeys(model_ids))
    started_s = engine.clock.monotonic_s()
    warming = _Warming(engine, load, concurrency)
    await asyncio.gather(*(warming.one(model_id) for model_id in models))
    engine.recorder.warm_operations += len(models) - len(warming.failed)
    return WarmReport(
        requested=len(models),
        warmed=len(models) - len(warming.failed),
        failed=warming.failed,
        duration_s=engine.clock.monotonic_s() - started_s,
    )


class _Warming:
    """One call of :func:`warm`."""

    __slots__ = ("_engine", "_load", "_slots", "failed")

    def __init__(
        self, engine: Engine, load: Callable[[str], Awaitable[ModelMetadata]], concurrency: int
    ) -> None:
        self._engine = engine
        self._load = load
        self._slots = asyncio.Semaphore(concurrency)
        self.failed: dict[str, str] = {}

    async def one(self, model_id: str) -> None:
        """Load and store one model."""
        engine = self._engine
        async with self._slots:
            position = engine.table.position  # before loading: see core.invalidation
            try:
                metadata = await self._load(model_id)
            except Exception as error:  # noqa: BLE001 - the loader is the user's; the report names the failure
                self.failed[model_id] = type(error).__name__
                return
            made = Provenance(engine.clock.now_s(), engine.settings.metadata_ttl_s, position)
            entry = metadata_entry(metadata, made)
            if not await engine.put(model_key(Layer.METADATA, model_id), entry):
                self.failed[model_id] = "NotStored"
