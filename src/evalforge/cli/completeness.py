"""`evalforge audit --completeness`: what would the query have missed?"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from typing import TYPE_CHECKING, Any

import click
from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from evalforge.cli import QUERY_MISSED
from evalforge.cli.cards import facts_grid, section
from evalforge.cli.ingest import window_of
from evalforge.cli.options import run_async, so_long_ago
from evalforge.cli.screen import console, counted, full_moment, is_terminal, print_json, progress_columns, safe, text
from evalforge.core.window import Window, iso_ms
from evalforge.errors import RequestError, SourceUnavailableError

if TYPE_CHECKING:
    from evalforge.completeness import CompletenessReport
    from evalforge.config import Settings

DEFAULT_WINDOW = "1h"
SHOWN_CLAUSES = 40

_WHY = {
    "<": "{kind} below the threshold",
    ">=": "{kind} at or above the threshold",
    "is": "a failing value ({kind})",
    "assessment is": "assessed as a failure (value: {kind})",
    "status is": "the span's status",
}


def audited_window(length: str | None, began: str | None, ended: str | None, *, now: datetime) -> Window:
    """The window that --window, or --from and --to, spell; the last hour when nothing is given.

    Raises:
        RequestError: they are at odds with each other or with the present, or span more than 15 days.
    """
    if length is not None and (began is not None or ended is not None):
        raise RequestError("--window: cannot go with --from or --to; give one or the other", field="--window")
    if began is None and ended is None:
        so_long_ago(length or DEFAULT_WINDOW, "--window", now)
        began = length or DEFAULT_WINDOW
    window = window_of(began, ended, has_lookback=False, now=now)
    assert window is not None  # it is None only when neither is given
    return window


def audit_window(settings: Settings, window: Window, *, as_json: bool) -> int:
    """Audits the window, tells what came of it, and gives the exit code."""
    from evalforge import bootstrap
    from evalforge.completeness import CompletenessReport
    from evalforge.runs import default_holder

    report = CompletenessReport(window)
    watching = is_terminal() and not as_json
    try:
        with _progress(watching) as on_progress:
            run_async(
                bootstrap.audit_completeness_once(settings, report, holder=default_holder("audit"), on_progress=on_progress)
            )
    except BaseException:
        if report.sources:
            _tell(report, as_json=as_json)
            if report.position_ms is not None:
                window = Window(report.position_ms, window.to_ms)
            click.echo(
                "evalforge: to go on from here: evalforge audit --completeness "
                f"--from {iso_ms(window.from_ms)} --to {iso_ms(window.to_ms)}",
                err=True,
            )
        raise
    _tell(report, as_json=as_json)
    if report.missed:
        return QUERY_MISSED
    return SourceUnavailableError.exit_code if report.is_partial else 0


def _tell(report: CompletenessReport, *, as_json: bool) -> None:
    if as_json:
        print_json(report.document(), indent=True, sort_keys=False)
    else:
        console().print(completeness_view(report.document()))


@contextmanager
def _progress(watching: bool) -> Iterator[Callable[[CompletenessReport], None]]:
    """A line on the terminal that follows the audit."""
    if not watching:
        yield lambda report: None
        return
    from rich.progress import Progress, TextColumn

    columns = (*progress_columns(), TextColumn("{task.fields[seen]}", markup=False, style="dim"))
    with Progress(*columns, console=console(err=True), transient=True) as bars:
        task = bars.add_task("comparing", total=1.0, seen="")

        def follow(report: CompletenessReport) -> None:
            read = sum(source.read for source in report.sources)
            failing = sum(source.failing for source in report.sources)
            done_ms = (report.position_ms or report.window.from_ms) - report.window.from_ms
            seen = f"{counted(read, 'span')} · {failing:,} failing · {report.missed:,} missed"
            bars.update(task, completed=done_ms / report.window.duration_ms, seen=seen)

        yield follow


def completeness_view(report: Mapping[str, Any]) -> Group:
    """The report as a few lines, then what the query missed, clause by clause; fits 60 columns and more."""
    began, ended = (datetime.fromisoformat(report["window"][edge]) for edge in ("from", "to"))
    hours = (ended - began).total_seconds() / 3600
    captures = report["captures"]
    stored = [f"{captures[name]:,} {name}" for name in ("created", "updated", "unchanged")]
    stored += [f"{captures[name]:,} {name.replace('_', ' ')}" for name in ("refused", "kept_out") if captures[name]]
    rows: list[tuple[str, RenderableType | str | None]] = [
        ("window", f"{full_moment(began)[:-7]} to {full_moment(ended)[:-7]} UTC ({hours:,.4g} h)"),
        *((source["name"], _source_line(source)) for source in report["sources"]),
        ("captured", ", ".join(stored) if report["missed"] else None),
        ("rejected", f"{counted(report['rejected'], 'dead letter')}" if report["rejected"] else None),
        ("learned", f"{counted(len(report['learned']), 'clause')} more in later queries" if report["learned"] else None),
        ("outcome", _outcome(report)),
        *(("warning", text(warning, "yellow")) for source in report["sources"] for warning in source["warnings"]),
    ]
    parts: list[RenderableType] = [facts_grid(rows)]
    if report["clauses"]:
        parts += [Text(), section("What the query missed")]
        parts += [_clause(clause) for clause in report["clauses"][:SHOWN_CLAUSES]]
        if len(report["clauses"]) > SHOWN_CLAUSES:
            parts.append(text(f"{len(report['clauses']) - SHOWN_CLAUSES:,} more; --json tells all", "dim"))
    return Group(*parts)


def _source_line(source: Mapping[str, Any]) -> str:
    if source["skipped"]:
        return f"left out: {safe(source['skipped'], 200)}"
    parts = [f"{counted(source['read'], 'span')} read", f"{source['failing']:,} failing"]
    if source["failing"]:
        parts.append(f"{source['found']:,} found by the query, {source['missed']:,} missed")
    if source["arrived_meanwhile"]:
        parts.append(f"{source['arrived_meanwhile']:,} more arrived meanwhile")
    if source["query_replaced"]:
        parts.append("a run scans: no query carries all that is known, or Datadog refuses it")
    if source["partial"]:
        parts.append("answers stayed partial")
    parts.append(counted(source["request_count"], "request"))
    return ", ".join(parts)


def _clause(clause: Mapping[str, Any]) -> Group:
    head = Table.grid(padding=(0, 2, 0, 0), expand=True)
    head.add_column(ratio=1, overflow="fold")
    head.add_column(justify="right", no_wrap=True)
    traces = counted(clause["traces"], "trace") + (" or more" if clause["traces_are_floor"] else "")
    head.add_row(text(f"● {clause['place']}", "bold", limit=250), text(f"{counted(clause['spans'], 'span')} in {traces}"))
    why = _WHY.get(clause["comparison"], "{kind}").format(kind=clause["observed"])
    remedy = clause["remedy"]
    advice = remedy["meaning"] + (f"; {remedy['setting']} makes it so everywhere" if remedy["setting"] else "")
    style = "green" if remedy["code"] == "learned" else "yellow"
    lines = [text(f"{clause['source']} · {clause['signal']} · {why}", "dim"), text(advice, style, limit=500)]
    if clause["still_missed"] and clause["still_missed"] != clause["spans"]:
        lines.append(text(f"{counted(clause['still_missed'], 'span')} of these are missed still", "yellow"))
    return Group(head, *(Padding(line, (0, 0, 0, 2)) for line in lines))


def _outcome(report: Mapping[str, Any]) -> Text:
    ended = report["compared_to"] == report["window"]["to"]
    if not ended:
        told = (
            "nothing was compared to its end" if report["compared_to"] is None else f"compared up to {report['compared_to']}"
        )
        missed = f"; {_missed(report['missed'])}" if report["missed"] else ""
        return text(f"ended early: {told}{missed}", "bold red")
    if report["missed"]:
        return text(_missed(report["missed"]), "bold yellow")
    if report["partial"]:
        return text("nothing is known to be missed, but Datadog's answers stayed partial: run it again", "bold yellow")
    if not any(source["read"] for source in report["sources"]):
        return text("there was no span to compare", "bold yellow")
    return text("complete: the query finds every failing span of the window", "bold green")


def _missed(number: int) -> str:
    them = "it is" if number == 1 else "they are"
    return f"the query missed {counted(number, 'failing span')}; {them} captured now"
