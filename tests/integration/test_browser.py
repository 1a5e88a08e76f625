"""The web pages in real Chromium: a reviewer's way, with the keyboard alone, for everybody, with hostile captures."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from evalforge.core.callers import Role, key_row_text
from evalforge.sandbox.server import BackgroundServer
from evalforge.stores.sqlite import SqliteStore
from tests.captures import NOW
from tests.integration.test_service_process import Service, environment_for
from tests.unit.test_web_pages import HOSTILE, hostile_capture

pytestmark = [pytest.mark.long, pytest.mark.timeout(600)]

PACKAGES = ("playwright-core@1.55.1", "axe-core@4.10.3")
HOW_TO_INSTALL = (
    "THE BROWSER TESTS DID NOT RUN. They need Chromium and Node.js 18 or newer with npm: "
    "apt-get install -y --no-install-recommends chromium nodejs npm (or set CHROMIUM to a browser's path)"
)
KEY = "evf_" + "K" * 43
JOURNEYS = Path(__file__).parent / "browser" / "journeys.mjs"


def chromium() -> str:
    """The path of a browser; in CI it is installed where it is missing."""
    names = ("chromium", "chromium-browser", "google-chrome")
    path = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, names)), None)
    if path is None and os.environ.get("CI") and shutil.which("apt-get") and os.geteuid() == 0:
        for command in (["update"], ["install", "-y", "--no-install-recommends", "chromium"]):
            subprocess.run(["apt-get", *command], capture_output=True, timeout=300, check=False)
        path = shutil.which("chromium")
    if path is None or shutil.which("npm") is None or shutil.which("node") is None:
        lacking(HOW_TO_INSTALL)
    return str(path)


def lacking(what: str) -> None:
    """Skips, loudly; in CI it fails."""
    if os.environ.get("CI"):
        pytest.fail(what)
    pytest.skip(what)


def modules() -> Path:
    """The folder of the driver and the checker, installed beside the environment's programs on first use."""
    folder = Path(sys.prefix) / "browser"
    if not (folder / "node_modules" / "axe-core" / "axe.min.js").exists():
        folder.mkdir(exist_ok=True)
        (folder / "package.json").write_text("{}")
        command = ["npm", "install", "--no-audit", "--no-fund", "--ignore-scripts", *PACKAGES]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300, check=False)
        if done.returncode:
            lacking(f"THE BROWSER TESTS DID NOT RUN: npm cannot install {', '.join(PACKAGES)}")
    return folder


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What the journeys saw, over sample failures whose texts are kept, and captures that are hostile in every field."""
    path, driver = chromium(), modules()
    folder = tmp_path_factory.mktemp("browser")
    shots = os.environ.get("SCREENSHOTS", "")
    with BackgroundServer(samples=True) as sandbox:
        environment = environment_for(sandbox, folder) | {
            "SERVICE_API_KEYS": key_row_text("kim", list(Role), KEY),
            "PII_TEXT_ALLOWLIST": "input,output,prompt,response",
            "DATADOG_RESOLVE_USERS": "true",
        }
        with Service(folder / "service.log", environment) as service:
            ran = service.http.post("/ingestion/run-once", headers={"X-API-Key": KEY})
            assert ran.status_code == 200, ran.text
            hostile = [hostile_capture(text, 1_000 + number) for number, text in enumerate(HOSTILE)]
            if not shots:
                asyncio.run(add(folder / "captures.sqlite3", hostile))
            places = [f"/review/runs/{ran.json()['run_id']}"]
            places += [f"/review/captures/{one.trace_id}" for one in hostile] if not shots else []
            places += [f"/review/groups/{one.signature}" for one in hostile[:2]] if not shots else []
            base = f"http://127.0.0.1:{service.port}"
            command = ["node", str(JOURNEYS), str(driver), path, base, KEY, shots, " ".join(places)]
            done = subprocess.run(command, capture_output=True, text=True, timeout=500, check=False)
            assert done.returncode == 0, done.stderr[-3_000:]
            assert not service.events("request.failed")
    found: dict[str, Any] = json.loads(done.stdout)
    assert set(places) <= set(found["places"])
    return found


async def add(path: Path, captures: list[Any]) -> None:
    store = SqliteStore(str(path), prefix="evalforge_")
    await store.upsert(captures, now=NOW)
    await store.close()


def test_a_reviewer_gets_from_nothing_to_a_decision(seen: dict[str, Any]) -> None:
    journey = seen["journey"]
    assert "/sign-in?next=" in journey["asked_to_sign_in"]
    assert journey["back_where_they_were"].endswith("/review?window=all+time")
    assert "failures" in journey["overview"]
    assert (journey["filtered"], "hallucination" in journey["group"]) == ("hallucination", True)
    assert "new → triaged" in journey["history"]
    assert "looked at <b>it</b>" in journey["history"]  # as text, not as bold type
    assert "hallucination" in journey["capture"]
    assert journey["turns"] >= 2
    assert journey["expected"] == "The right answer."
    assert "/sign-in" in journey["signed_out"]


def test_the_keyboard_alone_is_enough(seen: dict[str, Any]) -> None:
    keyboard = seen["keyboard"]
    assert keyboard["first"] == "Skip to the content"
    assert keyboard["outline"] == "solid"
    assert keyboard["group"].startswith("/review/groups/")
    assert keyboard["state"] == "ignored"


def test_no_page_keeps_anybody_out(seen: dict[str, Any]) -> None:
    assert len(seen["places"]) > 20
    assert seen["violations"] == []
    assert seen["overflow"] == []


def test_nothing_that_was_captured_is_obeyed_and_nothing_leaves_the_origin(seen: dict[str, Any]) -> None:
    assert (seen["dialogs"], seen["foreign"], seen["scripts"]) == ([], [], 0)
    # A page that is not there is answered with its status, which the browser tells too.
    assert [line for line in seen["console"] if "404" not in line] == []
