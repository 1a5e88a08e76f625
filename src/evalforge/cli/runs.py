"""`evalforge runs`: what ran, when, by whom, and what came of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import click
from rich.console import Group
from rich.table import Table
from rich.text import Text

from evalforge.cli.cards import facts_grid
from evalforge.cli.ingest import report_view
from evalforge.cli.options import run_async
from evalforge.cli.screen import console, full_moment, joined_counts, print_json, safe, text
from evalforge.config import Settings

DEFAULT_LIMIT = 20
_STATE_STYLE = {
    "complete": "bold green",
    "incomplete": "bold yellow",
    "failed": "bold red",
    "abandoned": "bold red",
    "running": "bold cyan",
}
_ABANDONED = "its process died, or lost its lease for good; the next run goes on from the last page that was stored"


@click.group(name="runs", short_help="List the runs of the last 30 days, or show one in full.")
def command() -> None:
    """List the runs of the last 30 days, or show one in full."""


@command.command(name="list")
@click.option(
    "--limit", metavar="NUMBER", type=click.IntRange(1), default=DEFAULT_LIMIT, show_default=True, help="At most so many."
)
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line, for other programs.")
def list_(limit: int, as_json: bool) -> None:
    """List the runs, the latest first: when, what kind, how it ended, and what it captured."""
    from evalforge import bootstrap

    found = run_async(bootstrap.recent_runs(Settings.from_environment(), limit=limit))
    if as_json:
        for run in found:
            print_json(run, sort_keys=False)
    elif found:
        console().print(_table(found))
    else:
        console().print(text("No runs: the history is empty; `evalforge ingest` begins it."))


def _table(found: Sequence[Mapping[str, Any]]) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim", pad_edge=False)
    table.add_column("run", no_wrap=True)  # its id says when it began
    table.add_column("plan", no_wrap=True)
    table.add_column("outcome", no_wrap=True)
    for heading in ("spans", "new", "changed"):
        table.add_column(heading, justify="right", no_wrap=True)
    for run in found:
        report = run["report"]
        counts = [report["items"]["fetched"], report["captures"]["created"], report["captures"]["updated"]] if report else []
        table.add_row(
            text(run["run_id"], limit=40),
            text(run["plan"], limit=12),
            _state(run["state"]),
            *(text(f"{count:,}") for count in counts),
        )
    return table


@command.command()
@click.argument("run_id")
@click.option("--json", "as_json", is_flag=True, help="The whole record as one JSON object.")
def show(run_id: str, as_json: bool) -> None:
    """Show the run RUN_ID in full: by whom, when, its state, and its report."""
    from evalforge import bootstrap

    run = run_async(bootstrap.one_run(Settings.from_environment(), run_id.strip()))
    if as_json:
        print_json(run, indent=True, sort_keys=False)
    else:
        console().print(run_view(run))


def run_view(run: Mapping[str, Any]) -> Group:
    """One run on a page: its record, then its report if it has one."""
    ended = run["finished_at"]
    rows: list[tuple[str, Any]] = [
        ("run", text(run["run_id"], "bold", limit=80)),
        ("plan", safe(run["plan"], 40)),
        ("asked by", safe(run["asked_by"], 200)),
        ("ran on", safe(run["holder"], 200)),
        ("began", full_moment(datetime.fromisoformat(run["started_at"]))),
        ("ended", full_moment(datetime.fromisoformat(ended)) if ended else None),
        ("state", _state(run["state"])),
    ]
    if run["state"] == "abandoned":
        rows.append(("", text(_ABANDONED, "yellow")))
    report = run["report"]
    if not report:
        return Group(facts_grid(rows))
    rows.append(("errors", joined_counts(report.get("errors_by_code", {}))))
    return Group(facts_grid(rows), report_view(report))


def _state(state: str) -> Text:
    return text(state, _STATE_STYLE.get(state, ""), limit=20)
