"""Measures the main job against a lean server, as ratios in one run, and writes docs/benchmarks.md.

    make bench                        all of it, some minutes
    python -m bench --spans 20000     one size only
    python -m bench privacy           leaks, over-redaction, peers and speed of sanitizing (see bench/privacy)

Each case is a process of its own, so that peak memory and CPU time are the operating system's own figures. The server makes
each page once before anything is timed.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import resource
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import orjson

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "benchmarks.md"
BEGIN, END = "<!-- measured -->", "<!-- end measured -->"


@contextmanager
def server(spans: int, failing: float) -> Iterator[str]:
    """The bench server with that workload, on a free port; gives its URL."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "bench.server", "--spans", str(spans), "--failing", str(failing), "--port", str(port)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        url = process.stdout.readline().decode().strip()
        try:
            for _ in range(200):
                try:
                    httpx.get(f"{url}/bench/stats")
                    break
                except httpx.TransportError:
                    time.sleep(0.05)
            yield url
        finally:
            process.terminate()


def case(name: str, url: str, *arguments: str) -> dict[str, Any]:
    """Runs one case in a process of its own and gives its figures."""
    command = [sys.executable, "-m", "bench", "--case", name, "--url", url, *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    figures: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return figures


async def floor(url: str) -> int:
    """What nobody can beat: httpx and orjson read every page and throw it away."""
    count, cursor = 0, None
    now = int(time.time() * 1000)
    async with httpx.AsyncClient(timeout=60) as client:
        while True:
            page: dict[str, Any] = {"limit": 1500} | ({"cursor": cursor} if cursor else {})
            asked = {"filter": {"from": str(now - 86_400_000), "to": str(now)}, "page": page, "sort": "timestamp"}
            answer = await client.post(
                f"{url}/api/v2/llm-obs/v1/spans/events/search", json={"data": {"type": "spans", "attributes": asked}}
            )
            body = orjson.loads(answer.content)
            count += len(body["data"])
            if not body["meta"]["page"]:
                return count
            cursor = body["meta"]["page"]["after"]


async def ours(url: str, store: str, mode: str) -> dict[str, Any]:
    """One run of the pipeline into `store`."""
    from evalforge import bootstrap
    from evalforge.config import Settings
    from evalforge.garbage import collect_seldom

    collect_seldom()  # as `evalforge.cli.main` begins

    settings = Settings.from_environment(
        {
            "DATADOG_API_KEY": "bench",
            "DATADOG_APP_KEY": "bench",
            "DATADOG_API_URL": url,
            "DATADOG_SOURCES": "llm_obs",
            "DATADOG_FILTER": mode,
            "CAPTURE_STORE": store,
            "PII_SALT": "bench-0nly-kZ8vQ2mX7pL4wR9tB6nJ3hG5yT",
        }
    )
    report = await bootstrap.ingest_once(settings, holder="bench")
    assert report.error is None, report.error
    return report.document()


def sanitizing() -> dict[str, float]:
    """MB/s of sanitizing failing spans, beside decoding the same bytes."""
    from bench.server import Workload
    from evalforge.core.privacy import KeyRing, Sanitizer
    from evalforge.core.signals import Thresholds, find_signals
    from evalforge.sources.datadog.spans import parse_llm_obs

    workload = Workload(10_000, 1.0, 4_000, 1, int(time.time() * 1000))
    lines = [orjson.dumps(workload.span(number)) for number in range(1_000)]
    size = sum(map(len, lines)) / 1e6
    sanitizer = Sanitizer(KeyRing((b"bench-0nly-kZ8vQ2mX7pL4wR9tB6nJ3hG5yT",)))
    decode, sanitize = [], []
    for _ in range(5):
        began = time.perf_counter()
        items = [orjson.loads(line) for line in lines]
        decode.append(time.perf_counter() - began)
        spans = [span for span in map(parse_llm_obs, items) if not hasattr(span, "reason")]
        began = time.perf_counter()
        for span in spans:
            sanitizer.sanitize(span, find_signals(span, Thresholds()))
        sanitize.append(time.perf_counter() - began)
    return {"decode_mb_s": size / statistics.median(decode), "sanitize_mb_s": size / statistics.median(sanitize)}


def run_case(name: str, url: str, store: str, mode: str) -> dict[str, Any]:
    """One case in this process: its own result, wall and CPU seconds, peak memory in MB."""
    before = os.times()
    began = time.perf_counter()
    result: Any
    if name == "floor":
        result = asyncio.run(floor(url))
    elif name == "sanitize":
        result = sanitizing()
    else:
        result = asyncio.run(ours(url, store, mode))
    wall = time.perf_counter() - began
    after = os.times()
    peak_kb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1024 if sys.platform == "darwin" else 1)
    return {
        "result": result,
        "wall_s": wall,
        "cpu_s": after.user + after.system - before.user - before.system,
        "peak_mb": peak_kb / 1024,
    }


def measured(sizes: list[int]) -> str:
    """Every figure, as the Markdown that goes between the marks in docs/benchmarks.md."""
    lines = [
        f"{datetime.now(UTC):%Y-%m-%d}, {os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}.",
        "",
        "| spans in the window | case | wall s | × floor | CPU s | peak MB | requests | captures created / unchanged |",
        "| ---: | --- | ---: | ---: | ---: | ---: | ---: | --- |",
    ]
    for spans in sizes:
        with server(spans, 0.05) as url, tempfile.TemporaryDirectory() as folder:
            case("floor", url)  # makes every page once
            base = case("floor", url)
            rows = [("floor: read and decode every span", base)]
            for mode in ("scan", "auto"):
                store = f"sqlite:///{folder}/{mode}.sqlite3"
                case("ours", url, "--store", f"sqlite:///{folder}/warm-{mode}.sqlite3", "--mode", mode)
                rows.append((f"{mode} to SQLite, first run", case("ours", url, "--store", store, "--mode", mode)))
                rows.append((f"{mode} to SQLite, unchanged second run", case("ours", url, "--store", store, "--mode", mode)))
            for label, figures in rows:
                report = figures["result"] if isinstance(figures["result"], dict) else None
                captures = f"{report['captures']['created']} / {report['captures']['unchanged']}" if report else "-"
                lines.append(
                    f"| {spans:,} | {label} | {figures['wall_s']:.2f} | {figures['wall_s'] / base['wall_s']:.2f} "
                    f"| {figures['cpu_s']:.2f} | {figures['peak_mb']:.0f} | {report['request_count'] if report else '-'} "
                    f"| {captures} |"
                )
                print(lines[-1], flush=True)
    speed = case("sanitize", "-")["result"]
    lines += [
        "",
        f"Judging and sanitizing failing spans of 4 KB: {speed['sanitize_mb_s']:.1f} MB/s on one core, "
        f"{speed['sanitize_mb_s'] / speed['decode_mb_s']:.3f} × `orjson.loads` on the same bytes.",
    ]
    return "\n".join(lines) + "\n"


def main() -> None:
    """The command line."""
    if sys.argv[1:2] == ["privacy"]:
        from bench.privacy.command import main as privacy

        privacy(sys.argv[2:])
        return
    parser = argparse.ArgumentParser(prog="python -m bench")
    parser.add_argument("--spans", type=int, action="append", help="size of the window; several may be given")
    parser.add_argument("--case", help=argparse.SUPPRESS)
    parser.add_argument("--url", default="", help=argparse.SUPPRESS)
    parser.add_argument("--store", default="", help=argparse.SUPPRESS)
    parser.add_argument("--mode", default="auto", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.case:
        print(json.dumps(run_case(given.case, given.url, given.store, given.mode)))
        return
    text = PAGE.read_text()
    head, _, rest = text.partition(BEGIN)
    tail = rest.partition(END)[2]
    PAGE.write_text(f"{head}{BEGIN}\n{measured(given.spans or [20_000, 60_000])}{END}{tail}")
    print(f"written to {PAGE.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
