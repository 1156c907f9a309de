"""Write live measurements to the load and metadata layers, quietly: no spans, once a second at most."""

from dataclasses import replace

import msgspec

from routecache_middleware.core.keys import Layer, model_key
from routecache_middleware.core.models import ModelMetadata, Outcome
from routecache_middleware.core.records import Provenance, load_entry, metadata_entry, read_metadata
from routecache_middleware.engine.engine import Engine
from routecache_middleware.errors import CorruptEntryError

__all__ = ["publish_load", "refresh_load"]


async def refresh_load(engine: Engine, model_id: str) -> None:
    """Write a model's load before it is read, if it changed here since it was last written."""
    load = engine.load.known().get(model_id)
    if load is not None and load.is_changed:
        await publish_load(engine, model_id)


async def publish_load(engine: Engine, model_id: str) -> None:
    """Write what is known of a model's load. Nothing happens for a model never called here."""
    metrics = engine.load.metrics(model_id)
    if metrics is None:
        return
    engine.load.published(model_id)
    settings, position = engine.settings, engine.table.position
    made = Provenance(engine.clock.now_s(), settings.load_ttl_s, position)
    await engine.write(model_key(Layer.LOAD, model_id), load_entry(metrics, made))
    key = model_key(Layer.METADATA, model_id)
    measured = ModelMetadata(
        model_id,
        current_load=float(metrics.in_flight),
        avg_response_time_ms=metrics.avg_response_time_ms,
        is_observed=True,
    )
    entry = await engine.peek(key)
    made = Provenance(made.now_s, settings.metadata_ttl_s, position)
    if entry is not None:
        try:
            known = read_metadata(entry, Outcome.HIT, 0.0)
        except CorruptEntryError:
            return
        if not known.is_observed:
            # What a loader said keeps its own lifetime: measuring must not make it look fresh.
            measured = replace(measured, capabilities=known.capabilities, is_observed=False)
            body = metadata_entry(measured, made).body
            await engine.write(key, msgspec.structs.replace(entry, body=body))
            return
    await engine.write(key, metadata_entry(measured, made))
