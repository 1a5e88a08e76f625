"""`evalforge migrate`: what earlier releases stored, written anew as this one would."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import click
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from evalforge.cli.cards import facts_grid
from evalforge.cli.options import run_async
from evalforge.cli.screen import console, counted, is_terminal, print_json, text
from evalforge.cli.sweeping import following, tell_how_to_go_on
from evalforge.config import Settings, one_setting
from evalforge.errors import NewerVersionError, StoreUnavailableError

if TYPE_CHECKING:
    from evalforge.migration import MigrationReport


@click.command(name="migrate", short_help="Bring what earlier releases stored to today's version.")
@click.option("--dry-run", is_flag=True, help="Only count what would be written.")
@click.option("--after", metavar="POSITION", help="Go on after the position that an interrupted migration told.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
def command(dry_run: bool, after: str | None, as_json: bool) -> int:
    """Bring what earlier releases stored to today's version; --dry-run only counts.

    Nothing has to wait for it: every release reads what earlier ones stored. Each document is written only if nobody wrote
    it since it was read, so runs and reviewers may go on meanwhile; reviews and your own fields are not touched. It may be
    stopped at any time and run again: what is in today's version already is not written.

    Documents of a later release are left alone: the exit code is then 5, and 8 when others kept writing documents of an
    earlier version; run it again. Once none is left, a SQLite file is laid out as today's, and earlier releases refuse it.
    """
    from evalforge import bootstrap
    from evalforge.events import configure_logging
    from evalforge.migration import MigrationReport

    settings = Settings.from_environment()
    form = one_setting("LOG_FORMAT", "console" if is_terminal() else "json")
    configure_logging(form, level="WARNING" if is_terminal() and not as_json else "INFO")
    report = MigrationReport(dry_run=dry_run)
    try:
        with following(is_terminal() and not as_json, _seen) as on_progress:
            run_async(bootstrap.migrate_once(settings, report, after=after, on_progress=on_progress))
    except BaseException:
        tell_how_to_go_on("migrate --dry-run" if dry_run else "migrate", report.position)
        raise
    if as_json:
        print_json(report.document(), indent=True, sort_keys=False)
    else:
        console().print(report_view(report.document()))
    if report.newer:
        return NewerVersionError.exit_code
    return StoreUnavailableError.exit_code if report.left and not dry_run else 0


def _seen(report: MigrationReport) -> str:
    return f"{counted(report.seen, 'document')} · {report.older:,} of earlier versions · {report.migrated:,} migrated"


def report_view(report: Mapping[str, Any]) -> Group:
    """The report as a table of versions, what of the store itself is older, and what follows."""
    rows: list[tuple[str, RenderableType | str | None]] = [
        ("looked at", counted(report["documents"], "document")),
        ("only after", None if report["after"] is None else text(report["after"], "yellow")),
        ("not ours", counted(report["not_ours"], "document") if report["not_ours"] else None),
        (
            "gone",
            f"{counted(report['gone'], 'document')} deleted or written by others meanwhile" if report["gone"] else None,
        ),
        ("the store", _layout(report)),
        ("outcome", _outcome(report)),
    ]
    parts: list[RenderableType] = [facts_grid(rows)]
    if report["versions"]:
        parts += [Text(), _versions(report["versions"])]
    return Group(*parts)


def _versions(versions: Sequence[Mapping[str, Any]]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim")
    for name in ("collection", "kind"):
        table.add_column(name, no_wrap=True)
    for name in ("version", "today's", "documents", "migrated"):
        table.add_column(name, justify="right", no_wrap=True)
    for row in versions:
        style = "" if row["version"] == row["today"] else "yellow"
        names = (text(row["collection"]), text(row["kind"].replace("_", " ")))
        numbers = (row["version"], row["today"], row["documents"], row["migrated"])
        table.add_row(*names, *(text(f"{number:,}", style) for number in numbers))
    return table


def _layout(report: Mapping[str, Any]) -> str | None:
    if not report["layout"]:
        return None
    return ("made as new: " if report["layout_mended"] else "is older: ") + "; ".join(report["layout"])


def _outcome(report: Mapping[str, Any]) -> Text:
    if report["newer"]:
        newer = counted(report["newer"], "document")
        return text(f"{newer} of a later release, left alone: update evalforge to the release that wrote them", "bold red")
    if report["dry_run"]:
        older = counted(report["older"], "document")
        return text(f"dry run: {older} would be written" if report["older"] else "everything is in today's version", "bold")
    if report["left"]:
        return text(f"{counted(report['left'], 'document')} left that others keep writing: run it again", "bold yellow")
    return text("everything is in today's version", "bold green")
