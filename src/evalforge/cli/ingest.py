"""`evalforge ingest`: one run, with live progress and a report."""

from __future__ import annotations

import getpass
import signal
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from types import FrameType
from typing import TYPE_CHECKING, Any

import click
from rich.console import Console, Group
from rich.padding import Padding
from rich.text import Text

from evalforge.cli.cards import facts_grid, print_card
from evalforge.cli.options import instant_of, run_async
from evalforge.cli.screen import (
    console,
    counted,
    full_moment,
    is_terminal,
    joined_counts,
    json_lines,
    json_view,
    print_json,
    progress_columns,
    safe,
    text,
)
from evalforge.config import Settings, one_setting, parsed_value
from evalforge.core.capture import FailureCapture
from evalforge.core.plans import ASKED
from evalforge.core.window import MS_PER_HOUR, Window, epoch_ms
from evalforge.errors import RequestError, SettingsError

if TYPE_CHECKING:
    from evalforge.runs import RunProgress, RunReport

SHOWN_WINDOWS = 3
"""How many windows a report shows of what is left of a source."""


PAYLOAD_LINES, SHOWN_IDS = 12, 2
"""How many lines of an example's payload a dry run prints, and how many documents it names."""


@click.command(name="ingest", short_help="Pull the failing traces of a window into the store, once.")
@click.option("--lookback", metavar="HOURS", help="How far back to look, instead of TRACE_LOOKBACK_HOURS: 1 to 360.")
@click.option(
    "--quality-threshold",
    metavar="SCORE",
    help="A quality score below it is a failure, instead of QUALITY_THRESHOLD; APPLICATION_THRESHOLDS still holds.",
)
@click.option("--from", "began", metavar="TIME", help="Read from this time on: 36h, 7d, 2026-11-23 or 2026-11-23T06:00:00Z.")
@click.option("--to", "ended", metavar="TIME", help="Read up to this time instead of up to now; needs --from.")
@click.option(
    "--since-last",
    is_flag=True,
    help="Read what is new since the last such run, and again what may have arrived late; as SINCE_LAST=true. The first one "
    "reads --lookback.",
)
@click.option("--dry-run", is_flag=True, help="Read and judge everything, say what would change, and write nothing.")
@click.option("--json", "as_json", is_flag=True, help="Print the run report as JSON instead of a table.")
def command(
    lookback: str | None,
    quality_threshold: str | None,
    began: str | None,
    ended: str | None,
    since_last: bool,
    dry_run: bool,
    as_json: bool,
) -> int:
    """Pull the failing traces of a window out of Datadog into the store, once.

    Reading a window again changes nothing but what is new. Ctrl-C stops at the end of the page; the next run goes on from
    there. The exit code is 0 when the run ended well, whether or not it was complete: the report says which.
    """
    from evalforge import bootstrap
    from evalforge.events import configure_logging
    from evalforge.runs import default_holder

    settings = Settings.from_environment()
    lookback_hours = _value("--lookback", "TRACE_LOOKBACK_HOURS", lookback)
    threshold = _value("--quality-threshold", "QUALITY_THRESHOLD", quality_threshold)
    if since_last and began is not None:
        raise RequestError("--since-last: cannot go with --from; it knows itself where to begin", field="--since-last")
    window = window_of(began, ended, has_lookback=lookback is not None, now=datetime.now(UTC))
    watching = is_terminal() and not as_json
    form = one_setting("LOG_FORMAT", "console" if is_terminal() else "json")
    configure_logging(form, level="WARNING" if watching else "INFO")
    with stop_wish() as wants_stop, _progress(watching) as on_page:
        report = run_async(
            bootstrap.ingest_once(
                settings,
                holder=default_holder("cli"),
                asked_by=_user(),
                lookback_hours=lookback_hours,
                quality_threshold=threshold,
                window=window,
                since_last=since_last or None,
                dry_run=dry_run,
                on_page=on_page,
                wants_stop=wants_stop,
            )
        )
    return told(report, as_json=as_json)


def told(report: RunReport, *, as_json: bool) -> int:
    """Prints the report of a run that has ended, and gives the exit code."""
    if as_json:
        print_json(report.document(), indent=True, sort_keys=False)
    else:
        print_report(console(), report)
    if report.error is None:
        return 0
    click.echo(f"evalforge: {safe(report.error['message'])}", err=True)
    return int(report.error["exit_code"])


def _user() -> str:
    try:
        return f"{getpass.getuser()[:60]} at the command line"
    except (KeyError, OSError):  # no name for this user id: the usual case in a container
        return "the command line"


def _value(option: str, setting: str, given: str | None) -> float | None:
    if given is None:
        return None
    try:
        number: float = parsed_value(setting, given)
    except SettingsError as error:
        wants = error.message.partition("; wants ")[2]
        raise RequestError(f"{option}: got {given[:80]!a}; wants {wants}", field=option) from error
    return number


def window_of(began: str | None, ended: str | None, *, has_lookback: bool, now: datetime) -> Window | None:
    """The window that --from and --to spell, None when neither is given.

    Raises:
        RequestError: they are at odds with each other, with --lookback, with the present, or span more than 15 days.
    """
    if began is None:
        if ended is not None:
            raise RequestError("--to: needs --from, or leave it out to read up to now", field="--to")
        return None
    if has_lookback:
        raise RequestError("--from: cannot go with --lookback; give one of them", field="--from")
    window = bounds_of(began, ended, now=now)
    if window.duration_ms > 360 * MS_PER_HOUR:
        raise RequestError("--from: the window has more than 360 hours; Datadog keeps 15 days", field="--from")
    return window


def bounds_of(began: str, ended: str | None, *, now: datetime) -> Window:
    """The window from one time to another, or to now, however long.

    Raises:
        RequestError: they are no times, at odds with each other, or lie in the future.
    """
    from_at = instant_of(began, "--from", now)
    to_at = now if ended is None else instant_of(ended, "--to", now)
    if to_at > now + timedelta(minutes=1):
        raise RequestError("--to: lies in the future; what has not happened yet cannot be read", field="--to")
    if from_at >= to_at:
        raise RequestError("--from: does not lie before --to", field="--from")
    return Window(epoch_ms(from_at), max(epoch_ms(to_at), epoch_ms(from_at) + 1))


@contextmanager
def stop_wish() -> Iterator[Callable[[], bool]]:
    """Turns the first Ctrl-C or SIGTERM into a wish to stop at the end of the page; the second one interrupts."""
    wished = False

    def wish(number: int, frame: FrameType | None) -> None:
        nonlocal wished
        if wished:
            raise KeyboardInterrupt
        wished = True
        sys.stderr.write("evalforge: stopping at the end of this page; once more to stop at once\n")

    before = {number: signal.signal(number, wish) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: wished
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def _progress(watching: bool) -> Iterator[Callable[[RunProgress], None] | None]:
    """A line on the terminal that follows the run."""
    if not watching:
        yield None
        return
    from rich.progress import Progress, TextColumn

    columns = (*progress_columns(), TextColumn("{task.fields[seen]}", markup=False, style="dim"))
    with Progress(*columns, console=console(err=True), transient=True) as bars:
        task = bars.add_task("connecting", total=1.0, seen="")

        def follow(progress: RunProgress) -> None:
            tally = progress.tally
            seen = f"{counted(tally.fetched, 'span')} · {tally.failing:,} failing · {tally.created:,} new"
            bars.update(
                task,
                description=safe(_doing(progress), 28),
                completed=progress.position,
                seen=seen,
            )

        yield follow


def _doing(progress: RunProgress) -> str:
    tier = "" if progress.tier == ASKED.name else progress.tier
    return " ".join(part for part in (progress.source, tier, progress.step.partition(":")[0]) if part)


def print_report(out: Console, report: RunReport) -> None:
    """Writes the report as a table of a few lines."""
    document = report.document()
    out.print(report_view(document))
    if document["rehearsal"] is not None:
        print_examples(out, document["rehearsal"])


def report_view(document: Mapping[str, Any]) -> Group:
    """The report as a few lines: the window, what was read and kept, each source, and what is still open."""
    items, captures = document["items"], document["captures"]
    began, ended = (datetime.fromisoformat(document["window"][edge]) for edge in ("from", "to"))
    hours = (ended - began).total_seconds() / 3600
    refused = [counted(captures["refused"], "refused", "refused")] if captures["refused"] else []
    kept_out = [f"{captures['kept_out']:,} kept out because they were erased"] if captures.get("kept_out") else []
    expired = [("expired", f"{counted(document['expired'], 'document')} deleted")] if document.get("expired") else []
    kept = ", ".join([f"{captures[name]:,} {name}" for name in ("created", "updated", "unchanged")] + refused + kept_out)
    rows: list[tuple[str, Any]] = [
        ("window", f"{full_moment(began)[:-7]} to {full_moment(ended)[:-7]} UTC ({hours:,.4g} h)"),
        *_tier_rows(document),
        (
            "read",
            f"{counted(items['fetched'], 'span')}: {items['healthy']:,} healthy, {items['failing']:,} failing, "
            f"{items['rejected']:,} rejected",
        ),
        *(_rehearsal_rows(document["rehearsal"]) if document.get("rehearsal") else [("captures", kept)]),
        ("first as", joined_counts(captures["created_by_type"])),
        *((source["name"], _source_line(source)) for source in document["sources"]),
        *_lookup_row(document["user_hash"].get("lookup")),
        *_error_row(document.get("error_detail")),
        *_telling_row(document.get("telling")),
        *_slice_rows(document.get("backfill")),
        *_letters_row(document.get("dead_letters")),
        *expired,
        ("took", f"{document['duration_s']:.1f} s, {counted(document['request_count'], 'request')}"),
        ("outcome", _outcome(document)),
    ]
    rows += [("", text(f"{safe(one['code'], 40)}: {one['meaning']}", "yellow")) for one in document["incomplete_because"]]
    rows += [("warning", text(warning, "yellow")) for warning in document["warnings"]]
    rows += [("hint", text(document["user_hash"]["hint"], "dim")) if document["user_hash"]["hint"] else ("", None)]
    return Group(facts_grid(rows))


def _telling_row(telling: Mapping[str, Any] | None) -> list[tuple[str, Any]]:
    """How many events the webhook took, and how many it is still to be told; nothing where there were none."""
    if telling is None or not (telling["told"] or telling["untold"]):
        return []
    left = f", {telling['untold']:,} still to tell: the next run goes on" if telling["untold"] else ""
    return [("webhook", f"{counted(telling['told'], 'event')} told{left}")]


def _letters_row(letters: Mapping[str, Any] | None) -> list[tuple[str, Any]]:
    """How many dead letters came, and how many there are; nothing where there are none."""
    if letters is None or not (letters["new"] or letters["total"]):
        return []
    total = "" if letters["total"] is None else f", {letters['total']:,} in all: `evalforge dead-letters list`"
    return [("dead letters", f"{letters['new']:,} new{total}")]


def _tier_rows(document: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """What each tier of an incremental run read again, and what can no longer be read at all."""
    rows: list[tuple[str, Any]] = []
    for reading in document.get("readings", ()):
        if reading["tier"] == ASKED.name or not reading["windows"]:
            continue
        hours = sum((_instant(one["to"]) - _instant(one["from"])).total_seconds() for one in reading["windows"]) / 3600
        what = "evaluated spans" if reading["reach"] == "evaluated" else "all spans"
        state = "" if reading["finished"] else ", not to its end: the next run goes on"
        rows.append((f"{reading['tier']}", f"{reading['source']}: {what} of {hours:,.4g} h{state}"))
    for gone in document.get("gone", ()):
        began, ended = (full_moment(_instant(gone[edge])) for edge in ("from", "to"))
        rows.append(
            ("gone", text(f"{gone['source']}: {began} to {ended} was never read, and Datadog has dropped it", "yellow"))
        )
    return rows


def _instant(text_of: str) -> datetime:
    return datetime.fromisoformat(text_of)


def _rehearsal_rows(rehearsal: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """What a dry run found: captures by signal, and the documents that would change."""
    rows: list[tuple[str, Any]] = [("by signal", joined_counts(rehearsal["captures_by_signal"]))]
    for change in ("create", "update"):
        found = rehearsal[f"would_{change}"]
        shown = found["trace_ids"][:SHOWN_IDS]
        more = " …" if found["count"] > len(shown) else ""
        rows.append((f"would {change}", f"{counted(found['count'], 'document')} {' '.join(shown)}{more}"))
    return rows


def print_examples(out: Console, rehearsal: Mapping[str, Any]) -> None:
    """Writes the examples of a dry run as cards, each with the beginning of its sanitized payload."""
    for example in rehearsal["examples"]:
        out.print()
        print_card(out, FailureCapture.from_document(example))
        lines = json_lines(example["trace_payload"])
        out.print(Padding(json_view(lines[:PAYLOAD_LINES]), (0, 0, 0, 2)))
        if len(lines) > PAYLOAD_LINES:
            out.print(text(f"  … {counted(len(lines) - PAYLOAD_LINES, 'more line')}; --json has all", "dim"))
    out.print()
    out.print(text("A dry run: nothing was written.", "bold"))


def _lookup_row(lookup: Mapping[str, int] | None) -> list[tuple[str, Any]]:
    if lookup is None:
        return []
    return [("users", f"{lookup['found']:,} found on roots for {counted(lookup['looked_for'], 'capture')} without one")]


def _error_row(detail: Mapping[str, int] | None) -> list[tuple[str, Any]]:
    if detail is None:
        return []
    left = f", {detail['left']:,} not asked for" if detail["left"] else ""
    found = f"{detail['found']:,} of {counted(detail['looked_for'], 'failing span')} without a message found in APM"
    return [("errors", f"{found}, {counted(detail['written'], 'capture')} changed{left}")]


def _slice_rows(backfill: Mapping[str, Any] | None) -> list[tuple[str, Any]]:
    """How far a backfill came, what is left of each source, and how to go on."""
    if backfill is None:
        return []
    known = sum(source["known"] for source in backfill["sources"])
    before = f", {known:,} of them by an earlier backfill" if known else ""
    rows: list[tuple[str, Any]] = [("slices", f"{backfill['done']:,} of {backfill['slices']:,} read{before}")]
    for source in backfill["sources"]:
        if source["left"]:
            left = ", ".join(f"{window['from']} to {window['to']}" for window in source["left"][:SHOWN_WINDOWS])
            more = f" and {counted(len(source['left']) - SHOWN_WINDOWS, 'more window')}"
            rows.append(("left", f"{source['source']}: {left}{more if len(source['left']) > SHOWN_WINDOWS else ''}"))
    if backfill["again"]:
        rows.append(("to go on", backfill["again"]))
    return rows


def _source_line(source: Mapping[str, Any]) -> str:
    if source["skipped"]:
        return f"left out: {safe(source['skipped'], 200)}"
    parts = [f"filter {source['mode']}", counted(source["request_count"], "request"), counted(source["item_count"], "span")]
    if source["retry_count"]:
        parts.append(counted(source["retry_count"], "retry", "retries"))
    limit = source["rate_limit"]
    if "remaining" in limit and "limit" in limit:
        until = f" until {_clock_time(limit['resets_at'])}" if "resets_at" in limit else ""
        parts.append(f"quota {_whole(limit['remaining'])} of {_whole(limit['limit'])} left{until}")
    return ", ".join(parts)


def _clock_time(instant: str) -> str:
    return f"{datetime.fromisoformat(instant).astimezone(UTC):%H:%M:%S} UTC"


def _whole(number: float | str) -> str:
    return f"{number:,.0f}" if isinstance(number, int | float) else safe(number, 20)


def _outcome(document: Mapping[str, Any]) -> Text:
    error = document["error"]
    if error is not None:
        ended = f"ended by {error['code']}; what was stored stays"
        if error.get("retry_after_s") is not None and document.get("finished_at"):
            again = datetime.fromisoformat(document["finished_at"]) + timedelta(seconds=error["retry_after_s"])
            ended += f"; run again after {full_moment(again)}"
        return text(ended, "bold red")
    if document["complete"]:
        done = "judged" if document.get("dry_run") else "captured"
        return text(f"complete: every failing trace of the window is {done}", "bold green")
    return text("not complete", "bold yellow")
