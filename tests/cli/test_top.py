"""``routecache top``, what it reads, and how things are shown on a terminal."""

import asyncio
import io
import sys
from typing import Any

import pytest
from rich.console import Console

from routecache_middleware.cli import repeating, showing, top
from routecache_middleware.cli.exposed import samples
from routecache_middleware.core.metrics import REQUESTS, SAVED_COST, SAVED_TOKENS
from routecache_middleware.core.snapshot import MetricsSnapshot, Series
from routecache_middleware.telemetry.exposition import render

AWKWARD = 'a "model"\\ with\n}'


def exposed(hits: int = 6) -> str:
    return render(
        MetricsSnapshot(
            {
                REQUESTS.name: (
                    Series(("m", "chat", "hit"), hits),
                    Series(("m", "chat", "miss"), 2),
                    Series(("m", "embeddings", "bypass"), 5),
                    Series((AWKWARD, "chat", "bypass"), 1),
                ),
                SAVED_TOKENS.name: (Series(("input", "m"), 10), Series(("output", "m"), 4)),
                SAVED_COST.name: (Series(("m",), 0.25),),
            }
        )
    )


def test_what_is_written_for_prometheus_is_read_back() -> None:
    found = list(samples(exposed(), REQUESTS.prometheus))
    assert {labels["gen_ai_request_model"] for labels, _ in found} == {"m", AWKWARD}
    assert sum(value for _, value in found) == 14
    assert list(samples("up 1\nup_more 2\n# up 3\nup", "up")) == [({}, 1.0)]


def test_models_are_counted_over_operations_most_requests_first() -> None:
    before: dict[str, tuple[float, float]] = {}
    first, second = top._rows(exposed(), 10.0, before)
    assert first == {
        "model": "m",
        "requests": 13,
        "per_second": None,
        "hit_rate": 0.75,
        "saved_tokens": 14,
        "saved_usd": 0.25,
    }
    assert (second["model"], second["hit_rate"]) == (AWKWARD, None)
    assert top._rows(exposed(hits=10), 12.0, before)[0]["per_second"] == 2.0


class Terminal(io.StringIO):
    """A standard output that is a terminal."""

    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("no_color", [True, False])
def test_on_a_terminal_it_is_shown_in_place(
    monkeypatch: pytest.MonkeyPatch, *, no_color: bool
) -> None:
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)
    if no_color:
        monkeypatch.setenv("NO_COLOR", "1")
    screen = Terminal()
    monkeypatch.setattr(sys, "stdout", screen)

    async def shown() -> Any:
        return showing.table("Models", ("model", "n"), [("[red]m[/]", "1")])

    async def none() -> Any:
        return None

    asyncio.run(repeating.repeat(shown, 0.01, 2))
    asyncio.run(repeating.repeat(none, 0.01, 1))
    text = screen.getvalue()
    assert "[red]m[/]" in text, "names are no markup"
    assert "\x1b[31m" not in text
    assert ("\x1b[1m" in text) or ("\x1b[1;" in text) or no_color


def test_in_a_pipe_nothing_is_cut() -> None:
    where = io.StringIO()
    long = "x" * 500
    made = showing.table("T", ("a", "<b"), [(long, "y")])
    Console(file=where, width=1000).print(made)
    assert long in where.getvalue()


@pytest.mark.parametrize(
    ("written", "wanted"),
    [
        (showing.figure(1234567), "1,234,567"),
        (showing.figure(0.123456), "0.1235"),
        (showing.figure(None), "-"),
        (showing.share(0.5), "50.0 %"),
        (showing.share(None), "-"),
        (showing.size(12), "12 B"),
        (showing.size(2048), "2.0 KiB"),
        (showing.size(3 * 1024**3), "3.00 GiB"),
        (showing.size(None), "-"),
        (showing.period(0.0012), "1.2 ms"),
        (showing.period(-2.0), "-2.0 s"),
        (showing.period(90), "1.5 min"),
        (showing.period(7200), "2.0 h"),
        (showing.period(172_800), "2.0 d"),
        (showing.period(None), "-"),
    ],
)
def test_figures_are_written_for_people(written: str, wanted: str) -> None:
    assert written == wanted
