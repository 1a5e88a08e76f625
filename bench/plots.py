"""The plots of docs/plots/: readable on light and on dark, the same bytes for the same figures."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import matplotlib as mpl

from bench.fit import fitted
from bench.plan import EMULATOR, FIRST, SQLITE, Key, Row
from bench.report import points

mpl.use("svg")
from matplotlib import pyplot

_GREY = "#808080"
_COLOURS = {"query": "#1f77b4", "auto": "#2ca02c", "scan": "#d9730d"}
_STYLE = {
    "svg.hashsalt": "evalforge",
    "svg.fonttype": "none",
    "font.family": "sans-serif",
    "font.size": 9,
    "text.color": _GREY,
    "axes.edgecolor": _GREY,
    "axes.labelcolor": _GREY,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.color": _GREY,
    "ytick.color": _GREY,
    "legend.frameon": False,
}


def draw(rows: Mapping[Key, Row], folder: Path) -> None:
    """Writes every plot into `folder`."""
    folder.mkdir(exist_ok=True)
    with mpl.rc_context(_STYLE):
        _wall_time(rows.values(), folder / "wall-time.svg")
        _memory(rows.values(), folder / "memory.svg")
        _peers(rows.values(), folder / "peers.svg")


def _wall_time(rows: Iterable[Row], path: Path) -> None:
    figure, axes = pyplot.subplots(figsize=(6, 3))
    for mode, store, where in (("query", EMULATOR, "to the emulator"), ("scan", SQLITE, "to SQLite")):
        found = points(rows, mode, store)
        if not found:
            continue
        sizes, walls = zip(*found, strict=True)
        axes.plot(sizes, walls, "o", color=_COLOURS[mode], label=f"{mode}, {where}")
        fit = fitted(found)
        if fit is not None:
            line = [fit.fixed + fit.slope * size for size in sizes]
            axes.plot(
                sizes, line, "-", color=_COLOURS[mode], linewidth=1, label=f"{fit.slope * 1e6:.0f} µs per span in the window"
            )
    axes.set(xscale="log", yscale="log", xlabel="spans in the window", ylabel="first run, wall s")
    axes.legend()
    _save(figure, path)


def _memory(rows: Iterable[Row], path: Path) -> None:
    figure, axes = pyplot.subplots(figsize=(6, 3))
    for mode, store in (("query", EMULATOR), ("auto", SQLITE), ("scan", SQLITE)):
        of_mode = [row for row in rows if (row.key.mode, row.key.store, row.key.turn) == (mode, store, FIRST)]
        of_mode = [row for row in of_mode if not row.key.latency_ms]
        for size, mark in ((4_000, "o-"), (100_000, "s")):
            found = sorted((row.key.spans, row.peak_mb) for row in of_mode if row.key.span_bytes == size)
            if found:
                spans, peaks = zip(*found, strict=True)
                axes.plot(spans, peaks, mark, color=_COLOURS[mode], label=f"{mode}, {size // 1000} KB each")
    axes.axhline(150, color=_GREY, linewidth=1, linestyle=":")
    axes.set(xscale="log", xlabel="spans in the window", ylabel="peak MB")
    axes.set_ylim(bottom=0)
    axes.legend()
    _save(figure, path)


def _peers(rows: Iterable[Row], path: Path) -> None:
    of_name = [row for row in rows if row.key.name == "dlt" and row.key.span_bytes == 4_000 and not row.key.latency_ms]
    spans = max((row.key.spans for row in of_name if row.key.spans < 1_000_000), default=0)
    names = {
        ("floor", ""): "httpx + orjson, thrown away",
        ("datadog-api-client", ""): "datadog-api-client, thrown away",
        ("dlt", EMULATOR): "dlt, raw, to the emulator",
        ("ours", EMULATOR): "EvalForge, to the emulator",
        ("ours", SQLITE): "EvalForge, to SQLite",
    }
    bars = {}
    for row in rows:
        key = row.key
        if (key.spans, key.span_bytes, key.latency_ms, key.mode) == (spans, 4_000, 0, "query") and key.turn in ("", FIRST):
            bars[names[key.name, key.store]] = row.wall_s
    base = bars.get(names["dlt", EMULATOR])
    if base is None:
        return
    figure, axes = pyplot.subplots(figsize=(6, 2.2))
    ordered = [name for name in reversed(names.values()) if name in bars]
    drawn = axes.barh(ordered, [bars[name] / base for name in ordered], color=_COLOURS["query"])
    axes.bar_label(drawn, fmt="%.2f", color=_GREY, padding=3)
    axes.set(xlabel=f"failing of {spans:,} spans, first run: wall time ÷ dlt's")
    _save(figure, path)


def _save(figure: Any, path: Path) -> None:
    figure.tight_layout()
    figure.savefig(path, transparent=True, bbox_inches="tight", metadata={"Date": None})
    pyplot.close(figure)
