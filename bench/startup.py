"""How long until a command says something and the service answers, beside importing what any such service imports."""

from __future__ import annotations

import http.client
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from bench.cases.case import ROOT
from tests.emulator import free_port

ROUNDS = 7
PATIENCE_S = 60.0
BASE = 'python -c "import fastapi, httpx"'


@dataclass(frozen=True, slots=True)
class Start:
    """Medians of wall and CPU seconds."""

    wall_s: float
    cpu_s: float


def measured() -> dict[str, Start]:
    """Each start by what it starts, in turns; `BASE` is what they are compared with."""
    with tempfile.TemporaryDirectory() as folder:
        starts: dict[str, Callable[[], None]] = {
            BASE: lambda: _ends([sys.executable, "-c", "import fastapi, httpx"]),
            "`import evalforge`": lambda: _ends([sys.executable, "-c", "import evalforge"]),
            "`evalforge --help`": lambda: _ends([str(Path(sys.executable).with_name("evalforge")), "--help"]),
            "the service, until `GET /health` answers": lambda: _answers(Path(folder)),
        }
        taken: dict[str, list[Start]] = {name: [] for name in starts}
        for _ in range(ROUNDS):
            for name, start in starts.items():
                before, began = _children_s(), time.perf_counter()
                start()
                wall_s = time.perf_counter() - began
                taken[name].append(Start(wall_s, _children_s() - before))
    return {
        name: Start(statistics.median(one.wall_s for one in all_), statistics.median(one.cpu_s for one in all_))
        for name, all_ in taken.items()
    }


def _ends(command: list[str]) -> None:
    subprocess.run(command, cwd=ROOT, env=_environment(), stdout=subprocess.DEVNULL, check=True)


def _answers(folder: Path) -> None:
    port = free_port()
    environment = {
        **_environment(),
        "PORT": str(port),
        "CAPTURE_STORE": f"sqlite:///{folder}/start.sqlite3",
        "DATADOG_API_KEY": "bench",
        "DATADOG_APP_KEY": "bench",
        "DATADOG_API_URL": f"http://127.0.0.1:{free_port()}",
        "PII_SALT": "bench-0nly-kZ8vQ2mX7pL4wR9tB6nJ3hG5yT",
    }
    command = [sys.executable, "-m", "src.ingestion.main"]
    silent = subprocess.DEVNULL
    with subprocess.Popen(command, cwd=ROOT, env=environment, stdout=silent, stderr=silent) as process:
        deadline = time.monotonic() + PATIENCE_S
        while not _is_answered(port):
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError("the service did not answer")
            time.sleep(0.005)
        process.kill()


def _is_answered(port: int) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE_S)
    try:
        connection.request("GET", "/health")
        connection.getresponse().read()
    except OSError:
        return False
    finally:
        connection.close()
    return True


def _environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": os.pathsep.join((str(ROOT / "src"), str(ROOT)))}


def _children_s() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
