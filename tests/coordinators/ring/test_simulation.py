"""Thousands of seeded interleavings: nothing that was invalidated is served again."""

from collections.abc import Mapping

import pytest

from routecache_middleware.coordinators.ring.merged import MergedLog, Plan
from routecache_middleware.coordinators.ring.node import NodeTail
from tests.coordinators.ring.simulation import Options, Outcome, run_many

RUNS = {
    "every-lookup-reads-the-log": Options(seconds=6.0),
    "the-log-is-read-ahead": Options(seconds=6.0, proof_s=1.0),
    "one-node-is-spared": Options(seconds=6.0, spares_one=True),
    "five-nodes-keep-their-logs": Options(seconds=6.0, servers=5, loses_logs=False),
    "each-reaches-some-nodes": Options(seconds=6.0, is_divided=True, loses_logs=False),
    "all-clocks-are-days-off": Options(
        seconds=6.0,
        is_divided=True,
        loses_logs=False,
        skews_s=(0.0, 5.0, 86_400.0, -86_400.0, 300_000.0, -300_000.0),
        server_skews_s=(0.0, 86_400.0, -86_400.0, 200_000.0),
    ),
    "two-nodes-many-processes": Options(seconds=6.0, servers=2, processes=5),
}


def has_been_busy(outcome: Outcome) -> bool:
    """Whether enough has happened for the absence of errors to mean something."""
    return outcome.hits > outcome.lookups / 4 and outcome.invalidations > outcome.lookups / 20


def excusable(options: Options) -> float:
    """Which share of the hits may lie outside of the claim, or the check would check nothing."""
    if options.spares_one:
        return 0.0  # every two processes always have a node in common
    return 0.1 if options.is_divided else 0.005


@pytest.mark.parametrize("name", RUNS)
def test_nothing_invalidated_is_served(name: str) -> None:
    outcome = run_many(range(6), RUNS[name])
    assert outcome.stale == []
    assert has_been_busy(outcome)
    assert outcome.excused <= outcome.hits * excusable(RUNS[name])


@pytest.mark.slow
@pytest.mark.parametrize("name", RUNS)
def test_nothing_invalidated_is_served_in_a_thousand_runs(name: str) -> None:
    outcome = run_many(range(1_000, 2_000), RUNS[name])
    assert outcome.stale == []
    assert has_been_busy(outcome)
    assert outcome.excused <= outcome.hits * excusable(RUNS[name])


def test_the_same_seed_is_the_same_run() -> None:
    first, second = (run_many([3], RUNS["every-lookup-reads-the-log"]) for _ in range(2))
    assert first == second


def test_control_deleting_instead_of_logging_fails_the_check() -> None:
    assert run_many(range(3), Options(seconds=6.0, is_plain_delete=True)).stale


def test_control_logs_that_are_read_as_the_maximum_and_not_repaired_fail_the_check(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Rule 2 of the log is what the claim hangs on."""
    compare = MergedLog.plan

    def read_only(self: MergedLog, tails: Mapping[str, NodeTail]) -> Plan:
        plan = compare(self, tails)
        return plan if plan.begins else Plan(plan.fresh or self._fresh(tails))

    monkeypatch.setattr(MergedLog, "plan", read_only)
    assert run_many(range(20), RUNS["each-reaches-some-nodes"]).stale
