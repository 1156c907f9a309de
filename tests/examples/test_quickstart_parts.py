"""The pure parts of the quickstart: what its table says."""

import io

import pytest
from rich.console import Console

from examples.quickstart_report import (
    TABLE_WIDTH,
    Call,
    calls_table,
    format_ms,
    merge,
    server_timing_ms,
    shorten,
    speed_up,
    statistics_table,
    unexpected,
)


def a_call(outcome: str = "MISS", gateway_ms: float | None = 150.0, *, prompt: str = "why") -> Call:
    return Call(
        label="a call with quite a long label, as labels go",
        prompt=prompt,
        outcome=outcome,
        decision=outcome,
        model="small",
        gateway_ms=gateway_ms,
        client_ms=1234.5,
        answer="Because the answer to this is rather longer than anybody would like it to be.",
        upstream_calls=1,
    )


def rendered(table: object, width: int = TABLE_WIDTH) -> str:
    out = io.StringIO()
    Console(file=out, width=width, color_system=None).print(table)
    return out.getvalue()


@pytest.mark.parametrize(
    ("header", "total_ms"),
    [
        ("routecache;dur=0.05", 0.05),
        ("routecache;dur=0.08, app;dur=153.2", 153.28),
        ('routecache;desc="lookup";dur=1', 1.0),
        ("app;DUR = 2.5", 2.5),
        ("app;dur=soon", None),
        ("app", None),
        ("", None),
    ],
)
def test_server_timing_is_the_sum_of_its_durations(header: str, total_ms: float | None) -> None:
    assert server_timing_ms(header) == pytest.approx(total_ms)


def test_a_duration_keeps_the_digits_that_matter() -> None:
    assert [format_ms(value) for value in (153.24, 0.0512, None)] == ["153.2", "0.051", "-"]


def test_an_answer_is_shortened_to_one_line() -> None:
    assert shorten(" Paris\n is it. ", 20) == "Paris is it."
    assert shorten("a very long answer indeed", 14) == "a very long..."


def test_a_hit_is_compared_with_the_latest_miss_of_its_own_prompt() -> None:
    misses = [a_call(gateway_ms=100), a_call(gateway_ms=200), a_call(gateway_ms=5, prompt="who")]
    assert speed_up(a_call("HIT", 0.1), misses) == "2,000x"
    assert not speed_up(a_call("HIT", 0.1, prompt="when"), misses)
    assert not speed_up(a_call("MISS"), misses)
    assert not speed_up(a_call("HIT", None), misses)


def test_calls_at_one_time_become_one_row_with_their_outcomes_counted() -> None:
    merged = merge([a_call("COALESCED", 151.0), a_call("MISS", 150.0), a_call("COALESCED", None)])
    assert merged.outcome == "1 MISS\n2 COALESCED"
    assert merged.gateway_ms == 151.0


def test_of_calls_at_one_time_a_follower_and_its_leader_are_shown() -> None:
    spans = ["cache.get result span=1a", "cache.get result span=2b", "cache.wait result leader=2b"]
    call = a_call().with_surroundings(upstream_calls=1, spans=spans)
    assert call.sample_of_spans() == spans[1:]
    assert a_call().with_surroundings(upstream_calls=1, spans=spans[:1]).sample_of_spans() == [
        "cache.get result span=1a"
    ]


def test_the_table_fits_its_width_when_it_is_piped() -> None:
    calls = [a_call(), a_call("HIT", 0.012), merge([a_call(), *[a_call("COALESCED")] * 19])]
    text = rendered(calls_table(calls), width=200)
    assert max(len(line) for line in text.splitlines()) <= TABLE_WIDTH
    for word in ("19 COALESCED", "small", "12,500x", "1234.5"):
        assert word in text


def test_statistics_show_no_rate_for_a_layer_that_nobody_asked() -> None:
    counted = {"hits": 3.0, "misses": 1.0, "coalesced": 0.0, "writes": 1.0, "entries": 1.0}
    unused = dict.fromkeys(counted, 0.0)
    rates = {"routing": 0.75, "result": 0.0, "metadata": 0.0, "load": 0.0}
    stats = {"hit_rates": rates, "routing": counted}
    text = rendered(statistics_table(stats | dict.fromkeys(("result", "metadata", "load"), unused)))
    assert "75%" in text
    assert "0%" not in text


def test_a_call_that_came_otherwise_than_expected_is_named() -> None:
    calls = [a_call(outcome) for outcome in ("MISS", "HIT", "HIT", "MISS", "MISS", "X", "HIT", "X")]
    problems = unexpected(calls)
    assert len(problems) == 5
    assert "('X', 'small', 1)" in problems[-1]
