"""Charts as SVG: drawn here, coloured by the style sheet, each with its figures as a table beside it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime

from markupsafe import Markup

WIDTH, HEIGHT = 720, 180
_LEFT, _BOTTOM = 36, 22
_RECTANGLE = Markup(
    '<rect class="{}" x="{:.1f}" y="{:.1f}" width="{:.1f}" height="{:.1f}"><title>{}: {:,} from {}</title></rect>'
)


def stacked(series: Mapping[str, Sequence[int]], edges: Sequence[datetime], label: str) -> Markup:
    """Counts over time, one bar for each part of it, stacked by name; `label` is what it shows, in words."""
    totals = [sum(parts) for parts in zip(*series.values(), strict=True)] if series else []
    most = _ceiling(max(totals, default=0))
    width = (WIDTH - _LEFT) / max(1, len(totals))
    shapes = [_grid(most)]
    for at in range(len(totals)):
        y = float(HEIGHT - _BOTTOM)
        for name, parts in series.items():
            count = parts[at]
            if not count:
                continue
            height = count / most * (HEIGHT - _BOTTOM - 8)
            y -= height
            shapes.append(
                _RECTANGLE.format(
                    f"fill-{name}", _LEFT + at * width + 1, y, max(1.0, width - 2), height,
                    name.replace("_", " "), count, _told(edges[at]),
                )
            )  # fmt: skip
    for at in range(0, len(totals), max(1, len(totals) // 6)):
        shapes.append(
            Markup('<text class="axis" x="{:.1f}" y="{}">{}</text>').format(
                _LEFT + at * width + 1, HEIGHT - 6, edges[at].strftime("%m-%d" if _is_long(edges) else "%H:%M")
            )
        )
    return Markup('<svg class="chart" viewBox="0 0 {} {}" role="img" aria-label="{}">{}</svg>').format(
        WIDTH, HEIGHT, label, Markup("").join(shapes)
    )


def _grid(most: int) -> Markup:
    lines = []
    for part in (0.5, 1.0):
        y = HEIGHT - _BOTTOM - part * (HEIGHT - _BOTTOM - 8)
        lines.append(Markup('<line class="grid" x1="{}" x2="{}" y1="{:.1f}" y2="{:.1f}"/>').format(_LEFT, WIDTH, y, y))
        lines.append(Markup('<text class="axis end" x="{}" y="{:.1f}">{:g}</text>').format(_LEFT - 6, y + 4, most * part))
    return Markup("").join(lines)


def _ceiling(most: int) -> int:
    """The least round number that is not less."""
    step = 1
    while True:
        for factor in (2, 4, 10):
            if most <= factor * step:
                return factor * step
        step *= 10


def _is_long(edges: Sequence[datetime]) -> bool:
    return (edges[-1] - edges[0]).total_seconds() > 2 * 86_400


def _told(edge: datetime) -> str:
    return edge.strftime("%Y-%m-%d %H:%M UTC")


def sparkline(counts: Sequence[int], kind: str) -> Markup:
    """Counts as a row of small bars."""
    most = max(counts, default=0) or 1
    bars = Markup("").join(
        Markup('<rect class="{}" x="{}" y="{:.1f}" width="5" height="{:.1f}"/>').format(
            f"fill-{kind}" if count else "fill-none", at * 6, 20 - height, height
        )
        for at, count in enumerate(counts)
        for height in (max(1.5, 19 * count / most),)
    )
    told = f"from oldest to newest: {', '.join(map(str, counts))}"
    return Markup('<svg class="spark" viewBox="0 0 {} 20" role="img" aria-label="{}">{}</svg>').format(
        max(6, len(counts) * 6), told, bars
    )


def bar(value: float, most: float, kind: str) -> Markup:
    """One bar of a list, as long as its share of the greatest."""
    share = 0.0 if most <= 0 else min(1.0, max(0.0, value / most))
    return Markup(
        '<svg class="bar" viewBox="0 0 100 8" preserveAspectRatio="none" aria-hidden="true">'
        '<rect class="fill-track" width="100" height="8"/><rect class="{}" width="{:.1f}" height="8"/></svg>'
    ).format(f"fill-{kind}", 100 * share)


def span_bar(start: float, length: float, whole: float, kind: str) -> Markup:
    """When a span was, in the time of all of them."""
    whole = whole or 1.0
    return Markup(
        '<svg class="bar" viewBox="0 0 100 8" preserveAspectRatio="none" aria-hidden="true">'
        '<rect class="fill-track" width="100" height="8"/><rect class="{}" x="{:.2f}" width="{:.2f}" height="8"/></svg>'
    ).format(f"fill-{kind}", min(99.2, 100 * start / whole), max(0.8, min(100.0, 100 * length / whole)))
