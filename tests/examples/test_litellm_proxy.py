"""The tour of LiteLLM's proxy: its table, and that everything in it comes as promised."""

import io
import os
import subprocess
import sys
from dataclasses import replace

import pytest
from rich.console import Console

from examples.litellm_proxy.report import EXPECTED, Step, counted, steps_table, unexpected
from examples.quickstart_report import TABLE_WIDTH
from tests.support.child import ROOT


def some_steps() -> list[Step]:
    return [
        Step(
            label=f"step {number} with quite a long label, as labels go",
            came=came,
            decision=decision,
            group=group,
            took_ms=1234.5,
            answer="Because the answer to this is rather longer than anybody would like it to be.",
            calls=calls,
        )
        for number, (came, decision, group, calls) in enumerate(EXPECTED)
    ]


def test_what_came_as_it_should_is_not_told() -> None:
    assert unexpected(some_steps()) == []


def test_what_came_otherwise_is_told_with_its_step() -> None:
    steps = some_steps()
    steps[1] = replace(steps[1], came="MISS", calls=2)
    problems = unexpected(steps)
    assert len(problems) == 1
    assert "step 1" in problems[0]
    assert "MISS" in problems[0]


def test_words_are_counted_when_they_differ() -> None:
    assert counted(["HIT", "HIT"]) == "HIT"
    assert counted(["COALESCED", "MISS", "COALESCED"]) == "1 MISS, 2 COALESCED"


def test_the_table_fits() -> None:
    out = io.StringIO()
    Console(file=out, width=TABLE_WIDTH, color_system=None).print(steps_table(some_steps()))
    lines = out.getvalue().splitlines()
    assert max(len(line) for line in lines) <= TABLE_WIDTH
    assert sum("1234.5" in line for line in lines) == len(EXPECTED)


@pytest.mark.slow
def test_the_tour_keeps_every_promise() -> None:
    """With a stand-in for the model, and the real proxy."""
    pytest.importorskip("litellm", reason="LiteLLM is an extra")
    from tests.adapters.litellm.provider import Answer, Provider  # noqa: PLC0415 - as above

    with Provider() as provider:
        provider.always(Answer(delay_s=1.0))
        tour = subprocess.run(
            [sys.executable, "-m", "examples.litellm_proxy"],
            cwd=ROOT,
            env={**os.environ, "MODEL_URL": provider.url},
            capture_output=True,
            text=True,
            timeout=240,
            check=False,
        )
    assert tour.returncode == 0, tour.stdout + tour.stderr
    assert "1 MISS, 9 COALESCED" in tour.stdout
