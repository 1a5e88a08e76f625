"""`evalforge archive`: judge spans that a team already has in files."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

from evalforge.cli.cards import facts_grid
from evalforge.cli.ingest import stop_wish
from evalforge.cli.options import run_async
from evalforge.cli.screen import console, counted, is_terminal, print_json, progress_columns
from evalforge.config import Settings, one_setting

if TYPE_CHECKING:
    from evalforge.archives import ArchiveReport


@click.command(name="archive", short_help="Judge spans from files that you have, local or gs://.")
@click.argument("places", nargs=-1, required=True, metavar="PLACE...")
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON instead of a table.")
def command(places: tuple[str, ...], as_json: bool) -> int:
    """Judge every trace in files of spans, and store the failing ones as a run would have.

    A PLACE is a file, a folder with all below it, or gs://bucket/prefix. Files are NDJSON, plain, gzip or zstd; a line is an
    item of a Datadog search answer, alone or bare, a list of them, or a whole page. The spans of one trace may stand
    anywhere. An odd line becomes a dead letter. Files are read two times, and more often where there are many failures, so
    that memory stays flat and no raw span is written anywhere. Ctrl-C stops it; run it again and it goes on.
    """
    from evalforge.bootstrap.archives import judge_archive_once
    from evalforge.events import configure_logging
    from evalforge.runs import default_holder

    settings = Settings.from_environment()
    watching = is_terminal() and not as_json
    form = one_setting("LOG_FORMAT", "console" if is_terminal() else "json")
    configure_logging(form, level="WARNING" if watching else "INFO")
    with stop_wish() as wants_stop, _progress(watching) as on_progress:
        report = run_async(
            judge_archive_once(
                settings, places, holder=default_holder("archive"), wants_stop=wants_stop, on_progress=on_progress
            )
        )
    if as_json:
        print_json(report.document(), indent=True, sort_keys=False)
    else:
        console().print(facts_grid(report_rows(report.document())))
    return 0


def report_rows(report: Mapping[str, Any]) -> list[tuple[str, str | None]]:
    """The report in a few lines."""
    items, captures = report["items"], report["captures"]
    odd = ", ".join(f"{number:,} {code}" for code, number in report["errors_by_code"].items())
    outcome = "complete" if report["complete"] else f"stopped at {report['position']:.0%}; run it again and it goes on"
    return [
        ("files", f"{counted(report['files'], 'file')}, read {counted(report['times_read'], 'time')}"),
        (
            "spans",
            f"{items['fetched']:,} = {items['healthy']:,} healthy + {items['failing']:,} failing + {items['rejected']:,}",
        ),
        ("odd", odd or None),
        ("captures", ", ".join(f"{captures[name]:,} {name}" for name in ("created", "updated", "unchanged"))),
        ("refused", f"{captures['refused']:,}" if captures["refused"] else None),
        ("kept out", f"{captures['kept_out']:,}" if captures["kept_out"] else None),
        ("went on from", f"{report['resumed_at']:.0%}" if report["resumed_at"] else None),
        ("outcome", outcome),
    ]


@contextmanager
def _progress(watching: bool) -> Iterator[Callable[[ArchiveReport], None]]:
    """A line on the terminal that follows the run."""
    if not watching:
        yield lambda report: None
        return
    from rich.progress import Progress

    with Progress(*progress_columns(), console=console(err=True), transient=True) as bars:
        task = bars.add_task("reading", total=1.0)

        def follow(report: ArchiveReport) -> None:
            description = f"{report.tally.fetched:,} spans · {report.tally.created:,} new"
            bars.update(task, description=description, completed=report.position)

        yield follow
