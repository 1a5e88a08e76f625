"""A real collector (rotel) between a run and a receiver; a real Prometheus that scrapes the service and has the alerts."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

import httpx
import pytest

from deploy.dashboards import ALERTS, FOLDER, PANELS
from deploy.dashboards import grafana_dashboard as dashboard
from evalforge.core.callers import Role, key_row_text
from evalforge.sandbox.server import BackgroundServer
from evalforge.telemetry.instruments import INSTRUMENTS, prometheus_name
from tests.emulator import free_port
from tests.integration.commands import PATIENCE_S, PLAIN, evalforge
from tests.integration.test_service_process import Service, environment_for
from tests.integration.test_telemetry import total
from tests.otlp_receiver import Receiver

pytestmark = [pytest.mark.long, pytest.mark.timeout(300)]

ROTEL = "rotel==0.0.1a15"
KEY = "evf_" + "M" * 43


def lacking(what: str) -> NoReturn:
    """Skips, loudly; in CI it fails."""
    if os.environ.get("CI"):
        pytest.fail(what)
    pytest.skip(what)


def until(look: Callable[[], Any], what: str) -> Any:
    """The first true value of `look`."""
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        if found := look():
            return found
        time.sleep(0.1)
    raise AssertionError(f"waited too long for {what}")


@contextmanager
def running(*command: str, log: Path, **options: Any) -> Iterator[subprocess.Popen[bytes]]:
    """A process that ends with the block."""
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, **options)
    try:
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(10)


def rotel() -> str:
    """The collector's program, installed on first use beside the environment's programs."""
    program = Path(sys.prefix) / "collector" / "rotel" / "rotel-agent"
    if not program.exists():
        options = ["-q", "--disable-pip-version-check", "--no-deps", "--target", str(program.parents[1])]
        command = [sys.executable, "-m", "pip", "install", *options, ROTEL]
        subprocess.run(command, capture_output=True, timeout=200, check=False)
    if not program.exists():
        lacking(f"THE COLLECTOR'S TEST DID NOT RUN: pip cannot install {ROTEL}")
    return str(program)


def prometheus() -> tuple[str, str]:
    """The paths of prometheus and promtool; in CI they are installed where they are missing."""
    if shutil.which("prometheus") is None and os.environ.get("CI") and shutil.which("apt-get") and os.geteuid() == 0:
        for command in (["update"], ["install", "-y", "--no-install-recommends", "prometheus"]):
            subprocess.run(["apt-get", *command], capture_output=True, timeout=200, check=False)
    server, tool = shutil.which("prometheus"), shutil.which("promtool")
    if server is None or tool is None:
        lacking("PROMETHEUS'S TESTS DID NOT RUN. They need it: apt-get install -y --no-install-recommends prometheus")
    return server, tool


@pytest.fixture(scope="module")
def sandbox() -> Iterator[BackgroundServer]:
    with BackgroundServer(samples=True, traces=60) as server:
        yield server


def test_a_real_collector_passes_on_what_a_run_told(sandbox: BackgroundServer, tmp_path: Path) -> None:
    program = rotel()
    port = free_port()
    with Receiver() as receiver:
        command = [
            *(program, "start", "--otlp-http-endpoint", f"127.0.0.1:{port}", "--exporter", "otlp"),
            *("--otlp-grpc-endpoint", f"127.0.0.1:{free_port()}"),
            *("--otlp-exporter-endpoint", receiver.url, "--otlp-exporter-protocol", "http"),
        ]
        with running(*command, log=tmp_path / "rotel.log", env=PLAIN) as collector:
            until(lambda: _answers(port) or collector.poll() is not None, "the collector")
            environment = environment_for(sandbox, tmp_path) | {"OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{port}"}
            done = evalforge(PLAIN | environment, "ingest", "--json")
            assert "telemetry.failed" not in done.stderr
            report = json.loads(done.stdout)
            until(lambda: receiver.metrics and any(one.name == "evalforge.run" for one in receiver.spans()), "what it told")
    points = receiver.points()
    assert total(points, "evalforge.spans.read") == report["items"]["fetched"]
    assert total(points, "evalforge.captures", outcome="created") == report["captures"]["created"]
    assert receiver.resource()["service.name"] == "evalforge-ingestion"


def _answers(port: int) -> bool:
    try:
        httpx.post(f"http://127.0.0.1:{port}/v1/metrics", content=b"", timeout=1, trust_env=False)
    except httpx.TransportError:
        return False
    return True


def test_prometheus_scrapes_the_service_and_every_query_of_ours_has_an_answer(
    sandbox: BackgroundServer, tmp_path: Path
) -> None:
    server, tool = prometheus()
    (tmp_path / "key").write_text(KEY)
    environment = environment_for(sandbox, tmp_path) | {
        "SERVICE_API_KEYS": ",".join(
            (key_row_text("ops", [Role.RUN], "evf_" + "R" * 43), key_row_text("prometheus", [Role.METRICS], KEY))
        ),
    }
    with Service(tmp_path / "log", environment) as service:
        report = service.run_once(headers={"X-API-Key": "evf_" + "R" * 43}).json()
        config = tmp_path / "prometheus.yml"
        config.write_text(
            json.dumps(
                {
                    "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
                    "rule_files": [str(FOLDER / "prometheus-rules.yaml")],
                    "scrape_configs": [
                        {
                            "job_name": "evalforge",
                            "authorization": {"credentials_file": str(tmp_path / "key")},
                            "static_configs": [{"targets": [f"127.0.0.1:{service.port}"]}],
                        }
                    ],
                }
            )
        )
        subprocess.run([tool, "check", "config", str(config)], capture_output=True, check=True)
        port = free_port()
        command = [
            *(server, f"--config.file={config}", f"--storage.tsdb.path={tmp_path / 'tsdb'}"),
            f"--web.listen-address=127.0.0.1:{port}",
        ]
        with (
            running(*command, log=tmp_path / "prometheus.log", env=PLAIN),
            httpx.Client(base_url=f"http://127.0.0.1:{port}", trust_env=False) as api,
        ):

            def asked(query: str) -> list[Any]:
                try:
                    answer = api.get("/api/v1/query", params={"query": query})
                except httpx.TransportError:
                    return []
                if answer.status_code == 503:  # it is still starting
                    return []
                document = answer.json()
                assert document["status"] == "success", document
                found: list[Any] = document["data"]["result"]
                return found

            until(lambda: asked("evalforge_runs_total"), "the first scrape")
            read = asked("sum(evalforge_spans_read_total)")
            assert float(read[0]["value"][1]) == report["items"]["fetched"] > 0
            assert [one["value"][1] for one in asked('up{job="evalforge"}')] == ["1"]
            present = {one["metric"]["__name__"] for one in asked('{__name__=~"evalforge_.*"}')}
            for row in INSTRUMENTS:
                name = prometheus_name(row)
                assert (f"{name}_bucket" if row.buckets else name) in present, "a run tells of everything"
            for panel in dashboard()["panels"]:
                query = panel["targets"][0]["expr"].replace("$__rate_interval", "1m")
                until(partial(asked, query), query)  # growth needs a second scrape
            assert len(dashboard()["panels"]) == len(PANELS)

            def rules() -> list[dict[str, Any]]:
                groups = api.get("/api/v1/rules").json()["data"]["groups"]
                return [rule for group in groups for rule in group["rules"]]

            until(lambda: rules() and all(rule["health"] != "unknown" for rule in rules()), "the rules")
            assert [(rule["name"], rule["health"]) for rule in rules()] == [(alert.name, "ok") for alert in ALERTS]


FIRES: dict[str, tuple[dict[str, str], str]] = {
    "EvalForgeLags": ({'evalforge_lag_seconds{source="apm"}': "7300+60x300"}, 'source="apm"'),
    "EvalForgeIsSilent": ({'evalforge_runs_total{plan="window",outcome="complete"}': "5+0x300"}, ""),
    "EvalForgeRunsFail": ({'evalforge_runs_total{outcome="failed"}': "0+0x270 1+0x30"}, 'outcome="failed"'),
    "EvalForgeLostAWindow": ({'evalforge_windows_gone_total{source="apm"}': "0+0x270 1+0x30"}, 'source="apm"'),
    "EvalForgeFilterMisses": ({'evalforge_filter_gaps{source="apm"}': "1+0x300"}, 'source="apm"'),
    "EvalForgeRejectsSpans": (
        {
            'evalforge_spans_rejected_total{source="apm"}': "0+1x300",
            'evalforge_spans_read_total{source="apm"}': "0+50x300",
        },
        'source="apm"',
    ),
    "EvalForgeSecondNetHit": ({"evalforge_second_net_hits_total": "0+0x270 1+0x30"}, ""),
    "EvalForgeQuotaRunsOut": (
        {
            'evalforge_datadog_quota_remaining{source="apm"}': "20+0x300",
            'evalforge_datadog_quota_limit{source="apm"}': "300+0x300",
        },
        'source="apm"',
    ),
    "EvalForgeAsksAgain": (
        {
            'evalforge_datadog_retries_total{source="apm",code="503"}': "0+1x300",
            'evalforge_datadog_requests_total{source="apm",code="200"}': "0+4x300",
        },
        "",
    ),
    "EvalForgeWritesFail": (
        {'evalforge_store_write_batches_total{store="firestore",outcome="failed"}': "0+0x270 1+0x30"},
        'store="firestore"',
    ),
}
"""Series, one value a minute, after which an alert fires, and the labels that it then carries."""

WELL = {
    'evalforge_lag_seconds{source="apm"}': "300+0x300",
    'evalforge_runs_total{plan="window",outcome="complete"}': "0+1x300",
    'evalforge_runs_total{plan="window",outcome="failed"}': "0+0x300",
    'evalforge_windows_gone_total{source="apm"}': "0+0x300",
    'evalforge_filter_gaps{source="apm"}': "0+0x300",
    'evalforge_spans_rejected_total{source="apm"}': "0+0x300",
    'evalforge_spans_read_total{source="apm"}': "0+50x300",
    "evalforge_second_net_hits_total": "0+0x300",
    'evalforge_datadog_quota_remaining{source="apm"}': "200+0x300",
    'evalforge_datadog_quota_limit{source="apm"}': "300+0x300",
    'evalforge_datadog_retries_total{source="apm",code="503"}': "0+0x300",
    'evalforge_datadog_requests_total{source="apm",code="200"}': "0+4x300",
    'evalforge_store_write_batches_total{store="firestore",outcome="failed"}': "0+0x300",
}


def test_each_alert_fires_when_it_should_and_none_when_all_is_well(tmp_path: Path) -> None:
    _, tool = prometheus()
    rules = FOLDER / "prometheus-rules.yaml"
    subprocess.run([tool, "check", "rules", str(rules)], capture_output=True, check=True)
    tests = []
    for alert in ALERTS:
        series, labels = FIRES[alert.name]
        carried = {name: text.strip('"') for name, text in (one.split("=") for one in labels.split(",") if one)}
        notes = {"summary": alert.meaning, "description": alert.do, "runbook": "docs/observability.md"}
        fired = {"exp_labels": carried | {"severity": alert.severity}, "exp_annotations": notes}
        tests.append(_told(series, {"eval_time": "299m", "alertname": alert.name, "exp_alerts": [fired]}))
    tests.append(_told(WELL, *({"eval_time": "299m", "alertname": alert.name, "exp_alerts": []} for alert in ALERTS)))
    (tmp_path / "tests.yaml").write_text(
        json.dumps({"rule_files": [str(rules)], "evaluation_interval": "5m", "tests": tests})
    )
    done = subprocess.run([tool, "test", "rules", str(tmp_path / "tests.yaml")], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def _told(series: dict[str, str], *expected: dict[str, Any]) -> dict[str, Any]:
    return {
        "interval": "1m",
        "input_series": [{"series": name, "values": values} for name, values in series.items()],
        "alert_rule_test": list(expected),
    }
