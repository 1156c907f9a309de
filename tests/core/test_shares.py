"""Several processes' measurements of one model, in one entry."""

import msgspec
import pytest

from routecache_middleware.core.keys import Layer
from routecache_middleware.core.models import START, Entry, LoadMetrics, Outcome
from routecache_middleware.core.records import Provenance, load_entry, read_load
from routecache_middleware.core.shares import (
    Share,
    live_shares,
    read_shared_load,
    shared_load_entry,
    total,
)
from routecache_middleware.errors import CorruptEntryError

MADE = Provenance(now_s=1000.0, ttl_s=5.0, position=START)
TWO = {"a": Share(2, 3.0, 100.0, 0.0), "b": Share(1, 1.0, 300.0, 0.4)}


def test_counts_add_up_and_averages_are_by_requests() -> None:
    assert total("m", TWO) == LoadMetrics("m", 3, 4.0, 150.0, 0.1)
    assert total("m", {}) == LoadMetrics("m")
    idle = {"a": Share(0, 0.0, 100.0, 0.0), "b": Share(0, 0.0, 300.0, 1.0)}
    assert total("m", idle) == LoadMetrics("m", 0, 0.0, 200.0, 0.5)


@pytest.mark.parametrize("name", ["m", "\ud800"])
def test_an_entry_keeps_the_shares_and_whoever_does_not_know_them_reads_the_sum(name: str) -> None:
    entry = shared_load_entry(name, TWO, MADE)
    assert (entry.layer, entry.model_id) == (Layer.LOAD, name)
    assert live_shares(entry, 0.0) == TWO
    assert read_load(entry, 0.0) == read_shared_load(entry, 0.0) == total(name, TWO)
    found = read_shared_load(entry, 1.5)
    assert (found.outcome, found.age_s) == (Outcome.HIT, 1.5)


def test_a_share_stops_counting_at_the_age_of_the_entrys_lifetime() -> None:
    aged = {**TWO, "b": msgspec.structs.replace(TWO["b"], age_s=3.0)}
    entry = shared_load_entry("m", aged, MADE)
    assert read_shared_load(entry, 1.9).in_flight == 3
    assert read_shared_load(entry, 2.0).in_flight == 2
    assert {name: share.age_s for name, share in live_shares(entry, 1.0).items()} == {
        "a": 1.0,
        "b": 4.0,
    }
    assert read_shared_load(entry, 5.0) == LoadMetrics("m")


def test_the_clock_of_a_reader_that_is_behind_makes_no_share_younger() -> None:
    entry = shared_load_entry("m", TWO, MADE)
    assert live_shares(entry, -3.0) == TWO


def test_the_number_of_shares_is_bounded_and_the_oldest_goes() -> None:
    many = {f"p{number}": Share(1, age_s=float(number % 300) / 100) for number in range(300)}
    kept = live_shares(shared_load_entry("m", many, MADE), 0.0)
    assert len(kept) == 256
    assert set(many) - set(kept) == {f"p{number}" for number in range(256, 300)}


def test_load_that_was_measured_elsewhere_has_no_shares() -> None:
    entry = load_entry(LoadMetrics("m", 7), MADE)
    assert live_shares(entry, 0.0) == {}
    assert read_shared_load(entry, 4.0) == LoadMetrics("m", 7)


def test_what_cannot_be_read_has_no_shares_and_is_no_load() -> None:
    entry = Entry(Layer.LOAD, b"\xc1", 0.0, 5.0)
    assert live_shares(entry, 0.0) == {}
    with pytest.raises(CorruptEntryError):
        read_shared_load(entry, 0.0)
