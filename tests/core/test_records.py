"""Records survive being stored, whatever their text; anything else is one kind of error."""

import math
from collections.abc import Callable
from types import MappingProxyType
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from routecache_middleware.core.invalidation import (
    InvalidationRow,
    InvalidationTable,
    LoggedRow,
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
    ResponseMode,
    RoutingDecision,
    Scope,
)
from routecache_middleware.core.records import (
    Provenance,
    decision_entry,
    load_entry,
    load_key,
    mark,
    metadata_entry,
    metadata_key,
    read_decision,
    read_load,
    read_metadata,
    read_result,
    result_entry,
    scopes_of,
    with_tags,
    with_tenant,
)
from routecache_middleware.errors import CorruptEntryError

MADE = Provenance(1_700_000_000.0, 60.0, Position(7), "acme", ("blue",), "00-a-b-01")
TEXT = st.text(st.characters())
NUMBER = st.floats(0, 1e9)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=8,
)


@given(
    st.builds(
        RoutingDecision,
        TEXT,
        st.floats(allow_nan=False),
        st.lists(st.tuples(TEXT, NUMBER), max_size=3).map(tuple),
        TEXT,
        TEXT,
        TEXT,
        NUMBER,
    )
)
def test_a_decision_survives(decision: RoutingDecision) -> None:
    entry = decision_entry(decision, MADE)
    found = read_decision(entry, 3.5)
    assert found == decision
    assert (found.outcome, found.age_s) == (Outcome.HIT, 3.5)
    assert isinstance(found.alternatives, tuple)
    assert (entry.layer, entry.model_id) == (Layer.ROUTING, decision.selected_model)
    assert (entry.router_version, entry.cost_ms) == (decision.router_version, decision.decide_ms)


@given(st.builds(ModelMetadata, TEXT, st.dictionaries(TEXT, JSON, max_size=3), NUMBER, NUMBER))
def test_metadata_survives(metadata: ModelMetadata) -> None:
    found = read_metadata(metadata_entry(metadata, MADE), 1.0)
    assert found == metadata
    assert found.outcome is Outcome.HIT


@given(st.builds(LoadMetrics, TEXT, st.integers(0, 10**6), NUMBER, NUMBER, st.floats(0, 1)))
def test_load_survives(metrics: LoadMetrics) -> None:
    found = read_load(load_entry(metrics, MADE), 1.0)
    assert found == metrics
    assert found.outcome is Outcome.HIT


@given(st.builds(QueryResult, st.binary(), TEXT, NUMBER, TEXT, st.sampled_from(ResponseMode)))
def test_an_answer_survives(result: QueryResult) -> None:
    entry = result_entry(result, MADE, shape="json")
    assert entry.body is result.result_data
    found = read_result(entry, 2.0)
    assert found == result
    assert (found.outcome, found.age_s) == (Outcome.HIT, 2.0)


def test_not_a_number_survives_as_well() -> None:
    for model in ("m", "\ud800"):
        found = read_decision(decision_entry(RoutingDecision(model, math.nan), MADE), 0.0)
        assert math.isnan(found.score)


def test_how_a_record_came_is_not_stored() -> None:
    fresh = RoutingDecision("m")
    used = RoutingDecision("m", outcome=Outcome.STALE, age_s=9.0)
    assert decision_entry(fresh, MADE) == decision_entry(used, MADE)


class Word(str):
    __slots__ = ()


class Number(float):
    """As numpy's float64."""


class Scalar:
    """As numpy's float32 or int64: no float, but it knows one."""

    def __init__(self, value: object) -> None:
        self.value = value

    def item(self) -> object:
        return self.value


@pytest.mark.parametrize("suffix", ["", "\ud800"])
def test_values_of_derived_kinds_are_stored_as_plain_ones(suffix: str) -> None:
    score: Any = Scalar(0.5)
    decision = RoutingDecision(Word("m" + suffix), score, ((Word("n"), Number(0.25)),))
    found = read_decision(decision_entry(decision, MADE), 0.0)
    assert found == RoutingDecision("m" + suffix, 0.5, (("n", 0.25),))
    capabilities = MappingProxyType({"tools": True, "sizes": (Scalar(1), 2)})
    stored = metadata_entry(ModelMetadata("m" + suffix, capabilities), MADE)
    assert read_metadata(stored, 0.0).capabilities == {"tools": True, "sizes": [1, 2]}


@pytest.mark.parametrize("model", ["m", "\ud800"])
def test_what_is_no_value_is_a_type_error(model: str) -> None:
    with pytest.raises(TypeError, match="a object cannot be stored"):
        metadata_entry(ModelMetadata(model, {"x": object()}), MADE)


BODIES = [
    b"",
    b"\x00",
    b"\xc1",
    b"{",
    b"{}",
    b"{\xff",
    b'{"selected_model": 3, "model_id": 3}',
    b"[" * 100_000,
    b'{"a":' * 100_000,
    msgspec.msgpack.encode({"selected_model": 1, "model_id": 1}),
    msgspec.msgpack.encode({"selected_model": "m", "model_id": "m"})[:-1],
    msgspec.msgpack.encode({}),
    b"\x81\xa1a\xa1\xff",
]


@pytest.mark.parametrize("body", BODIES)
@pytest.mark.parametrize("read", [read_decision, read_metadata, read_load])
def test_what_is_no_record_is_a_corrupt_entry(
    read: Callable[[Entry, float], object], body: bytes
) -> None:
    with pytest.raises(CorruptEntryError):
        read(Entry(Layer.ROUTING, body, 0.0, 1.0), 0.0)


def test_what_invalidates_something() -> None:
    assert scopes_of("t", ("m", "n"), ("x",)) == (
        tenant_scope("t"),
        model_scope("m"),
        tenant_model_scope("t", "m"),
        model_scope("n"),
        tenant_model_scope("t", "n"),
        tag_scope("x"),
    )
    assert scopes_of("", ()) == (tenant_scope(""),)


RESULT = QueryResult(b"{}", "m-2024-08-06")


@pytest.mark.parametrize(
    ("entry", "scopes"),
    [
        (decision_entry(RoutingDecision("m"), MADE), scopes_of("acme", ("m",), ("blue",))),
        (result_entry(RESULT, MADE, shape="json"), scopes_of("acme", [RESULT.model_id], ["blue"])),
        (
            result_entry(RESULT, MADE, shape="json", also="m"),
            scopes_of("acme", (RESULT.model_id, "m"), ("blue",)),
        ),
        (
            result_entry(RESULT, MADE, shape="json", also=RESULT.model_id),
            scopes_of("acme", (RESULT.model_id,), ("blue",)),
        ),
        (metadata_entry(ModelMetadata("m"), MADE), scopes_of("acme", ("m",), ("blue",))),
        (
            metadata_entry(ModelMetadata("m"), MADE, also="n"),
            scopes_of("acme", ("m", "n"), ("blue",)),
        ),
        (
            metadata_entry(ModelMetadata("m"), Provenance(0.0, 1.0, Position(0), tags=("x",))),
            (model_scope("m"), tag_scope("x")),
        ),
        (load_entry(LoadMetrics("m"), Provenance(0.0, 1.0, Position(0))), (model_scope("m"),)),
    ],
)
def test_an_entry_names_what_invalidates_it(entry: Entry, scopes: tuple[Scope, ...]) -> None:
    assert entry.scopes == scopes


def test_an_entry_says_where_and_when_it_was_made() -> None:
    for entry in (
        decision_entry(RoutingDecision("m"), MADE),
        result_entry(RESULT, MADE, shape="json"),
        metadata_entry(ModelMetadata("m"), MADE),
        load_entry(LoadMetrics("m"), MADE),
    ):
        assert (entry.created_s, entry.freshness_lifetime_s) == (MADE.now_s, 60.0)
        assert (entry.position, entry.origin) == (7, "00-a-b-01")


def test_tags_can_be_added_for_one_look() -> None:
    entry = metadata_entry(ModelMetadata("m"), MADE)
    table = InvalidationTable()
    table.fold([LoggedRow(Position(8), InvalidationRow(tag_scope("green")))])
    key = metadata_key("m")
    assert table.is_current(key, entry)
    assert not table.is_current(key, with_tags(entry, ("green",)))


def test_keys_of_models_keep_tenants_apart() -> None:
    assert metadata_key("m") == model_key(Layer.METADATA, "m")
    assert load_key("m") == model_key(Layer.LOAD, "m")
    assert metadata_key("m", "a:b@c") == CacheKey("meta:a%3Ab%40c@m")
    assert load_key("n@m", "") != load_key("m", "n")


def test_a_record_just_made_is_marked_with_how_it_came() -> None:
    decision = RoutingDecision("m", outcome=Outcome.HIT, age_s=5.0)
    marked = mark(decision, Outcome.COALESCED)
    assert (marked, marked.outcome, marked.age_s) == (decision, Outcome.COALESCED, 0.0)
    assert mark(marked, Outcome.COALESCED) is marked
    assert mark(decision, Outcome.HIT).age_s == 0.0


def test_an_entry_taken_over_by_another_tenant_is_invalidated_with_that_tenants_names_too() -> None:
    made = Provenance(1.0, 60.0, Position(3), tenant="old: one")
    entry = result_entry(QueryResult(b"{}", "a:b"), made, shape="json", also="c")
    taken = with_tenant(entry, "new: one")
    expected = scopes_of("new: one", ("a:b", "c"))
    assert set(taken.scopes) == set(entry.scopes) | set(expected)
    assert taken.body == entry.body


def test_a_decision_written_before_it_could_have_detail_is_read() -> None:
    """A rolling deploy: older processes write no such field, and skip one that they find."""
    entry = decision_entry(RoutingDecision("m", 0.5, detail="more"), MADE)
    values = msgspec.msgpack.decode(entry.body)
    assert values.pop("detail") == "more"
    older = msgspec.structs.replace(entry, body=msgspec.msgpack.encode(values))
    assert read_decision(older, 0.0) == RoutingDecision("m", 0.5)
    newer = msgspec.structs.replace(entry, body=msgspec.msgpack.encode({**values, "from_later": 1}))
    assert read_decision(newer, 0.0) == RoutingDecision("m", 0.5)
