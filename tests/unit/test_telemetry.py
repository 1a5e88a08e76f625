"""The table of instruments, the recorder that holds everything to it, and the two ways out."""

from __future__ import annotations

import asyncio
import io
import json
import re
import sys
import threading
import time
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry import metrics, trace
from prometheus_client.parser import text_string_to_metric_families

from evalforge.bootstrap.telemetry import checked_telemetry, telemetry_sent
from evalforge.config import Settings
from evalforge.config.values import Secret
from evalforge.core.ports.telemetry import SILENCE
from evalforge.core.privacy.net import SECOND_NET
from evalforge.errors import QuotaExhaustedError, SettingsError
from evalforge.events import configure_logging
from evalforge.service.app import create_app
from evalforge.telemetry.instruments import INSTRUMENTS, OTHER, REDACTION, STRETCHES, Instrument, Kind, prometheus_name
from evalforge.telemetry.otlp import Otlp, Target
from evalforge.telemetry.prometheus import exposition
from evalforge.telemetry.recorder import Recorder
from tests.emulator import free_port
from tests.otlp_receiver import Receiver, attributes_of

NAME = re.compile(r"evalforge(?:\.[a-z][a-z0-9_]*)+")
LABEL = re.compile(r"[a-z][a-z0-9_]*")


def tell(recorder: Recorder, row: Instrument, value: float, **attributes: str) -> None:
    if row.kind is Kind.COUNTER:
        recorder.add(row.name, value, **attributes)
    elif row.kind is Kind.HISTOGRAM:
        recorder.observe(row.name, value, **attributes)
    else:
        recorder.put(row.name, value, **attributes)


# -- the table ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("row", INSTRUMENTS, ids=lambda row: row.name)
def test_each_row_is_named_and_bounded(row: Instrument) -> None:
    assert NAME.fullmatch(row.name)
    assert (row.unit == "s") == (row.kind in (Kind.HISTOGRAM, Kind.AGE))
    assert row.unit == "s" or re.fullmatch(r"\{[a-z]+\}", row.unit)
    assert list(row.buckets) == sorted(set(row.buckets))
    assert bool(row.buckets) == (row.kind is Kind.HISTOGRAM)
    assert row.meaning
    assert row.meaning[0].islower()
    for attribute in row.attributes:
        assert LABEL.fullmatch(attribute.name)
        assert attribute.values
        assert all(re.fullmatch(r"[a-z0-9_]+", value) for value in attribute.values)
    assert row.max_series <= 60


def test_names_are_unique_both_ways() -> None:
    names = [prometheus_name(row) for row in INSTRUMENTS]
    assert len(set(names)) == len(names) == len({row.name for row in INSTRUMENTS})
    assert sum(row.max_series for row in INSTRUMENTS) < 400


@pytest.mark.parametrize(
    ("name", "becomes"),
    [
        ("evalforge.spans.read", "evalforge_spans_read_total"),
        ("evalforge.run.duration", "evalforge_run_duration_seconds"),
        ("evalforge.lag", "evalforge_lag_seconds"),
        ("evalforge.datadog.quota.remaining", "evalforge_datadog_quota_remaining"),
    ],
)
def test_prometheus_names_follow_the_standards_mapping(name: str, becomes: str) -> None:
    assert prometheus_name(next(row for row in INSTRUMENTS if row.name == name)) == becomes


def test_every_kind_of_redaction_that_is_counted_has_a_value() -> None:
    assert SECOND_NET in REDACTION.values


# -- the recorder ---------------------------------------------------------------------------------------------------------

HOSTILE = st.one_of(
    st.text(max_size=40),
    st.sampled_from(["llm_obs", "wilhelmina@example.org", "", "other", "\x00", "a" * 5000, "Bearer hunter2", "٣"]),
)


@given(
    st.lists(
        st.tuples(
            st.sampled_from(INSTRUMENTS),
            HOSTILE,
            st.one_of(st.floats(), st.integers(-5, 10**30)),
        ),
        max_size=60,
    )
)
def test_no_name_from_outside_makes_a_series_or_stands_in_one(told: list[tuple[Instrument, str, float]]) -> None:
    recorder = Recorder()
    for row, text, value in told:
        tell(recorder, row, value, **{attribute.name: text for attribute in row.attributes}, a_label_of_nobody=text)
    for series in recorder.series():
        labels = {*series.values, *series.distributions}
        assert len(labels) <= series.instrument.max_series
        for one in labels:
            for attribute, label in zip(series.instrument.attributes, one, strict=True):
                assert label in attribute.values | {OTHER}


@given(st.sampled_from(STRETCHES), HOSTILE, st.floats())
def test_a_stretch_keeps_only_what_the_table_names(stretch: Any, text: str, number: float) -> None:
    begun: list[Any] = []

    class Way:
        def told(self, *_: Any) -> None: ...

        def begun(self, row: Any) -> Way:
            return self

        def end(self, attributes: Any, failed: str | None) -> None:
            begun.append((dict(attributes), failed))

    recorder = Recorder()
    recorder.add_way(Way())
    names = [*(one.name for one in stretch.attributes), *stretch.counts, *stretch.ids, "nobodys"]
    with suppress(RuntimeError), recorder.stretch(stretch.name, **dict.fromkeys(names, text)) as told:
        told.note(**dict.fromkeys(names, number))
        told.note(**dict.fromkeys(names, text))
        raise RuntimeError(text)
    [(attributes, failed)] = begun
    assert failed == "unexpected"
    for attribute in stretch.attributes:
        assert attributes.pop(attribute.name) in attribute.values | {OTHER}
    assert set(attributes) <= set(stretch.counts)
    assert all(isinstance(value, float) for value in attributes.values())


def test_counters_grow_gauges_stand_and_ages_count_from_the_latest_moment() -> None:
    recorder = Recorder(clock=lambda: 1000.0)
    recorder.add("evalforge.second_net.hits", 2)
    recorder.add("evalforge.second_net.hits", 0)
    recorder.add("evalforge.second_net.hits", 3)
    recorder.put("evalforge.dead_letters", 7)
    recorder.put("evalforge.dead_letters", 4)
    recorder.put("evalforge.lag", 900.0, source="apm")
    recorder.put("evalforge.lag", 600.0, source="apm")
    for value in (0.05, 0.051, 500.0):
        recorder.observe("evalforge.page.duration", value, source="llm_obs")
    found = {series.instrument.name: series for series in recorder.series()}
    assert found["evalforge.second_net.hits"].values == {(): 5}
    assert found["evalforge.dead_letters"].values == {(): 4}
    assert found["evalforge.lag"].values == {("apm",): 100.0}
    kept = found["evalforge.page.duration"].distributions[("llm_obs",)]
    assert (kept.counts[0], kept.counts[1], kept.counts[-1], sum(kept.counts)) == (1, 1, 1, 3)


def test_a_name_that_the_table_lacks_is_a_mistake_of_ours() -> None:
    for name in ("evalforge.nothing", "evalforge.lag"):
        with pytest.raises(KeyError):
            Recorder().add(name)
    with pytest.raises(KeyError):
        Recorder().put("evalforge.runs", 1)


def test_silence_takes_everything() -> None:
    SILENCE.add("evalforge.runs")
    with SILENCE.stretch("evalforge.run", plan="x") as told:
        told.note(outcome="complete")
        told.failed("code")


# -- the ways out ---------------------------------------------------------------------------------------------------------


def filled() -> Recorder:
    recorder = Recorder(clock=lambda: 1000.0)
    tell_everything(recorder)
    return recorder


def tell_everything(recorder: Recorder) -> None:
    for row in INSTRUMENTS:
        tell(recorder, row, 2.0, **{attribute.name: min(attribute.values) for attribute in row.attributes})


def test_the_text_for_prometheus_has_every_instrument_by_its_name() -> None:
    text = exposition(filled()).decode()
    families = {family.name: family for family in text_string_to_metric_families(text)}
    assert len(families) == len(INSTRUMENTS)
    for row in INSTRUMENTS:
        name = prometheus_name(row)
        family = families[name.removesuffix("_total")]
        assert family.documentation == row.meaning
        assert family.type == ("gauge" if row.kind is Kind.AGE else row.kind.value)
        samples = {sample.name for sample in family.samples}
        assert samples == ({f"{name}_{one}" for one in ("bucket", "sum", "count")} if row.buckets else {name})


def test_a_counter_stands_at_nothing_before_it_is_told_of() -> None:
    lines = [line for line in exposition(Recorder()).decode().splitlines() if not line.startswith("#")]
    assert 'evalforge_runs_total{outcome="failed",plan="window"} 0.0' in lines or (
        'evalforge_runs_total{plan="window",outcome="failed"} 0.0' in lines
    )
    assert all(line.endswith(" 0.0") for line in lines)
    assert len(lines) < 300


def sender(receiver: Receiver, **options: Any) -> Otlp:
    return Otlp(Target(receiver.url, {"x-key": "hunter2"}, interval_s=3600, **options))


def test_a_collector_gets_every_series_that_prometheus_does() -> None:
    recorder = Recorder()
    with Receiver() as receiver:
        way = sender(receiver, resource={"service.name": "evals"})
        recorder.add_way(way)
        tell_everything(recorder)
        way.close()
    kept = {
        (series.instrument.name, tuple(sorted(zip((one.name for one in series.instrument.attributes), labels, strict=True))))
        for series in recorder.series()
        for labels in (*series.values, *series.distributions)
    }
    assert set(receiver.points()) == kept
    assert receiver.points()["evalforge.dead_letters", ()] == 2
    assert {path for path, _ in receiver.asked} == {"/v1/metrics"}
    assert all(headers["x-key"] == "hunter2" for _, headers in receiver.asked)
    assert receiver.resource()["service.name"] == "evals"
    assert set(receiver.resource()) == {"service.name", "telemetry.sdk.language", "telemetry.sdk.name"}


def test_growth_is_sent_as_growth_where_that_is_wanted() -> None:
    recorder = Recorder()
    with Receiver() as receiver:
        way = sender(receiver, temporality="delta")
        recorder.add_way(way)
        recorder.add("evalforge.second_net.hits", 3)
        way.close()
    [metric] = [
        metric
        for metric in receiver.metrics[-1].resource_metrics[0].scope_metrics[0].metrics
        if metric.name == "evalforge.second_net.hits"
    ]
    assert metric.sum.aggregation_temporality == 1  # AGGREGATION_TEMPORALITY_DELTA
    assert metric.sum.is_monotonic


async def test_stretches_nest_as_blocks_do_across_tasks() -> None:
    recorder = Recorder()
    with Receiver() as receiver:
        way = sender(receiver)
        recorder.add_way(way)

        async def page(source: str) -> None:
            with recorder.stretch("evalforge.page", source=source, item_count=3):
                await asyncio.sleep(0)
                with recorder.stretch("evalforge.store.write", store="sqlite", write_count=2):
                    await asyncio.sleep(0)

        with recorder.stretch("evalforge.run", plan="window") as told:
            await asyncio.gather(page("apm"), page("llm_obs"), return_exceptions=True)
            with pytest.raises(QuotaExhaustedError), recorder.stretch("evalforge.window", source="apm"):
                raise QuotaExhaustedError("of wilhelmina@example.org", retry_after_s=1)
            told.note(run_id="run_20261128T010203_0123abcd", outcome="complete")
        with recorder.stretch("evalforge.run", plan="window"):
            pass
        way.close()
    spans = receiver.spans()
    by_id = {span.span_id: span for span in spans}
    first, second = sorted(
        (span for span in spans if span.name == "evalforge.run"), key=lambda span: span.start_time_unix_nano
    )
    assert first.parent_span_id == second.parent_span_id == b""
    assert first.trace_id != second.trace_id
    assert attributes_of(first) == {"plan": "window", "run_id": "run_20261128T010203_0123abcd", "outcome": "complete"}
    pages = [span for span in spans if span.name == "evalforge.page"]
    assert [span.parent_span_id for span in pages] == [first.span_id] * 2
    writes = [span for span in spans if span.name == "evalforge.store.write"]
    assert {by_id[span.parent_span_id].name for span in writes} == {"evalforge.page"}
    [window] = [span for span in spans if span.name == "evalforge.window"]
    assert (attributes_of(window), window.status.code) == ({"source": "apm", "error.type": "quota_exhausted"}, 2)
    assert (list(window.events), window.status.message) == ([], "")
    assert b"wilhelmina" not in b"".join(receiver.bodies)


def test_libraries_that_know_opentelemetry_see_none_of_it() -> None:
    recorder = Recorder()
    with Receiver() as receiver:
        way = sender(receiver)
        recorder.add_way(way)
        with recorder.stretch("evalforge.run", plan="window"):
            assert not trace.get_current_span().get_span_context().is_valid
            with trace.get_tracer("google").start_as_current_span("GET https://example.org/?user=wilhelmina"):
                metrics.get_meter("google").create_counter("theirs").add(1)
        way.close()
    assert [span.name for span in receiver.spans()] == ["evalforge.run"]
    assert b"wilhelmina" not in b"".join(receiver.bodies)


@pytest.mark.parametrize("trouble", ["refused", "redirected", "down", "slow"])
def test_a_collector_in_trouble_costs_a_line_and_a_bounded_time(trouble: str) -> None:
    stream = io.StringIO()
    configure_logging("json", stream=stream)
    recorder = Recorder()
    with (
        Receiver({"refused": 401, "redirected": 307}.get(trouble, 200), 5.0 if trouble == "slow" else 0) as receiver,
        Receiver() as other,
    ):
        receiver.location = f"{other.url}/v1/metrics" if trouble == "redirected" else None
        way = sender(receiver, timeout_s=0.3)
        if trouble == "down":
            receiver.__exit__()
        recorder.add_way(way)
        tell_everything(recorder)
        with recorder.stretch("evalforge.run"):
            pass
        way.close(1.0)
        if trouble == "down":
            receiver.__enter__()
    lines = [json.loads(line) for line in stream.getvalue().splitlines()]
    failed = [line for line in lines if line["message"] == "telemetry.failed"]
    assert len(failed) == 1
    assert (
        failed[0]["code"]
        in {
            "refused": ("http_401",),
            "redirected": ("http_307",),
            "down": ("unreachable",),
            "slow": ("timeout", "too_late"),
        }[trouble]
    )
    assert other.asked == []
    assert "hunter2" not in stream.getvalue()


def test_an_endless_answer_is_not_read() -> None:
    recorder = Recorder()
    with Receiver() as receiver:
        receiver.is_endless = True
        way = sender(receiver)
        recorder.add_way(way)
        recorder.add("evalforge.second_net.hits")
        way.close()
        receiver.is_endless = False
    assert receiver.points() == {("evalforge.second_net.hits", ()): 1}


def test_a_batch_is_sent_again_after_trouble_that_passes() -> None:
    recorder = Recorder()
    with Receiver(503) as receiver:
        way = sender(receiver, timeout_s=5.0, traces=False)
        recorder.add_way(way)
        recorder.add("evalforge.second_net.hits")
        closing = threading.Thread(target=way.close)
        closing.start()
        while not receiver.asked:
            time.sleep(0.01)
        receiver.status = 200
        closing.join()
    assert receiver.points() == {("evalforge.second_net.hits", ()): 1}


def test_without_the_extra_the_setting_is_refused_and_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk", None)
    monkeypatch.setitem(sys.modules, "prometheus_client", None)
    what_to_install = re.escape("pip install 'evalforge-ingestion[otel]'")
    assert checked_telemetry(Settings()) == Settings()
    with pytest.raises(SettingsError, match=what_to_install):
        checked_telemetry(Settings(otel_exporter_otlp_endpoint="http://127.0.0.1:4318"))
    with pytest.raises(SettingsError, match=what_to_install):
        exposition(Recorder())
    app = create_app({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:4318"})
    assert isinstance(app.state.settings, SettingsError)


async def test_headers_that_cannot_be_read_are_a_line_and_no_failed_run() -> None:
    stream = io.StringIO()
    configure_logging("json", stream=stream)
    settings = Settings(
        otel_exporter_otlp_endpoint="http://127.0.0.1:9",
        otel_exporter_otlp_headers=Secret("projects/p/secrets/s/versions/1"),
        secret_manager_endpoint=f"127.0.0.1:{free_port()}",
    )
    async with telemetry_sent(settings, Recorder()) as told:
        told.add("evalforge.runs", plan="window", outcome="complete")
    [line] = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert (line["message"], line["signal"], line["code"]) == ("telemetry.failed", "all", "secret_manager_unavailable")
