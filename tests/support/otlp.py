"""A scripted OTLP collector: takes what is exported over http/protobuf, and tells what it was."""

import gzip
import threading
from collections.abc import Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Self

from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
)
from opentelemetry.proto.common.v1.common_pb2 import KeyValue
from opentelemetry.proto.metrics.v1.metrics_pb2 import Metric
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, Span

__all__ = ["Collector", "attributes_of", "link_type"]


class Collector:
    """Keeps what it is sent, by path; usable as a context manager.

    Args:
        status: What it answers.
        hangs: Whether it answers only when it is closed.

    Attributes:
        url: Where it listens, without a path.
        bodies: What has come, by path, decompressed.
    """

    def __init__(self, *, status: int = 200, hangs: bool = False) -> None:
        self.bodies: dict[str, list[bytes]] = {}
        self._closing = threading.Event()
        if not hangs:
            self._closing.set()
        collector = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                if self.headers["content-encoding"] == "gzip":
                    body = gzip.decompress(body)
                collector.bodies.setdefault(self.path, []).append(body)
                collector._closing.wait()
                self.send_response(status)
                self.send_header("content-type", "application/x-protobuf")
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, *args: object) -> None:
                """Say nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._closing.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def exports(self) -> Iterator[ResourceSpans]:
        """Yield what came to ``/v1/traces``, one per resource of each export."""
        for body in self.bodies.get("/v1/traces", ()):
            yield from ExportTraceServiceRequest.FromString(body).resource_spans

    def spans(self, name: str = "") -> list[Span]:
        """Return the spans that came, in the order in which they ended; all, or those of a name."""
        every = [
            span for one in self.exports() for scope in one.scope_spans for span in scope.spans
        ]
        return [span for span in every if name in {"", span.name}]

    def span(self, name: str) -> Span:
        """Return the only span of that name."""
        (span,) = self.spans(name)
        return span

    def metrics(self) -> Mapping[str, Metric]:
        """Return what came to ``/v1/metrics``, by name; of each the last."""
        return {
            metric.name: metric
            for body in self.bodies.get("/v1/metrics", ())
            for resource in ExportMetricsServiceRequest.FromString(body).resource_metrics
            for scope in resource.scope_metrics
            for metric in scope.metrics
        }


def attributes_of(holder: "Span | Span.Link") -> dict[str, object]:
    """Return the attributes of a span or of a link as plain values."""
    return {one.key: _value(one) for one in holder.attributes}


def link_type(link: Span.Link) -> object:
    """Return what a link leads to."""
    return attributes_of(link)["routecache.link.type"]


def _value(pair: KeyValue) -> object:
    return getattr(pair.value, pair.value.WhichOneof("value") or "string_value")
