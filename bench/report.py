"""The rows as the Markdown of docs/benchmarks.md: targets, tables, fits. It measures nothing."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from math import ceil

from bench.fit import fitted
from bench.plan import CHANGED, EMULATOR, FIRST, LATENCY_MS, SECOND, SQLITE, Key, Row
from bench.startup import BASE, Start
from docs import prices
from evalforge.sources.datadog.paging import TARGET_PAGE_BYTES

_STORES = {SQLITE: "SQLite", EMULATOR: "the Firestore emulator"}
_MILLION = 1_000_000


@dataclass(frozen=True, slots=True)
class Measured:
    """Everything that was measured in one run. `counted` is by turn, `speed` in MB/s, `starts` by what was started."""

    rows: Mapping[Key, Row]
    counted_spans: int
    counted: Mapping[str, Mapping[str, int]]
    speed: Mapping[str, float]
    starts: Mapping[str, Start]

    def row(self, name: str, mode: str, store: str = "", turn: str = "", **window: int) -> Row | None:
        """The row of the largest window that has one, of spans of 4 kB without latency unless `window` says otherwise."""
        asked = {"span_bytes": 4_000, "latency_ms": 0} | window
        found = [
            row
            for row in self.rows.values()
            if (row.key.name, row.key.mode, row.key.store, row.key.turn) == (name, mode, store, turn)
        ]
        found = [row for row in found if all(getattr(row.key, part) == value for part, value in asked.items())]
        return max(found, key=lambda row: row.key.spans, default=None)

    def floor_of(self, row: Row) -> Row | None:
        """The floor that reads what `row` reads."""
        key = row.key
        mode = "scan" if key.mode == "scan" else "query"
        return self.rows.get(Key(key.spans, key.span_bytes, key.latency_ms, "floor", mode))


def markdown(measured: Measured, head: str) -> str:
    """What goes between the marks."""
    return "\n".join(
        [
            head,
            "",
            "| figure | to reach | measured |",
            "| --- | ---: | ---: |",
            *(f"| {figure} | {limit} | {value} |" for figure, limit, value in _targets(measured)),
            "",
            "![Wall time by spans in the window](plots/wall-time.svg)",
            "![Peak memory by spans in the window](plots/memory.svg)",
            "![Wall time beside others](plots/peers.svg)",
            "",
            "| spans | case | wall s | × floor | CPU s | peak MB | requests | created / updated / unchanged | server |",
            "| ---: | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
            *(_table_row(measured, row) for row in sorted(measured.rows.values(), key=_order)),
            "",
            "`server` is the share of the wall time that the bench server spent on making pages.",
            "",
            *_firestore(measured),
            "",
            *_starts(measured.starts),
        ]
    )


def label(key: Key) -> str:
    """A row's case in words."""
    what = "every span" if key.mode == "scan" else "the failing spans"
    if key.name == "floor":
        case = f"floor: httpx and orjson, {what}"
    elif key.name == "ours":
        case = f"EvalForge, {key.mode}, to {_STORES[key.store]}, {key.turn}"
    elif key.name == "dlt":
        case = f"dlt, {what}, to {_STORES[key.store]}"
    else:
        case = f"{key.name}, {what}"
    apart = [f"{key.span_bytes // 1000} KB each"] * (key.span_bytes != 4_000) + [f"{key.latency_ms} ms"] * bool(
        key.latency_ms
    )
    return ", ".join([case, *apart])


def _order(row: Row) -> tuple[object, ...]:
    key = row.key
    return key.span_bytes, key.latency_ms, key.spans, key.name != "floor", key.name == "ours", key.mode, key.store


def _table_row(measured: Measured, row: Row) -> str:
    floor = measured.floor_of(row)
    times = f"{row.wall_s / floor.wall_s:.2f}" if floor else "-"
    captures = " / ".join(f"{row.count(name):,}" for name in ("created", "updated", "unchanged"))
    return (
        f"| {row.key.spans:,} | {label(row.key)} | {row.wall_s:.2f} | {times} | {row.cpu_s:.2f} | {row.peak_mb:.0f} "
        f"| {row.count('requests') or '-'} | {captures if row.key.name == 'ours' else '-'} | {row.server_share:.1%} |"
    )


# -- targets ----------------------------------------------------------------------------------------------------------


def _targets(measured: Measured) -> Iterator[tuple[str, str, str]]:
    for spans in sorted({row.key.spans for row in measured.rows.values()}):
        ours, dlt = (
            measured.row(*case, spans=spans) for case in (("ours", "query", EMULATOR, FIRST), ("dlt", "query", EMULATOR))
        )
        if ours and dlt:
            yield f"query, {spans:,} spans, to the emulator: wall time ÷ dlt's", "≤ 1.3", f"{ours.wall_s / dlt.wall_s:.2f}"
    auto = measured.row("ours", "auto", SQLITE, FIRST)
    if auto:
        least = ceil(auto.key.spans / 20 * auto.key.span_bytes / TARGET_PAGE_BYTES)
        yield f"auto, {auto.key.spans:,} spans: requests, pages of 6 MB", f"≤ {least} + 4", str(auto.count("requests"))
    scan = measured.row("ours", "scan", SQLITE, FIRST)
    if scan and (floor := measured.floor_of(scan)):
        yield f"scan, {scan.key.spans:,} spans: spans/s ÷ the floor's", "≥ 0.7", f"{floor.wall_s / scan.wall_s:.2f}"
    second = measured.row("ours", "query", EMULATOR, SECOND)
    first = measured.row("ours", "query", EMULATOR, FIRST, spans=second.key.spans) if second else None
    if first and second:
        yield "query, unchanged second run ÷ first run", "≤ 0.3", f"{second.wall_s / first.wall_s:.2f}"
    if counted := measured.counted.get(SECOND):
        captures = counted["unchanged"]
        yield "auto, unchanged second run: captures written", "0", str(counted["created"] + counted["updated"])
        yield "auto, unchanged second run: documents read per capture", "≤ 1", f"{counted['reads'] / captures:.2f}"
    peaks = [row for row in measured.rows.values() if row.key.name == "ours"]
    for what, chosen in (
        ("4 kB each", [row for row in peaks if row.key.span_bytes == 4_000]),
        ("100 KB each", [row for row in peaks if row.key.span_bytes != 4_000]),
    ):
        if chosen:
            low, high = min(row.peak_mb for row in chosen), max(row.peak_mb for row in chosen)
            yield f"peak memory over all runs, spans of {what}, MB", "≤ 150", f"{low:.0f} to {high:.0f}"
    late = measured.row("ours", "scan", SQLITE, FIRST, latency_ms=LATENCY_MS)
    if late and (floor := measured.floor_of(late)):
        yield f"scan at {LATENCY_MS} ms: one cursor's wall time ÷ ours", "≥ 3", f"{floor.wall_s / late.wall_s:.2f}"
    yield (
        "sanitizing ÷ `orjson.loads`, MB/s",
        "≥ 0.06",
        f"{measured.speed['sanitize_mb_s'] / measured.speed['decode_mb_s']:.4f}",
    )
    base = measured.starts[BASE]
    for name, limit in (("`evalforge --help`", "≤ 0.8"), ("the service, until `GET /health` answers", "≤ 4")):
        yield f"{name} ÷ {_code(BASE)}", limit, f"{measured.starts[name].wall_s / base.wall_s:.2f}"
    shares = [row.server_share for row in peaks]
    if shares:
        yield "the bench server's own time ÷ ours, at most", "≤ 5 %", f"{max(shares):.1%}"
    yield from _slopes(measured)


def _slopes(measured: Measured) -> Iterator[tuple[str, str, str]]:
    for mode, store, per in (("query", EMULATOR, 20), ("scan", SQLITE, 1)):
        fit = fitted([(spans / per, wall_s) for spans, wall_s in points(measured.rows.values(), mode, store)])
        if fit is not None:
            what = "span" if per == 1 else "failing span"
            value = f"{fit.slope * 1e6:.0f} µs per {what} + {fit.fixed:.2f} s; exponent {fit.exponent:.2f}"
            yield f"{mode}, to {_STORES[store]}: wall time by {what}s, fitted", "exponent ≤ 1", value


def points(rows: Iterable[Row], mode: str, store: str) -> list[tuple[int, float]]:
    """Spans in the window and wall seconds of our first runs in that mode, spans of 4 kB without latency."""
    wanted = ("ours", mode, store, FIRST, 4_000, 0)
    chosen = [
        row
        for row in rows
        if (row.key.name, row.key.mode, row.key.store, row.key.turn, row.key.span_bytes, row.key.latency_ms) == wanted
    ]
    return sorted((row.key.spans, row.wall_s) for row in chosen)


# -- the rest ---------------------------------------------------------------------------------------------------------


def _firestore(measured: Measured) -> Iterator[str]:
    yield f"Documents at the emulator's door, auto, {measured.counted_spans:,} spans, and their price (docs/operations.md):"
    yield ""
    yield "| run | captures | documents read | written | requests to Datadog | USD per million captures |"
    yield "| --- | ---: | ---: | ---: | ---: | ---: |"
    for turn in (FIRST, SECOND, CHANGED):
        counted = measured.counted[turn]
        captures = max(1, counted["created"] + counted["updated"] + counted["unchanged"])
        dollars = (counted["reads"] * prices.READ_USD + counted["writes"] * prices.WRITE_USD) / captures * _MILLION
        documents = f"{counted['reads']:,} | {counted['writes']:,}"
        yield f"| {turn} | {captures:,} | {documents} | {counted['requests']} | {dollars:.2f} |"
    speed = measured.speed
    yield ""
    yield (
        f"On failing spans of 4 kB, one core: decoding {speed['decode_mb_s']:.0f} MB/s, parsing and judging "
        f"{speed['judge_mb_s']:.0f} MB/s, sanitizing {speed['sanitize_mb_s']:.1f} MB/s."
    )


def _starts(starts: Mapping[str, Start]) -> Iterator[str]:
    yield "| start | wall s | CPU s |"
    yield "| --- | ---: | ---: |"
    for name, start in starts.items():
        yield f"| {_code(name)} | {start.wall_s:.2f} | {start.cpu_s:.2f} |"


def _code(name: str) -> str:
    return f"`{name}`" if name == BASE else name
