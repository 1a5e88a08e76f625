"""What a benchmark needs around it: the bench server, the emulator, and another Python."""

from __future__ import annotations

import os
import subprocess
import sys
import urllib.request
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from bench.cases.case import ROOT

DLT_PYTHON = Path(sys.prefix) / "dlt" / "bin" / "python"
"""dlt lives in an environment of its own (see the Makefile): beside what else is installed it would change versions."""

# Pages of 8 MB come and go: without these, each one is new memory of the system's, which costs more than filling it.
_KEEP_MEMORY = {"MALLOC_MMAP_THRESHOLD_": "1000000000", "MALLOC_TRIM_THRESHOLD_": "1000000000"}


@dataclass(frozen=True, slots=True)
class BenchServer:
    """A running bench server, and what is in its window."""

    url: str
    spans: int
    span_bytes: int
    latency_ms: int

    def stats(self) -> dict[str, Any]:
        """Requests, and CPU seconds for making pages, since it began."""
        answer: dict[str, Any] = self._get("/bench/stats")
        return answer

    def change(self, share: float) -> None:
        """From now on this share of the failing spans has another score than at first."""
        self._get(f"/bench/change?share={share}")

    def _get(self, path: str) -> Any:
        with urllib.request.urlopen(self.url + path, timeout=30) as answer:
            return orjson.loads(answer.read())


@contextmanager
def serving(spans: int, seed: int, *, span_bytes: int = 4_000, latency_ms: int = 0) -> Iterator[BenchServer]:
    """A bench server with that workload while the block runs."""
    options = {"spans": spans, "span-bytes": span_bytes, "latency-ms": latency_ms, "seed": seed}
    command = [sys.executable, "-m", "bench.server", *(f"--{name}={value}" for name, value in options.items())]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, env=_environment()) as process:
        assert process.stdout is not None
        try:
            yield BenchServer(process.stdout.readline().decode().strip(), spans, span_bytes, latency_ms)
        finally:
            process.terminate()


def _environment() -> dict[str, str]:
    return {**os.environ, **_KEEP_MEMORY, "PYTHONPATH": os.pathsep.join((str(ROOT / "src"), str(ROOT)))}


def fresh_project() -> str:
    """A project that the emulator has never seen."""
    return f"bench-{uuid.uuid4().hex[:12]}"


def forget(emulator: str, project: str) -> None:
    """Empties a project, so that the emulator keeps no memory for it."""
    url = f"http://{emulator}/emulator/v1/projects/{project}/databases/(default)/documents"
    with urllib.request.urlopen(urllib.request.Request(url, method="DELETE"), timeout=120):
        pass
