"""What a recorder keeps, as Prometheus reads it.

Source: https://prometheus.io/docs/instrumenting/exposition_formats/
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import accumulate, product
from typing import Any

from evalforge.errors import SettingsError
from evalforge.telemetry.instruments import INSTRUMENTS, Kind, prometheus_name
from evalforge.telemetry.recorder import Recorder, Series

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


def exposition(recorder: Recorder) -> bytes:
    """Every series that was told of, and every counter that was not at 0, in Prometheus' text format.

    A counter that appears with its first value would have grown by nothing: an alert would miss the first failure.

    Raises:
        SettingsError: the extra `otel` is not installed.
    """
    try:
        from prometheus_client import CollectorRegistry, generate_latest
    except ModuleNotFoundError:
        raise SettingsError(
            "/metrics: prometheus-client is not installed; wants pip install 'evalforge-ingestion[otel]'"
        ) from None

    class Kept:
        """The recorder's series, as the library wants them."""

        def collect(self) -> Iterator[Any]:
            """One family for each instrument."""
            told = {series.instrument.name: series for series in recorder.series()}
            rows = (told.get(row.name) or (Series(row) if row.kind is Kind.COUNTER else None) for row in INSTRUMENTS)
            return (_family(series) for series in rows if series is not None)

    registry = CollectorRegistry()
    registry.register(Kept())
    text: bytes = generate_latest(registry)
    return text


def _family(series: Series) -> Any:
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily

    row = series.instrument
    name, names = prometheus_name(row), [attribute.name for attribute in row.attributes]
    if row.kind is Kind.HISTOGRAM:
        histogram = HistogramMetricFamily(name, row.meaning, labels=names)
        bounds = [*map(str, row.buckets), "+Inf"]
        for labels, kept in series.distributions.items():
            histogram.add_metric(labels, list(zip(bounds, accumulate(kept.counts), strict=True)), sum_value=kept.total)
        return histogram
    family = (CounterMetricFamily if row.kind is Kind.COUNTER else GaugeMetricFamily)(name, row.meaning, labels=names)
    values = dict(series.values)
    if row.kind is Kind.COUNTER:
        for labels in product(*(sorted(attribute.values) for attribute in row.attributes)):
            values.setdefault(labels, 0.0)
    for labels, value in values.items():
        family.add_metric(labels, value)
    return family
