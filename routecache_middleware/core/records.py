"""Records to entries and back: what the layers store, as msgpack.

A msgpack string cannot hold a lone surrogate, which JSON can and so the name of a model. Such a
record is written as JSON; no msgpack map begins with a brace.
"""

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import fields, replace
from functools import partial
from typing import Generic, TypeVar

import msgspec
from msgspec import structs

from routecache_middleware.core.invalidation import (
    model_scope,
    tag_scope,
    tenant_model_scope,
    tenant_scope,
)
from routecache_middleware.core.keys import CacheKey, Layer, model_key
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
    "checked_metadata",
    "decision_entry",
    "load_entry",
    "load_key",
    "mark",
    "metadata_entry",
    "metadata_key",
    "read_decision",
    "read_load",
    "read_metadata",
    "read_result",
    "result_entry",
    "scopes_of",
    "with_models",
    "with_tags",
    "with_tenant",
]

_Packed = TypeVar("_Packed", RoutingDecision, ModelMetadata, LoadMetrics)
_Record = TypeVar("_Record", RoutingDecision, QueryResult, ModelMetadata)

_HIT = Outcome.HIT
_JSON = b"{"
_MOST_TOKENS = 10**12  # what is above is a mistake of the upstream


class Provenance(msgspec.Struct, frozen=True):
    """Where and when a record is made.

    Attributes:
        now_s: Unix seconds.
        ttl_s: Freshness lifetime granted, seconds.
        position: Captured position.
        tenant: Whose it is; empty for no tenant.
        tags: Names under which the operator may invalidate it.
        origin: ``traceparent`` of the maker, or empty.
        stale_while_revalidate_s: For how long after its lifetime it may be served while it is made
            anew.
        stale_if_error_s: For how long after its lifetime it may be served when that fails.
    """

    now_s: float
    ttl_s: float
    position: Position
    tenant: str = ""
    tags: tuple[str, ...] = ()
    origin: str = ""
    stale_while_revalidate_s: float = 0.0
    stale_if_error_s: float = 0.0


def scopes_of(tenant: str, models: Iterable[str], tags: Iterable[str] = ()) -> tuple[Scope, ...]:
    """Name what invalidates something of ``tenant`` that depends on ``models``."""
    scopes = [tenant_scope(tenant)]
    for model in models:
        scopes += (model_scope(model), tenant_model_scope(tenant, model))
    scopes += map(tag_scope, tags)
    return tuple(scopes)


def with_models(entry: Entry, tenant: str, models: Iterable[str]) -> Entry:
    """Return an entry of ``tenant`` as if further models had a part in it."""
    also = [
        scope
        for model in models
        for scope in (model_scope(model), tenant_model_scope(tenant, model))
    ]
    return structs.replace(entry, scopes=tuple(dict.fromkeys((*entry.scopes, *also))))


def with_tags(entry: Entry, tags: Iterable[str]) -> Entry:
    """Return ``entry`` as if it had been stored with ``tags`` as well."""
    return structs.replace(entry, scopes=(*entry.scopes, *map(tag_scope, tags)))


def with_tenant(entry: Entry, tenant: str) -> Entry:
    """Return ``entry`` as if it had been stored for ``tenant`` as well."""
    models = [scope.partition(":")[2] for scope in entry.scopes if scope.startswith("model:")]
    own = tenant_scope(tenant)
    name = own.partition(":")[2]  # escaped, as the models' names are
    also = [Scope(f"tenant-model:{name}:{model}") for model in models]
    return structs.replace(entry, scopes=(*entry.scopes, own, *also))


def metadata_key(model_id: str, tenant: str = "") -> CacheKey:
    """Key of what is known of a model; without a tenant: by everybody."""
    return model_key(Layer.METADATA, model_id, tenant)


def load_key(model_id: str, tenant: str = "") -> CacheKey:
    """Key of a model's load; without a tenant: as measured over all of them."""
    return model_key(Layer.LOAD, model_id, tenant)


def decision_entry(decision: RoutingDecision, made: Provenance) -> Entry:
    """Entry of a routing decision; it is invalidated with the model that it selected."""
    return Entry(
        layer=Layer.ROUTING,
        body=_pack(decision),
        created_s=made.now_s,
        freshness_lifetime_s=made.ttl_s,
        stale_while_revalidate_s=made.stale_while_revalidate_s,
        stale_if_error_s=made.stale_if_error_s,
        cost_ms=decision.decide_ms,
        position=made.position,
        scopes=scopes_of(made.tenant, (decision.selected_model,), made.tags),
        model_id=decision.selected_model,
        router_version=decision.router_version,
        origin=made.origin,
    )


def result_entry(
    result: QueryResult,
    made: Provenance,
    *,
    shape: str,
    also: str = "",
    tokens: tuple[int, int] = (0, 0),
) -> Entry:
    """Entry of an answer.

    Args:
        result: The answer.
        made: Where and when it was made.
        shape: Its exact wire form.
        also: Another name of its model, with which it is invalidated too.
        tokens: Input and output tokens, as its usage says; 0: unknown.
    """
    input_tokens, output_tokens = (max(0, min(count, _MOST_TOKENS)) for count in tokens)
    return Entry(
        layer=Layer.RESULT,
        body=result.result_data,
        created_s=made.now_s,
        freshness_lifetime_s=made.ttl_s,
        stale_while_revalidate_s=made.stale_while_revalidate_s,
        stale_if_error_s=made.stale_if_error_s,
        cost_ms=result.response_time_ms,
        position=made.position,
        scopes=scopes_of(made.tenant, _names(result.model_id, also), made.tags),
        model_id=result.model_id,
        content_type=result.content_type,
        mode=result.mode,
        shape=shape,
        has_usage=result.has_usage,
        headers=result.headers,
        origin=made.origin,
        input_tokens=input_tokens,
        output_tokens=output_tokens,
    )


def metadata_entry(metadata: ModelMetadata, made: Provenance, *, also: str = "") -> Entry:
    """Entry of a model's metadata; ``also`` as for answers."""
    return _model_entry(Layer.METADATA, metadata, made, also)


def load_entry(
    metrics: LoadMetrics, made: Provenance, *, shares: Mapping[str, object] | None = None
) -> Entry:
    """Entry of a model's load metrics; ``shares``: what they are the sum of, see :mod:`.shares`."""
    return _model_entry(Layer.LOAD, metrics, made, "", {"shares": shares} if shares else {})


def read_decision(entry: Entry, age_s: float) -> RoutingDecision:
    """Take the decision out of an entry, marked as a hit.

    Raises:
        CorruptEntryError: There is none in it.
    """
    return _decision.read(entry, age_s)


def read_metadata(entry: Entry, age_s: float) -> ModelMetadata:
    """Take the metadata out of an entry, marked as a hit; errors as for decisions."""
    return _metadata.read(entry, age_s)


def read_load(entry: Entry, age_s: float) -> LoadMetrics:
    """Take the load metrics out of an entry, marked as a hit; errors as for decisions."""
    return _load.read(entry, age_s)


def read_result(entry: Entry, age_s: float) -> QueryResult:
    """Take the answer out of an entry, marked as a hit."""
    return QueryResult(
        entry.body,
        entry.model_id,
        entry.cost_ms,
        entry.content_type,
        entry.mode,
        entry.has_usage,
        entry.headers,
        _HIT,
        age_s,
    )


def checked_metadata(loaded: object) -> ModelMetadata:
    """Return what a loader returned.

    Raises:
        TypeError: It is no metadata.
    """
    if isinstance(loaded, ModelMetadata):
        return loaded
    raise TypeError(f"the loader returned no ModelMetadata but a {type(loaded).__name__}")


def mark(record: _Record, outcome: Outcome) -> _Record:
    """Return a record marked with how it came; it has just been made, unless it is stale."""
    if outcome is Outcome.STALE:
        return replace(record, outcome=outcome)
    if record.outcome is outcome and not record.age_s:
        return record
    return replace(record, outcome=outcome, age_s=0.0)


def _model_entry(
    layer: Layer,
    record: ModelMetadata | LoadMetrics,
    made: Provenance,
    also: str,
    beside: Mapping[str, object] | None = None,
) -> Entry:
    models = _names(record.model_id, also)
    # Without a tenant it is nobody's: invalidating the tenant "" spares it.
    scopes = (
        scopes_of(made.tenant, models, made.tags)
        if made.tenant
        else (*map(model_scope, models), *map(tag_scope, made.tags))
    )
    return Entry(
        layer=layer,
        body=_pack(record, beside),
        created_s=made.now_s,
        freshness_lifetime_s=made.ttl_s,
        position=made.position,
        scopes=scopes,
        model_id=record.model_id,
        origin=made.origin,
    )


def _names(model_id: str, also: str) -> tuple[str, ...]:
    return (model_id, also) if also and also != model_id else (model_id,)


class _Format(Generic[_Packed]):
    """How records of one kind are written and read."""

    __slots__ = ("_convert", "_decode", "_set_age_s", "_set_outcome")

    def __init__(self, kind: type[_Packed]) -> None:
        self._decode: Callable[[bytes], _Packed] = msgspec.msgpack.Decoder(kind).decode
        self._convert = partial(msgspec.convert, type=kind)
        # The slots themselves: what was just decoded nobody else has yet, and a copy through
        # `replace` would cost ten times as much.
        self._set_outcome = vars(kind)["outcome"].__set__
        self._set_age_s = vars(kind)["age_s"].__set__

    def read(self, entry: Entry, age_s: float) -> _Packed:
        try:
            body = entry.body
            record: _Packed = (
                self._convert(json.loads(body)) if body[:1] == _JSON else self._decode(body)
            )
        except (ValueError, RecursionError) as error:
            raise CorruptEntryError(f"the body of a {entry.layer} entry cannot be read") from error
        self._set_outcome(record, _HIT)
        self._set_age_s(record, age_s)
        return record


_decision = _Format(RoutingDecision)
_metadata = _Format(ModelMetadata)
_load = _Format(LoadMetrics)


def _pack(
    record: RoutingDecision | ModelMetadata | LoadMetrics,
    beside: Mapping[str, object] | None = None,
) -> bytes:
    values = {field.name: getattr(record, field.name) for field in fields(record)}
    values.update(outcome=Outcome.MISS, age_s=0.0)  # how it came here is no part of it
    values.update(beside or {})
    try:
        return _encode(values)
    except UnicodeEncodeError:
        return json.dumps(values, default=_plain).encode("ascii")


def _plain(value: object) -> object:
    """Return a plain value for one of a derived kind, such as the numbers of numpy."""
    for kind in (str, int, float):
        if isinstance(value, kind):
            return kind(value)
    if isinstance(value, Mapping):
        return dict(value)
    item = getattr(value, "item", None)  # a number of numpy that is no float: float32, int64 ...
    if callable(item):
        return item()
    raise TypeError(f"a {type(value).__name__} cannot be stored")


_encode = msgspec.msgpack.Encoder(enc_hook=_plain).encode
