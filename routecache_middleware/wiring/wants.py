"""What callers of RouteCache want: a decision, an answer, or a model's metadata.

Each class is a :class:`routecache_middleware.engine.wanted.Wanted`, which documents the methods.
"""

# ruff: noqa: D102 - see above

from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import ClassVar

import msgspec

from routecache_middleware.core.keys import CacheKey, Layer
from routecache_middleware.core.models import (
    Entry,
    ModelMetadata,
    Outcome,
    QueryResult,
    RoutingDecision,
)
from routecache_middleware.core.ports import Clock
from routecache_middleware.core.records import (
    Provenance,
    checked_metadata,
    decision_entry,
    mark,
    metadata_entry,
    read_decision,
    read_metadata,
    read_result,
    result_entry,
)
from routecache_middleware.wiring.eligibility import Chooser, Eligible
from routecache_middleware.wiring.records import (
    checked_bytes,
)

__all__ = ["WantedDecision", "WantedMetadata", "WantedResult"]


class _Terms(msgspec.Struct):
    """What the three kinds of :class:`.get_or_compute.Wanted` have in common."""

    key: CacheKey
    tenant: str
    tags: tuple[str, ...]
    ttl_s: float | None
    refresh: bool
    store: bool


class WantedDecision(_Terms):
    """A routing decision; one whose model may not be used falls back to an alternative."""

    layer: ClassVar[Layer] = Layer.ROUTING

    compute: Callable[[], Awaitable[RoutingDecision]]
    router_version: str
    eligible: Eligible | None
    chooser: Chooser

    def read(self, entry: Entry, age_s: float) -> RoutingDecision | None:
        decision = read_decision(entry, age_s)
        return decision if self.eligible is None else self.chooser.choose(decision, self.eligible)

    async def make(self) -> RoutingDecision:
        decision = await self.compute()
        if not isinstance(decision, RoutingDecision):
            raise TypeError(f"compute returned no RoutingDecision but a {type(decision).__name__}")
        if self.router_version and not decision.router_version:
            return replace(decision, router_version=self.router_version)
        return decision

    def write(self, value: RoutingDecision, made: Provenance) -> Entry:
        return decision_entry(value, made)

    def models(self, value: RoutingDecision | None) -> tuple[str, ...]:
        return () if value is None else (value.selected_model,)

    def mark(self, value: RoutingDecision, outcome: Outcome) -> RoutingDecision:
        return mark(self.chooser.choose(value, self.eligible) or value, outcome)


class WantedResult(_Terms):
    """An answer of a model."""

    layer: ClassVar[Layer] = Layer.RESULT

    compute: Callable[[], Awaitable[bytes | QueryResult]]
    model_id: str
    clock: Clock

    def read(self, entry: Entry, age_s: float) -> QueryResult:
        return read_result(entry, age_s)

    async def make(self) -> QueryResult:
        started_s = self.clock.monotonic_s()
        made = await self.compute()
        if isinstance(made, QueryResult):
            return made
        elapsed_ms = (self.clock.monotonic_s() - started_s) * 1000
        return QueryResult(checked_bytes(made), self.model_id, elapsed_ms)

    def write(self, value: QueryResult, made: Provenance) -> Entry:
        return result_entry(value, made, shape=value.mode.value, also=self.model_id)

    def models(self, value: QueryResult | None) -> tuple[str, ...]:
        return (self.model_id,) if value is None else (self.model_id, value.model_id)

    def mark(self, value: QueryResult, outcome: Outcome) -> QueryResult:
        return mark(value, outcome)


class WantedMetadata(_Terms):
    """What is known of a model; what only measurement has made does not count."""

    layer: ClassVar[Layer] = Layer.METADATA

    load: Callable[[str], Awaitable[ModelMetadata]]
    model_id: str

    def read(self, entry: Entry, age_s: float) -> ModelMetadata | None:
        metadata = read_metadata(entry, age_s)
        return None if metadata.is_observed else metadata

    async def make(self) -> ModelMetadata:
        return checked_metadata(await self.load(self.model_id))

    def write(self, value: ModelMetadata, made: Provenance) -> Entry:
        return metadata_entry(value, made, also=self.model_id)

    def models(self, value: ModelMetadata | None) -> tuple[str, ...]:
        return (self.model_id,) if value is None else (self.model_id, value.model_id)

    def mark(self, value: ModelMetadata, outcome: Outcome) -> ModelMetadata:
        return mark(value, outcome)
