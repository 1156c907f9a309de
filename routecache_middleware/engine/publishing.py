"""Write live measurements to the load and metadata layers: no spans, once a second at most."""

import asyncio
import random
from collections.abc import Awaitable, Callable
from dataclasses import replace

from msgspec import structs

from routecache_middleware.core.keys import Layer
from routecache_middleware.core.models import Entry, LoadMetrics, ModelMetadata
from routecache_middleware.core.records import (
    Provenance,
    load_key,
    metadata_entry,
    metadata_key,
    read_metadata,
)
from routecache_middleware.core.shares import Share, live_shares, shared_load_entry, total
from routecache_middleware.engine.engine import Engine
from routecache_middleware.engine.load import ModelLoad
from routecache_middleware.errors import CorruptEntryError

__all__ = ["LoadPublisher", "publish_load", "refresh_load"]

_SOON_S = 0.05
_TICK_S = 0.25  # each model is published once a second: those of a tick that is late wait for less


class LoadPublisher:
    """Keeps what this process measures published for as long as anything is under way.

    A call that takes a minute would otherwise be forgotten by the other processes after
    ``load_ttl_s``. Nothing runs while no model is called.
    """

    def __init__(
        self,
        engine: Engine,
        *,
        settle: Callable[[], None] | None = None,
        prepare: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        """Build one; nothing runs yet.

        Args:
            engine: Where the numbers come from and go.
            settle: Called before each look at the numbers.
            prepare: Called in the background before each writing of some.
        """
        self._engine = engine
        self._settle = settle
        self._prepare = prepare
        self._loop: asyncio.AbstractEventLoop | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._is_publishing = False

    def watch(self) -> None:
        """Begin, in the running event loop, if nothing was under way; for each call that starts."""
        loop = asyncio.get_running_loop()
        if self._timer is None or self._loop is not loop:
            self._loop, self._is_publishing = loop, False
            self._timer = loop.call_later(_SOON_S, self._tick)

    async def aclose(self) -> None:
        """Stop, and publish what has changed."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._settle is not None:
            self._settle()
        await self._publish([name for name, load in self._known() if load.is_changed])

    def _tick(self) -> None:
        loop, self._timer = self._loop, None
        if loop is None or not self._engine.may_write(Layer.LOAD):
            return
        if self._settle is not None:
            self._settle()
        tracker, known = self._engine.load, self._known()
        due = [name for name, load in known if tracker.is_wanting(load) and tracker.is_due(load)]
        if due and not self._is_publishing:
            self._is_publishing = True
            self._engine.background.run(self._publish(due))
        if any(load.is_changed or load.in_flight > 0 for _, load in known):
            # Processes that ticked in step would go on putting back each other's share of a second
            # ago (see `core.shares`), until the one that always writes first is forgotten.
            self._timer = loop.call_later(_TICK_S * random.uniform(0.5, 1.5), self._tick)  # noqa: S311

    def _known(self) -> list[tuple[str, ModelLoad]]:
        return list(self._engine.load.known().items())

    async def _publish(self, model_ids: list[str]) -> None:
        try:
            await self._engine.ensure_open()
            if self._prepare is not None:
                await self._prepare()
            for model_id in model_ids:
                await publish_load(self._engine, model_id)
        finally:
            self._is_publishing = False


async def refresh_load(engine: Engine, model_id: str) -> None:
    """Write a model's load before it is read, if what was last written is no longer right."""
    load = engine.load.known().get(model_id)
    if load is not None and engine.load.is_wanting(load) and engine.may_write(Layer.LOAD):
        await engine.ensure_open()
        await publish_load(engine, model_id)


async def publish_load(engine: Engine, model_id: str) -> None:
    """Write what is known of a model's load, beside what other processes have written.

    Nothing happens for a model never called here.
    """
    if engine.load.metrics(model_id) is None or not engine.may_write(Layer.LOAD):
        return
    engine.load.published(model_id)
    keys = (load_key(model_id), metadata_key(model_id))
    others, known = await engine.peek(keys)  # first: it also reads how far the log has got
    measured, settings = engine.load.metrics(model_id), engine.settings
    if measured is None:
        return
    made = Provenance(engine.clock.now_s(), settings.load_ttl_s, engine.table.position)
    shares = {} if others is None else live_shares(others, made.now_s - others.created_s)
    shares[engine.load.source] = Share(
        measured.in_flight,
        measured.requests_per_s,
        measured.avg_response_time_ms,
        measured.error_rate,
    )
    if settings.load_ttl_s > 0:
        await engine.write(keys[0], shared_load_entry(model_id, shares, made))
    if settings.metadata_ttl_s > 0:
        made = Provenance(made.now_s, settings.metadata_ttl_s, made.position)
        await engine.write(keys[1], _measured(total(model_id, shares), known, made))


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
