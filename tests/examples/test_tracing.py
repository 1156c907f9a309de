"""The tracing example: what it sends, by a scripted collector; and with a real Phoenix."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from examples.quickstart_children import Children
from examples.tracing import seen
from examples.tracing.phoenix import Span
from examples.tracing.questions import Step, unexpected
from tests.support.child import ROOT
from tests.support.otlp import Collector, attributes_of


@pytest.fixture
def model(tmp_path: Path) -> Iterator[str]:
    """The base URL of a model that takes 0.2 s, and three tokens for each answer."""
    with Children(tmp_path, ROOT) as children:
        url = children.start(
            "model",
            ["uvicorn", "tests.support.model:app", "--port", "0", "--no-use-colors"],
            environment={},
            timeout_s=60,
        )
        yield f"{url}/v1"


def take(command: list[str], environment: Mapping[str, str]) -> str:
    """Run the example to its end, and return what it printed."""
    done = subprocess.run(
        command,
        cwd=ROOT,
        env={"PATH": "/usr/bin:/bin", "OPENAI_API_KEY": "none", **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=1500,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize(
    ("command", "told"),
    [
        ("/nowhere/phoenix", "Phoenix cannot be started with '/nowhere/phoenix': No such file"),
        ("/bin/false", "phoenix ended with status 1"),
    ],
)
def test_a_phoenix_that_does_not_start_is_told_without_a_traceback(command: str, told: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "examples.tracing", "--check"],
        cwd=ROOT,
        env={"PATH": "/usr/bin:/bin", "PHOENIX": command},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 1
    assert told in done.stderr
    assert "Traceback" not in done.stderr


def as_seen(collector: Collector) -> list[Span]:
    """Return what has come in the shape in which Phoenix tells it."""
    return [
        Span(
            name=span.name,
            kind="",
            trace_id=span.trace_id.hex(),
            span_id=span.span_id.hex(),
            parent_id=span.parent_span_id.hex() or None,
            attributes=attributes_of(span),
        )
        for span in collector.spans()
    ]


def test_every_outcome_reaches_any_collector_with_its_links(model: str) -> None:
    with Collector() as collector:
        printed = take(
            [sys.executable, "-u", "-m", "examples.tracing", "--check"],
            {"OPENAI_BASE_URL": model, "OTEL_EXPORTER_OTLP_ENDPOINT": collector.url},
        )
        spans = as_seen(collector)
    assert "1 MISS, 4 COALESCED" in printed
    assert seen.unexpected(spans) == []
    assert len(spans) == sum(seen.EXPECTED.values())


def a_span(name: str, number: int = 1, **attributes: object) -> Span:
    return Span(
        name=name,
        kind="UNKNOWN",
        trace_id=f"{number:032x}",
        span_id=f"{number:016x}",
        parent_id=None,
        attributes={name.replace("__", "."): value for name, value in attributes.items()},
    )


def as_it_should_be() -> list[Span]:
    """One of each, except that of some there are several; only their links matter."""
    every, numbers = [], iter(range(1, 100))
    for name, count in seen.EXPECTED.items():
        words, _, outcome = name.rpartition(" ")
        is_told = outcome in {"miss", "hit", "stale", "coalesced", "bypass"}
        told: dict[str, object] = {"routecache__outcome": outcome} if is_told else {}
        called = "chat m" if name == "chat" else words if is_told else name
        every += [a_span(called, next(numbers), **told) for _ in range(count)]
    return every


LEADS_TO = {
    "cache.get result hit": ("origin", "cache.get result miss"),
    "cache.get result stale": ("origin", "cache.get result miss"),
    "cache.wait result coalesced": ("leader", "cache.get result miss"),
    "cache.refresh result": ("trigger", f"{seen.SERVER} stale"),
}


def linked() -> list[Span]:
    spans = as_it_should_be()
    first = {name: one for one in reversed(spans) for name in seen.counted([one])}
    for place, span in enumerate(spans):
        (name,) = seen.counted([span])
        if name in LEADS_TO:
            kind, target = LEADS_TO[name]
            link = {
                "routecache.link.type": kind,
                "routecache.link.span_id": first[target].span_id,
            }
            spans[place] = replace(span, attributes={**span.attributes, **link})
    return spans


def test_what_is_as_it_should_be_is_no_problem() -> None:
    assert seen.unexpected(linked()) == []


def test_spans_that_are_missing_are_told() -> None:
    spans = [span for span in linked() if span.name != "cache.refresh result"]
    assert seen.unexpected(spans) == ["0 spans 'cache.refresh result', not 1"]


def test_links_that_lead_nowhere_are_told() -> None:
    problems = seen.unexpected(as_it_should_be())
    assert "'cache.get result hit' has a link '' to 'nowhere'" in problems
    assert len(problems) == sum(seen.EXPECTED[name] for name in LEADS_TO)


def with_attributes(name: str, **attributes: Any) -> list[Span]:
    return [
        replace(span, attributes={**span.attributes, **attributes})
        if name in seen.counted([span])
        else span
        for span in linked()
    ]


@pytest.mark.parametrize("attribute", ["gen_ai.usage.input_tokens", "llm.token_count.total"])
def test_a_hit_that_would_be_paid_for_is_told(attribute: str) -> None:
    spans = with_attributes("cache.get result hit", **{attribute: 3})
    assert seen.unexpected(spans) == [f"'cache.get result hit' has {attribute}"]
    assert seen.unexpected(with_attributes("chat", **{attribute: 3})) == []


def test_a_hit_that_costs_something_is_told() -> None:
    spans = [
        replace(span, cost_usd=0.5)
        if {"cache.get result hit", "chat"} & {*seen.counted([span])}
        else span
        for span in linked()
    ]
    assert seen.unexpected(spans) == ["'cache.get result hit' costs 0.5"]


def test_an_answer_that_came_otherwise_is_told() -> None:
    step = Step(label="the same again", expected="HIT", came="MISS", took_ms=1)
    assert unexpected([step]) == ["the same again: came as MISS, not HIT"]
    assert unexpected([replace(step, came="HIT")]) == []


@pytest.mark.slow
@pytest.mark.phoenix
def test_a_real_phoenix_knows_every_outcome_where_links_lead_and_what_calls_cost(
    model: str,
) -> None:
    """The script as users run it, with a model that Phoenix has a price for."""
    printed = take(
        ["sh", "examples/tracing/run.sh", "--check"],
        {
            **os.environ,
            "PYTHON": sys.executable,
            "OPENAI_BASE_URL": model,
            "OPENAI_API_KEY": "none",
            "SMALL_MODEL": "gpt-4o-mini",
        },
    )
    rows = dict(re.findall(r"^│ (.+?) +│ (\w+ +│ \d+ +│ \S+ +│ \S+) +│$", printed, re.MULTILINE))
    told = {name: [cell.strip() for cell in row.split("│")] for name, row in rows.items()}
    assert {name: cells[1] for name, cells in told.items()} == {
        name: str(count) for name, count in seen.EXPECTED.items()
    }
    calls = told.pop("chat")
    assert calls[:3] == ["LLM", "5", "15"]
    assert float(calls[3]) > 0
    for name, (kind, _, tokens, cost) in told.items():
        assert kind == ("UNKNOWN" if name.startswith(seen.SERVER) else "CHAIN")
        assert (tokens, cost) == ("-", "-")
    assert printed.count("links to ") == 3
