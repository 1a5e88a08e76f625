"""`python -m bench.scale`: an archive judged by one machine alone, and by Spark with 1 and with 2 workers, into the docs.

The archive is made of the bench's spans, gzip, in parts of equal length. Each run is a process of its own with an empty
store; a job's seconds are its own, from its lease to its report, and what Spark takes to come up is told apart.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from bench.spans import Spans, Workload

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "benchmarks.md"
BEGIN, END = "<!-- scale measured -->", "<!-- end scale measured -->"
END_OF_WINDOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
SALT = "0nly-f0r-benches-kZ8vQ2mX7pL4wR9tB6nJ3hG5"
PARTS = 8
EVERY = 100
"""One span in so many fails, as the capacity plan in docs/scale.md has it."""
SPAN_BYTES = 4_000


@dataclass(frozen=True, slots=True)
class Run:
    """One run: what ran, the seconds of the job and of the whole process, and its report."""

    name: str
    job_s: float
    process_s: float
    report: Mapping[str, Any]


def archive(folder: Path, count: int, parts: int = PARTS) -> int:
    """Writes an archive of so many spans in so many parts; its size in bytes."""
    spans = Spans(Workload(count, EVERY, SPAN_BYTES, 7, int(END_OF_WINDOW.timestamp() * 1000)))
    size = 0
    for number in range(parts):
        path = folder / f"part-{number:03}.ndjson.gz"
        with gzip.open(path, "wb", compresslevel=6) as stream:
            for offset in range(count * number // parts, count * (number + 1) // parts):
                stream.write(spans.span(offset) + b"\n")
        size += path.stat().st_size
    return size


def run(name: str, arguments: Sequence[str], folder: Path) -> Run:
    """Runs one command with an empty store."""
    store = folder / f"{name.replace(' ', '-')}.sqlite3"
    environment = {
        **os.environ,
        "PII_SALT": SALT,
        "CAPTURE_STORE": f"sqlite:///{store}",
        "SPARK_LOCAL_IP": "127.0.0.1",
        "PYSPARK_PYTHON": sys.executable,
        "PYTHONPATH": os.pathsep.join((str(ROOT / "src"), str(ROOT), os.environ.get("PYTHONPATH", ""))),
        "LOG_FORMAT": "json",
    }
    began = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-m", "evalforge", *arguments, "--json"],
        env=environment,
        capture_output=True,
        check=False,
    )
    process_s = time.monotonic() - began
    if done.returncode:
        raise SystemExit(f"{name} failed:\n{done.stderr.decode(errors='replace')[-2_000:]}")
    report = json.loads(done.stdout)
    return Run(name, report["duration_s"], process_s, report)


def measured(count: int) -> str:
    """Every figure, as the Markdown that goes between the marks."""
    with TemporaryDirectory() as name:
        folder = Path(name)
        place = folder / "archive"
        place.mkdir()
        load = os.getloadavg()[0]  # afterwards it is our own
        size = archive(place, count)
        runs = [run("one machine", ["archive", str(place)], folder)]
        for workers in (1, 2):
            master = ["--master", f"local-cluster[{workers},1,1024]", "--conf", "spark.driver.host=127.0.0.1"]
            title = f"Spark, {workers} worker" + "s" * (workers > 1)
            runs.append(run(title, ["scale", "judge", str(place), *master], folder))
    captures = {one.report["captures"]["created"] for one in runs}
    if len(captures) != 1:
        raise SystemExit(f"the runs do not agree: {captures}")
    cores = os.cpu_count() or 1
    machine = f"{datetime.now(UTC):%Y-%m-%d}, {cores} cores, {platform.machine()}, Python {platform.python_version()}"
    files = f"{PARTS} gzip files of {size / PARTS / 1e6:.1f} MB"
    lines = [
        f"{machine}; {count:,} spans of {SPAN_BYTES // 1000} kB, one in {EVERY} failing, in {files}; "
        f"{captures.pop():,} captures each time, to SQLite.",
        "",
        "| run | job s | spans/s | with its start s | × one worker |",
        "| --- | ---: | ---: | ---: | ---: |",
    ]
    for one in runs:
        ratio = f"{runs[1].job_s / one.job_s:.2f}"
        lines.append(f"| {one.name} | {one.job_s:.1f} | {count / one.job_s:,.0f} | {one.process_s:.1f} | {ratio} |")
    if load > 0.5 * cores:
        lines += [
            "",
            f"**The machine was busy** with others' work: load {load:.1f} before.",
            "Seconds and ratios of these runs say that it works, and little of how fast.",
        ]
    return "\n".join(lines) + "\n"


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m bench.scale")
    parser.add_argument("--spans", type=int, default=100_000, help="spans in the archive")
    table = measured(parser.parse_args().spans)
    print(table)
    text = PAGE.read_text()
    if BEGIN not in text:
        text = f"{text.rstrip()}\n\n## Scale\n\n{BEGIN}\n{END}\n"
    head, _, rest = text.partition(BEGIN)
    PAGE.write_text(f"{head}{BEGIN}\n{table}{END}{rest.partition(END)[2]}")
    print(f"written to {PAGE.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
