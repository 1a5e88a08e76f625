"""What a case is told and what it gives, and the process around it."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
LOOKBACK_MS = 24 * 3_600_000


@dataclass(frozen=True, slots=True)
class Case:
    """What to do: `name` is in the table of `bench.cases.__main__`, `url` the bench server's.

    `mode` is query, auto or scan; `store` a CAPTURE_STORE; `emulator` its `host:port` if that is Firestore, and `project`.
    """

    name: str
    url: str = ""
    mode: str = "query"
    store: str = "firestore"
    emulator: str = ""
    project: str = ""


@dataclass(frozen=True, slots=True)
class Figures:
    """What a case took, by the operating system, and `result`, what it says itself."""

    wall_s: float
    cpu_s: float
    peak_mb: float
    result: dict[str, Any] = field(default_factory=dict)


def measured(prepared: Callable[[], dict[str, Any]]) -> Figures:
    """The figures of one call in this process; what it needs was imported before."""
    before, began = os.times(), time.perf_counter()
    result = prepared()
    wall_s, after = time.perf_counter() - began, os.times()
    cpu_s = after.user + after.system - before.user - before.system
    return Figures(wall_s, cpu_s, peak_mb(), result)


def peak_mb() -> float:
    """The most memory that this process ever held, in MB."""
    status = Path("/proc/self/status")
    if status.exists():
        # Not ru_maxrss: on Linux a process begins with what the one that started it had.
        return int(status.read_text().partition("VmHWM:")[2].split()[0]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def run(case: Case, python: str = sys.executable) -> Figures:
    """Runs a case in a process of its own and gives its figures.

    Raises:
        RuntimeError: it failed; with what it said.
    """
    command = [python, "-m", "bench.cases", json.dumps(asdict(case))]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join((str(ROOT / "src"), str(ROOT)))}
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=environment, check=False)
    if done.returncode:
        raise RuntimeError(f"{case} failed:\n{done.stderr[-3_000:]}")
    return Figures(**json.loads(done.stdout.splitlines()[-1]))


def window_ms() -> tuple[int, int]:
    """The last 24 hours, as a run reads them."""
    now_ms = int(time.time() * 1000)
    return now_ms - LOOKBACK_MS, now_ms


def search_body(query: str | None, window: tuple[int, int], limit: int, cursor: str | None = None) -> dict[str, Any]:
    """The document that a search is asked with; `query` None asks for every span."""
    page: dict[str, Any] = {"limit": limit} | ({"cursor": cursor} if cursor else {})
    search_filter = {"from": str(window[0]), "to": str(window[1])} | ({"query": query} if query else {})
    return {"data": {"type": "spans", "attributes": {"filter": search_filter, "page": page, "sort": "timestamp"}}}
