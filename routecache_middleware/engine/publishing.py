"""Write live measurements to the load and metadata layers: no spans, once a second at most."""

from dataclasses import replace

from msgspec import structs

from routecache_middleware.core.keys import Layer
from routecache_middleware.core.models import Entry, LoadMetrics, ModelMetadata
from routecache_middleware.core.records import (
    Provenance,
    load_entry,
    load_key,
    metadata_entry,
    metadata_key,
    read_metadata,
)
from routecache_middleware.engine.engine import Engine
from routecache_middleware.errors import CorruptEntryError

__all__ = ["publish_load", "refresh_load"]


async def refresh_load(engine: Engine, model_id: str) -> None:
    """Write a model's load before it is read, if it changed here since it was last written."""
    load = engine.load.known().get(model_id)
    if load is not None and load.is_changed and engine.may_write(Layer.LOAD):
        await engine.ensure_open()
        await publish_load(engine, model_id)


async def publish_load(engine: Engine, model_id: str) -> None:
    """Write what is known of a model's load. Nothing happens for a model never called here."""
    metrics = engine.load.metrics(model_id)
    if metrics is None or not engine.may_write(Layer.LOAD):
        return
    engine.load.published(model_id)
    key, settings = metadata_key(model_id), engine.settings
    known = await engine.peek(key)  # first: it also reads how far the log has got
    made = Provenance(engine.clock.now_s(), settings.load_ttl_s, engine.table.position)
    if settings.load_ttl_s > 0:
        await engine.write(load_key(model_id), load_entry(metrics, made))
    if settings.metadata_ttl_s > 0:
        made = Provenance(made.now_s, settings.metadata_ttl_s, made.position)
        await engine.write(key, _measured(metrics, known, made))


def _measured(metrics: LoadMetrics, known: Entry | None, made: Provenance) -> Entry:
    """Entry of the metadata with what was measured, keeping what a loader said."""
    measured = ModelMetadata(
        metrics.model_id,
        current_load=float(metrics.in_flight),
        avg_response_time_ms=metrics.avg_response_time_ms,
        is_observed=True,
    )
    try:
        said = None if known is None else read_metadata(known, 0.0)
    except CorruptEntryError:
        said = None
    if known is None or said is None or said.is_observed:
        return metadata_entry(measured, made)
    merged = replace(
        said,
        current_load=measured.current_load,
        avg_response_time_ms=measured.avg_response_time_ms,
    )
    # It keeps its own lifetime: measuring must not make what the loader said look fresh.
    return structs.replace(known, body=metadata_entry(merged, made).body)
