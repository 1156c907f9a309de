"""What the quickstart prints: the table of its calls and the statistics. Pure."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Self

from rich import box
from rich.table import Table

TABLE_WIDTH = 100
ANSWER_WIDTH = 60

LEGEND = """\
outcome   X-RouteCache: MISS asked the model, HIT did not, COALESCED shared a call under way
decision  X-RouteCache-Decision: whether the router's choice of a model came from the cache
model     X-RouteCache-Model: which model the router chose for "auto"
calls     upstream calls that the gateway has made so far
gateway   time inside the gateway, the model included (sum of the Server-Timing header)
client    time the client saw, connection and SDK included
speed-up  gateway time of the miss with the same prompt / this gateway time
hit rate  hits / (hits + misses + coalesced): a shared call is not counted as a hit"""


@dataclass(frozen=True, kw_only=True)
class Call:
    """One call as the client saw it.

    Attributes:
        label: What the reader is told it is.
        prompt: The question; calls are compared with the miss of the same prompt.
        outcome: ``X-RouteCache``.
        decision: ``X-RouteCache-Decision``.
        model: ``X-RouteCache-Model``.
        gateway_ms: Sum of the durations in ``Server-Timing``; None when there was none.
        client_ms: From sending the request to having the whole answer.
        answer: What the model said.
        upstream_calls: How many calls the gateway had made upstream afterwards.
        spans: The lines that tracing wrote during the call.
    """

    label: str
    prompt: str
    outcome: str
    decision: str
    model: str
    gateway_ms: float | None
    client_ms: float
    answer: str
    upstream_calls: int = 0
    spans: Sequence[str] = field(default=(), repr=False)

    def with_surroundings(self, *, upstream_calls: int, spans: Sequence[str]) -> Self:
        """Return the call with what was seen around it."""
        return replace(self, upstream_calls=upstream_calls, spans=spans)

    def sample_of_spans(self) -> Sequence[str]:
        """Return the spans; of calls at one time only one follower's wait and its leader."""
        waits = [line for line in self.spans if line.startswith("cache.wait")]
        if not waits:
            return self.spans
        leader = waits[0].rpartition("leader=")[2]
        return [line for line in self.spans if f"span={leader}" in line][:1] + waits[:1]


def server_timing_ms(header: str) -> float | None:
    """Sum of the durations in a ``Server-Timing`` field, milliseconds; None when it has none.

    ``routecache;dur=0.08, app;dur=153.2`` gives 153.28.
    """
    total_ms: float | None = None
    for metric in header.split(","):
        for parameter in metric.split(";")[1:]:
            name, _, value = parameter.partition("=")
            if name.strip().lower() != "dur":
                continue
            try:
                total_ms = (total_ms or 0.0) + float(value.strip().strip('"'))
            except ValueError:
                continue
    return total_ms


def shorten(text: str, width: int) -> str:
    """Return ``text`` on one line of at most ``width`` characters."""
    line = " ".join(text.split())
    return line if len(line) <= width else line[: width - 3].rstrip() + "..."


def format_ms(value_ms: float | None) -> str:
    """Return a duration in milliseconds with the digits that matter: 153.2, 0.051."""
    if value_ms is None:
        return "-"
    return f"{value_ms:.1f}" if value_ms >= 1 else f"{value_ms:.3f}"


def merge(calls: Sequence[Call]) -> Call:
    """Return calls that ran at one time as one: outcomes counted, the slowest times."""
    timed = [call.gateway_ms for call in calls if call.gateway_ms is not None]
    return replace(
        calls[0],
        outcome=_counted([call.outcome for call in calls]),
        decision=_counted([call.decision for call in calls]),
        model=" ".join(sorted({call.model for call in calls})),
        gateway_ms=max(timed, default=None),
        client_ms=max(call.client_ms for call in calls),
    )


def _counted(words: Sequence[str]) -> str:
    rarest_first = sorted(Counter(words).items(), key=lambda pair: pair[1])
    return "\n".join(f"{count} {word}" for word, count in rarest_first)


def speed_up(call: Call, earlier: Sequence[Call]) -> str:
    """Return how many times faster than the latest miss of the same prompt; "" when not a hit."""
    misses = [one for one in earlier if one.prompt == call.prompt and "MISS" in one.outcome]
    if call.outcome != "HIT" or not misses or not call.gateway_ms or not misses[-1].gateway_ms:
        return ""
    return f"{misses[-1].gateway_ms / call.gateway_ms:,.0f}x"


def calls_table(calls: Sequence[Call]) -> Table:
    """Return the table of all calls; fits into :data:`TABLE_WIDTH` columns."""
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, padding=(0, 1, 0, 0), width=TABLE_WIDTH)
    table.add_column("request, the model's answer", ratio=1)
    for name in ("outcome", "decision", "model"):
        table.add_column(name, min_width=len(name))
    for name in ("calls", "gateway\nms", "client\nms", "speed-up"):
        table.add_column(name, justify="right", no_wrap=True)
    for number, call in enumerate(calls):
        request = f"{call.label}\n[dim]{shorten(call.answer, ANSWER_WIDTH)}[/dim]"
        style = "green" if call.outcome == "HIT" else ""
        table.add_row(
            request,
            f"[{style}]{call.outcome}[/]" if style else call.outcome,
            call.decision,
            call.model,
            str(call.upstream_calls),
            format_ms(call.gateway_ms),
            format_ms(call.client_ms),
            speed_up(call, calls[:number]),
        )
    return table


def statistics_table(stats: Mapping[str, Mapping[str, float]]) -> Table:
    """Return hit rate and counters per layer, out of the gateway's ``/stats``."""
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, padding=(0, 1, 0, 0))
    table.add_column("layer")
    counters = ("hits", "misses", "coalesced", "writes", "entries")
    for name in ("hit rate", *counters):
        table.add_column(name, justify="right")
    for layer in ("routing", "result", "metadata", "load"):
        counted = stats[layer]
        is_used = counted["hits"] + counted["misses"] + counted["coalesced"] > 0
        rate = f"{stats['hit_rates'][layer]:.0%}" if is_used else "-"
        table.add_row(layer, rate, *(f"{counted[name]:.0f}" for name in counters))
    return table


EXPECTED = (
    ("MISS", "small", 1),
    ("HIT", "small", 1),
    ("HIT", "small", 1),
    ("MISS", "small", 2),
    ("MISS", "large", 3),
    ("1 MISS\n19 COALESCED", "small", 4),
    ("HIT", "small", 4),
    ("MISS", "small", 5),
)
"""Of every call of the tour: its outcome, its model, and the upstream calls made by then."""


def unexpected(calls: Sequence[Call]) -> list[str]:
    """Return a sentence for every call that did not come as :data:`EXPECTED`."""
    came = [(call.outcome, call.model, call.upstream_calls) for call in calls]
    return [
        f"{call.label!r}: outcome, model and upstream calls are {got}, not {expected}"
        for call, got, expected in zip(calls, came, EXPECTED, strict=True)
        if got != expected
    ]
