"""Records to entries and back: what the layers store, as msgpack."""

from collections.abc import Iterable
from dataclasses import replace
from typing import TypeVar

import msgspec

from routecache_middleware.core.invalidation import (
    model_scope,
    tag_scope,
    tenant_model_scope,
    tenant_scope,
)
from routecache_middleware.core.keys import Layer
from routecache_middleware.core.models import (
    Entry,
    LoadMetrics,
    ModelMetadata,
    Outcome,
    Position,
    QueryResult,
    RoutingDecision,
    Scope,
)
from routecache_middleware.errors import CorruptEntryError

__all__ = [
    "Provenance",
    "decision_entry",
    "load_entry",
    "metadata_entry",
    "read_decision",
    "read_load",
    "read_metadata",
    "read_result",
    "result_entry",
    "scopes_of",
]

R = TypeVar("R", RoutingDecision, ModelMetadata, LoadMetrics)

_encode = msgspec.msgpack.Encoder().encode
_decision = msgspec.msgpack.Decoder(RoutingDecision)
_metadata = msgspec.msgpack.Decoder(ModelMetadata)
_load = msgspec.msgpack.Decoder(LoadMetrics)


class Provenance(msgspec.Struct, frozen=True):
    """Where and when a record is made.

    Attributes:
        now_s: Unix seconds.
        ttl_s: Freshness lifetime granted, seconds.
        position: Captured position.
        tenant: Whose it is; empty for no tenant.
        tags: Names under which the operator may invalidate it.
        origin: ``traceparent`` of the maker, or empty.
    """

    now_s: float
    ttl_s: float
    position: Position
    tenant: str = ""
    tags: tuple[str, ...] = ()
    origin: str = ""


def scopes_of(tenant: str, models: Iterable[str], tags: Iterable[str] = ()) -> tuple[Scope, ...]:
    """Name what invalidates something of ``tenant`` that depends on ``models``."""
    scopes = [tenant_scope(tenant)]
    for model in models:
        scopes += (model_scope(model), tenant_model_scope(tenant, model))
    scopes += map(tag_scope, tags)
    return tuple(scopes)


def decision_entry(decision: RoutingDecision, made: Provenance) -> Entry:
    """Entry of a routing decision; it is invalidated with the model that it selected."""
    return Entry(
        layer=Layer.ROUTING,
        body=_encode(replace(decision, outcome=Outcome.MISS, age_s=0.0)),
        created_s=made.now_s,
        freshness_lifetime_s=made.ttl_s,
        cost_ms=decision.decide_ms,
        position=made.position,
        scopes=scopes_of(made.tenant, (decision.selected_model,), made.tags),
        model_id=decision.selected_model,
        router_version=decision.router_version,
        origin=made.origin,
    )


def result_entry(result: QueryResult, made: Provenance, *, shape: str, also: str = "") -> Entry:
    """Entry of an answer. ``also``: another name of the model, under which it can be invalidated too."""
    models = (result.model_id, also) if also and also != result.model_id else (result.model_id,)
    return Entry(
        layer=Layer.RESULT,
        body=result.result_data,
        created_s=made.now_s,
        freshness_lifetime_s=made.ttl_s,
        cost_ms=result.response_time_ms,
        position=made.position,
        scopes=scopes_of(made.tenant, models, made.tags),
        model_id=result.model_id,
        content_type=result.content_type,
        mode=result.mode,
        shape=shape,
        has_usage=result.has_usage,
        headers=result.headers,
        origin=made.origin,
    )


def metadata_entry(metadata: ModelMetadata, made: Provenance) -> Entry:
    """Entry of a model's metadata."""
    return _model_entry(Layer.METADATA, metadata, made)


def load_entry(metrics: LoadMetrics, made: Provenance) -> Entry:
    """Entry of a model's load metrics."""
    return _model_entry(Layer.LOAD, metrics, made)


def read_decision(entry: Entry, outcome: Outcome, age_s: float) -> RoutingDecision:
    """Take the decision out of an entry, marked with how it came."""
    return _read(_decision, entry, outcome, age_s)


def read_metadata(entry: Entry, outcome: Outcome, age_s: float) -> ModelMetadata:
    """Take the metadata out of an entry, marked with how it came."""
    return _read(_metadata, entry, outcome, age_s)


def read_load(entry: Entry, outcome: Outcome, age_s: float) -> LoadMetrics:
    """Take the load metrics out of an entry, marked with how they came."""
    return _read(_load, entry, outcome, age_s)


def read_result(entry: Entry, outcome: Outcome, age_s: float) -> QueryResult:
    """Take the answer out of an entry, marked with how it came."""
    return QueryResult(
        result_data=entry.body,
        model_id=entry.model_id,
        response_time_ms=entry.cost_ms,
        content_type=entry.content_type,
        mode=entry.mode,
        has_usage=entry.has_usage,
        headers=entry.headers,
        outcome=outcome,
        age_s=age_s,
    )


def _model_entry(layer: Layer, record: ModelMetadata | LoadMetrics, made: Provenance) -> Entry:
    return Entry(
        layer=layer,
        body=_encode(replace(record, outcome=Outcome.MISS, age_s=0.0)),
        created_s=made.now_s,
        freshness_lifetime_s=made.ttl_s,
        position=made.position,
        scopes=(model_scope(record.model_id), *map(tag_scope, made.tags)),
        model_id=record.model_id,
        origin=made.origin,
    )


def _read(decoder: msgspec.msgpack.Decoder[R], entry: Entry, outcome: Outcome, age_s: float) -> R:
    try:
        record = decoder.decode(entry.body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise CorruptEntryError(f"the body of a {entry.layer} entry cannot be read") from error
    # Just decoded, so nobody else has it yet; a copy through `replace` would cost four times as much.
    object.__setattr__(record, "outcome", outcome)
    object.__setattr__(record, "age_s", age_s)
    return record
