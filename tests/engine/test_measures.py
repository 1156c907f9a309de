import pytest

from routecache_middleware.coordinators.memory import MemoryCoordinator
from routecache_middleware.core.keys import Layer
from routecache_middleware.core.metrics import (
    ENTRY_AGE,
    LOOKUP_DURATION,
    OTHER,
    WAIT_DURATION,
    WRITE_DURATION,
)
from routecache_middleware.core.models import START, Entry, Outcome
from routecache_middleware.core.plan import Serve
from routecache_middleware.engine.claims import Alone, Joined, Served, Why, how_waited
from routecache_middleware.engine.measures import Histogram, Models
from routecache_middleware.engine.recorder import Recorder, Waited
from routecache_middleware.errors import CoordinatorError
from routecache_middleware.testing.clock import FakeClock

PLAN = Serve(Entry(Layer.RESULT, b"x", 0.0, 60.0), age_s=30.0, ttl_s=30.0)
STALE = Serve(PLAN.entry, age_s=90.0, ttl_s=-30.0, is_stale=True)
MEMORY = MemoryCoordinator(max_bytes=1 << 20, clock=FakeClock())


class Sink:
    def __init__(self) -> None:
        self.told: list[tuple[str, float, tuple[str, ...]]] = []

    def record(self, metric: str, value: float, labels: tuple[str, ...]) -> None:
        self.told.append((metric, value, labels))


@pytest.mark.parametrize(
    ("value", "bucket"), [(0.0, 0), (1.0, 0), (1.001, 1), (10.0, 1), (10.5, 2), (-1.0, 0)]
)
def test_a_value_on_a_bound_belongs_to_the_lower_bucket(value: float, bucket: int) -> None:
    """OpenTelemetry, data model, histogram: bounds are inclusive above."""
    histogram = Histogram((1.0, 10.0))
    histogram.record(value)
    assert histogram.counts.index(1) == bucket
    assert sum(histogram.counts) == 1
    assert histogram.total == value


def test_what_was_found_counts_with_its_age() -> None:
    recorder = Recorder()
    recorder.found(Layer.RESULT, MEMORY, PLAN, 2e-5)
    recorder.found(Layer.RESULT, MEMORY, STALE, 2.0)
    recorder.found(Layer.ROUTING, MEMORY, PLAN, 1e-5)
    result, routing = recorder.measures[Layer.RESULT], recorder.measures[Layer.ROUTING]
    assert result.hit_s.counts[1] == 1
    assert result.stale_s.counts[-1] == 1
    assert (result.age_s.counts[2], result.age_s.counts[3], result.age_s.total) == (1, 1, 120.0)
    assert (routing.hit_s.counts[0], routing.hit_s.total) == (1, 1e-5)


def test_a_sink_is_told_every_duration_and_no_age() -> None:
    recorder, sink = Recorder(), Sink()
    recorder.sink = sink
    recorder.found(Layer.RESULT, MEMORY, PLAN, 0.1)
    recorder.found(Layer.RESULT, MEMORY, STALE, 0.2)
    recorder.looked_up(Layer.ROUTING, "none", Outcome.MISS, 0.3)
    recorder.looked_up(Layer.RESULT, "redis", Outcome.ERROR, 0.4)
    for how in Waited:
        recorder.waited(Layer.RESULT, how, 0.5)
    recorder.wrote(Layer.RESULT, "memory", 0.6, 100)
    assert sink.told == [
        (LOOKUP_DURATION.name, 0.1, ("result", "memory", "hit")),
        (LOOKUP_DURATION.name, 0.2, ("result", "memory", "stale")),
        (LOOKUP_DURATION.name, 0.3, ("route", "none", "miss")),
        (LOOKUP_DURATION.name, 0.4, ("result", "redis", "error")),
        (WAIT_DURATION.name, 0.5, ("result", "shared")),
        (WAIT_DURATION.name, 0.5, ("result", "timeout")),
        (WAIT_DURATION.name, 0.5, ("result", "leader_failed")),
        (WRITE_DURATION.name, 0.6, ("result", "memory")),
    ]
    assert ENTRY_AGE.name not in {name for name, _, _ in sink.told}
    measures = recorder.measures[Layer.RESULT]
    waits = (measures.shared_s, measures.timeout_s, measures.failed_s)
    assert [sum(wait.counts) for wait in waits] == [1, 1, 1]
    assert sum(measures.error_s.counts) == 1


def test_what_was_not_stored_has_no_size() -> None:
    recorder = Recorder()
    recorder.wrote(Layer.RESULT, "memory", 0.1, 0)
    recorder.wrote(Layer.RESULT, "memory", 0.1, 300)
    measures = recorder.measures[Layer.RESULT]
    assert sum(measures.write_s.counts) == 2
    assert (measures.size_bytes.counts[1], sum(measures.size_bytes.counts)) == (1, 1)


def test_failures_count_by_the_class_of_their_cause_and_not_without_limit() -> None:
    """Third parties' coordinators may raise anything, also classes made on the fly."""
    recorder = Recorder()
    error = CoordinatorError("canary-7f3a")
    error.__cause__ = TimeoutError("canary-7f3a")
    recorder.backend_failed("get", error)
    recorder.backend_failed("get", error)
    assert recorder.backend_errors == {("get", "TimeoutError"): 2}
    for number in range(200):
        recorder.backend_failed("put", type(f"Error{number}", (Exception,), {})())
    recorder.backend_failed("get", error)
    assert recorder.backend_errors["get", "TimeoutError"] == 3
    assert len(recorder.backend_errors) == 101
    assert recorder.backend_errors["put", OTHER] == 101


def test_the_first_fifty_models_are_named() -> None:
    """The model is the client's word: there may be any number of them."""
    models = Models()
    for number in range(60):
        models.count(Outcome.MISS, f"model-{number}", "chat")
    models.count(Outcome.HIT, "model-0", "chat")
    named = {model for model, _ in models.tallies}
    assert len(named) == 51
    assert dict(models.tallies["model-0", "chat"].outcomes()) == {
        Outcome.HIT: 1,
        Outcome.STALE: 0,
        Outcome.MISS: 1,
        Outcome.COALESCED: 0,
        Outcome.BYPASS: 0,
        Outcome.ERROR: 0,
    }
    assert models.tallies[OTHER, "chat"].misses == 10


@pytest.mark.parametrize(
    "model", ["", "tell me what you know of canaries", "m" * 129, "modèle", "m\n", "\ud800"]
)
def test_what_is_no_name_is_not_shown(model: str) -> None:
    assert Models().name(model) == OTHER


def test_a_gateway_that_knows_its_models_names_no_others() -> None:
    models = Models()
    models.allowed = frozenset({"a", "b c"})
    assert [models.name(model) for model in ("a", "b c", "d")] == ["a", "b c", OTHER]


@pytest.mark.parametrize("outcome", list(Outcome))
def test_every_outcome_has_its_place_in_a_tally(outcome: Outcome) -> None:
    models = Models()
    models.count(outcome, "m", "chat")
    counts = dict(models.tallies["m", "chat"].outcomes())
    assert counts.pop(outcome) == 1
    assert set(counts.values()) == {0}


@pytest.mark.parametrize(
    ("joined", "how"),
    [
        (Served(PLAN), Waited.SHARED),
        (Alone(Why.WAITED_TOO_LONG, START), Waited.TIMEOUT),
        (Alone(Why.PARALLEL, START), Waited.LEADER_FAILED),
        (None, Waited.LEADER_FAILED),
    ],
)
def test_how_a_wait_counts(joined: Joined | None, how: Waited) -> None:
    assert how_waited(joined) is how
