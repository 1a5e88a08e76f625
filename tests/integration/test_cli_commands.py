"""The commands as processes, against the real sandbox and SQLite."""

from __future__ import annotations

import hashlib
import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from evalforge.sandbox import samples
from evalforge.sandbox.server import BackgroundServer
from evalforge.sandbox.trouble import Fault
from evalforge.sources.datadog.permissions import PERMISSIONS, SURPLUS, Permission
from tests.integration.commands import PATIENCE_S, PLAIN, evalforge, on_a_terminal

SALT = "kZ8vQ2mX7pL4wR9tB6nJ3hG5cD1fS0aY"
WIDE = {"COLUMNS": "200"}


REFERENCE_TO_NOWHERE = {
    "DATADOG_APP_KEY": "projects/p/secrets/s/versions/1",
    "SECRET_MANAGER_ENDPOINT": "127.0.0.1:9",
}


@pytest.fixture(scope="module")
def sandbox() -> Iterator[BackgroundServer]:
    with BackgroundServer(samples=True, traces=80) as server:
        yield server


@pytest.fixture(autouse=True)
def no_trouble(sandbox: BackgroundServer) -> None:
    sandbox.sandbox.trouble.faults = []


@pytest.fixture
def environment(sandbox: BackgroundServer, tmp_path: Path) -> dict[str, str]:
    return PLAIN | {
        "DATADOG_API_URL": sandbox.url,
        "DATADOG_API_KEY": "hunter2-api-key",
        "DATADOG_APP_KEY": "hunter2-app-key",
        "PII_SALT": SALT,
        "CAPTURE_STORE": f"sqlite:///{tmp_path / 'captures.sqlite3'}",
        "RETRY_BUDGET_S": "0",
    }


@pytest.fixture(scope="module")
def filled(sandbox: BackgroundServer, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """An environment whose store holds the samples' captures, for commands that only look."""
    folder = tmp_path_factory.mktemp("filled")
    environment = PLAIN | {
        "DATADOG_API_URL": sandbox.url,
        "DATADOG_API_KEY": "k",
        "DATADOG_APP_KEY": "a",
        "PII_SALT": SALT,
        "CAPTURE_STORE": f"sqlite:///{folder / 'captures.sqlite3'}",
    }
    evalforge(environment, "ingest", cwd=folder)
    return environment


def test_ingest_prints_a_table_or_json_and_logs_to_standard_error(environment: dict[str, str]) -> None:
    first = evalforge(environment, "ingest")
    assert "complete: every failing trace of the window is captured" in first.stdout
    events = [json.loads(line)["message"] for line in first.stderr.splitlines()]
    assert (events[0], events[-1]) == ("run.started", "run.finished")
    second = json.loads(evalforge(environment, "ingest", "--json", "--lookback", "24").stdout)
    assert (second["captures"]["created"], second["captures"]["updated"]) == (0, 0)
    assert next(iter(second)) == "run_id"
    nothing = json.loads(evalforge(environment, "ingest", "--json", "--from", "13d", "--to", "12d").stdout)
    assert nothing["items"]["fetched"] == 0


def test_ingest_on_a_terminal_shows_progress_and_no_events(environment: dict[str, str], sandbox: BackgroundServer) -> None:
    sandbox.sandbox.trouble.faults = [Fault("slow", latency_s=0.3, times=3)]
    code, shown = on_a_terminal(environment, "ingest")
    assert code == 0
    assert "llm_obs" in shown
    assert "run.started" not in shown
    assert "capture.created" not in shown


@pytest.mark.parametrize(
    ("changes", "fault", "code", "told"),
    [
        ({"DATADOG_API_KEY": ""}, None, 2, "DATADOG_API_KEY"),
        ({"QUALITY_THRESHOLD": "7"}, None, 2, "QUALITY_THRESHOLD"),
        ({"PII_SALT": "short"}, None, 2, "PII_SALT"),
        (REFERENCE_TO_NOWHERE, None, 3, "DATADOG_APP_KEY"),
        ({}, Fault("status", times=None, status=403), 4, "DATADOG_SITE"),
        ({}, Fault("status", times=None, status=500), 6, "RETRY_BUDGET_S"),
        ({"DATADOG_API_URL": "http://127.0.0.1:9"}, None, 6, "127.0.0.1"),
        ({}, Fault("rate_limited", times=None, reset_s=900), 7, "rate limit"),
    ],
)
def test_each_trouble_has_its_exit_code_and_says_what_to_do(
    environment: dict[str, str],
    sandbox: BackgroundServer,
    changes: dict[str, str],
    fault: Fault | None,
    code: int,
    told: str,
) -> None:
    sandbox.sandbox.trouble.faults = [fault] if fault else []
    done = evalforge(environment | changes, "ingest", code=code)
    last = done.stderr.splitlines()[-1]
    assert last.startswith("evalforge: ")
    assert told in last


@pytest.mark.parametrize("option", [["--lookback", "0"], ["--lookback", "x"], ["--quality-threshold", "2"], ["--to", "1h"]])
def test_options_out_of_bounds_are_named(environment: dict[str, str], option: list[str]) -> None:
    done = evalforge(environment, "ingest", *option, code=2)
    assert option[0] in done.stderr


def test_ctrl_c_stops_at_the_end_of_the_page(environment: dict[str, str], sandbox: BackgroundServer) -> None:
    sandbox.sandbox.trouble.faults = [Fault("slow", latency_s=1.0, times=1)]
    sandbox.sandbox.requests.clear()
    process = subprocess.Popen(
        [sys.executable, "-m", "evalforge", "ingest", "--json"],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    deadline = time.monotonic() + PATIENCE_S
    while not sandbox.sandbox.requests:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 0, err
    assert [reason["code"] for reason in json.loads(out)["incomplete_because"]] == ["stopped"]
    assert b"Traceback" not in err


def test_captures_are_listed_and_shown(filled: dict[str, str]) -> None:
    listed = evalforge(filled, "captures", "list", "--limit", "3").stdout
    assert listed.count("https://app.datadoghq.com/llm/traces?query=trace_id:") == 3
    assert "--limit" in listed
    lines = evalforge(filled, "captures", "list", "--json", "--limit", "1000").stdout.splitlines()
    documents = [json.loads(line) for line in lines]
    starts = [one["started_ns"] for one in documents]
    assert starts == sorted(starts, reverse=True)
    critical = evalforge(
        filled, "captures", "list", "--json", "--severity", "critical", "--limit", "1000"
    ).stdout.splitlines()
    assert len(critical) == sum(one["severity"] == "critical" for one in documents) > 0
    shown = evalforge(filled, "captures", "show", documents[0]["trace_id"]).stdout
    for words in (documents[0]["trace_id"], documents[0]["failure_type"], "Why", "Where", "Removed", "Payload"):
        assert words in shown
    assert json.loads(evalforge(filled, "captures", "show", "--json", documents[0]["trace_id"]).stdout) == documents[0]
    assert "no capture" in evalforge(filled, "captures", "show", "\x1b[2J", code=2).stderr
    assert "store holds others" in evalforge(filled, "captures", "list", "--env", "nowhere").stdout


def test_an_empty_store_says_how_to_fill_it(environment: dict[str, str]) -> None:
    assert "evalforge ingest" in evalforge(environment, "captures", "list").stdout


def test_exports_are_the_same_each_time(filled: dict[str, str], tmp_path: Path) -> None:
    evalforge(filled, "export", "--out", "one.jsonl", cwd=tmp_path)
    content = (tmp_path / "one.jsonl").read_bytes()
    streamed = subprocess.run(
        [sys.executable, "-m", "evalforge", "export", "--out", "-"], env=filled, capture_output=True, check=True
    )
    assert streamed.stdout == content
    assert hashlib.sha256(content).hexdigest().encode() in streamed.stderr
    assert "--force" in evalforge(filled, "export", "--out", "one.jsonl", code=2, cwd=tmp_path).stderr
    evalforge(filled, "export", "--out", "one.jsonl", "--force", "--limit", "1", cwd=tmp_path)
    assert len((tmp_path / "one.jsonl").read_bytes().splitlines()) == 1
    low = content.decode().lower()
    assert [word for word in samples.planted(traces=80) if len(word) > 6 and word.lower() in low] == []


def test_a_reader_that_goes_away_is_no_error(filled: dict[str, str]) -> None:
    command = f"{sys.executable} -m evalforge export --out - | head -c 10; echo ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", command], env=filled, capture_output=True, text=True, check=True)
    assert done.stdout[10:] == "0\n"
    assert "Traceback" not in done.stderr
    assert "BrokenPipe" not in done.stderr


def test_check_is_green_and_says_what_a_salt_would_give(environment: dict[str, str]) -> None:
    shown = evalforge(environment, "check").stdout
    assert "All green." in shown
    assert "✗" not in shown
    without = evalforge({name: value for name, value in environment.items() if name != "PII_SALT"}, "check").stdout
    assert "All green." in without
    assert "user_hash" in without
    told = json.loads(evalforge(environment, "check", "--json").stdout)
    assert told["ok"] is True
    assert told["settings"]["DATADOG_API_KEY"] == "set"
    parts = [one["part"] for one in told["checks"]]
    permissions = ["permission llm_observability_read", "permission apm_read", "least privilege"]
    assert parts == ["keys", "salt", "datadog", *permissions, "store"]
    assert [one["hint"] for one in told["checks"]] == [None] * len(parts)


@pytest.fixture
def permissions(sandbox: BackgroundServer) -> Iterator[Callable[..., None]]:
    """Sets what the application key may do."""
    before = sandbox.sandbox.permissions

    def may(*names: str) -> None:
        sandbox.sandbox.permissions = frozenset(names)

    yield may
    sandbox.sandbox.permissions = before


@pytest.mark.parametrize("missing", PERMISSIONS, ids=lambda row: row.name)
def test_each_permission_is_tested_by_itself(
    environment: dict[str, str], permissions: Callable[..., None], missing: Permission
) -> None:
    permissions(*(row.name for row in PERMISSIONS if row != missing))
    checks = json.loads(evalforge(environment, "check", "--json", code=4).stdout)["checks"]
    assert [one["part"] for one in checks if not one["ok"]] == [f"permission {missing.name}"]
    told = next(one for one in checks if not one["ok"])
    assert f"{missing.opens} is refused (403)" in told["message"]
    assert f"grant {missing.name}" in told["hint"]
    assert missing.without in told["hint"]
    shown = evalforge(environment | WIDE, "check", code=4).stdout
    assert f"✗ permission {missing.name}" in shown
    assert f"grant {missing.name}" in shown
    assert "1 of these is red." in shown
    # What the table says of a run without it is what a run does.
    report = json.loads(evalforge(environment, "ingest", "--json", code=4 if missing.is_required else 0).stdout)
    skipped = {source["name"] for source in report["sources"] if source["skipped"]}
    assert skipped == (set() if missing.is_required else {missing.source})
    assert (report["error"] or {}).get("code") == ("source_refused" if missing.is_required else None)


def test_a_permission_that_is_not_needed_is_not_asked_for(
    environment: dict[str, str], sandbox: BackgroundServer, permissions: Callable[..., None]
) -> None:
    permissions("llm_observability_read")
    sandbox.sandbox.requests.clear()
    shown = evalforge(environment | {"DATADOG_SOURCES": "llm_obs"}, "check").stdout
    assert "permission llm_observability_read" in shown
    assert "apm_read" not in shown
    assert {one.source for one in sandbox.sandbox.requests} == {"llm_obs"}


def test_the_permission_for_what_errors_said_is_asked_for_with_its_setting(
    environment: dict[str, str], permissions: Callable[..., None]
) -> None:
    environment |= {"DATADOG_SOURCES": "llm_obs", "DATADOG_ENRICH_FROM_APM": "true"}
    permissions("llm_observability_read")
    checks = json.loads(evalforge(environment, "check", "--json", code=4).stdout)["checks"]
    (told,) = [one for one in checks if not one["ok"]]
    assert told["part"] == "permission apm_read"
    assert "turn DATADOG_ENRICH_FROM_APM off" in told["hint"]
    permissions("llm_observability_read", "apm_read")
    assert "✓ permission apm_read" in evalforge(environment | WIDE, "check").stdout


def test_a_key_that_may_do_more_than_it_needs_is_a_warning(
    environment: dict[str, str], permissions: Callable[..., None]
) -> None:
    permissions("llm_observability_read", "apm_read", SURPLUS)
    shown = evalforge(environment | WIDE, "check").stdout
    assert "All green." in shown
    assert f"{SURPLUS}, which nothing here needs, is allowed" in shown
    assert "scope the application key to llm_observability_read and apm_read" in shown


def test_nothing_is_said_of_the_surplus_of_a_key_that_may_nothing(
    environment: dict[str, str], permissions: Callable[..., None]
) -> None:
    permissions()
    checks = json.loads(evalforge(environment, "check", "--json", code=4).stdout)["checks"]
    assert "least privilege" not in [one["part"] for one in checks]
    assert sum(not one["ok"] for one in checks) == len(PERMISSIONS)


@pytest.mark.parametrize(
    ("changes", "fault", "code", "part"),
    [
        ({"DATADOG_SITE": "evil.com"}, None, 2, "DATADOG_SITE"),
        ({"DATADOG_APP_KEY": ""}, None, 2, "keys"),
        ({}, Fault("status", source="apm", times=None, status=403), 4, "permission apm_read"),
        ({"DATADOG_API_URL": "http://127.0.0.1:9"}, None, 6, "datadog"),
        ({"CAPTURE_STORE": "sqlite:////proc/nowhere/c.sqlite3"}, None, 5, "store"),
        ({"EXPORT_DESTINATIONS": "evals=/dev/null/evals"}, None, 2, "export evals"),
    ],
)
def test_check_names_what_is_red(
    environment: dict[str, str],
    sandbox: BackgroundServer,
    changes: dict[str, str],
    fault: Fault | None,
    code: int,
    part: str,
) -> None:
    sandbox.sandbox.trouble.faults = [fault] if fault else []
    done = evalforge(environment | changes, "check", code=code)
    assert f"✗ {part}" in done.stdout
    assert "red." in done.stdout
    sandbox.sandbox.trouble.faults = [fault] if fault else []
    told = json.loads(evalforge(environment | changes, "check", "--json", code=code).stdout)
    assert part in [one["part"] for one in told["checks"] if not one["ok"]]


@pytest.mark.parametrize("columns", [80, pytest.param(120, marks=pytest.mark.long)])
def test_the_demo_shows_the_whole_flow(tmp_path: Path, columns: int) -> None:
    # Settings of the reader's own must not matter, not even wrong ones.
    surroundings = PLAIN | {"COLUMNS": str(columns), "DATADOG_SITE": "evil.com", "CAPTURE_STORE": "nonsense"}
    done = evalforge(surroundings, "demo", cwd=tmp_path)
    for words in (
        "complete: every failing trace of the window is captured",
        "guardrail_failure",
        "https://app.datadoghq.com/llm/traces?query=trace_id:",
        "What Datadog holds",
        "What the store holds",
        "[EMAIL_1]",
        "--format promptfoo",
        "None of the",
        "captures list",
        "random PII_SALT",
    ):
        assert words in done.stdout
    assert done.stderr == ""
    for line in done.stdout.splitlines():
        assert len(line.rstrip()) <= columns or "http" in line or line.startswith("  "), line
    assert [entry.name for entry in tmp_path.iterdir()] == ["evalforge_demo.sqlite3"]
    listed = evalforge(
        PLAIN | {"CAPTURE_STORE": "sqlite:///evalforge_demo.sqlite3"}, "captures", "list", cwd=tmp_path
    ).stdout
    assert "trace_id:" in listed
    again = evalforge(surroundings, "demo", cwd=tmp_path).stdout
    assert " 0 unchanged" in again


def test_the_demo_works_on_a_terminal(tmp_path: Path) -> None:
    code, shown = on_a_terminal(PLAIN | {"HOME": str(tmp_path), "PWD": str(tmp_path)}, "--help")
    assert code == 0
    assert "demo" in shown


def test_the_sandbox_and_the_service_can_be_started(environment: dict[str, str]) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "evalforge", "sandbox", "--port", "0", "--empty", "--permission", "apm_read"],
        env=PLAIN,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        assert process.stdout is not None
        url = process.stdout.readline().strip()
        assert httpx.get(f"{url}/sandbox").json() == {"llm_obs": 0, "apm": 0}
        assert httpx.get(f"{url}/sandbox/trouble").json()["permissions"] == ["apm_read"]
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(timeout=PATIENCE_S)
        assert process.stdout is not None
        process.stdout.close()
    assert "HOST" in evalforge(environment, "serve", "--host", "0.0.0.0", code=2).stderr
