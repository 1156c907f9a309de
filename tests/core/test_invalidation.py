"""The invalidation table: an entry is current iff no applicable row is later than its position."""

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from routecache_middleware.core.invalidation import (
    ALL,
    MAX_CONDITIONS_PER_SCOPE,
    InvalidationRow,
    InvalidationTable,
    LoggedRow,
    key_scope,
    layer_scope,
    model_scope,
    tag_scope,
    tenant_model_scope,
    tenant_scope,
)
from routecache_middleware.core.keys import CacheKey, Layer, model_key, result_key, route_key
from routecache_middleware.core.models import Entry, Position, Scope

KEY = result_key("h", "m")
OTHER_KEY = result_key("other", "m")
SCOPES = (model_scope("m"), tenant_scope("t"), tenant_model_scope("t", "m"), tag_scope("x"))


def logged(
    position: int,
    scope: Scope,
    *,
    older_than_s: float | None = None,
    router_version: str | None = None,
) -> LoggedRow:
    return LoggedRow(Position(position), InvalidationRow(scope, older_than_s, router_version))


def entry(
    position: int = 0,
    *,
    scopes: tuple[Scope, ...] = SCOPES,
    layer: Layer = Layer.RESULT,
    created_s: float = 100.0,
    router_version: str = "v1",
) -> Entry:
    return Entry(
        layer=layer,
        body=b"",
        created_s=created_s,
        freshness_lifetime_s=60.0,
        position=Position(position),
        scopes=scopes,
        router_version=router_version,
    )


def table_of(*rows: LoggedRow, max_rows: int = 65_536) -> InvalidationTable:
    table = InvalidationTable(max_rows=max_rows)
    table.fold(rows)
    return table


@pytest.mark.parametrize(
    "scope",
    [ALL, layer_scope(Layer.RESULT), key_scope(KEY), *SCOPES],
)
def test_a_row_voids_what_was_captured_before_it_and_nothing_else(scope: Scope) -> None:
    """The captured-position rule: the answer in flight is dead on arrival, the next one lives."""
    table = table_of(logged(5, scope))
    assert not table.is_current(KEY, entry(4))
    assert table.is_current(KEY, entry(5))
    assert table.is_current(KEY, entry(6))


@pytest.mark.parametrize(
    "scope",
    [
        layer_scope(Layer.ROUTING),
        key_scope(OTHER_KEY),
        model_scope("m2"),
        tenant_scope("m"),
        tenant_model_scope("m", "t"),
        tag_scope("t"),
    ],
)
def test_rows_of_other_scopes_void_nothing(scope: Scope) -> None:
    assert table_of(logged(5, scope)).is_current(KEY, entry(0))


def test_scopes_are_escaped_so_that_none_imitates_another() -> None:
    assert tenant_model_scope("a:b", "c") != tenant_model_scope("a", "b:c")
    assert len({scope("x:y") for scope in (tenant_scope, model_scope, tag_scope)}) == 3


def test_a_condition_on_age_spares_what_was_made_since() -> None:
    table = table_of(logged(5, ALL, older_than_s=100.0))
    assert not table.is_current(KEY, entry(0, created_s=99.9))
    assert table.is_current(KEY, entry(0, created_s=100.0))
    assert table.is_current(KEY, entry(5, created_s=0.0))


def test_a_condition_on_the_router_version_spares_other_versions() -> None:
    table = table_of(logged(5, layer_scope(Layer.ROUTING), router_version="v1"))
    decision = entry(0, layer=Layer.ROUTING, router_version="v1")
    assert not table.is_current(route_key("h"), decision)
    newer = entry(0, layer=Layer.ROUTING, router_version="v2")
    assert table.is_current(route_key("h"), newer)


def test_both_conditions_have_to_hold() -> None:
    table = table_of(logged(5, ALL, older_than_s=100.0, router_version="v1"))
    assert not table.is_current(KEY, entry(0, created_s=1.0))
    assert table.is_current(KEY, entry(0, created_s=1.0, router_version="v2"))
    assert table.is_current(KEY, entry(0, created_s=100.0))


def test_conditional_rows_do_not_supersede_each_other() -> None:
    table = table_of(
        logged(5, ALL, older_than_s=50.0),
        logged(6, ALL, router_version="v1"),
    )
    assert len(table) == 2
    assert not table.is_current(KEY, entry(0, created_s=1.0, router_version="v2"))
    assert not table.is_current(KEY, entry(0, created_s=100.0, router_version="v1"))
    assert table.is_current(KEY, entry(0, created_s=100.0, router_version="v2"))


def test_too_many_conditions_make_the_oldest_unconditional() -> None:
    """Colder than asked, never staler."""
    count = MAX_CONDITIONS_PER_SCOPE + 1
    rows = [logged(number, ALL, older_than_s=0.0) for number in range(1, count + 1)]
    table = table_of(*rows)
    assert not table.is_current(KEY, entry(0))
    assert table.is_current(KEY, entry(1))


def test_folding_twice_changes_nothing() -> None:
    count = 2 * MAX_CONDITIONS_PER_SCOPE
    rows = [logged(number, ALL, older_than_s=0.0) for number in range(1, count + 1)]
    table = table_of(*rows, logged(count + 1, SCOPES[0]))
    before = (dict(table._latest), dict(table._conditional), table.position)
    table.fold(rows)
    table.fold(rows[3:5])
    assert (table._latest, table._conditional, table.position) == before


def test_an_older_row_read_late_takes_nothing_back() -> None:
    table = table_of(logged(9, SCOPES[0]))
    table.fold([logged(3, SCOPES[0])])
    assert table.position == 9
    assert not table.is_current(KEY, entry(8))


def test_advancing_only_goes_forward() -> None:
    table = table_of(logged(5, ALL))
    table.advance(Position(9))
    table.advance(Position(7))
    assert table.position == 9
    assert table.is_current(KEY, entry(6))


def test_a_rewound_log_voids_everything_captured_before_it() -> None:
    """The rows that were lost might have covered anything."""
    table = table_of(logged(3, tag_scope("other")), logged(4, ALL, older_than_s=1.0))
    table.rewind(Position(7))
    assert len(table) == 1
    assert not table.is_current(KEY, entry(6, scopes=()))
    assert table.is_current(KEY, entry(7))
    table.fold([logged(8, SCOPES[0])])
    assert not table.is_current(KEY, entry(7))
    assert table.is_current(OTHER_KEY, entry(7, scopes=()))


def test_too_many_keys_fold_into_their_layer() -> None:
    rows = [logged(number, key_scope(route_key(f"{number}"))) for number in range(1, 5)]
    table = table_of(*rows, logged(5, SCOPES[0]), max_rows=4)
    assert len(table) == 2
    unnamed = route_key("unnamed")
    assert not table.is_current(unnamed, entry(3, layer=Layer.ROUTING, scopes=()))
    assert table.is_current(unnamed, entry(4, layer=Layer.ROUTING, scopes=()))
    assert table.is_current(KEY, entry(0, scopes=()))


def test_keys_of_a_layer_that_this_version_does_not_know_fold_as_well() -> None:
    """During a rolling deploy another version's rows are in the log."""
    rows = [logged(number, Scope(f"key:future:{number}")) for number in range(1, 4)]
    table = table_of(*rows, max_rows=2)
    assert len(table) == 1
    assert table.is_current(KEY, entry(0))


def test_too_many_of_anything_else_fold_into_all() -> None:
    rows = [logged(number, tag_scope(f"{number}")) for number in range(1, 4)]
    table = table_of(*rows, logged(4, ALL, older_than_s=0.0), max_rows=3)
    assert len(table) == 1
    assert not table.is_current(KEY, entry(3, scopes=()))
    assert table.is_current(KEY, entry(4, scopes=()))


def test_a_flight_is_current_by_key_scopes_and_position() -> None:
    table = table_of(logged(5, SCOPES[0]))
    assert table.is_current_since(KEY, SCOPES, Position(5))
    table.advance(Position(9))
    assert table.is_current_since(KEY, SCOPES, Position(5))
    assert not table.is_current_since(KEY, SCOPES, Position(4))
    assert table.is_current_since(KEY, (), Position(4))


@pytest.mark.parametrize(
    "scope", [ALL, layer_scope(Layer.LOAD), key_scope(model_key(Layer.LOAD, "m"))]
)
def test_a_flights_layer_and_key_are_implied(scope: Scope) -> None:
    table = table_of(logged(5, scope))
    assert not table.is_current_since(model_key(Layer.LOAD, "m"), (), Position(4))


def test_a_condition_counts_as_met_for_a_flight() -> None:
    """Its entry does not exist yet, so nobody can say."""
    table = table_of(logged(5, ALL, older_than_s=0.0))
    table.advance(Position(6))
    assert not table.is_current_since(KEY, (), Position(4))
    assert table.is_current_since(KEY, (), Position(5))


# -- the table against a scan of the whole log

KEYS: list[tuple[CacheKey, Layer]] = [
    (KEY, Layer.RESULT),
    (OTHER_KEY, Layer.RESULT),
    (route_key("h"), Layer.ROUTING),
    (model_key(Layer.LOAD, "m"), Layer.LOAD),
]
SOME_SCOPES = [
    ALL,
    layer_scope(Layer.RESULT),
    layer_scope(Layer.ROUTING),
    model_scope("m"),
    tenant_scope("t"),
    tag_scope("x"),
    *(key_scope(key) for key, _ in KEYS),
]
ROWS = st.lists(
    st.builds(
        InvalidationRow,
        st.sampled_from(SOME_SCOPES),
        st.sampled_from([None, None, None, 50.0, 100.0]),
        st.sampled_from([None, None, None, "v1", "v2"]),
    ),
    max_size=40,
)
ENTRIES = st.tuples(
    st.sampled_from(KEYS),
    st.integers(0, 41),
    st.sets(st.sampled_from([model_scope("m"), tenant_scope("t"), tag_scope("x")])),
    st.sampled_from([10.0, 50.0, 99.0]),
    st.sampled_from(["v1", "v2", ""]),
)
Drawn = tuple[tuple[CacheKey, Layer], int, set[Scope], float, str]


def is_current_by_scan(rows: Sequence[LoggedRow], key: CacheKey, item: Entry) -> bool:
    covering = {ALL, layer_scope(item.layer), key_scope(key), *item.scopes}
    return not any(
        row.position > item.position and row.row.scope in covering and row.row.applies_to(item)
        for row in rows
    )


def fold_in_chunks(
    rows: list[InvalidationRow], cuts: list[int], max_rows: int
) -> tuple[InvalidationTable, list[LoggedRow]]:
    log = [LoggedRow(Position(number), row) for number, row in enumerate(rows, 1)]
    table = InvalidationTable(max_rows=max_rows)
    last = 0
    for cut in [*sorted(cut % (len(log) + 1) for cut in cuts), len(log)]:
        table.fold(log[max(0, last - 2) : cut])  # overlapping: rows may be read twice
        last = cut
    return table, log


def made(drawn: Drawn) -> tuple[CacheKey, Entry]:
    (key, layer), position, scopes, created_s, version = drawn
    return key, entry(
        position,
        layer=layer,
        scopes=tuple(scopes),
        created_s=created_s,
        router_version=version,
    )


def has_few_conditions(rows: list[InvalidationRow]) -> bool:
    counts: dict[Scope, int] = {}
    for row in rows:
        counts[row.scope] = counts.get(row.scope, 0) + row.is_conditional
    return all(count <= MAX_CONDITIONS_PER_SCOPE for count in counts.values())


@given(ROWS.filter(has_few_conditions), st.lists(st.integers(0, 40)), ENTRIES)
def test_under_the_cap_the_verdict_is_that_of_a_scan(
    rows: list[InvalidationRow], cuts: list[int], drawn: Drawn
) -> None:
    table, log = fold_in_chunks(rows, cuts, max_rows=65_536)
    key, item = made(drawn)
    assert table.position == len(log)
    assert table.is_current(key, item) == is_current_by_scan(log, key, item)


@given(ROWS, st.lists(st.integers(0, 40)), st.integers(0, 12), ENTRIES)
def test_over_the_cap_nothing_dead_is_ever_called_current(
    rows: list[InvalidationRow], cuts: list[int], max_rows: int, drawn: Drawn
) -> None:
    table, log = fold_in_chunks(rows, cuts, max_rows=max_rows)
    key, item = made(drawn)
    assert len(table) <= max(1, max_rows)
    if table.is_current(key, item):
        assert is_current_by_scan(log, key, item)
    if table.is_current_since(key, item.scopes, item.position):
        assert is_current_by_scan(log, key, item)


@given(
    st.lists(
        st.tuples(
            st.sampled_from([ALL, key_scope(KEY), layer_scope(Layer.RESULT), *SCOPES, Scope("z")]),
            st.booleans(),
        ),
        max_size=12,
    ),
    st.integers(0, 14),
)
def test_the_latest_row_is_where_a_flight_stops_being_current(
    rows: list[tuple[Scope, bool]], position: int
) -> None:
    """Whatever holds a lease captured earlier than that is doomed; nothing else is."""
    table = InvalidationTable()
    for number, (scope, is_conditional) in enumerate(rows, 1):
        table.fold([logged(number, scope, older_than_s=50.0 if is_conditional else None)])
    table.advance(Position(20))
    latest = table.latest(KEY, SCOPES)
    assert table.is_current_since(KEY, SCOPES, Position(position)) == (position >= latest)


def test_what_was_never_invalidated_was_so_at_the_start() -> None:
    assert table_of(logged(5, Scope("z"))).latest(KEY, SCOPES) == 0
