"""The parts of the fleet's tour: its report, its cluster, and the processes it starts."""

import io
import re
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from examples.fleet.outage import Request, recovery_row, traffic_row
from examples.fleet.report import (
    Answer,
    Row,
    counted,
    nodes_table,
    outcomes,
    problems,
    processes_table,
    quantile,
    rows_table,
    times,
)
from examples.fleet.valkey import MASTERS, ValkeyCluster
from examples.quickstart_children import ChildError, Children
from examples.quickstart_report import TABLE_WIDTH
from tests.support.child import wait_until
from tests.support.valkey.resp import call


def an_answer(outcome: str = "HIT", *, status: int = 200, took_ms: float | None = 1.24) -> Answer:
    return Answer(status=status, outcome=outcome, gateway_ms=took_ms, client_ms=5.0)


def a_row(*, holds: bool = True) -> Row:
    return Row(
        step="50 at once at each of 3 gateways, a question that is new to all of them",
        seen="1 MISS, 20 HIT, 129 COALESCED; 1 model call, and everybody was given the answer",
        promised="1 call in all",
        holds=holds,
    )


def rendered(table: object) -> str:
    out = io.StringIO()
    Console(file=out, width=200, color_system=None).print(table)
    return out.getvalue()


def test_few_outcomes_are_listed_and_many_are_counted() -> None:
    assert outcomes([an_answer("MISS"), an_answer(), an_answer()]) == "MISS, HIT, HIT"
    many = [an_answer(), an_answer("MISS"), an_answer(), an_answer()]
    assert outcomes(many) == "1 MISS, 3 HIT"


def test_times_and_counts_read_as_a_sentence() -> None:
    assert times([an_answer(), an_answer(took_ms=0.0512), an_answer(took_ms=None)]) == (
        "1.2 and 0.051 and - ms"
    )
    assert [counted(n, "model call") for n in (0, 1, 2)] == [
        "0 model calls",
        "1 model call",
        "2 model calls",
    ]


def test_a_quantile_is_a_value_that_occurred() -> None:
    values = [float(n) for n in range(100, 0, -1)]
    assert [quantile(values, share) for share in (0.0, 0.5, 0.99, 1.0)] == [1, 51, 100, 100]
    assert quantile([], 0.5) == 0.0


def test_the_table_fits_its_width_and_marks_what_was_not_kept() -> None:
    text = rendered(rows_table([a_row(), a_row(holds=False)]))
    assert max(len(line) for line in text.splitlines()) <= TABLE_WIDTH
    assert "ok" in text
    assert "NO" in text


def test_a_promise_that_was_not_kept_is_named() -> None:
    assert problems([a_row()]) == []
    (sentence,) = problems([a_row(), a_row(holds=False)])
    assert sentence.endswith("promised: 1 call in all")


def test_the_cluster_is_shown_with_what_is_down_and_who_lags() -> None:
    figures = {"keys": 3, "bytes": 2_500_000, "ops": 7, "errors": 2, "latency_ms": 0.4}
    up = {"name": "a:1", "state": "up", "role": "primary", **figures}
    down = {"name": "b:2", "state": "down", "role": "replica", **figures}
    processes = [
        {"process": "gw-1:11", "position": 9, "age_s": 0.04},
        {"process": "gw-2:12", "position": 8, "age_s": 1.0},
    ]
    cluster = {"nodes": [up, down], "processes": processes, "position": 9}
    nodes = rendered(nodes_table(cluster)).splitlines()
    assert [line.split() for line in nodes[2:4]] == [
        ["a:1", "up", "primary", "3", "2.5", "7", "2", "0.400"],
        ["b:2", "down", "replica", "3", "2.5", "7", "2", "0.400"],
    ]
    first, second = rendered(processes_table(cluster)).splitlines()[2:4]
    assert "read to its end" in first
    assert "not yet" not in first
    assert "not yet" in second


def requests(*sent: tuple[float, Answer]) -> list[Request]:
    return [Request(sent_s=sent_s, answer=answer) for sent_s, answer in sent]


def test_one_failed_request_in_the_outage_breaks_the_promise() -> None:
    calm = [(1.0, an_answer()), (3.0, an_answer()), (4.0, an_answer("MISS"))]
    assert traffic_row(requests(*calm), killed_s=2.0).holds
    failed = (5.0, replace(an_answer("BYPASS", status=502), text="no upstream"))
    row = traffic_row(requests(*calm, failed), killed_s=2.0)
    assert not row.holds
    assert "4 requests, 1 failed (BYPASS; no upstream), 2 hits" in row.seen


def test_an_outage_without_a_hit_after_it_proves_nothing() -> None:
    assert not traffic_row(requests((1.0, an_answer())), killed_s=2.0).holds


@pytest.mark.parametrize(
    ("whole_s", "read_s", "is_shared"),
    [(None, 2.0, True), (2.0, None, True), (2.0, 2.0, False), (None, None, False)],
)
def test_what_does_not_recover_breaks_the_promise(
    whole_s: float | None, read_s: float | None, *, is_shared: bool
) -> None:
    assert recovery_row(whole_s=3.0, read_s=4.0, is_shared=True).holds
    assert not recovery_row(whole_s=whole_s, read_s=read_s, is_shared=is_shared).holds


def test_a_child_that_was_killed_on_purpose_is_not_missed(tmp_path: Path) -> None:
    loop = "import time; print('I am up', flush=True); time.sleep(60)"
    with Children(tmp_path, tmp_path) as children:
        for name in ("one", "two"):
            children.spawn(name, [sys.executable, "-c", loop])
            found = children.wait_for(name, re.compile(r"I am (\w+)"), timeout_s=30)
            assert found[1] == "up"
        children.kill("one")
        children.check()
        assert "I am up" in children.logs()


def test_a_child_that_ends_by_itself_is_named_with_its_last_words(tmp_path: Path) -> None:
    with Children(tmp_path, tmp_path) as children:
        children.spawn("poor soul", [sys.executable, "-c", "print('alas'); raise SystemExit(3)"])
        with pytest.raises(ChildError, match=r"poor soul ended with status 3\.\n  \| alas"):
            children.wait_for("poor soul", re.compile("never"), timeout_s=30)


def test_a_child_that_keeps_silent_is_waited_for_no_longer_than_told(tmp_path: Path) -> None:
    with Children(tmp_path, tmp_path) as children:
        children.spawn("mute", [sys.executable, "-c", "import time; time.sleep(60)"])
        with pytest.raises(ChildError, match="mute did not come up within 0 s"):
            children.wait_for("mute", re.compile("never"), timeout_s=0.1)


def test_the_cluster_forms_counts_its_reads_and_survives_a_master(tmp_path: Path) -> None:
    with Children(tmp_path, tmp_path) as children:
        cluster = ValkeyCluster(children, tmp_path)
        try:
            cluster.start()
            assert len(cluster.nodes) == 2 * MASTERS
            assert cluster.url.startswith("redis+cluster://127.0.0.1:")
            slot = int(call(next(iter(cluster.nodes)), "CLUSTER", "KEYSLOT", "{log}"))  # type: ignore[arg-type]
            owner = list(cluster.nodes)[slot * MASTERS // 16_384]
            cluster.nodes[owner].xadd("{log}", {"row": "1"})
            assert cluster.master_with_the_log() == owner
            assert cluster.entry_reads() == 0
            cluster.nodes[owner].get("{log}:x")
            assert cluster.entry_reads() == 1
            cluster.nodes[owner].wait(1, 5_000)
            cluster.kill(owner)
            assert not cluster.is_whole()
            wait_until(cluster.is_whole, "the replica takes over")
            assert cluster.master_with_the_log() != owner
            children.check()
        finally:
            cluster.close()
