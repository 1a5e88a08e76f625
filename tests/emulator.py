"""Google's own Firestore emulator, started once for each test process that asks for it."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

START_TIMEOUT_S = 90
HOW_TO_INSTALL = (
    "THE FIRESTORE TESTS DID NOT RUN. They need Google's emulator: install Java 11 or newer and the gcloud command line "
    "(packages google-cloud-cli and google-cloud-cli-firestore-emulator, or `gcloud components install "
    "cloud-firestore-emulator`), or set FIRESTORE_EMULATOR_HOST to one that is running"
)


@pytest.fixture(scope="session")
def firestore_emulator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """`host:port` of a running emulator; tests keep apart by projects of their own."""
    running = os.environ.get("FIRESTORE_EMULATOR_HOST")
    if running:
        yield running
        return
    if not (shutil.which("gcloud") and shutil.which("java")):
        if os.environ.get("CI"):
            pytest.fail(HOW_TO_INSTALL)
        pytest.skip(HOW_TO_INSTALL)
    address = f"127.0.0.1:{free_port()}"
    log = tmp_path_factory.mktemp("emulator") / "log"
    # About 20 KB of heap for each document; without a cap it takes a quarter of the machine.
    environment = {**os.environ, "JAVA_TOOL_OPTIONS": "-Xmx2g", "CLOUDSDK_CORE_DISABLE_PROMPTS": "1"}
    with log.open("wb") as output:
        process = subprocess.Popen(
            ["gcloud", "emulators", "firestore", "start", f"--host-port={address}"],
            stdout=output,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            env=environment,
            start_new_session=True,  # gcloud starts Java: both end together, as one group
        )
    try:
        _wait_until_it_answers(address, process, log)
        yield address
    finally:
        _end_group(process)


def free_port() -> int:
    """A loopback port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _wait_until_it_answers(address: str, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline and process.poll() is None:
        try:
            with urllib.request.urlopen(f"http://{address}/", timeout=2):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.1)
    pytest.fail(f"the Firestore emulator did not start:\n{log.read_text(errors='replace')[-2_000:]}")


def _end_group(process: subprocess.Popen[bytes]) -> None:
    for ending in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, ending)
        except ProcessLookupError:
            break
        deadline = time.monotonic() + 5
        while time.monotonic() < deadline and _group_lives(process):
            time.sleep(0.05)
    process.wait(timeout=10)


def _group_lives(process: subprocess.Popen[bytes]) -> bool:
    process.poll()
    try:
        os.killpg(process.pid, 0)
    except ProcessLookupError:
        return False
    return True
