"""`evalforge audit`: look through everything stored for personal data, and mend it; or audit completeness."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from evalforge.cli import LEAKS_FOUND
from evalforge.cli.cards import facts_grid, section
from evalforge.cli.options import run_async
from evalforge.cli.screen import console, counted, is_terminal, print_json, text
from evalforge.cli.sweeping import following, singular, tell_how_to_go_on
from evalforge.config import Settings, one_setting
from evalforge.errors import RequestError

if TYPE_CHECKING:
    from evalforge.upkeep import AuditReport

SHOWN_KEYS = 3
SHOWN_GROUPS = 40
WIDE = 120


@click.command(name="audit", short_help="Look for stored personal data, or for missed failures.")
@click.option("--fix", is_flag=True, help="Mend what is found instead of only telling it.")
@click.option("--after", metavar="POSITION", help="Go on after the position that an interrupted audit told.")
@click.option("--completeness", is_flag=True, help="Read a window without any query: what would the query have missed?")
@click.option(
    "--window", "length", metavar="LENGTH", help="With --completeness: the last 1h, 6h, 2d; 1h if nothing is given."
)
@click.option("--from", "began", metavar="TIME", help="With --completeness: from this time on, written as for ingest.")
@click.option("--to", "ended", metavar="TIME", help="With --completeness: up to this time instead of up to now.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
def command(
    fix: bool,
    after: str | None,
    completeness: bool,
    length: str | None,
    began: str | None,
    ended: str | None,
    as_json: bool,
) -> int:
    """Look through everything stored for personal data; --fix mends it. Or, with --completeness, look for lost failures.

    Every document of every collection is read once more by the present rules, whoever wrote it. What is found is told by
    field, kind and document key, never by value. The exit code is 10 when something personal still stands at the end.

    --fix runs the present sanitizer over stored captures and writes each back unless somebody else wrote it meanwhile; your
    reviewers' and your own fields are never touched, so a leak in those is told for you to mend. Dead letters and
    checkpoints with a leak are deleted: the next run makes them anew. It may be stopped at any time and run again.

    --completeness reads a window of Datadog without any query and compares with what the present query finds. What it misses
    is captured, named clause by clause, and learned for the next run; the exit code is then 11. It reads every span, so it
    costs as much as DATADOG_FILTER=scan and about as many requests again. A window has at most 15 days.
    """
    from evalforge.cli.completeness import audit_window, audited_window
    from evalforge.events import configure_logging

    of_the_store = {"--fix": fix, "--after": after}
    of_a_window = {"--window": length, "--from": began, "--to": ended}
    for option, given in (of_the_store if completeness else of_a_window).items():
        if given:
            wants = "cannot go with --completeness" if completeness else "goes with --completeness only"
            raise RequestError(f"{option}: {wants}", field=option)
    window = audited_window(length, began, ended, now=datetime.now(UTC)) if completeness else None
    settings = Settings.from_environment()
    form = one_setting("LOG_FORMAT", "console" if is_terminal() else "json")
    configure_logging(form, level="WARNING" if is_terminal() and not as_json else "INFO")
    if window is not None:
        return audit_window(settings, window, as_json=as_json)
    return _audit_store(settings, fix=fix, after=after, as_json=as_json)


def _audit_store(settings: Settings, *, fix: bool, after: str | None, as_json: bool) -> int:
    from evalforge import bootstrap
    from evalforge.upkeep import AuditReport

    report = AuditReport(fixing=fix)
    try:
        with following(is_terminal() and not as_json, _seen) as on_progress:
            run_async(bootstrap.audit_once(settings, report, fix=fix, after=after, on_progress=on_progress))
    except BaseException:
        tell_how_to_go_on("audit --fix" if fix else "audit", report.position)
        raise
    if as_json:
        print_json(report.document(), indent=True, sort_keys=False)
    else:
        console().print(report_view(report.document(), width=console().width))
    return 0 if report.is_clean else LEAKS_FOUND


def _seen(report: AuditReport) -> str:
    seen = f"{counted(sum(report.seen.values()), 'document')} · {report.leaking:,} leaking"
    return seen + (f" · {report.fixed + report.removed:,} mended" if report.fixing else "")


def report_view(report: Mapping[str, Any], *, width: int) -> Group:
    """The report as a few tables: what was looked at, what was found where, and what follows.

    On less than `WIDE` columns a document is told by the beginning of its key; --json has all of it.
    """
    seen = [counted(number, singular(name), name.replace("_", " ")) for name, number in report["documents"].items()]
    rows: list[tuple[str, RenderableType | str | None]] = [
        ("looked at", ", ".join(seen)),
        ("only after", None if report["after"] is None else text(report["after"], "yellow")),
        ("rules", f"sanitizer version {report['sanitizer_version']}, and the second net"),
        ("leaking", counted(report["leaking_documents"], "document") if report["leaking_documents"] else None),
        ("outdated", _outdated(report)),
        ("not ours", _unreadable(report["unreadable_documents"])),
        ("mended", _mended(report)),
        ("outcome", _outcome(report)),
    ]
    parts: list[RenderableType] = [facts_grid(rows)]
    for title, owner in (
        ("In what ingestion wrote", "ingestion"),
        ("In fields of yours, which are never changed", "others"),
    ):
        groups = [group for group in report["leaks"] if group["owner"] == owner]
        if groups:
            parts += [
                Text(),
                section(title),
                _groups(groups, fixing=report["fixing"], longest_key=80 if width >= WIDE else 13),
            ]
    return Group(*parts)


def _groups(groups: Sequence[Mapping[str, Any]], *, fixing: bool, longest_key: int) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim")
    table.add_column("kind", no_wrap=True)
    table.add_column("collection", no_wrap=True)
    table.add_column("field", overflow="fold")
    table.add_column("documents", justify="right", no_wrap=True)
    if fixing:
        table.add_column("mended", justify="right", no_wrap=True)
    table.add_column("such as", no_wrap=True)
    for group in groups[:SHOWN_GROUPS]:
        is_left = group["documents"] > group["fixed"]
        cells = [
            text(group["kind"], "bold red" if is_left else "green"),
            text(group["collection"]),
            text(group["field"], limit=200),
            text(f"{group['documents']:,}"),
        ]
        if fixing:
            cells.append(text(f"{group['fixed']:,}"))
        table.add_row(*cells, Text("\n").join(text(key, "dim", limit=longest_key) for key in group["keys"][:SHOWN_KEYS]))
    if len(groups) > SHOWN_GROUPS:
        table.add_row(text("…"), text(""), text(f"{len(groups) - SHOWN_GROUPS:,} more; --json tells all", "dim"))
    return table


def _outdated(report: Mapping[str, Any]) -> str | None:
    number = report["outdated_captures"]
    if not number:
        return None
    hint = "" if report["fixing"] else "; --fix runs the present rules over them"
    return f"{counted(number, 'capture')} made by an older sanitizer{hint}"


def _unreadable(number: int) -> str | None:
    return f"{counted(number, 'document')} among the captures {'is none' if number == 1 else 'are none'}" if number else None


def _mended(report: Mapping[str, Any]) -> str | None:
    if not report["fixing"]:
        return None
    return f"{counted(report['fixed_documents'], 'document')} rewritten, {report['removed_documents']:,} deleted"


def _outcome(report: Mapping[str, Any]) -> Text:
    from evalforge.upkeep import MENDED

    if not any(report["documents"].values()):
        return text("nothing is stored here, so there was nothing to look at", "yellow")
    if report["clean"]:
        found = "nothing personal was found" if not report["leaks"] else "all that was found is mended"
        return text(f"clean: {found}", "bold green")
    left = [group for group in report["leaks"] if group["documents"] > group["fixed"]]
    can_mend = [group["owner"] == "ingestion" and group["collection"] in MENDED for group in left]
    # What --fix has left is written by others all the time: another round may find it at rest.
    again = "run --fix again for" if report["fixing"] else "--fix mends"
    advice = []
    if any(can_mend):
        advice.append(f"{again} {'them' if all(can_mend) else 'what ingestion wrote'}")
    if any(group["owner"] == "others" for group in left):
        advice.append("your own fields are yours to mend")
    if any(group["owner"] == "ingestion" and group["collection"] not in MENDED for group in left):
        advice.append("records of exports and erasures are never changed")
    return text("; ".join([f"something personal stands in {counted(report['leaks_left'], 'place')}", *advice]), "bold red")
