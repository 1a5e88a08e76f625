"""Incremental runs, dry runs and the history of runs, through the real command line and the real service."""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from evalforge.sandbox.server import BackgroundServer
from evalforge.sandbox.trouble import Fault
from tests.integration.commands import evalforge, on_a_terminal
from tests.integration.test_service_process import Service, environment_for, until


@pytest.fixture
def sandbox() -> Iterator[BackgroundServer]:
    with BackgroundServer(samples=True, traces=60) as server:
        yield server


@pytest.fixture
def environment(sandbox: BackgroundServer, tmp_path: Path) -> dict[str, str]:
    plain = {name: os.environ[name] for name in ("PATH", "HOME", "LANG", "PYTHONPATH") if name in os.environ}
    return plain | environment_for(sandbox, tmp_path)


def rows(folder: Path) -> dict[str, list[Any]]:
    """Every row of every table of the store."""
    with sqlite3.connect(folder / "captures.sqlite3") as opened:
        names = [name for (name,) in opened.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        return {name: sorted(opened.execute(f'SELECT * FROM "{name}"'), key=repr) for name in names}


def test_incremental_runs_a_dry_run_and_the_history_on_the_command_line(
    environment: dict[str, str], sandbox: BackgroundServer, tmp_path: Path
) -> None:
    assert "No runs" in evalforge(environment, "runs", "list").stdout
    dry = json.loads(evalforge(environment, "ingest", "--since-last", "--dry-run", "--json").stdout)
    assert dry["captures"]["created"] >= dry["rehearsal"]["would_create"]["count"] > 10
    assert dry["rehearsal"]["examples"]
    assert not any(rows(tmp_path).values()), "a dry run writes nothing"
    shown = evalforge(environment, "ingest", "--dry-run").stdout
    assert "A dry run: nothing was written." in shown
    assert "would create" in shown
    first = json.loads(evalforge(environment, "ingest", "--since-last", "--json").stdout)
    assert first["captures"]["created"] == dry["rehearsal"]["would_create"]["count"]
    assert [reading["tier"] for reading in first["readings"] if reading["windows"]] == ["recent", "recent"]
    sandbox.sandbox.requests.clear()
    second = evalforge(environment | {"SINCE_LAST": "true"}, "ingest").stdout
    assert "llm_obs: all spans of 1" in second
    third = json.loads(evalforge(environment | {"SINCE_LAST": "true"}, "ingest", "--json").stdout)
    assert (third["plan"], third["captures"]["created"], third["captures"]["updated"]) == ("since_last", 0, 0)
    listed = [json.loads(line) for line in evalforge(environment, "runs", "list", "--json").stdout.splitlines()]
    assert [run["state"] for run in listed] == ["complete"] * 3
    assert listed[0]["run_id"] == third["run_id"]
    assert listed[-1]["report"] == first
    assert listed[0]["asked_by"].endswith("the command line")
    code, table = on_a_terminal(environment, "runs", "list", "--limit", "2")
    assert (code, table.count("since_last")) == (0, 2)
    page = evalforge(environment, "runs", "show", first["run_id"]).stdout
    assert "complete: every failing trace" in page
    assert "asked by" in page
    assert json.loads(evalforge(environment, "runs", "show", first["run_id"], "--json").stdout) == listed[-1]
    assert "there is no run" in evalforge(environment, "runs", "show", "run_\x1b[2J", code=2).stderr
    assert "--since-last" in evalforge(environment, "ingest", "--since-last", "--from", "2d", code=2).stderr


def test_a_run_may_be_answered_before_it_ends(
    environment: dict[str, str], sandbox: BackgroundServer, tmp_path: Path
) -> None:
    sandbox.sandbox.trouble.faults = [Fault("slow", latency_s=0.7, times=2)]
    with Service(tmp_path / "service.log", environment) as service:
        begun = service.run_once(json={"since_last": True}, headers={"Prefer": "wait=5, Respond-Async; x=1"})
        assert (begun.status_code, begun.headers["preference-applied"]) == (202, "respond-async")
        place = begun.headers["location"]
        assert place == f"/ingestion/runs/{begun.json()['run_id']}"
        assert service.http.get(place).json()["state"] == "running"
        refused = service.run_once(headers={"Prefer": "respond-async"})
        assert (refused.status_code, refused.json()["code"]) == (409, "run_in_progress")
        ended = until(lambda: (run := service.http.get(place).json())["state"] != "running" and run, "the run to end")
        assert (ended["state"], ended["report"]["plan"], ended["report"]["complete"]) == ("complete", "since_last", True)
        # A run is told as ended a moment before the next may begin.
        dry = until(
            lambda: (
                (answer := service.run_once(json={"dry_run": True}, headers={"Prefer": "respond-async"})).status_code != 409
                and answer
            ),
            "the next run",
        )
        assert (dry.status_code, dry.json()["dry_run"]) == (200, True)
        with ThreadPoolExecutor(4) as pool:
            answers = list(pool.map(lambda _: service.http.get("/ingestion/runs?limit=5").json()["runs"], range(8)))
        assert all([run["run_id"] for run in runs] == [ended["run_id"]] for runs in answers)
        assert "report" not in answers[0][0]
        for path, status in (
            ("/ingestion/runs/run_x", 404),
            ("/ingestion/runs/%1b", 404),
            ("/ingestion/runs?limit=101", 422),
        ):
            assert service.http.get(path).status_code == status


def test_a_run_that_cannot_begin_is_answered_with_its_problem(environment: dict[str, str], tmp_path: Path) -> None:
    with Service(tmp_path / "service.log", environment | {"CAPTURE_STORE": "sqlite:////nowhere/at/all.sqlite3"}) as service:
        answer = service.run_once(headers={"Prefer": "respond-async"})
        assert (answer.status_code, answer.json()["code"]) == (503, "store_refused"), answer.text


def test_a_killed_run_is_told_as_abandoned_and_finished_by_the_next(
    environment: dict[str, str], sandbox: BackgroundServer, tmp_path: Path
) -> None:
    with Service(tmp_path / "service.log", environment) as service:
        sandbox.sandbox.trouble.faults = [Fault("slow", latency_s=30, times=1)]
        begun = service.run_once(headers={"Prefer": "respond-async"}).json()
        service.process.kill()
        service.process.wait()
    sandbox.sandbox.trouble.faults = []
    with sqlite3.connect(tmp_path / "captures.sqlite3") as opened:  # instead of waiting for a minute until it expires
        opened.execute("DELETE FROM evalforge_leases")
    shown = json.loads(evalforge(environment, "runs", "show", begun["run_id"], "--json").stdout)
    assert (shown["state"], shown["report"]) == ("abandoned", None)
    assert "its process died" in evalforge(environment, "runs", "show", begun["run_id"]).stdout
    assert json.loads(evalforge(environment, "ingest", "--json").stdout)["complete"] is True
