"""What a run tells a collector, and the service Prometheus: the numbers of its report, by the same names."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from evalforge.core.callers import Role, key_row_text
from evalforge.sandbox.server import BackgroundServer
from evalforge.telemetry.instruments import INSTRUMENTS, OTHER, Kind, prometheus_name
from tests.integration.commands import PLAIN, evalforge
from tests.integration.test_service_process import Service, environment_for
from tests.otlp_receiver import Receiver, attributes_of

KEY = "evf_" + "M" * 43
Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]


@pytest.fixture(scope="module")
def sandbox() -> Iterator[BackgroundServer]:
    with BackgroundServer(samples=True, traces=60) as server:
        yield server


@pytest.fixture
def collector() -> Iterator[Receiver]:
    with Receiver() as receiver:
        yield receiver


def samples_in(text: str) -> Samples:
    families = text_string_to_metric_families(text)
    return {(one.name, tuple(sorted(one.labels.items()))): one.value for family in families for one in family.samples}


def total(samples: Samples, name: str, **labels: str) -> float:
    return sum(value for (found, pairs), value in samples.items() if found == name and labels.items() <= dict(pairs).items())


def test_a_run_of_the_command_line_tells_a_collector_what_its_report_says(
    sandbox: BackgroundServer, collector: Receiver, tmp_path: Path
) -> None:
    environment = PLAIN | environment_for(sandbox, tmp_path) | {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.url}
    report = json.loads(evalforge(environment, "ingest", "--json").stdout)
    points = collector.points()
    for name, told in (("read", "fetched"), ("healthy", "healthy"), ("failing", "failing"), ("rejected", "rejected")):
        assert total(points, f"evalforge.spans.{name}") == report["items"][told], name
    for outcome in ("created", "updated", "unchanged"):
        assert total(points, "evalforge.captures", outcome=outcome) == report["captures"][outcome]
    by_type = {
        name: total(points, "evalforge.captures.new", failure_type=name) for name in report["captures"]["created_by_type"]
    }
    assert by_type == report["captures"]["created_by_type"]
    assert total(points, "evalforge.datadog.requests", code="200") == report["request_count"]
    assert total(points, "evalforge.runs", plan="window", outcome="complete") == 1
    assert total(points, "evalforge.run.duration") == 1
    assert total(points, "evalforge.redactions") > 0
    assert {dict(labels)["source"] for name, labels in points if name == "evalforge.lag"} == {"llm_obs", "apm"}
    assert [series for series in points if OTHER in dict(series[1]).values()] == []
    for source in report["sources"]:
        left = points["evalforge.datadog.quota.remaining", (("source", source["name"]),)]
        assert left == source["rate_limit"]["remaining"]

    spans = collector.spans()
    counted = Counter(span.name for span in spans)
    assert counted["evalforge.run"] == 1
    assert counted["evalforge.window"] == 2
    assert counted["evalforge.datadog.request"] == report["request_count"]
    assert counted["evalforge.page"] == sum(1 for _ in range(int(total(points, "evalforge.page.duration"))))
    assert counted["evalforge.store.write"] == total(points, "evalforge.store.write_batches")
    assert len({span.trace_id for span in spans}) == 1
    [root] = [span for span in spans if not span.parent_span_id]
    assert attributes_of(root)["run_id"] == report["run_id"]
    assert attributes_of(root)["fetched"] == report["items"]["fetched"]


def test_a_backfill_tells_a_collector_too(sandbox: BackgroundServer, collector: Receiver, tmp_path: Path) -> None:
    environment = PLAIN | environment_for(sandbox, tmp_path) | {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.url}
    report = json.loads(evalforge(environment, "backfill", "--from", "2d", "--slice", "24h", "--json").stdout)
    points = collector.points()
    assert total(points, "evalforge.spans.read") == report["items"]["fetched"] > 0
    assert total(points, "evalforge.runs", plan="backfill", outcome="complete") == 1
    windows = [span for span in collector.spans() if span.name == "evalforge.window"]
    assert len(windows) == report["backfill"]["done"]


def test_a_collector_that_is_not_there_changes_nothing(sandbox: BackgroundServer, tmp_path: Path) -> None:
    environment = PLAIN | environment_for(sandbox, tmp_path) | {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9"}
    done = evalforge(environment, "ingest", "--json")
    assert json.loads(done.stdout)["complete"] is True
    failed = [line for line in done.stderr.splitlines() if "telemetry.failed" in line]
    assert len(failed) == 1
    assert json.loads(failed[0])["code"] in ("unreachable", "too_late")


def test_telemetry_in_the_clear_is_refused_before_anything_is_read(tmp_path: Path, sandbox: BackgroundServer) -> None:
    environment = PLAIN | environment_for(sandbox, tmp_path) | {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:4318"}
    assert "OTEL_EXPORTER_OTLP_ENDPOINT" in evalforge(environment, "ingest", code=2).stderr


def test_the_service_shows_its_runs_to_prometheus_by_the_names_of_the_table(
    sandbox: BackgroundServer, collector: Receiver, tmp_path: Path
) -> None:
    environment = environment_for(sandbox, tmp_path) | {
        "SERVICE_API_KEYS": ",".join(
            (key_row_text("ops", [Role.RUN], "evf_" + "R" * 43), key_row_text("prometheus", [Role.METRICS], KEY))
        ),
        "OTEL_EXPORTER_OTLP_ENDPOINT": collector.url,
    }
    with Service(tmp_path / "log", environment) as service:
        assert service.http.get("/metrics").status_code == 401
        assert service.http.get("/metrics", headers={"X-API-Key": "evf_" + "R" * 43}).status_code == 403
        reports = [service.run_once(headers={"X-API-Key": "evf_" + "R" * 43}).json() for _ in range(2)]
        assert service.run_once(headers={"X-API-Key": KEY}).status_code == 403
        answer = service.http.get("/metrics", headers={"Authorization": f"Bearer {KEY}"})
    assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    samples = samples_in(answer.text)
    assert total(samples, "evalforge_runs_total", outcome="complete") == 2
    assert total(samples, "evalforge_spans_read_total") == sum(report["items"]["fetched"] for report in reports)
    assert total(samples, "evalforge_captures_total", outcome="unchanged") == reports[1]["captures"]["unchanged"] > 0
    assert all(value < 600 for (name, _), value in samples.items() if name == "evalforge_lag_seconds")
    # The same series went to the collector, under the table's names.
    names = {row.name: prometheus_name(row) for row in INSTRUMENTS}
    for (name, labels), value in collector.points().items():
        row = next(row for row in INSTRUMENTS if row.name == name)
        shown = samples[f"{names[name]}_count" if row.kind is Kind.HISTOGRAM else names[name], labels]
        assert row.kind is Kind.AGE or shown == value
