"""Rendering a snapshot for Prometheus: text format 0.0.4, or OpenMetrics 1.0.0 if asked for.

Names and labels are those that OpenTelemetry's Prometheus exporter makes of the same metrics, so
that one dashboard and one set of rules will do for both; the exporter adds ``otel_scope_*`` labels.
"""

from collections.abc import Iterator
from itertools import accumulate
from math import inf
from typing import Final

from routecache_middleware.core.metrics import METRICS, Kind, Metric
from routecache_middleware.core.snapshot import MetricsSnapshot, Series

__all__ = ["OPENMETRICS_TYPE", "TEXT_TYPE", "render", "render_openmetrics", "wants_openmetrics"]

TEXT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
OPENMETRICS_TYPE: Final = "application/openmetrics-text; version=1.0.0; charset=utf-8"

_TYPES: Final = {
    Kind.COUNTER: "counter",
    Kind.UP_DOWN: "gauge",
    Kind.GAUGE: "gauge",
    Kind.HISTOGRAM: "histogram",
}
_ESCAPES: Final = str.maketrans({"\\": r"\\", '"': r"\"", "\n": r"\n"})


def wants_openmetrics(accept: str) -> bool:
    """Whether an ``Accept`` field names OpenMetrics and does not refuse it."""
    for part in accept.lower().split(","):
        kind, *parameters = (piece.strip() for piece in part.split(";"))
        if kind == "application/openmetrics-text":
            return not any(piece.replace(" ", "") in {"q=0", "q=0.0"} for piece in parameters)
    return False


def render(snapshot: MetricsSnapshot) -> str:
    """Return the snapshot in text format 0.0.4; send it as :data:`TEXT_TYPE`."""
    return "".join(f"{line}\n" for line in _lines(snapshot, is_open=False))


def render_openmetrics(snapshot: MetricsSnapshot) -> str:
    """Return the snapshot as OpenMetrics; send it as :data:`OPENMETRICS_TYPE`."""
    return "".join(f"{line}\n" for line in _lines(snapshot, is_open=True)) + "# EOF\n"


def _lines(snapshot: MetricsSnapshot, *, is_open: bool) -> Iterator[str]:
    for metric in METRICS:
        every = snapshot.of(metric)
        if not every:
            continue
        # OpenMetrics has the suffix on the samples alone.
        family = metric.prometheus.removesuffix("_total") if is_open else metric.prometheus
        yield f"# HELP {family} {metric.meaning}"
        yield f"# TYPE {family} {_TYPES[metric.kind]}"
        for one in sorted(every, key=_labels):
            yield from _samples(metric, one)


def _samples(metric: Metric, one: Series) -> Iterator[str]:
    name = metric.prometheus
    labels = [
        f'{attribute.replace(".", "_")}="{value.translate(_ESCAPES)}"'
        for attribute, value in zip(metric.attributes, one.labels, strict=True)
    ]
    if metric.kind is not Kind.HISTOGRAM:
        yield f"{name}{_braced(labels)} {_number(one.value)}"
        return
    for bound, count in zip((*metric.bounds, inf), accumulate(one.counts), strict=True):
        edge = "+Inf" if bound == inf else _number(float(bound))
        bucket = [*labels, f'le="{edge}"']
        yield f"{name}_bucket{_braced(bucket)} {count}"
    yield f"{name}_count{_braced(labels)} {sum(one.counts)}"
    yield f"{name}_sum{_braced(labels)} {_number(one.value)}"


def _braced(labels: list[str]) -> str:
    return "{" + ",".join(labels) + "}" if labels else ""


def _number(value: float) -> str:
    return repr(value)


def _labels(one: Series) -> tuple[str, ...]:
    return one.labels
