"""Google's own Firestore emulator, started once for each test process that asks for it."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Iterator
from contextlib import suppress
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
    with own_emulator(tmp_path_factory.mktemp("emulator")) as emulator:
        yield emulator.address


def own_emulator(folder: Path) -> Emulator:
    """An emulator that a test may stop and start; where none is installed the test is skipped, loudly."""
    if not (shutil.which("gcloud") and shutil.which("java")):
        if os.environ.get("CI"):
            pytest.fail(HOW_TO_INSTALL)
        pytest.skip(HOW_TO_INSTALL)
    return Emulator(folder)


class Emulator:
    """Google's emulator on a port of its own while the block runs; its log and what it exports are in `folder`."""

    def __init__(self, folder: Path) -> None:
        self.address = f"127.0.0.1:{free_port()}"
        self._folder = folder

    def __enter__(self) -> Emulator:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._signal(signal.SIGCONT)
        _end_group(self._process)

    def start(self, *options: str) -> None:
        """Starts it, and returns once it has answered a query."""
        log = self._folder / "log"
        # About 20 KB of heap for each document; without a cap it takes a quarter of the machine.
        # It lives for minutes: what Java would spend on compiling twice and on collecting beside it never comes back.
        java = "-Xmx2g -XX:TieredStopAtLevel=1 -XX:+UseSerialGC"
        environment = {**os.environ, "JAVA_TOOL_OPTIONS": java, "CLOUDSDK_CORE_DISABLE_PROMPTS": "1"}
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                ["gcloud", "emulators", "firestore", "start", f"--host-port={self.address}", *options],
                stdout=output,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                env=environment,
                start_new_session=True,  # gcloud starts Java: both end together, as one group
            )
        try:
            _wait_until_it_answers(self.address, self._process, log)
        except BaseException:
            _end_group(self._process)
            raise

    def kill(self) -> None:
        """Ends it at once, with everything that it held."""
        _end_group(self._process, signal.SIGKILL)

    def pause(self) -> None:
        """Stops it as it stands: its port accepts, and nothing answers."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Lets it go on."""
        self._signal(signal.SIGCONT)

    def export(self, project: str) -> str:
        """Writes down what it holds of a project, and gives the option that starts an emulator with it."""
        place = self._folder / uuid.uuid4().hex
        place.mkdir()
        order = {"database": f"projects/{project}/databases/(default)", "export_directory": str(place), "export_name": "e"}
        request = urllib.request.Request(
            f"http://{self.address}/emulator/v1/projects/{project}:export",
            data=json.dumps(order).encode(),
            headers={"Content-Type": "application/json", "Authorization": "Bearer owner"},
        )
        with urllib.request.urlopen(request, timeout=START_TIMEOUT_S):
            return f"--import-data={place / 'e' / 'e.overall_export_metadata'}"

    def _signal(self, number: signal.Signals) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, number)


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
                break
        except (urllib.error.URLError, OSError):
            time.sleep(0.1)
    else:
        pytest.fail(f"the Firestore emulator did not start:\n{log.read_text(errors='replace')[-2_000:]}")
    # Its first query loads most of Java's classes, and takes longer than a health check waits.
    nothing = f"http://{address}/v1/projects/warm-up/databases/(default)/documents/nothing"
    with urllib.request.urlopen(nothing, timeout=START_TIMEOUT_S):
        pass


def _end_group(process: subprocess.Popen[bytes], *endings: signal.Signals) -> None:
    for ending in endings or (signal.SIGTERM, signal.SIGKILL):
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
