"""What `evalforge check --live` prints: what a real Datadog and Firestore did, for an issue."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from rich.console import Console
from rich.table import Table

from evalforge.bootstrap.live import LiveReport, look_live
from evalforge.cli.options import run_async
from evalforge.cli.screen import console, counted, is_terminal, print_json, text
from evalforge.config import Settings
from evalforge.core.findings import Finding, Verdict

_MARKS = {
    Verdict.AS_ASSUMED: ("✓", "bold green"),
    Verdict.OTHERWISE: ("≠", "bold yellow"),
    Verdict.SEEN: ("·", ""),
    Verdict.NOT_SEEN: ("–", "dim"),
    Verdict.FAILED: ("✗", "bold red"),
}


def look_and_tell(as_json: bool) -> int:
    """Looks, and prints the report; 0 whatever was found.

    Raises:
        SettingsError
    """
    settings = Settings.from_environment()
    told = console(err=True)

    def on_plan(requests: int, reads: int) -> None:
        asks = f"asks Datadog at most {counted(requests, 'time')}" + (f", Firestore at most {reads}" if reads else "")
        told.print(text(f"{asks}, and changes nothing", "dim"), soft_wrap=True)

    if as_json or not is_terminal():
        report = run_async(look_live(settings, on_plan=on_plan, on_finding=lambda finding: None))
    else:
        with told.status("looking") as status:
            report = run_async(
                look_live(settings, on_plan=on_plan, on_finding=lambda finding: status.update(f"asked {finding.name}"))
            )
    if as_json:
        print_json(report.document(), indent=True, sort_keys=False)
    else:
        _print(console(), report)
    return 0


def _print(out: Console, report: LiveReport) -> None:
    out.print(text("Looked with", "bold"))
    out.print(_grid((("", "", name, value, "") for name, value in report.about.items()), dim=True))
    for title, findings in (("Datadog", report.datadog), ("Firestore", report.firestore)):
        if findings:
            out.print()
            out.print(text(title, "bold"))
            out.print(_grid(_rows(findings), dim=False))
    out.print()
    counts = Counter(finding.verdict for finding in (*report.datadog, *report.firestore))
    out.print(
        text(" · ".join(f"{_MARKS[verdict][0]} {counts[verdict]} {verdict}" for verdict in Verdict if counts[verdict]))
    )
    out.print(text("All of this may stand in an issue: no key, text, id or name is in it.", "dim"), soft_wrap=True)


def _rows(findings: Sequence[Finding]) -> Iterable[tuple[str, str, str, str, str]]:
    for finding in findings:
        mark, style = _MARKS[finding.verdict]
        tells = finding.verdict in (Verdict.OTHERWISE, Verdict.FAILED) and finding.assumed
        yield mark, style, finding.name, finding.seen, f"assumed: {finding.assumed}" if tells else ""


def _grid(rows: Iterable[tuple[str, str, str, str, str]], *, dim: bool) -> Table:
    grid = Table.grid(padding=(0, 1, 0, 0))
    grid.add_column(no_wrap=True)
    grid.add_column(no_wrap=True)
    grid.add_column(overflow="fold")
    for mark, style, name, seen, assumed in rows:
        grid.add_row(text(mark, style), text(name, "dim" if dim else ""), text(seen, "dim" if style == "dim" else ""))
        if assumed:
            grid.add_row("", "", text(assumed, "yellow"))
    return grid
