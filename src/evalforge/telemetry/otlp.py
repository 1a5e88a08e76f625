"""Sends what a recorder is told over OTLP/HTTP: metrics and traces, by OpenTelemetry's SDK, in requests of our own.

Nothing global is set: libraries that know OpenTelemetry themselves (Google's do) neither see these spans nor send any. The
SDK's own exporter is not used: it reads a dozen variables of the environment by itself, follows redirects, and decides how
long it takes (docs/decisions/0025).
Source: https://opentelemetry.io/docs/specs/otlp/#otlphttp
"""

from __future__ import annotations

import gzip
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from contextvars import ContextVar
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import Any, Literal
from urllib.parse import urlsplit

import httpx
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.common.metrics_encoder import encode_metrics
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.metrics import CallbackOptions, Observation
from opentelemetry.sdk import metrics, trace
from opentelemetry.sdk.metrics import export as metric_export
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import export as trace_export
from opentelemetry.sdk.trace.sampling import ALWAYS_ON
from opentelemetry.trace import Status, StatusCode, set_span_in_context

from evalforge.core.sites import is_loopback
from evalforge.events import emit
from evalforge.telemetry.instruments import INSTRUMENTS, Instrument, Kind, Stretch
from evalforge.telemetry.recorder import Labels

_AGAIN = frozenset({429, 502, 503, 504})
_FIRST_WAIT_S, _LONGEST_WAIT_S = 0.2, 5.0

Temporality = Literal["cumulative", "delta", "lowmemory"]


@dataclass(frozen=True, slots=True)
class Target:
    """Where telemetry goes and how; `endpoint` has passed the settings' rule: https, or http on loopback.

    `headers` may hold a key; printing shows none of them. `timeout_s` bounds one batch with all its repetitions.
    """

    endpoint: str
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    timeout_s: float = 10.0
    interval_s: float = 60.0
    temporality: Temporality = "cumulative"
    resource: Mapping[str, str] = field(default_factory=dict)
    metrics: bool = True
    traces: bool = True


class Otlp:
    """A recorder's way out over OTLP. Threads of its own send; nothing that happens there reaches whoever counts.

    A batch that could not be sent is one line in the log, and then none until one could.
    """

    def __init__(self, target: Target, *, transport: httpx.BaseTransport | None = None) -> None:
        self._post = _Post(target, transport)
        resource = Resource({"telemetry.sdk.language": "python", "telemetry.sdk.name": "opentelemetry", **target.resource})
        self._ages: dict[str, dict[Labels, float]] = {}
        self._instruments: dict[str, Any] = {}
        self._meters: metrics.MeterProvider | None = None
        self._tracers: trace.TracerProvider | None = None
        if target.metrics:
            reader = metric_export.PeriodicExportingMetricReader(
                _Metrics(self._post, target.temporality), target.interval_s * 1000, target.timeout_s * 1000
            )
            self._meters = metrics.MeterProvider(
                [reader], resource, shutdown_on_exit=False, exemplar_filter=metrics.AlwaysOffExemplarFilter()
            )
            meter = self._meters.get_meter("evalforge", version("evalforge-ingestion"))
            self._instruments = {row.name: self._made(meter, row) for row in INSTRUMENTS}
        if target.traces:
            self._tracers = trace.TracerProvider(ALWAYS_ON, resource, shutdown_on_exit=False)
            self._tracers.add_span_processor(
                trace_export.BatchSpanProcessor(
                    _Spans(self._post),
                    max_queue_size=4096,
                    schedule_delay_millis=5000,
                    max_export_batch_size=512,
                    export_timeout_millis=target.timeout_s * 1000,
                )
            )
            self._tracer = self._tracers.get_tracer("evalforge", version("evalforge-ingestion"))

    def told(self, instrument: Instrument, value: float, labels: Labels) -> None:
        """Passes one number on to the SDK."""
        if self._meters is None:
            return
        if instrument.kind is Kind.AGE:
            self._ages.setdefault(instrument.name, {})[labels] = value
            return
        attributes = _attributes(instrument, labels)
        made = self._instruments[instrument.name]
        if instrument.kind is Kind.COUNTER:
            made.add(value, attributes)
        elif instrument.kind is Kind.GAUGE:
            made.set(value, attributes)
        else:
            made.record(value, attributes)

    def begun(self, stretch: Stretch) -> _Begun:
        """Begins a span within the one around it."""
        if self._tracers is None:
            return _Begun(None, None)
        around = _AROUND.get()
        context = Context()
        if around is not None and around.owner is self:
            context = set_span_in_context(around.span, context)
        begun = _Begun(self._tracer.start_span(stretch.name, context), around, self)
        _AROUND.set(begun)
        return begun

    def close(self, within_s: float = 3.0) -> None:
        """Sends what is left and ends, within so many seconds, whatever the other side does; what is left then is lost."""
        deadline = time.monotonic() + within_s
        self._post.close_at(deadline)
        left_ms = int(within_s * 1000)
        work: list[Callable[[], object]] = []
        if self._meters is not None:
            meters = self._meters
            work.append(lambda: meters.shutdown(left_ms))
        if self._tracers is not None:
            work.append(self._tracers.shutdown)
        threads = [threading.Thread(target=_quietly, args=(one,), name="telemetry", daemon=True) for one in work]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        if any(thread.is_alive() for thread in threads):
            self._post.failed("all", "too_late")
        else:
            self._post.close()

    def _made(self, meter: Any, row: Instrument) -> Any:
        if row.kind is Kind.COUNTER:
            return meter.create_counter(row.name, row.unit, row.meaning)
        if row.kind is Kind.GAUGE:
            return meter.create_gauge(row.name, row.unit, row.meaning)
        if row.kind is Kind.HISTOGRAM:
            bounds = list(row.buckets)
            return meter.create_histogram(row.name, row.unit, row.meaning, explicit_bucket_boundaries_advisory=bounds)
        return meter.create_observable_gauge(row.name, [lambda options: self._age(row, options)], row.unit, row.meaning)

    def _age(self, row: Instrument, _options: CallbackOptions) -> Iterable[Observation]:
        now = time.time()
        moments = dict(self._ages.get(row.name, {}))
        return [Observation(max(0.0, now - at), _attributes(row, labels)) for labels, at in moments.items()]


def _quietly(work: Callable[[], object]) -> None:
    """Nobody is helped by a traceback of the SDK's on a terminal, and a run least of all."""
    with suppress(Exception):
        work()


class _Begun:
    """A span under way; without one, nothing is sent."""

    def __init__(self, span: Any, around: _Begun | None, owner: Otlp | None = None) -> None:
        self.span = span
        self.owner = owner
        self._around = around

    def end(self, attributes: Mapping[str, str | int | float], failed: str | None) -> None:
        """Ends it with what was noted."""
        if self.span is None:
            return
        _AROUND.set(self._around)
        self.span.set_attributes(attributes)
        if failed is not None:
            self.span.set_attribute("error.type", failed)
            self.span.set_status(Status(StatusCode.ERROR))
        self.span.end()


_AROUND: ContextVar[_Begun | None] = ContextVar("telemetry_stretch", default=None)
"""Not OpenTelemetry's own context: no library is to see our spans, or to write their ids into its requests."""


def _attributes(instrument: Instrument, labels: Labels) -> dict[str, str]:
    return {attribute.name: value for attribute, value in zip(instrument.attributes, labels, strict=True)}


class _Post:
    """Posts batches, again where it may help, until a batch's time is up or all is to end."""

    def __init__(self, target: Target, transport: httpx.BaseTransport | None) -> None:
        self._url = target.endpoint
        self._timeout_s = target.timeout_s
        self._close_at: float | None = None
        self._is_failing = False
        host = urlsplit(target.endpoint).hostname or ""
        self._http = httpx.Client(
            headers={
                "User-Agent": f"evalforge-ingestion/{version('evalforge-ingestion')}",
                **target.headers,
                "Content-Type": "application/x-protobuf",
                "Content-Encoding": "gzip",
            },
            follow_redirects=False,
            transport=transport,
            trust_env=not is_loopback(host),
        )

    def close_at(self, deadline: float) -> None:
        """Nothing takes longer than until then, by the monotonic clock."""
        self._close_at = deadline

    def close(self) -> None:
        """Frees the connections."""
        self._http.close()

    def sent(self, signal: str, request: Any) -> bool:
        """Whether the collector took it."""
        body = gzip.compress(request.SerializeToString(), 5)
        ends_at, wait_s, code = time.monotonic() + self._timeout_s, _FIRST_WAIT_S, "too_late"
        while True:
            if self._close_at is not None:
                ends_at = min(ends_at, self._close_at)
            left_s = ends_at - time.monotonic()
            if left_s <= 0:
                return self.failed(signal, code)
            try:
                # What it says beside the status is not read, however much it is.
                with self._http.stream("POST", f"{self._url}/v1/{signal}", content=body, timeout=left_s) as answer:
                    status = answer.status_code
            except (httpx.HTTPError, RuntimeError) as error:  # a closed client is a RuntimeError
                code = "timeout" if isinstance(error, httpx.TimeoutException) else "unreachable"
            else:
                if 200 <= status < 300:
                    self._is_failing = False
                    return True
                code = f"http_{status}"
                if status not in _AGAIN:
                    return self.failed(signal, code)
            time.sleep(max(0.0, min(wait_s, ends_at - time.monotonic())))
            wait_s = min(2 * wait_s, _LONGEST_WAIT_S)

    def failed(self, signal: str, code: str) -> bool:
        """Says so once."""
        if not self._is_failing:
            self._is_failing = True
            emit("telemetry.failed", signal=signal, code=code)
        return False


class _Metrics(metric_export.MetricExporter):
    """Sends metrics."""

    def __init__(self, post: _Post, temporality: Temporality) -> None:
        super().__init__(preferred_temporality=_temporalities(temporality))
        self._sending = post

    def export(self, metrics_data: Any, timeout_millis: float = 10_000, **_: Any) -> metric_export.MetricExportResult:
        """Sends one collection."""
        is_sent = self._sending.sent("metrics", encode_metrics(metrics_data))
        return metric_export.MetricExportResult.SUCCESS if is_sent else metric_export.MetricExportResult.FAILURE

    def force_flush(self, timeout_millis: float = 10_000) -> bool:
        """Nothing is kept back."""
        return True

    def shutdown(self, timeout_millis: float = 30_000, **_: Any) -> None:
        """Nothing is left to end."""


class _Spans(trace_export.SpanExporter):
    """Sends spans."""

    def __init__(self, post: _Post) -> None:
        self._sending = post

    def export(self, spans: Sequence[trace.ReadableSpan]) -> trace_export.SpanExportResult:
        """Sends one batch."""
        is_sent = self._sending.sent("traces", encode_spans(spans))
        return trace_export.SpanExportResult.SUCCESS if is_sent else trace_export.SpanExportResult.FAILURE

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """Nothing is kept back."""
        return True

    def shutdown(self) -> None:
        """Nothing is left to end."""


def _temporalities(preference: Temporality) -> dict[type, metric_export.AggregationTemporality]:
    """What is told as growth since the last time. Source: the OTLP exporter's specification, "Additional Environment
    Variable Configuration": delta means counters and histograms; lowmemory the same as far as they are no observed ones."""
    if preference == "cumulative":
        return {}
    delta = metric_export.AggregationTemporality.DELTA
    return {metrics.Counter: delta, metrics.Histogram: delta}
