"""How captures look on a terminal: a card of a few lines in a list, a page when one is shown in full."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.rule import Rule
from rich.table import Table
from rich.text import Text

from evalforge.cli.screen import (
    SEVERITY_STYLE,
    counted,
    full_moment,
    joined_counts,
    json_lines,
    json_view,
    moment,
    safe,
    text,
)
from evalforge.core.capture import FailureCapture
from evalforge.core.ports import StoredCapture
from evalforge.core.signals import Signal
from evalforge.core.window import datetime_of_ms

_SHOWN_SIGNALS = 20
_SHOWN_OCCURRENCES = 10
_COMPARISONS = {"<": "<", ">=": "≥"}


def reason(signal: Signal) -> str:
    """Why, in one line: `metadata.quality_score = 0.21 < 0.5`."""
    place, observed = safe(signal.place, 120), _scalar(signal.observed)
    if signal.comparison in _COMPARISONS:
        return f"{place} = {observed} {_COMPARISONS[signal.comparison]} {_scalar(signal.threshold)}"
    if signal.comparison == "assessment is":
        return f"{place} was assessed as {_scalar(signal.threshold)}" + (
            f" (value {observed})" if signal.observed is not None else ""
        )
    if signal.comparison == "status is":
        return f"the span ended with {place} {observed}"
    return f"{place} is {observed}"


def _scalar(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) and math.isfinite(value):
        return f"{value:.6g}"
    return safe(value, 80)


def print_cards(out: Console, captures: Iterable[FailureCapture]) -> None:
    """Writes each capture in three lines, with an empty line between two: what and where, why, and the link."""
    for number, capture in enumerate(captures):
        if number:
            out.print()
        print_card(out, capture)


def print_card(out: Console, capture: FailureCapture) -> None:
    """Writes one capture in three lines. The link has a line of its own, so that it can be copied whole."""
    head = Table.grid(padding=(0, 2, 0, 0), expand=True)
    head.add_column(width=10, no_wrap=True)
    head.add_column(width=19, no_wrap=True)
    head.add_column(ratio=1, no_wrap=True, overflow="ellipsis")
    head.add_column(justify="right", no_wrap=True)
    style = SEVERITY_STYLE[capture.severity.label]
    head.add_row(
        text(f"● {capture.severity.label}", style),
        text(capture.failure_type.value, "bold"),
        text(" · ".join(part for part in (application(capture), capture.first_known("env")) if part), limit=120),
        text(moment(datetime_of_ms(capture.started_ns // 1_000_000)), "dim"),
    )
    out.print(head)
    why = reason(capture.signals[0])
    if capture.recurrence_count > 1:
        why += f" ({capture.recurrence_count:,} failing spans)"
    out.print(Padding(text(why, limit=300), (0, 0, 0, 2), expand=False))
    link = capture.to_document()["datadog_url"]
    if link:
        _print_link(out, link)
    else:
        out.print(text(f"  trace {capture.trace_id}: no link, its id is not plain", "dim"))


def _print_link(out: Console, link: str) -> None:
    """Writes a link that the terminal may wrap and nobody cuts."""
    out.print(text(f"  {link}", "blue", link=link), soft_wrap=True)


def application(capture: FailureCapture) -> str:
    """The LLM application of a capture, or the service where no application is known."""
    return capture.first_known("ml_app") or capture.first_known("service_name") or "unnamed"


def print_page(out: Console, stored: StoredCapture) -> None:
    """Writes one capture in full: facts, links, signals, occurrences, what was removed, the sanitized payload."""
    capture, document = stored.capture, stored.capture.to_document()
    style = SEVERITY_STYLE[capture.severity.label]
    out.print(Text.assemble((f" {capture.severity.label} ", f"reverse {style}"), " ", (capture.failure_type.value, "bold")))
    out.print()
    out.print(_facts(stored, document))
    links = [document[name] for name in ("datadog_url", "span_url") if document[name]]
    if links:
        _print_section(out, f"In Datadog, until {full_moment(document['link_expires_at'])}")
        for link in links:
            _print_link(out, link)
    for title, shown in (
        ("Why", _signals(capture)),
        ("Where", _occurrences(capture)),
        *([("What the errors said", _error_details(capture))] if capture.error_details else []),
        ("Removed", text(joined_counts(capture.redactions) or "nothing had to be removed")),
        ("Payload, sanitized", json_view(json_lines(document["trace_payload"]))),
    ):
        _print_section(out, title)
        out.print(shown)


def _print_section(out: Console, title: str) -> None:
    out.print()
    out.print(section(title))


def section(title: str) -> RenderableType:
    """A line with a title."""
    return Rule(Text(title, style="bold"), align="left", style="dim")


def facts_grid(rows: Iterable[tuple[str, RenderableType | str | None]]) -> Table:
    """Names and values in two columns; rows without a value are left out."""
    grid = Table.grid(padding=(0, 2, 0, 0))
    grid.add_column(no_wrap=True, style="dim")
    grid.add_column(overflow="fold")
    for name, value in rows:
        if value is not None and value != "":
            grid.add_row(text(name), text(value) if isinstance(value, str) else value)
    return grid


def _facts(stored: StoredCapture, document: Mapping[str, Any]) -> Table:
    capture = stored.capture
    floor = " or more" if capture.recurrence_is_floor else ""
    model = " ".join(part for part in (document["model_provider"], document["model_name"]) if part)
    return facts_grid(
        [
            ("trace", capture.trace_id if capture.trace_id_kind == "llm_obs" else f"{capture.trace_id} (APM)"),
            ("application", " · ".join(p for p in (document["ml_app"], document["service_name"], document["env"]) if p)),
            ("model", model),
            ("began", full_moment(document["started_at"])),
            ("failing spans", f"{capture.recurrence_count}{floor}"),
            ("status code", None if capture.status_code is None else str(capture.status_code)),
            ("quality score", None if capture.quality_score is None else f"{capture.quality_score:.6g}"),
            ("user", document["user_hash"]),
            ("signature", document["signature"]),
            ("captured", full_moment(document["fetched_at"])),
            ("changed", full_moment(stored.updated_at)),
            ("kept until", full_moment(document["expires_at"])),
            ("processed", "yes" if stored.processed else "no"),
        ]
    )


def _signals(capture: FailureCapture) -> RenderableType:
    return _with_rest(signals_grid(capture.signals[:_SHOWN_SIGNALS]), len(capture.signals) - _SHOWN_SIGNALS, "signal")


def signals_grid(signals: Iterable[Signal]) -> Table:
    """How bad, what and why, in three columns."""
    grid = Table.grid(padding=(0, 2, 0, 0))
    for is_whole in (True, True, False):
        grid.add_column(overflow="fold", no_wrap=is_whole)
    for signal in signals:
        style = SEVERITY_STYLE[signal.severity.label]
        grid.add_row(text(f"● {signal.severity.label}", style), text(signal.type.value), text(reason(signal)))
    return grid


def _occurrences(capture: FailureCapture) -> RenderableType:
    grid = Table.grid(padding=(0, 2, 0, 0))
    for justify in ("left", "left", "right", "left"):
        grid.add_column(overflow="fold", justify=justify)
    for one in capture.occurrences[:_SHOWN_OCCURRENCES]:
        cause = f"{safe(one.name, 80)}" + (f" ({safe(one.error_type, 80)})" if one.error_type else "")
        grid.add_row(
            text(one.span_kind, "dim"), text(cause), text(_duration(one.duration_ns), "dim"), text(one.span_id, "dim")
        )
    return _with_rest(grid, len(capture.occurrences) - _SHOWN_OCCURRENCES, "span")


def _error_details(capture: FailureCapture) -> RenderableType:
    grid = Table.grid(padding=(0, 2, 0, 0))
    grid.add_column(overflow="fold", no_wrap=True)
    grid.add_column(overflow="fold")
    for one in capture.error_details[:_SHOWN_OCCURRENCES]:
        cause = " ".join(str(part) for part in (one.error_type, one.status_code) if part is not None)
        grid.add_row(text(one.span_id, "dim"), text(": ".join(part for part in (cause, one.message) if part)))
    return _with_rest(grid, len(capture.error_details) - _SHOWN_OCCURRENCES, "error")


def _with_rest(grid: Table, rest: int, noun: str) -> RenderableType:
    return Group(grid, text(f"and {counted(rest, 'more ' + noun)}", "dim")) if rest > 0 else grid


def _duration(duration_ns: int) -> str:
    return f"{duration_ns / 1e9:,.2f} s" if duration_ns >= 1_000_000_000 else f"{duration_ns / 1e6:,.0f} ms"
