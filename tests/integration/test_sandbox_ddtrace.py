"""The real SDK talks to the sandbox, changed by environment variables alone, and ingestion finds the failures.

The SDK runs in processes of its own: it patches what it is imported into.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

from evalforge import bootstrap
from evalforge.config import Settings
from evalforge.core.ports import Selection, StoredCapture
from evalforge.runs import RunReport
from evalforge.sandbox.server import BackgroundServer
from evalforge.sandbox.state import Sandbox

APP = Path(__file__).parents[1] / "data" / "apps" / "support_app.py"

AGENT = {"DD_TRACE_AGENT_URL": "{url}"}
ORIGIN = {"DD_LLMOBS_OVERRIDE_ORIGIN": "{url}"}
QUIET = {"DD_INSTRUMENTATION_TELEMETRY_ENABLED": "false", "DD_REMOTE_CONFIGURATION_ENABLED": "false"}
MODES: dict[str, tuple[dict[str, str], str, bool]] = {
    # mode: environment, where its LLM spans arrive, whether APM's spans arrive as well
    "default": (AGENT, "/v0.4/traces", True),
    "default, sampled away": (
        AGENT | {"DD_TRACE_SAMPLING_RULES": '[{"sample_rate": 0}]'},
        "/evp_proxy/v2/api/v2/llmobs",
        True,
    ),
    "agent without APM": (AGENT | {"DD_APM_TRACING_ENABLED": "false"}, "/evp_proxy/v2/api/v2/llmobs", False),
    "origin, agentless": (
        AGENT | ORIGIN | {"DD_LLMOBS_AGENTLESS_ENABLED": "1", "DD_API_KEY": "any"},
        "/api/v2/llmobs",
        True,
    ),
    "origin": (AGENT | ORIGIN, "/evp_proxy/v2/api/v2/llmobs", True),
    "origin with a base path": (AGENT | {"DD_LLMOBS_OVERRIDE_ORIGIN": "{url}/base"}, "/base/api/v2/llmobs", True),
}
IN_EVERY_TEST_RUN = ("default", "origin, agentless")
PLACES = {
    "categorical": {("hallucination", "evaluation.hallucination")},
    "score": {("quality_degradation", "evaluation.quality_score")},
    "boolean": {("evaluation_failure", "evaluation.is_helpful")},
    "json": {("evaluation_failure", "evaluation.rubric")},
    "tagged": {("evaluation_failure", "evaluation.csat")},
    "guardrail": {("guardrail_failure", "metadata.guardrails.failed")},
    "exception": {("execution_error", "status")},
}
"""Why each scenario of the application is a failure. `healthy` is none."""

PERSONAL = ("maria", "lopez", "@example.com", "415-555-0132", "4111 1111", "12 elm st", "u-8841")


def run_app(url: str, variables: dict[str, str], *arguments: str) -> dict[str, str]:
    """Run the application as its users do; gives the trace id of each scenario."""
    environment = {
        "PATH": os.environ["PATH"],
        "DD_ENV": "staging",
        "DD_LLMOBS_ML_APP": "support-bot",
        "DD_SERVICE": "support-api",
        **{name: value.format(url=url) if "{url}" in value else value for name, value in variables.items()},
    }
    done = subprocess.run(
        [sys.executable, str(APP), *arguments], env=environment, capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert "rror" not in done.stderr, done.stderr
    traces: dict[str, str] = json.loads(done.stdout)
    return traces


def settings_for(url: str, store: Path, **more: str) -> Settings:
    return Settings.from_environment(
        {
            "DATADOG_API_URL": url,
            "DATADOG_API_KEY": "any",
            "DATADOG_APP_KEY": "any",
            "CAPTURE_STORE": f"sqlite:///{store}",
            "PII_SALT": "0nly-f0r-tests-kZ8vQ2mX7pL4wR9tB6nJ3hG5",
            **more,
        }
    )


async def ingested(settings: Settings) -> tuple[RunReport, dict[str, StoredCapture]]:
    report = await bootstrap.ingest_once(settings, holder="test")
    assert report.error is None
    async with bootstrap.opened_store(settings) as store:
        return report, {one.capture.trace_id: one async for one in store.select(Selection(), now=bootstrap.utc_now())}


def personal_words_in(folder: Path) -> list[str]:
    """What must not be kept and is, in any file of the store."""
    held = b"".join(file.read_bytes() for file in folder.iterdir()).lower()
    return [word for word in PERSONAL if word.encode() in held]


@pytest.mark.parametrize(
    "mode", [mode if mode in IN_EVERY_TEST_RUN else pytest.param(mode, marks=pytest.mark.long) for mode in MODES]
)
async def test_every_failure_of_the_application_is_captured_once(mode: str, tmp_path: Path) -> None:
    variables, path, has_apm = MODES[mode]
    store_path = tmp_path / "captures.sqlite3"
    with BackgroundServer() as server:
        traces = run_app(server.url, variables | QUIET)
        arrivals = server.sandbox.arrivals
        assert path in {arrival.path for arrival in arrivals if arrival.spans}
        assert sum(arrival.dropped for arrival in arrivals) == 0
        assert server.sandbox.store.waiting() == 0, "an evaluation found no span"
        assert bool(server.sandbox.store.count("apm")) is has_apm
        report, stored = await ingested(settings_for(server.url, store_path))
        again, unchanged = await ingested(settings_for(server.url, store_path))
    assert report.complete, report.incomplete_because
    found = {
        trace_id: {(signal.type.value, signal.place) for signal in one.capture.signals} for trace_id, one in stored.items()
    }
    web = {("http_error", "attributes.http.status_code")} if has_apm else set()
    assert found == {
        traces[scenario]: places | (web if scenario == "exception" else set()) for scenario, places in PLACES.items()
    }
    failed = stored[traces["exception"]].capture
    assert Counter(one.span_kind for one in failed.occurrences) >= Counter(("workflow", "agent", "tool"))
    assert (failed.apm_trace_id is not None) is has_apm, "the LLM trace and its APM twin are one capture"
    assert {(one.ml_app, one.env, one.service_name) for one in failed.occurrences if one.span_kind == "tool"} == {
        ("support-bot", "staging", "support-api")
    }
    assert all(one.capture.user_first_ns for one in stored.values())
    assert unchanged == stored
    assert again.document()["captures"]["created"] == again.document()["captures"]["updated"] == 0
    assert personal_words_in(tmp_path) == []


@pytest.mark.long
def test_the_default_application_gets_along_with_every_quiet_endpoint() -> None:
    with BackgroundServer() as server:
        assert run_app(server.url, AGENT)
        assert server.sandbox.store.count("llm_obs") == 32


@pytest.mark.long
async def test_late_evaluations_are_found_by_a_later_run(tmp_path: Path) -> None:
    late_s = 1200.0
    clock_ahead_s = 0.0
    sandbox = Sandbox(now=lambda: time.time() + clock_ahead_s)
    sandbox.store.evaluation_delay_s = late_s
    with BackgroundServer(sandbox) as server:
        traces = run_app(server.url, AGENT | QUIET)
        settings = settings_for(server.url, tmp_path / "captures.sqlite3")
        _, before = await ingested(settings)
        assert set(before) == {traces["exception"], traces["guardrail"]}
        clock_ahead_s = late_s
        _, after = await ingested(settings)
    assert set(after) == {traces[scenario] for scenario in PLACES}
