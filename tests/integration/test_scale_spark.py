"""The jobs on a real Spark cluster: a Master, two Workers, the Firestore emulator, and a worker that is killed half way."""

from __future__ import annotations

import asyncio
import importlib.util
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from evalforge.config import Settings
from evalforge.sandbox.server import BackgroundServer
from tests.archives import SALT, documents_in, settings_of, written
from tests.emulator import free_port
from tests.integration.test_archive import Live, live_run, sandbox

__all__ = ["sandbox"]

PYSPARK = "pyspark==3.5.9"
PATIENCE_S = 540.0
HOW_TO_INSTALL = (
    "THE SPARK TESTS DID NOT RUN. They need Java 17 and pyspark: pip install 'evalforge-ingestion[spark]', or a registry "
    f"that has {PYSPARK}"
)
QUICK_START = "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC"

pytestmark = [pytest.mark.long, pytest.mark.timeout(PATIENCE_S + 60)]


@pytest.fixture(scope="module")
def pyspark(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that has pyspark: where it is installed, or one of its own."""
    found = importlib.util.find_spec("pyspark")
    if found is not None and found.origin is not None and shutil.which("java"):
        return Path(found.origin).parents[1]
    folder = tmp_path_factory.mktemp("pyspark")
    install = [sys.executable, "-m", "pip", "install", "-q", "--disable-pip-version-check", "--target", str(folder), PYSPARK]
    if shutil.which("java") and subprocess.run(install, check=False, capture_output=True).returncode == 0:
        return folder
    if os.environ.get("CI"):
        pytest.fail(HOW_TO_INSTALL)
    pytest.skip(HOW_TO_INSTALL)


@pytest.fixture(scope="module")
def live(sandbox: BackgroundServer, tmp_path_factory: pytest.TempPathFactory) -> Live:
    """So many traces that each of two writers has several failing ones, wherever their ids put them."""
    return live_run(sandbox, tmp_path_factory.mktemp("live"), traces=110)


class Cluster:
    """A Master and two Workers, processes of their own, all on loopback."""

    def __init__(self, pyspark: Path, folder: Path, environment: dict[str, str]) -> None:
        self.url = f"spark://127.0.0.1:{free_port()}"
        self._folder = folder
        self._bin = pyspark / "pyspark" / "bin" / "spark-class"
        self._environment = environment
        port = self.url.rpartition(":")[2]
        deploy = "org.apache.spark.deploy"
        ui = ["--webui-port", str(free_port())]
        self.master = self._start("master", f"{deploy}.master.Master", "--host", "127.0.0.1", "--port", port, *ui)
        self._wait_for("master", "I have been elected leader")
        self.workers = [self._worker(number, deploy) for number in range(2)]
        for number in range(2):
            self._wait_for(f"worker{number}", "Successfully registered with master")

    def _worker(self, number: int, deploy: str) -> subprocess.Popen[bytes]:
        options = ["--host", "127.0.0.1", "--cores", "1", "--memory", "1g", "--webui-port", str(free_port())]
        options += ["--work-dir", str(self._folder / f"work{number}"), self.url]
        return self._start(f"worker{number}", f"{deploy}.worker.Worker", *options)

    def _start(self, name: str, *command: str) -> subprocess.Popen[bytes]:
        with (self._folder / f"{name}.log").open("wb") as log:
            return subprocess.Popen(
                [self._bin, *command],
                env=self._environment,
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                start_new_session=True,  # executors and their Python processes end with it, as one group
            )

    def _wait_for(self, name: str, text: str) -> None:
        deadline = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline:
            if text in (self._folder / f"{name}.log").read_text(errors="replace"):
                return
            time.sleep(0.1)
        pytest.fail(f"{name} did not start:\n{self.logs()[-3_000:]}")

    def kill_worker(self, number: int) -> None:
        """SIGKILL to a worker with everything that it has started."""
        _kill(self.workers[number])

    def close(self) -> None:
        """Ends all of it."""
        for process in (*self.workers, self.master):
            _kill(process)

    def logs(self) -> str:
        """Everything that master, workers and executors have logged."""
        texts = [*self._folder.glob("*.log"), *self._folder.glob("work*/**/stderr"), *self._folder.glob("work*/**/stdout")]
        return "\n".join(path.read_text(errors="replace") for path in sorted(texts))


def _kill(process: subprocess.Popen[bytes]) -> None:
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait(timeout=30)


@pytest.fixture
def settings(firestore_emulator: str, tmp_path: Path) -> Settings:
    prefix = "s" + re.sub(r"[^a-z0-9]", "", tmp_path.name.lower())[:40] + "_"
    return settings_of(FIRESTORE_EMULATOR_HOST=firestore_emulator, FIRESTORE_COLLECTION_PREFIX=prefix)


@pytest.fixture
def environment(pyspark: Path, settings: Settings, tmp_path: Path) -> dict[str, str]:
    """What driver and workers find around them."""
    root = Path(__file__).parents[2]
    plain = {name: os.environ[name] for name in ("PATH", "HOME", "LANG", "JAVA_HOME") if name in os.environ}
    (tmp_path / "marks").mkdir()
    return plain | {
        "PYTHONPATH": os.pathsep.join((str(root / "src"), str(root), str(pyspark))),
        "PYSPARK_PYTHON": sys.executable,
        "SPARK_HOME": str(pyspark / "pyspark"),
        "SPARK_LOCAL_IP": "127.0.0.1",
        "SPARK_NO_DAEMONIZE": "1",
        "JAVA_TOOL_OPTIONS": QUICK_START,
        "PII_SALT": SALT,
        "FIRESTORE_EMULATOR_HOST": settings.firestore_emulator_host or "",
        "FIRESTORE_COLLECTION_PREFIX": settings.firestore_collection_prefix,
        "EVALFORGE_TEST_MARKS": str(tmp_path / "marks"),
    }


@pytest.fixture
def cluster(pyspark: Path, environment: dict[str, str], tmp_path: Path) -> Iterator[Cluster]:
    folder = tmp_path / "cluster"
    folder.mkdir()
    running = Cluster(pyspark, folder, environment)
    yield running
    running.close()


def test_a_worker_killed_half_way_changes_nothing(
    live: Live, cluster: Cluster, environment: dict[str, str], settings: Settings, tmp_path: Path
) -> None:
    place = written(tmp_path / "archive", live.items)
    (tmp_path / "events").mkdir()
    marks = tmp_path / "marks"
    command = [sys.executable, "-m", "tests.spark_jobs", cluster.url, str(place), str(tmp_path / "events")]
    with (tmp_path / "driver.log").open("wb") as log:
        driver = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=log, start_new_session=True)
    try:
        deadline = time.monotonic() + PATIENCE_S
        while len(list(marks.iterdir())) < 2 and time.monotonic() < deadline and driver.poll() is None:
            time.sleep(0.1)
        assert len(list(marks.iterdir())) == 2, (tmp_path / "driver.log").read_text(errors="replace")[-3_000:]
        half_way = asyncio.run(documents_in(settings))
        cluster.kill_worker(0)
        (marks / "go").touch()
        told, _ = driver.communicate(timeout=PATIENCE_S)
    finally:
        _kill(driver)
    said = (tmp_path / "driver.log").read_text(errors="replace")
    assert driver.returncode == 0, said[-3_000:]
    assert 0 < len(half_way) < len(live.documents)
    assert len(list(marks.glob("attempt-*"))) >= 3, "a partition ran twice"
    assert asyncio.run(documents_in(settings)) == live.documents
    reports = json.loads(told)
    items, tally = reports["judge"]["items"], live.tally
    assert items == {
        "fetched": tally.fetched,
        "healthy": tally.healthy,
        "failing": tally.failing,
        "rejected": tally.rejected,
    }
    counts = reports["rejudge"]["documents"]
    assert (counts["seen"], counts["rewritten"]) == (len(live.documents), 0)
    assert re.search(r"a worker said: a worker has other settings than the driver.*\(bad_settings\)", reports["refused"])
    # Neither a secret nor a word of a span stands in what Spark leaves behind.
    events = "\n".join(path.read_text() for path in (tmp_path / "events").iterdir())
    everything = f"{said}\n{events}\n{cluster.logs()}".lower()
    assert "sparklistenertaskend" in everything
    assert [text for text in (SALT, *live.planted) if len(text) > 6 and text.lower() in everything] == []
