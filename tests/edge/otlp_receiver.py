"""A receiver of OpenTelemetry's protocol (OTLP over HTTP): what a collector would get, decoded."""

from __future__ import annotations

import gzip
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest


@dataclass(frozen=True)
class Point:
    """A point of a histogram."""

    unit: str
    count: int
    sum: float
    bounds: tuple[float, ...]
    attributes: dict[str, Any]


@dataclass(frozen=True)
class SpanSeen:
    name: str
    service: str
    trace_id: str
    attributes: dict[str, Any]


@dataclass
class Received:
    """All that came, in its order. A histogram's points are those since the last export (DRUM exports deltas)."""

    url: str
    points: dict[str, list[Point]] = field(default_factory=dict)
    spans: list[SpanSeen] = field(default_factory=list)

    def total(self, name: str, **attributes: Any) -> tuple[int, float]:
        """Count and sum of a histogram, over all points with these attributes (dots as two underscores)."""
        wanted = {key.replace("__", "."): value for key, value in attributes.items()}
        points = [point for point in list(self.points.get(name, ())) if wanted.items() <= point.attributes.items()]
        return sum(point.count for point in points), sum(point.sum for point in points)

    def take(self, path: str, body: bytes) -> None:
        if path.endswith("/v1/metrics"):
            metrics = ExportMetricsServiceRequest.FromString(body)
            for each in (m for r in metrics.resource_metrics for s in r.scope_metrics for m in s.metrics):
                for point in each.histogram.data_points:
                    seen = Point(
                        each.unit, point.count, point.sum, tuple(point.explicit_bounds), _plain(point.attributes)
                    )
                    self.points.setdefault(each.name, []).append(seen)
        elif path.endswith("/v1/traces"):
            for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
                service = str(_plain(resource.resource.attributes).get("service.name", ""))
                for span in (span for scope in resource.scope_spans for span in scope.spans):
                    self.spans.append(SpanSeen(span.name, service, span.trace_id.hex(), _plain(span.attributes)))


def _plain(attributes: Any) -> dict[str, Any]:
    return {each.key: getattr(each.value, each.value.WhichOneof("value") or "string_value") for each in attributes}


@contextmanager
def otlp_receiver() -> Iterator[Received]:
    """One that listens on loopback until the block ends."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            received.take(self.path, gzip.decompress(body) if self.headers["Content-Encoding"] == "gzip" else body)
            self.send_response(200)
            self.send_header("Content-Type", "application/x-protobuf")
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None:
            """A test's output is not the place."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    received = Received(f"http://127.0.0.1:{server.server_port}")
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield received
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
