"""Measures the sandbox: what a search page of 1000 spans costs it, beside what reading that page costs the client.

    python -m bench.sandbox                   writes its section of docs/benchmarks.md
    python -m bench.sandbox --spans 20000     another number of spans in memory

Server and client run in turn in one process on the same pages, without a socket between them, so that the two are comparable
on any machine. The spans are the samples' own, again and again, with other ids and times.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import orjson

from evalforge.core.signals import Thresholds, find_signals
from evalforge.core.span import Span
from evalforge.sandbox.memory import Store
from evalforge.sandbox.requests import read_body
from evalforge.sandbox.samples import generate
from evalforge.sandbox.search import response_body, search
from evalforge.sources.datadog.query import Scope, failure_query, scope_query
from evalforge.sources.datadog.spans import parse_llm_obs

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "benchmarks.md"
BEGIN, END = "<!-- sandbox measured -->", "<!-- end sandbox measured -->"
END_OF_WINDOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
PAGE_SPANS = 1000
MOST_PAGES = 30
HEALTHY_PER_FAILING = 4
"""So that one span in about 25 fails: the samples have one in five or six."""


@dataclass(frozen=True, slots=True)
class Measured:
    """Milliseconds of each page, asked for and read."""

    spans: int
    asking_ms: list[float]
    decoding_ms: list[float]
    reading_ms: list[float]


def filled(count: int) -> Store:
    """A store with so many spans, spread over a day."""
    store = Store()
    items = [item["attributes"] for item in generate(end=END_OF_WINDOW).llm_obs]
    healthy = [span for item in items if not _fails(span := item)]
    failing = [span for item in items if _fails(span := item)]
    wheel = [*healthy * HEALTHY_PER_FAILING, *failing]
    last_ns = int(END_OF_WINDOW.timestamp()) * 10**9
    step_ns = 86_000 * 10**9 // count
    store.add_llm_obs(
        {**wheel[number * 7919 % len(wheel)], "span_id": str(number), "start_ns": last_ns - number * step_ns}
        for number in range(count)
    )
    return store


def _fails(item: object) -> bool:
    span = parse_llm_obs({"attributes": item})
    return isinstance(span, Span) and bool(find_signals(span, Thresholds()))


def read_all(store: Store, query: str) -> Measured:
    """Ask for page after page, and read each as the client does: decode, parse, judge."""
    now_ms = int(END_OF_WINDOW.timestamp() * 1000)
    asking, decoding, reading = [], [], []
    cursor, count = None, 0
    for _ in range(MOST_PAGES):
        page_wanted = {"limit": PAGE_SPANS, **({"cursor": cursor} if cursor else {})}
        filters = {"from": "now-1d", "to": "now", "query": query}
        document = {"data": {"type": "spans", "attributes": {"filter": filters, "page": page_wanted, "sort": "timestamp"}}}
        body = orjson.dumps(document)
        began = time.perf_counter()
        request = read_body("llm_obs", body, now_ms)
        page = search(store, request)
        answer = response_body(page, request, time.monotonic(), "http://127.0.0.1:8126")
        asked = time.perf_counter()
        items = orjson.loads(answer)["data"]
        decoded = time.perf_counter()
        for item in items:
            span = parse_llm_obs(item)
            if isinstance(span, Span):
                find_signals(span, Thresholds())
        done = time.perf_counter()
        count += len(items)
        if len(items) == PAGE_SPANS:  # the last page is a short one, and would flatter
            asking.append((asked - began) * 1000)
            decoding.append((decoded - asked) * 1000)
            reading.append((done - asked) * 1000)
        if (cursor := page.after) is None:
            break
    return Measured(count, asking, decoding, reading)


def measured(count: int) -> str:
    """Every figure, as the Markdown that goes between the marks."""
    began = time.perf_counter()
    store = filled(count)
    loading_s = time.perf_counter() - began
    lines = [
        f"{datetime.now(UTC):%Y-%m-%d}, {os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}; "
        f"{count:,} spans in memory, loaded in {loading_s:.1f} s; medians of full pages of {PAGE_SPANS:,} spans.",
        "",
        "| query | pages | the sandbox answers, ms | orjson decodes, ms | the client reads (decode, parse, judge), ms "
        "| answering ÷ reading |",
        "| --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    for label, query in (
        ("scan: the scope only", scope_query("llm_obs", Scope())),
        ("query: every failure of the signal table", failure_query("llm_obs", Scope(), Thresholds(), ())),
    ):
        read_all(store, query)  # the first look sorts
        found = read_all(store, query)
        asking, decoding, reading = map(statistics.median, (found.asking_ms, found.decoding_ms, found.reading_ms))
        lines.append(
            f"| {label} | {len(found.asking_ms)} | {asking:.1f} | {decoding:.1f} | {reading:.1f} | {asking / reading:.2f} |"
        )
    return "\n".join(lines) + "\n"


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m bench.sandbox")
    parser.add_argument("--spans", type=int, default=100_000, help="spans in memory")
    table = measured(parser.parse_args().spans)
    print(table)
    text = PAGE.read_text()
    if BEGIN not in text:
        text = f"{text.rstrip()}\n\n## The sandbox\n\n{BEGIN}\n{END}\n"
    head, _, rest = text.partition(BEGIN)
    PAGE.write_text(f"{head}{BEGIN}\n{table}{END}{rest.partition(END)[2]}")
    print(f"written to {PAGE.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
