import inspect
from dataclasses import fields, replace

import pytest

from routecache_middleware.core.keys import Layer
from routecache_middleware.core.models import (
    BypassReason,
    DiscardReason,
    Entry,
    LoadMetrics,
    MissReason,
    ModelMetadata,
    Outcome,
    QueryResult,
    RoutingDecision,
)

Record = RoutingDecision | QueryResult | ModelMetadata | LoadMetrics

RECORDS: list[Record] = [
    RoutingDecision("gpt-4o"),
    QueryResult(b"{}", "gpt-4o"),
    ModelMetadata("gpt-4o"),
    LoadMetrics("gpt-4o"),
]


@pytest.mark.parametrize(
    ("refresh_s", "error_s", "expires_s"),
    [(0.0, 0.0, 1060.0), (30.0, 0.0, 1090.0), (0.0, 90.0, 1150.0), (30.0, 20.0, 1090.0)],
)
def test_an_entry_expires_when_freshness_and_both_stale_windows_are_over(
    refresh_s: float, error_s: float, expires_s: float
) -> None:
    """RFC 5861: both windows begin where freshness ends."""
    entry = Entry(
        Layer.RESULT,
        b"{}",
        created_s=1000.0,
        freshness_lifetime_s=60.0,
        stale_while_revalidate_s=refresh_s,
        stale_if_error_s=error_s,
    )
    assert entry.expires_s == expires_s


@pytest.mark.parametrize("record", RECORDS, ids=lambda record: type(record).__name__)
def test_how_a_record_came_is_no_part_of_what_it_says(record: Record) -> None:
    assert record == replace(record, outcome=Outcome.HIT, age_s=12.0)


@pytest.mark.parametrize("record", RECORDS, ids=lambda record: type(record).__name__)
def test_a_record_is_fresh_and_a_miss_until_told_otherwise(record: Record) -> None:
    assert record.outcome is Outcome.MISS
    assert record.age_s == 0.0


@pytest.mark.parametrize(
    ("record", "other"),
    [
        (RoutingDecision("a", score=0.5), RoutingDecision("a", score=0.6)),
        (QueryResult(b"a", "m"), QueryResult(b"b", "m")),
        (ModelMetadata("m", current_load=1.0), ModelMetadata("m", current_load=2.0)),
        (LoadMetrics("m", in_flight=1), LoadMetrics("m", in_flight=2)),
    ],
)
def test_records_that_say_different_things_differ(record: Record, other: Record) -> None:
    assert record != other


@pytest.mark.parametrize(
    "record",
    [*RECORDS, Entry(Layer.RESULT, b"", 0.0, 0.0)],
    ids=lambda record: type(record).__name__,
)
def test_records_are_frozen_slotted_and_documented(record: Record | Entry) -> None:
    names = (
        record.__struct_fields__
        if isinstance(record, Entry)
        else [field.name for field in fields(record)]
    )
    for name in names:
        with pytest.raises(AttributeError):  # FrozenInstanceError is one
            setattr(record, name, None)
        assert f"\n    {name}: " in inspect.cleandoc(type(record).__doc__ or "")
    assert not hasattr(record, "__dict__")


def test_outcomes_are_the_six_words_used_everywhere() -> None:
    assert [str(outcome) for outcome in Outcome] == [
        "hit",
        "stale",
        "miss",
        "coalesced",
        "bypass",
        "error",
    ]


@pytest.mark.parametrize("kind", [Outcome, MissReason, BypassReason, DiscardReason])
def test_reasons_are_tokens_that_fit_into_a_header(
    kind: type[Outcome | MissReason | BypassReason | DiscardReason],
) -> None:
    """RFC 8941 section 3.3.4: a token needs no quotes."""
    for reason in kind:
        assert reason.replace("-", "").isalpha()
        assert reason == reason.lower()
