"""`evalforge stats`: failures over time, by type, severity, application and model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import click
from rich.table import Table

from evalforge.cli.cards import section
from evalforge.cli.groups import sparkline
from evalforge.cli.options import run_async, selection_of, selection_options
from evalforge.cli.screen import SEVERITY_STYLE, console, counted, joined_counts, moment, print_json, text
from evalforge.config import Settings
from evalforge.core.ports import Selection
from evalforge.review import Stats, failure_stats
from evalforge.review.documents import stats_document
from evalforge.review.groups import TREND_DAYS

_BAR = 30


@click.command(name="stats", short_help="Show failures over time, by type, application and model.")
@selection_options
@click.option(
    "--parts",
    metavar="NUMBER",
    type=click.IntRange(1, 60),
    default=TREND_DAYS,
    show_default=True,
    help="Into how many parts the time is split.",
)
@click.option("--json", "as_json", is_flag=True, help="One JSON object, for other programs.")
def command(parts: int, as_json: bool, **options: Any) -> None:
    """Show failures over time, by type, severity, application and model.

    Of the last 14 days, unless --since and --until say otherwise.
    """
    stats = run_async(_counted(Settings.from_environment(), selection_of(**options, limit=None), parts))
    if as_json:
        print_json(stats_document(stats), indent=True)
        return
    out = console()
    first, last = stats.edges[0], stats.edges[-1]
    out.print(text(f"{counted(stats.total, 'failure')} from {moment(first)} to {moment(last)} UTC", "bold"))
    for title, rows in (("By type", _over_time(stats.by_type)), ("By severity", _over_time(stats.by_severity))):
        out.print()
        out.print(section(title))
        out.print(rows)
    for title, counts in (("By application", stats.by_app), ("By model", stats.by_model)):
        out.print()
        out.print(section(title))
        out.print(_bars(counts))
    out.print()
    out.print(section("Groups"))
    states = {**{name: count for name, count in stats.groups.items() if count}, "regressed": stats.regressed_count}
    out.print(text(joined_counts({name: count for name, count in states.items() if count}) or "none"))


async def _counted(settings: Settings, selection: Selection, parts: int) -> Stats:
    from evalforge import bootstrap

    async with bootstrap.opened_store(settings) as store:
        return await failure_stats(store, selection, now=bootstrap.utc_now(), part_count=parts)


def _grid() -> Table:
    grid = Table.grid(padding=(0, 2, 0, 0))
    grid.add_column(no_wrap=True, min_width=20)
    grid.add_column(justify="right", no_wrap=True, min_width=6)
    grid.add_column(no_wrap=True)
    return grid


def _over_time(counts: Mapping[str, Sequence[int]]) -> Table:
    grid = _grid()
    for name, parts in counts.items():
        grid.add_row(text(name, SEVERITY_STYLE.get(name, "")), text(f"{sum(parts):,}"), text(sparkline(parts), "cyan"))
    return grid


def _bars(counts: Mapping[str, int]) -> Table:
    grid = _grid()
    most = max(counts.values(), default=1)
    for name, count in counts.items():
        grid.add_row(text(name, limit=40), text(f"{count:,}"), text("█" * max(1, round(_BAR * count / most)), "cyan"))
    return grid
