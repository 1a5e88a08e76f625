"""A collector's end of OTLP/HTTP: it takes metrics and traces, and keeps what they said."""

from __future__ import annotations

import gzip
import threading
import time
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest


class Receiver:
    """A server on a loopback port. `status` is what it answers, `wait_s` how long it waits before that."""

    def __init__(self, status: int = 200, wait_s: float = 0.0) -> None:
        self.status = status
        self.wait_s = wait_s
        self.location: str | None = None
        self.is_endless = False
        self.asked: list[tuple[str, dict[str, str]]] = []
        self.bodies: list[bytes] = []
        self.metrics: list[Any] = []
        self.traces: list[Any] = []

    def __enter__(self) -> Receiver:
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                body = gzip.decompress(body) if self.headers.get("Content-Encoding") == "gzip" else body
                receiver.asked.append((self.path, {name.lower(): value for name, value in self.headers.items()}))
                receiver.bodies.append(body)
                time.sleep(receiver.wait_s)
                if receiver.status == 200 and self.path.endswith("/v1/metrics"):
                    receiver.metrics.append(ExportMetricsServiceRequest.FromString(body))
                if receiver.status == 200 and self.path.endswith("/v1/traces"):
                    receiver.traces.append(ExportTraceServiceRequest.FromString(body))
                self.send_response(receiver.status)
                if receiver.location is not None:
                    self.send_header("Location", receiver.location)
                if not receiver.is_endless:
                    self.send_header("Content-Length", "0")
                self.end_headers()
                with suppress(OSError):
                    while receiver.is_endless:
                        self.wfile.write(b"x" * 65536)
                self.close_connection = receiver.is_endless

            def log_message(self, format: str, *args: Any) -> None:
                """Silence: the test reads what came."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def points(self) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
        """The last value of each series, by the metric's name and its attributes; of a histogram how many values it has."""
        found = {}
        for request in self.metrics:
            for resource in request.resource_metrics:
                for scope in resource.scope_metrics:
                    for metric in scope.metrics:
                        for point in getattr(metric, metric.WhichOneof("data")).data_points:
                            attributes = tuple(sorted((one.key, one.value.string_value) for one in point.attributes))
                            found[metric.name, attributes] = value_of(point)
        return found

    def spans(self) -> list[Any]:
        """Every span that came."""
        return [
            span
            for request in self.traces
            for resource in request.resource_spans
            for scope in resource.scope_spans
            for span in scope.spans
        ]

    def resource(self) -> dict[str, str]:
        """What the last request said of the process."""
        last = (self.metrics or self.traces)[-1]
        resources = last.resource_metrics if self.metrics else last.resource_spans
        return {one.key: one.value.string_value for one in resources[0].resource.attributes}


def value_of(point: Any) -> float:
    """The number of a data point; of a histogram's how many values it has."""
    if hasattr(point, "bucket_counts"):
        return int(point.count)
    return float(point.as_int) if point.WhichOneof("value") == "as_int" else float(point.as_double)


def attributes_of(span: Any) -> dict[str, Any]:
    """A span's attributes as plain values."""
    return {one.key: getattr(one.value, one.value.WhichOneof("value")) for one in span.attributes}
