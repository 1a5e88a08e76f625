"""Measures the main job against a lean server, as ratios in one run, and writes docs/benchmarks.md.

    make bench                        all of it, some minutes
    python -m bench --spans 20000     one size only
    python -m bench --full            1,000,000 spans without a query too
    python -m bench privacy           leaks, over-redaction, peers and speed of sanitizing (see bench/privacy)

Each case is a process of its own, so that peak memory and CPU time are the operating system's own figures.
"""

from __future__ import annotations

import argparse
import os
import platform
import signal
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

from bench import report, startup, writing
from bench.cases.case import ROOT, Case, run
from bench.launch import DLT_PYTHON
from bench.plan import ROUNDS, Bench
from tests.emulator import Emulator

PAGE = ROOT / "docs" / "benchmarks.md"
PLOTS = ROOT / "docs" / "plots"
BEGIN, END = "<!-- measured -->", "<!-- end measured -->"
SIZES = (20_000, 50_000, 100_000, 1_000_000)
LARGE_SPANS = 20_000
WRITTEN = 1_500


def measured(sizes: list[int], seed: int, dlt_python: Path, *, rounds: int, full: bool) -> report.Measured:
    """Every figure."""
    usual = max((size for size in sizes if size < 1_000_000), default=min(sizes))
    with tempfile.TemporaryDirectory() as folder, Emulator(Path(folder)) as emulator:
        bench = Bench(emulator.address, Path(folder), seed, dlt_python, rounds)
        bench.warm_up()
        bench.whole(sizes, full=full)
        bench.late(usual)
        bench.large(min(LARGE_SPANS, usual))
        counted = bench.counted(usual)
    speed = run(Case("sanitizing")).result
    return report.Measured(bench.rows, usual, counted, speed, startup.measured())


def write(text: str) -> None:
    """Puts the text between the marks of docs/benchmarks.md."""
    page = PAGE.read_text()
    head, _, rest = page.partition(BEGIN)
    PAGE.write_text(f"{head}{BEGIN}\n{text}\n{END}{rest.partition(END)[2]}")
    print(f"written to {PAGE.relative_to(ROOT)}")


def main() -> None:
    """The command line."""
    if sys.argv[1:2] == ["privacy"]:
        from bench.privacy.command import main as privacy

        privacy(sys.argv[2:])
        return
    parser = argparse.ArgumentParser(prog="python -m bench")
    parser.add_argument("--spans", type=int, action="append", help="size of the window; several may be given")
    parser.add_argument("--full", action="store_true", help="1,000,000 spans without a query too")
    parser.add_argument("--seed", type=int, default=int(time.time()), help="another seed, other spans; the time by default")
    parser.add_argument("--dlt-python", type=Path, default=DLT_PYTHON, help="the Python that has dlt")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="how often a short case is repeated")
    given = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that servers and emulator end too
    if not given.dlt_python.exists():
        print(f"dlt is left out: there is no {given.dlt_python}; `make bench` installs it", file=sys.stderr)
    began = time.perf_counter()
    found = measured(given.spans or list(SIZES), given.seed, given.dlt_python, rounds=given.rounds, full=given.full)
    head = (
        f"{datetime.now(UTC):%Y-%m-%d}, {os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}; "
        f"seed {given.seed}; {(time.perf_counter() - began) / 60:.0f} minutes in all."
    )
    alone = "Writing alone, without reading or judging (`python -m bench.writing`):"
    write("\n\n".join((report.markdown(found, head), alone, writing.measured(WRITTEN).strip())))
    from bench.plots import draw

    draw(found.rows, PLOTS)


if __name__ == "__main__":
    main()
