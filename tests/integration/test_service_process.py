"""The real service process against the real sandbox: runs, refusals, trouble, health, and how it ends."""

from __future__ import annotations

import json
import re
import signal
import socket
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from evalforge.sandbox import samples
from evalforge.sandbox.server import BackgroundServer
from evalforge.sandbox.trouble import Fault
from tests.integration.commands import PATIENCE_S, PLAIN, ran_text, warm
from tests.integration.warm import Run

SERVICE = "src.ingestion.main"
SALT = "kZ8vQ2mX7pL4wR9tB6nJ3hG5cD1fS0aY"


def until(condition: Callable[[], Any], what: str) -> Any:
    """The first true value of `condition`."""
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        if found := condition():
            return found
        time.sleep(0.02)
    raise AssertionError(f"waited too long for {what}")


class Service:
    """`python -m src.ingestion.main` from the repository root, on a free port."""

    def __init__(self, log: Path, environment: dict[str, str]) -> None:
        self._log = log
        log.write_bytes(b"")
        surroundings = PLAIN | {"PORT": "0"} | environment
        self.process = warm().start(Run([], surroundings, str(log), str(log), module=SERVICE))

    def __enter__(self) -> Service:
        started = until(lambda: self.event("service.started") or self.process.poll() is not None, "the service")
        assert started is not True, self.log
        self.port = int(started["port"])
        self.http = httpx.Client(base_url=f"http://127.0.0.1:{self.port}", timeout=PATIENCE_S)
        return self

    def __exit__(self, *_: object) -> None:
        self.http.close()
        self.stop()

    def stop(self) -> int:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout=PATIENCE_S)

    @property
    def log(self) -> str:
        return self._log.read_text()

    def events(self, name: str) -> list[dict[str, Any]]:
        lines = [line for line in self.log.split("\n")[:-1] if name in line]
        return [entry for entry in map(json.loads, lines) if entry["message"] == name]

    def event(self, name: str) -> dict[str, Any] | None:
        found = self.events(name)
        return found[0] if found else None

    def run_once(self, **options: Any) -> httpx.Response:
        return self.http.post("/ingestion/run-once", **options)


@pytest.fixture
def sandbox() -> Iterator[BackgroundServer]:
    with BackgroundServer(samples=True, traces=60) as server:
        yield server


def environment_for(sandbox: BackgroundServer, folder: Path) -> dict[str, str]:
    return {
        "DATADOG_API_URL": sandbox.url,
        "DATADOG_API_KEY": "hunter2-api-key",
        "DATADOG_APP_KEY": "hunter2-app-key",
        "PII_SALT": SALT,
        "CAPTURE_STORE": f"sqlite:///{folder / 'captures.sqlite3'}",
        "RETRY_BUDGET_S": "0",
    }


@pytest.fixture
def environment(sandbox: BackgroundServer, tmp_path: Path) -> dict[str, str]:
    return environment_for(sandbox, tmp_path)


@pytest.fixture
def service(environment: dict[str, str], tmp_path: Path) -> Iterator[Service]:
    with Service(tmp_path / "service.log", environment) as running:
        yield running


@pytest.fixture(scope="module")
def shared_sandbox() -> Iterator[BackgroundServer]:
    with BackgroundServer(samples=True, traces=60) as server:
        yield server


@pytest.fixture(scope="module")
def shared_service(shared_sandbox: BackgroundServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """One process for the tests that leave it as it was."""
    folder = tmp_path_factory.mktemp("shared")
    with Service(folder / "service.log", environment_for(shared_sandbox, folder)) as running:
        yield running


def test_a_run_a_second_run_and_an_orderly_end(service: Service) -> None:
    assert service.http.get("/health").json()["quota"] == {}
    first = service.run_once()
    assert first.status_code == 200, first.text
    report = first.json()
    items = report["items"]
    assert items["fetched"] == items["healthy"] + items["failing"] + items["rejected"] > 0
    quota = service.http.get("/health").json()["quota"]
    for source in report["sources"]:
        told = quota[source["name"]]
        assert (told["limit"], told["remaining"]) == (source["rate_limit"]["limit"], source["rate_limit"]["remaining"])
        assert told["told_at"] < told["resets_at"]
    assert report["complete"] is True
    assert report["captures"]["created"] > 0
    assert report["user_hash"] == {"enabled": True, "hint": None, "lookup": None}
    assert {source["name"] for source in report["sources"]} == {"llm_obs", "apm"}
    again = service.run_once(content=b'{"lookback": 24, "qualityThreshold": 0.5}', headers={"Content-Type": "text/plain"})
    captures = again.json()["captures"]
    assert (captures["created"], captures["updated"]) == (0, 0)
    assert captures["unchanged"] > 0
    assert service.stop() == 0
    assert service.event("service.stopped")
    summaries = service.events("run.finished")
    assert [summary["outcome"] for summary in summaries] == ["complete", "complete"]
    assert len(service.events("capture.created")) == report["captures"]["created"]
    log = service.log.lower()
    assert "hunter2" not in log
    assert SALT.lower() not in log
    assert [word for word in samples.planted(traces=60) if len(word) > 6 and word.lower() in log] == []


def test_health_and_the_other_routes(shared_service: Service) -> None:
    health = shared_service.http.get("/health")
    assert (health.status_code, health.json()["status"]) == (200, "ok")
    assert set(health.json()["parts"]) == {"settings", "keys", "salt", "datadog", "store"}
    assert shared_service.http.get("/livez").json() == {"status": "ok"}
    assert set(shared_service.http.get("/openapi.json").json()["paths"]) == {
        "/ingestion/run-once",
        "/ingestion/runs",
        "/ingestion/runs/{run_id}",
        "/exports/{package_id}",
        "/captures",
        "/captures/{trace_id}",
        "/groups",
        "/groups/{signature}",
        "/stats",
        "/privacy/erase",
        "/exports",
        "/health",
        "/livez",
        "/metrics",
    }
    for path in ("/docs", "/redoc", "/nothing"):
        answer = shared_service.http.get(path)
        assert (answer.status_code, answer.json()["code"]) == (404, "no_such_route")
        assert answer.headers["content-type"] == "application/problem+json"
    wrong = shared_service.http.get("/ingestion/run-once")
    assert (wrong.status_code, wrong.json()["code"]) == (405, "method_not_allowed")
    for answer in (health, wrong, shared_service.http.options("/health", headers={"Origin": "https://evil.com"})):
        assert not [name for name in answer.headers if name.lower().startswith("access-control-")]
    assert "hunter2" not in health.text


def test_probes_are_shared_and_search_no_span(shared_service: Service, shared_sandbox: BackgroundServer) -> None:
    shared_sandbox.sandbox.requests.clear()
    with ThreadPoolExecutor(8) as pool:
        statuses = list(pool.map(lambda _: shared_service.http.get("/health").status_code, range(24)))
    assert statuses == [200] * 24
    assert [one.path for one in shared_sandbox.sandbox.requests if "search" in one.path] == []


@pytest.mark.parametrize("query", ["?site=evil.com", "?lookback=0", "?lookback=1&lookback_hours=2", "?url=https://evil.com"])
def test_wrong_fields_are_refused_before_anything_is_read(
    shared_service: Service, shared_sandbox: BackgroundServer, query: str
) -> None:
    shared_sandbox.sandbox.requests.clear()
    answer = shared_service.http.post(f"/ingestion/run-once{query}")
    assert (answer.status_code, answer.json()["status"]) == (422, 422)
    assert answer.json()["field"]
    assert not shared_sandbox.sandbox.requests


def test_a_large_body_is_refused(shared_service: Service) -> None:
    assert shared_service.run_once(content=b"x" * 1_000_000).status_code == 413


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ("Host: evil.com", 421),
        ("Host: 127.0.0.1.evil.com:80", 421),
        ("Host: localhost\r\nOrigin: https://evil.com", 403),
        ("Host: localhost\r\nOrigin: null", 403),
        ("Host: localhost\r\nSec-Fetch-Site: cross-site", 403),
        ("Host: localhost\r\nHost: evil.com", 400),
    ],
)
def test_foreign_pages_start_nothing(
    shared_service: Service, shared_sandbox: BackgroundServer, headers: str, status: int
) -> None:
    shared_sandbox.sandbox.requests.clear()
    request = f"POST /ingestion/run-once HTTP/1.1\r\n{headers}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
    with socket.create_connection(("127.0.0.1", shared_service.port), timeout=PATIENCE_S) as connection:
        connection.sendall(request.encode())
        answer = connection.recv(4096).decode()
    assert answer.startswith(f"HTTP/1.1 {status} "), answer
    assert "access-control" not in answer.lower()
    assert not shared_sandbox.sandbox.requests


def test_a_caller_that_hangs_up_does_not_end_the_run(service: Service, sandbox: BackgroundServer) -> None:
    sandbox.sandbox.trouble.faults = [Fault("slow", latency_s=0.5, times=2)]
    with socket.create_connection(("127.0.0.1", service.port), timeout=PATIENCE_S) as connection:
        connection.sendall(b"POST /ingestion/run-once HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n")
        until(lambda: service.event("run.started"), "the run to start")
    assert service.http.get("/livez").status_code == 200
    assert service.http.get("/health").status_code == 200
    assert not service.events("run.finished"), "the service answers while the run goes on"
    finished = until(lambda: service.event("run.finished"), "the run to finish")
    assert finished["outcome"] == "complete"
    assert finished["created"] > 0


def test_a_second_caller_learns_whose_run_is_going_on(
    service: Service, sandbox: BackgroundServer, environment: dict[str, str], tmp_path: Path
) -> None:
    # Longer than a busy machine takes to start a process; nothing waits for its end.
    sandbox.sandbox.trouble.faults = [Fault("slow", latency_s=60.0, times=1)]
    with Service(tmp_path / "other.log", environment) as other:
        service.run_once(headers={"Prefer": "respond-async"})
        second = service.run_once()
        third = other.run_once()
        command = ran_text("ingest", environment=PLAIN | environment)
    service.process.kill()
    for refused in (second, third):
        problem = refused.json()
        assert (refused.status_code, problem["code"]) == (409, "run_in_progress")
        assert str(service.process.pid) in problem["holder"]
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT[\d:.]+Z", problem["since"])
    assert command.returncode == 9
    assert str(service.process.pid) in command.stderr


TROUBLES: list[tuple[Fault, int, str]] = [
    (Fault("rate_limited", times=None, reset_s=3000), 429, "quota_exhausted"),
    (Fault("rate_limited", times=None, rate_headers=False), 429, "quota_exhausted"),
    (Fault("status", times=None, status=403), 502, "source_refused"),
    (Fault("status", times=None, status=401), 502, "source_refused"),
    (Fault("status", times=None, status=500), 502, "source_unavailable"),
    (Fault("reset", times=None), 502, "source_unavailable"),
    (Fault("html", times=None), 502, "source_unavailable"),
]


@pytest.mark.parametrize(("fault", "status", "code"), TROUBLES, ids=lambda part: getattr(part, "kind", str(part)))
def test_trouble_at_datadog_is_a_problem_with_the_report(
    shared_service: Service, shared_sandbox: BackgroundServer, fault: Fault, status: int, code: str
) -> None:
    fault.hits = fault.seen = 0
    shared_sandbox.sandbox.trouble.faults = [fault]
    answer = shared_service.run_once()
    problem = answer.json()
    assert (answer.status_code, problem["code"]) == (status, code), problem
    assert answer.headers["content-type"] == "application/problem+json"
    assert problem["report"]["error"]["code"] == code
    assert problem["report"]["complete"] is False
    assert "Traceback" not in answer.text
    if status == 429:
        assert int(answer.headers["retry-after"]) > 0
    shared_sandbox.sandbox.trouble.faults = []
    assert shared_service.run_once().json()["complete"] is True


def test_what_was_read_before_the_trouble_stays(service: Service, sandbox: BackgroundServer) -> None:
    sandbox.sandbox.trouble.faults = [Fault("rate_limited", source="apm", times=None, reset_s=3000)]
    answer = service.run_once()
    assert answer.status_code == 429
    stored = answer.json()["report"]["captures"]["created"]
    assert stored > 0
    sandbox.sandbox.trouble.faults = []
    report = service.run_once().json()
    assert report["complete"] is True
    assert report["captures"]["unchanged"] >= stored


@pytest.mark.parametrize(
    ("changes", "part", "named"),
    [
        ({"QUALITY_THRESHOLD": "7"}, "settings", "QUALITY_THRESHOLD"),
        ({"DATADOG_SITE": "evil.com", "PORT": "x"}, "settings", "DATADOG_SITE"),
        ({"DATADOG_API_KEY": ""}, "keys", "DATADOG_API_KEY"),
        ({"PII_SALT": "short"}, "settings", "PII_SALT"),
        ({"PII_TEXT_ALLOWLIST": "*"}, "settings", "PII_TEXT_ALLOWLIST"),
    ],
)
def test_bad_settings_do_not_end_the_process(
    environment: dict[str, str], tmp_path: Path, changes: dict[str, str], part: str, named: str
) -> None:
    if changes.get("PORT"):
        changes = changes | {"PORT": "0"}
    with Service(tmp_path / "service.log", environment | changes) as service:
        health = service.http.get("/health")
        assert (health.status_code, health.json()["status"], health.json()["part"]) == (500, "error", part)
        assert named in health.json()["detail"]
        run = service.run_once()
        assert (run.status_code, run.json()["code"]) == (503, "bad_settings")
        assert named in run.json()["detail"]
        assert "hunter2" not in health.text + run.text + service.log
        assert service.http.get("/livez").status_code == 200


def test_datadog_and_the_store_are_named_when_they_are_ill(environment: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    broken = {"CAPTURE_STORE": f"sqlite:///{tmp_path}/file/c.sqlite3", "DATADOG_API_URL": "http://127.0.0.1:9"}
    with Service(tmp_path / "service.log", environment | broken) as service:
        health = service.http.get("/health")
        assert health.status_code == 500
        assert {error["part"] for error in health.json()["errors"]} == {"datadog", "store"}
        run = service.run_once()
        assert run.status_code == 503, run.text


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "evalforge.example.com", "127.0.0.1.nip.io", "[::]"])
def test_an_open_bind_is_refused_with_a_way_out(environment: dict[str, str], host: str) -> None:
    done = ran_text(environment=PLAIN | environment | {"HOST": host, "PORT": "0"}, module=SERVICE)
    assert done.returncode == 2
    assert "HOST" in done.stderr
    assert "127.0.0.1" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.long
def test_a_stop_lets_the_page_end_and_the_next_run_goes_on(
    environment: dict[str, str], sandbox: BackgroundServer, tmp_path: Path
) -> None:
    sandbox.sandbox.trouble.faults = [Fault("slow", latency_s=0.7, times=1)]
    with Service(tmp_path / "service.log", environment) as service, ThreadPoolExecutor(1) as pool:
        running = pool.submit(service.run_once)
        until(lambda: sandbox.sandbox.requests, "the first search")
        assert service.stop() == 0
        stopped = running.result().json()
        assert [reason["code"] for reason in stopped["incomplete_because"]] == ["stopped"]
    with Service(tmp_path / "again.log", environment) as service:
        report = service.run_once().json()
        assert report["complete"] is True
        assert {source["name"] for source in report["sources"]} == {"llm_obs", "apm"}
        assert stopped["captures"]["created"] + report["captures"]["created"] > 0


def test_exports_go_where_the_settings_say_and_nowhere_else(environment: dict[str, str], tmp_path: Path) -> None:
    declared = {"EXPORT_DESTINATIONS": f"evals={tmp_path / 'evals'}"}
    with Service(tmp_path / "service.log", environment | declared) as service:
        created = service.run_once().json()["captures"]["created"]
        answer = service.http.post("/exports", json={"destination": "evals"})
        package = answer.json()
        assert (answer.status_code, package["state"], package["count"]) == (201, "delivered", created)
        (written,) = (tmp_path / "evals").iterdir()
        assert written.name == package["file"] == package["id"]
        assert sorted(one.name for one in written.iterdir()) == ["captures.jsonl", "manifest.json"]
        assert (written / "captures.jsonl").stat().st_size == package["size_bytes"]
        for fields, status in (
            ({"destination": "other"}, 404),
            ({"destination": "../evals"}, 404),
            ({"destination": "evals", "path": "/etc/x"}, 422),
            ({}, 422),
        ):
            assert service.http.post("/exports", json=fields).status_code == status
        assert len(list((tmp_path / "evals").iterdir())) == 1
        narrowed = service.http.post("/exports", json={"destination": "evals", "severity": "critical", "limit": 1})
        assert narrowed.json()["count"] == 1
        # The sandbox's texts are closed by the default settings: no tests without inputs, and it is said why.
        closed = service.http.post("/exports", json={"destination": "evals", "format": "promptfoo"})
        assert (closed.status_code, closed.json()["code"]) == (422, "texts_closed")
        assert "PII_TEXT_ALLOWLIST" in closed.json()["detail"]
        listed = service.http.get("/exports").json()["packages"]
        assert [(one["state"], one["reason"]) for one in listed] == [
            ("failed", "texts_closed"),
            ("delivered", None),
            ("delivered", None),
        ]
        assert "capture_ids" not in listed[0]
        assert len(service.http.get("/exports", params={"limit": 1}).json()["packages"]) == 1
        whole = service.http.get(f"/exports/{package['id']}").json()
        assert (len(whole["capture_ids"]), whole["files"]) == (created, package["files"])
        for path, status in (
            ("/exports/export_x", 404),
            ("/exports/%1b%5b2J", 404),
            ("/exports?limit=0", 422),
            ("/exports?x=1", 422),
        ):
            assert service.http.get(path).status_code == status, path


@pytest.mark.long
def test_a_store_behind_a_closed_port_is_a_503(environment: dict[str, str], tmp_path: Path) -> None:
    away = {"CAPTURE_STORE": "firestore", "FIRESTORE_EMULATOR_HOST": "127.0.0.1:9"}
    with Service(tmp_path / "service.log", environment | away) as service:
        answer = service.run_once()
        assert (answer.status_code, answer.json()["code"]) == (503, "store_unavailable"), answer.text


@pytest.mark.long
def test_a_silent_store_is_a_503_within_its_time(environment: dict[str, str], tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        away = {"CAPTURE_STORE": "firestore", "FIRESTORE_EMULATOR_HOST": address}
        with Service(tmp_path / "service.log", environment | away) as service:
            health = service.http.get("/health")
            assert (health.status_code, health.json()["part"]) == (500, "store")
            answer = service.run_once()
            assert (answer.status_code, answer.json()["code"]) == (503, "store_unavailable"), answer.text


def test_firestore_keeps_what_the_service_captures(
    environment: dict[str, str], firestore_emulator: str, tmp_path: Path
) -> None:
    emulator = {
        "CAPTURE_STORE": "firestore",
        "FIRESTORE_EMULATOR_HOST": firestore_emulator,
        "GOOGLE_CLOUD_PROJECT": "service-test",
    }
    with Service(tmp_path / "service.log", environment | emulator) as service:
        health = service.http.get("/health")
        assert health.json()["status"] == "ok", health.text
        created = service.run_once().json()["captures"]["created"]
        assert created > 0
        again = service.run_once().json()["captures"]
        assert (again["created"], again["updated"]) == (0, 0)
