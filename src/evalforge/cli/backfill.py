"""`evalforge backfill`: a long window in slices, with live progress and a report."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import click

from evalforge.cli.ingest import bounds_of, stop_wish, told
from evalforge.cli.options import run_async, so_long_ago
from evalforge.cli.screen import console, counted, is_terminal, progress_columns, safe, text
from evalforge.config import Settings, one_setting
from evalforge.core.slices import MAX_WORKERS
from evalforge.errors import RequestError

if TYPE_CHECKING:
    from evalforge.runs import BackfillProgress

SHORTEST_SLICE, LONGEST_SLICE = timedelta(minutes=5), timedelta(hours=24)


@click.command(name="backfill", short_help="Pull a long window in slices; run it again and it goes on.")
@click.option(
    "--from", "began", required=True, metavar="TIME", help="Read from this time on: 15d, 2026-11-23 or 2026-11-23T06:00:00Z."
)
@click.option("--to", "ended", metavar="TIME", help="Read up to this time instead of up to now.")
@click.option(
    "--slice", "length", default="1h", show_default=True, metavar="LENGTH", help="How long a slice is: 5m to 24h, as in 30m."
)
@click.option(
    "--workers",
    default=2,
    show_default=True,
    metavar="N",
    type=click.IntRange(1, MAX_WORKERS),
    help=f"How many slices of each source are read at once: 1 to {MAX_WORKERS}.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON instead of a table.")
def command(began: str, ended: str | None, length: str, workers: int, as_json: bool) -> int:
    """Pull the failing traces of a long window into the store, slice by slice.

    Each slice keeps its place. Whatever ends it early, run it again: slices that were read are not read again, and one that
    was under way goes on where it stood. When Datadog's quota is out it waits for the reset. Ctrl-C stops at the end of the
    page. A schedule may go on beside it. Neither RUN_BUDGET_S nor MAX_CAPTURES_PER_RUN bounds it. The exit code is 0 when it
    ended well, whether or not it was complete: the report says which, and how to go on.
    """
    from evalforge import bootstrap
    from evalforge.events import configure_logging
    from evalforge.runs import default_holder

    settings = Settings.from_environment()
    now = datetime.now(UTC)
    window = bounds_of(began, ended, now=now)
    slice_ms = slice_ms_of(length, now)
    watching = is_terminal() and not as_json
    form = one_setting("LOG_FORMAT", "console" if is_terminal() else "json")
    configure_logging(form, level="WARNING" if watching else "INFO")
    with stop_wish() as wants_stop, _progress(watching) as on_progress:
        report = run_async(
            bootstrap.backfill_once(
                settings,
                window,
                slice_ms=slice_ms,
                workers=workers,
                holder=default_holder("backfill"),
                on_progress=on_progress,
                wants_stop=wants_stop,
            )
        )
    return told(report, as_json=as_json)


def slice_ms_of(length: str, now: datetime) -> int:
    """The length of a slice in milliseconds.

    Raises:
        RequestError: it is no length, or not one of 5 minutes to 24 hours.
    """
    duration = now - so_long_ago(length, "--slice", now)
    if not SHORTEST_SLICE <= duration <= LONGEST_SLICE:
        raise RequestError(f"--slice: got {length[:80]!a}; wants a length of 5m to 24h", field="--slice")
    return round(duration.total_seconds() * 1000)


@contextmanager
def _progress(watching: bool) -> Iterator[Callable[[BackfillProgress], None]]:
    """Lines on the terminal that follow the backfill."""
    if not watching:
        yield lambda progress: None
        return
    from rich.console import Group
    from rich.live import Live
    from rich.progress import Progress

    screen = console(err=True)
    bars = Progress(*progress_columns(), console=screen)
    task = bars.add_task("connecting", total=1.0)
    # Below the bar, where there is room for all of it.
    seen = text("", "dim")
    with Live(Group(bars, seen), console=screen, transient=True):

        def follow(progress: BackfillProgress) -> None:
            description = f"{progress.slices_done:,} of {counted(progress.slices_total, 'slice')}"
            bars.update(task, description=description, completed=progress.position)
            seen.plain = seen_line(progress)

        yield follow


def seen_line(progress: BackfillProgress) -> str:
    """What is known besides the slices: spans, captures, how fast, how long still, and what is left of the quotas."""
    tally = progress.tally
    parts = [counted(tally.fetched, "span"), f"{tally.created:,} new", f"{progress.spans_per_s:,.0f}/s"]
    if progress.eta_s is not None:
        parts.append(f"{_length(progress.eta_s)} left")
    parts += [f"{safe(source, 20)} {quota}" for source, limit in progress.rate_limits.items() if (quota := _quota(limit))]
    parts += [f"{safe(source, 20)} waits {_length(wait_s)} for its quota" for source, wait_s in progress.waits_s.items()]
    return " · ".join(parts)


def _quota(limit: Mapping[str, float | str]) -> str | None:
    remaining = limit.get("remaining")
    return f"quota {remaining:,.0f}" if isinstance(remaining, int | float) else None


def _length(seconds: float) -> str:
    minutes, rest_s = divmod(round(seconds), 60)
    hours, rest_m = divmod(minutes, 60)
    return f"{hours}:{rest_m:02}:{rest_s:02}" if hours else f"{rest_m}:{rest_s:02}"
