"""The specification's own lines, character for character, with nothing added but where the local stand-ins listen."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from evalforge.sandbox import samples
from evalforge.sandbox.server import BackgroundServer
from tests.secret_manager import SecretManagerServer

ROOT = Path(__file__).parents[2]

SERVE_LINES = """\
export DATADOG_API_KEY=projects/PROJECT/secrets/datadog-api-key/versions/latest
export DATADOG_APP_KEY=projects/PROJECT/secrets/datadog-app-key/versions/latest
export FIRESTORE_COLLECTION_PREFIX=evalforge_
evalforge_venv/bin/python -m src.ingestion.main
"""
TRIGGER_LINES = """\
# Trigger once
curl -X POST http://localhost:8000/ingestion/run-once
"""


@pytest.fixture
def service(firestore_emulator: str, tmp_path: Path) -> Iterator[tuple[BackgroundServer, subprocess.Popen[bytes]]]:
    secrets = {
        "projects/PROJECT/secrets/datadog-api-key/versions/latest": b"api-key-of-the-sandbox",
        "projects/PROJECT/secrets/datadog-app-key/versions/latest": b"app-key-of-the-sandbox",
    }
    with BackgroundServer(samples=True) as sandbox, SecretManagerServer(secrets) as manager:
        added = {
            "FIRESTORE_EMULATOR_HOST": firestore_emulator,
            "SECRET_MANAGER_ENDPOINT": manager.endpoint,
            "DATADOG_API_URL": sandbox.url,
        }
        plain = {name: os.environ[name] for name in ("PATH", "HOME", "LANG", "TMPDIR") if name in os.environ}
        with (tmp_path / "service.log").open("wb") as log:
            process = subprocess.Popen(
                ["bash", "-c", SERVE_LINES], cwd=ROOT, env=plain | added, stdout=log, stderr=log, start_new_session=True
            )
            try:
                yield sandbox, process
            finally:
                os.killpg(process.pid, signal.SIGTERM)
                process.wait(timeout=30)


@pytest.mark.skipif(not (ROOT / "evalforge_venv").exists(), reason="run `make test` once: it makes evalforge_venv")
def test_the_lines_work_as_they_stand(
    service: tuple[BackgroundServer, subprocess.Popen[bytes]], firestore_emulator: str, tmp_path: Path
) -> None:
    if shutil.which("curl") is None:
        pytest.fail("the specification's lines call curl: install it")
    _, process = service
    deadline = time.monotonic() + 40
    while True:
        assert process.poll() is None, (tmp_path / "service.log").read_text()
        try:
            health = httpx.get("http://localhost:8000/health", timeout=20)
            break
        except httpx.TransportError:
            assert time.monotonic() < deadline, (tmp_path / "service.log").read_text()
            time.sleep(0.2)
    assert (health.status_code, health.json()["status"]) == (200, "ok"), health.text
    for created, unchanged in ((True, False), (False, True)):
        done = subprocess.run(["bash", "-c", TRIGGER_LINES], capture_output=True, text=True, timeout=100, check=True)
        report = json.loads(done.stdout)
        assert report["complete"], report
        assert (report["captures"]["created"] > 0) is created
        assert (report["captures"]["unchanged"] > 0) is unchanged
    log = (tmp_path / "service.log").read_text()
    assert "api-key-of-the-sandbox" not in log
    leaked = [secret for secret in samples.planted() if len(secret) > 6 and secret.lower() in log.lower()]
    assert leaked == []
    documents = httpx.get(
        f"http://{firestore_emulator}/v1/projects/evalforge-local/databases/(default)/documents/evalforge_raw_traces?pageSize=1",
        headers={"Authorization": "Bearer owner"},
    ).json()["documents"]
    assert "traceId" not in documents[0]["fields"]
    assert "trace_id" in documents[0]["fields"]
