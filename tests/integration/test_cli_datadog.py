"""`evalforge datadog` as a process: from the sandbox's failures to its datasets and annotation queues and back again."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from evalforge.sandbox.server import BackgroundServer
from evalforge.sandbox.state import SEARCH_PERMISSIONS, WRITE, Sandbox
from evalforge.sandbox.trouble import Fault
from tests.integration.commands import PLAIN, evalforge

KEYS = {"DD-API-KEY": "k", "DD-APPLICATION-KEY": "a"}
BASE = "/api/v2/llm-obs/v1"
PUSH = ("datadog", "push-dataset", "--project", "evals", "--dataset", "failures")
WIDE = {"COLUMNS": "200"}


def may_write(sandbox: Sandbox) -> None:
    sandbox.permissions = frozenset({*SEARCH_PERMISSIONS.values(), WRITE})


@pytest.fixture(scope="module")
def sandbox() -> Iterator[BackgroundServer]:
    with BackgroundServer(samples=True, traces=60) as server:
        yield server


@pytest.fixture(autouse=True)
def fresh(sandbox: BackgroundServer) -> None:
    """A sandbox without datasets, queues or trouble, and a key that may write."""
    sandbox.sandbox.trouble.faults = []
    sandbox.sandbox.shelf.clear()
    sandbox.sandbox.calls.clear()
    may_write(sandbox.sandbox)


def environment_of(sandbox: BackgroundServer, folder: Path, **more: str) -> dict[str, str]:
    return PLAIN | {
        "DATADOG_API_URL": sandbox.url,
        "DATADOG_API_KEY": "hunter2-api-key",
        "DATADOG_APP_KEY": "hunter2-app-key",
        "PII_SALT": "kZ8vQ2mX7pL4wR9tB6nJ3hG5cD1fS0aY",
        "CAPTURE_STORE": f"sqlite:///{folder / 'captures.sqlite3'}",
        "RETRY_BUDGET_S": "5",
        **more,
    }


@pytest.fixture(scope="module")
def opened(sandbox: BackgroundServer, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """An environment whose captures kept their texts."""
    environment = environment_of(sandbox, tmp_path_factory.mktemp("opened"), PII_TEXT_ALLOWLIST="input,output")
    evalforge(environment, "ingest")
    return environment


@pytest.fixture(scope="module")
def shut(sandbox: BackgroundServer, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """One whose captures did not: the default."""
    environment = environment_of(sandbox, tmp_path_factory.mktemp("shut"))
    evalforge(environment, "ingest")
    return environment


def told(environment: dict[str, str], *arguments: str, code: int = 0) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(evalforge(environment, *arguments, "--json", code=code).stdout)
    return found


def made_queue(sandbox: BackgroundServer, name: str = "triage") -> str:
    with httpx.Client(base_url=sandbox.url, headers=KEYS) as http:
        project = {"data": {"type": "projects", "attributes": {"name": "evals"}}}
        project_id = http.post(f"{BASE}/projects", json=project).json()["data"]["id"]
        queue = {"data": {"type": "queues", "attributes": {"name": name, "project_id": project_id}}}
        made: str = http.post(f"{BASE}/annotation-queues", json=queue).json()["data"]["id"]
    return made


def test_failures_go_back_as_records_once(sandbox: BackgroundServer, opened: dict[str, str]) -> None:
    rehearsed = told(opened, *PUSH, "--dry-run")
    assert rehearsed["created"] > 10
    assert sandbox.sandbox.shelf.datasets == {}
    first, again = told(opened, *PUSH), told(opened, *PUSH)
    assert {**first, "dataset_id": None, "package_id": None, "dry_run": True} == rehearsed
    assert (again["created"], again["already_there"]) == (0, first["created"])
    (dataset,) = sandbox.sandbox.shelf.datasets.values()
    assert len(dataset.records) == first["created"]
    shown = evalforge(opened | WIDE, *PUSH).stdout
    assert "0 records created in evals/failures" in shown
    assert f"{first['created']} captures already there" in shown


def test_closed_texts_are_named_with_the_setting_that_opens_them(sandbox: BackgroundServer, shut: dict[str, str]) -> None:
    report = told(shut, *PUSH)
    assert report["closed"] > 10
    assert report["created"] == len(next(iter(sandbox.sandbox.shelf.datasets.values())).records if report["created"] else [])
    assert "PII_TEXT_ALLOWLIST=input,output" in evalforge(shut | WIDE, *PUSH).stdout


def test_a_push_that_is_cut_off_is_repeated_without_duplicates(sandbox: BackgroundServer, opened: dict[str, str]) -> None:
    sandbox.sandbox.trouble.faults = [Fault("cut", source="datasets", after=3, times=None)]
    failed = evalforge(opened | {"RETRY_BUDGET_S": "0"}, *PUSH, code=6)
    assert "no usable answer to the change of the dataset" in failed.stderr
    sandbox.sandbox.trouble.faults = []
    (dataset,) = sandbox.sandbox.shelf.datasets.values()
    there = len(dataset.records)
    assert there > 0, "the answer was lost after the deed"
    report = told(opened, *PUSH)
    assert (report["already_there"], report["created"] + there) == (there, len(dataset.records))


def test_a_key_that_may_only_read_is_told_what_it_lacks(sandbox: BackgroundServer, opened: dict[str, str]) -> None:
    sandbox.sandbox.permissions = frozenset(SEARCH_PERMISSIONS.values())
    done = evalforge(opened, *PUSH, code=4)
    assert "llm_observability_write" in done.stderr
    assert sandbox.sandbox.shelf.projects == {}


def test_traces_go_into_a_queue_once(sandbox: BackgroundServer, opened: dict[str, str]) -> None:
    queue_id = made_queue(sandbox)
    queue = ("datadog", "queue", "--queue", "triage")
    rehearsed = told(opened, *queue, "--dry-run")
    assert (rehearsed["added"] > 10, sandbox.sandbox.shelf.queues[queue_id].interactions) == (True, {})
    first, again = told(opened, *queue), told(opened, "datadog", "queue", "--queue", queue_id)
    assert first == {**rehearsed, "dry_run": False}
    assert (again["added"], again["already_there"]) == (0, first["added"])
    assert len(sandbox.sandbox.shelf.queues[queue_id].interactions) == first["added"]
    shown = evalforge(opened | WIDE, *queue, "--severity", "critical").stdout
    assert "0 traces added to triage" in shown
    assert "already there" in shown


def test_what_is_asked_wrongly_is_said(sandbox: BackgroundServer, opened: dict[str, str]) -> None:
    assert "no annotation queue 'none'" in evalforge(opened, "datadog", "queue", "--queue", "none", code=2).stderr
    assert "--dataset: wants a name" in evalforge(opened, *PUSH[:-1], " ", code=2).stderr
    assert "--project: wants a name" in evalforge(opened, *PUSH[:3], "a\nb", *PUSH[4:], code=2).stderr
    gov = {name: value for name, value in opened.items() if name != "DATADOG_API_URL"} | {"DATADOG_SITE": "ddog-gov.com"}
    assert "has no LLM Observability" in evalforge(gov, *PUSH, code=2).stderr
    assert sandbox.sandbox.calls
    assert all(one.method == "GET" for one in sandbox.sandbox.calls)
    assert "push-dataset" in evalforge(opened, "datadog", "--help").stdout
