"""`evalforge groups`: failures with one cause as one row, and what reviewers decide about them."""

from __future__ import annotations

import getpass
from collections.abc import Sequence
from typing import Any, Literal

import click
from rich.console import Group as Lines
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from evalforge.cli.cards import facts_grid, section
from evalforge.cli.options import run_async, selection_of, selection_options
from evalforge.cli.screen import (
    SEVERITY_STYLE,
    console,
    counted,
    full_moment,
    joined_counts,
    moment,
    print_json,
    safe,
    text,
)
from evalforge.config import Settings
from evalforge.core.review import STATE_MEANINGS, UNSET, Change, Patch, Review, ReviewState, Unset, checked_signature
from evalforge.errors import RequestError
from evalforge.review import Group, GroupsPage, Wanted, change_review, list_groups, one_group
from evalforge.review.documents import group_document, groups_document, review_document
from evalforge.review.groups import TREND_DAYS

DEFAULT_LIMIT = 20
STATE_STYLE = {
    "regressed": "bold red",
    "new": "bold cyan",
    "triaged": "yellow",
    "exported": "magenta",
    "resolved": "green",
    "ignored": "dim",
}
_BARS = "▁▂▃▄▅▆▇█"
_STATES = click.Choice([state.value for state in ReviewState])


@click.group(name="groups", short_help="List failures by cause, show one, or review it.")
def command() -> None:
    """List groups of failures with one cause, show one, or say what is to become of it.

    Captures with the same signature are one group: the same failure type, application, span, error or evaluator.
    """


@command.command(name="list")
@selection_options
@click.option("--state", type=_STATES, metavar="STATE", help=f"Only this state: {', '.join(ReviewState)}.")
@click.option("--regressed", is_flag=True, help="Only those that are resolved and failed again since.")
@click.option(
    "--limit",
    metavar="NUMBER",
    type=click.IntRange(1, 500),
    default=DEFAULT_LIMIT,
    show_default=True,
    help="At most so many.",
)
@click.option("--after", metavar="CURSOR", help="Go on after the page that gave this cursor.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object, for other programs.")
def list_(state: str | None, regressed: bool, limit: int, after: str | None, as_json: bool, **options: Any) -> None:
    """List groups: regressed ones first, then those that failed last.

    Users are counted among the newest 500 captures of each group, and shown with a + where there are more.
    """
    selection = selection_of(**options, limit=None)
    wanted = Wanted(selection, None if state is None else ReviewState(state), regressed or None)
    page = run_async(_listed(Settings.from_environment(), wanted, limit, after))
    if as_json:
        print_json(groups_document(page), indent=True)
        return
    out = console()
    if not page.groups:
        out.print(text("No groups: nothing matches, or the store is empty; `evalforge ingest` fills it."))
        return
    out.print(_table(page.groups, out.width))
    if page.next is not None:
        out.print()
        total = f"{page.total:,}{' or more' if page.is_floor else ''}"
        out.print(text(f"{len(page.groups)} shown of {total}; --limit shows more, the options narrow.", "dim"))


async def _listed(settings: Settings, wanted: Wanted, limit: int, after: str | None) -> GroupsPage:
    from evalforge import bootstrap

    async with bootstrap.opened_store(settings) as store:
        return await list_groups(store, wanted, now=bootstrap.utc_now(), limit=limit, cursor=after)


_WIDE = 110
_COLUMNS = {"group": 11, "failure": 21, "where": 0, "traces": 6, "users": 5, "14 days": TREND_DAYS, "last": 11, "state": 9}
_GAP = 2


def _table(groups: Sequence[Group], width: int) -> Table:
    shown = {name: least for name, least in _COLUMNS.items() if width >= _WIDE or name not in ("users", "14 days")}
    shown["where"] = max(8, width - sum(shown.values()) - _GAP * (len(shown) - 1))
    table = Table(box=None, padding=(0, _GAP, 0, 0), header_style="dim", pad_edge=False)
    for name, column_width in shown.items():
        justify: Literal["right", "left"] = "right" if name in ("traces", "users") else "left"
        table.add_column(name, width=column_width, no_wrap=True, overflow="ellipsis", justify=justify)
    for group in groups:
        style = SEVERITY_STYLE.get(group.severity, "")
        cells: dict[str, RenderableType] = {
            "group": text(short(group.signature), "dim"),
            "failure": text(f"● {group.newest.failure_type}", style),
            "where": text(_where(group), limit=200),
            "traces": text(f"{group.count:,}"),
            "users": text(_users(group)),
            "14 days": text(sparkline(group.trend), style),
            "last": text(moment(group.last_seen_at), "dim"),
            "state": _state(group),
        }
        table.add_row(*(cells[name] for name in shown))
    return table


def short(signature: str) -> str:
    """A signature in short, as the commands take it too."""
    return safe(signature[:11], 11)


def sparkline(counts: Sequence[int]) -> str:
    """Counts as a line of bars, the highest full; nothing is a dot."""
    most = max(counts, default=0)
    return "".join("·" if not count else _BARS[(count * len(_BARS) - 1) // most] for count in counts)


def _where(group: Group) -> str:
    newest = group.newest
    cause = newest.evaluator or newest.error_type or (f"HTTP {newest.status_code}" if newest.status_code else None)
    return " · ".join(part for part in (newest.ml_app or newest.service_name, newest.span_name, cause) if part)


def _users(group: Group) -> str:
    return f"{group.user_count:,}{'+' if group.is_sampled else ''}"


def _state(group: Group) -> Text:
    name = "regressed" if group.is_regressed else group.state.value
    return text(name, STATE_STYLE[name])


@command.command()
@click.argument("signature")
@click.option("--json", "as_json", is_flag=True, help="The group and its review as one JSON object.")
def show(signature: str, as_json: bool) -> None:
    """Show the group SIGNATURE: its figures, what reviewers decided, and every change of that.

    The first characters of a signature do where they are those of one group only.
    """
    group = run_async(_shown(Settings.from_environment(), signature.strip()))
    if as_json:
        print_json({**group_document(group), "review": review_document(group.review)}, indent=True)
        return
    out = console()
    title = Text.assemble((f" {group.severity} ", f"reverse {SEVERITY_STYLE.get(group.severity, '')}"), " ")
    out.print(title + text(group.newest.failure_type, "bold") + Text(" ") + text(_where(group), limit=200))
    out.print()
    out.print(_facts(group))
    out.print()
    out.print(section("Review"))
    out.print(review_view(group.review))
    out.print()
    out.print(text(f"evalforge captures list --signature {group.signature}", "dim"))


async def _shown(settings: Settings, given: str) -> Group:
    from evalforge import bootstrap

    async with bootstrap.opened_store(settings) as store:
        now = bootstrap.utc_now()
        return await one_group(store, await bootstrap.whole_signature(store, given), now=now)


def _facts(group: Group) -> Table:
    newest = group.newest
    return facts_grid(
        [
            ("group", text(group.signature)),
            ("state", _state(group)),
            ("traces", f"{group.count:,}"),
            ("users", _users(group)),
            ("first seen", full_moment(group.first_seen_at)),
            ("last seen", full_moment(group.last_seen_at)),
            ("14 days", text(sparkline(group.trend), SEVERITY_STYLE.get(group.severity, ""))),
            ("application", text(" · ".join(part for part in (newest.ml_app, newest.service_name) if part))),
            ("environments", joined_counts(group.envs)),
            ("models", joined_counts(group.models)),
            ("versions", joined_counts(group.versions)),
        ]
    )


def review_view(review: Review) -> RenderableType:
    """What stands of a group, and how it came to that."""
    facts = facts_grid(
        [
            ("state", text(f"{review.state.value}: {STATE_MEANINGS[review.state]}")),
            ("assignee", text(review.assignee) if review.assignee else None),
            ("note", text(review.note) if review.note else None),
            ("right answers", counted(len(review.expected_outputs), "trace") if review.expected_outputs else None),
        ]
    )
    history = Table.grid(padding=(0, 2, 0, 0))
    history.add_column(no_wrap=True, style="dim")
    history.add_column(no_wrap=True)
    history.add_column(overflow="fold")
    for change in reversed(review.history):
        history.add_row(moment(change.at), text(change.by, limit=40), text(_told(change), limit=400))
    return Lines(facts, Text(), history) if review.history else facts


def _told(change: Change) -> str:
    what = f"right answer of {change.trace_id}" if change.what == "expected_output" else change.what
    if change.after is None:
        return f"{what} taken away"
    is_from = change.before is not None and change.what in ("state", "assignee")
    return f"{what}: {change.before} → {change.after}" if is_from else f"{what}: {change.after}"


@command.command(name="set")
@click.argument("signature")
@click.option("--state", type=_STATES, metavar="STATE", help=f"One of {', '.join(ReviewState)}.")
@click.option("--assignee", metavar="NAME", help="Who works on it; - takes the name away.")
@click.option("--note", metavar="TEXT", help="A note in place of the one there is; - takes it away.")
@click.option("--trace-id", metavar="ID", help="The trace that --expected-output is for.")
@click.option("--expected-output", metavar="TEXT", help="The right answer of that trace; - takes it away.")
@click.option("--as", "by", metavar="NAME", help="Who says so, for the history; by default who you are here.")
@click.option("--json", "as_json", is_flag=True, help="The review as one JSON object.")
def set_(
    signature: str,
    state: str | None,
    assignee: str | None,
    note: str | None,
    trace_id: str | None,
    expected_output: str | None,
    by: str | None,
    as_json: bool,
) -> None:
    """Say what is to become of the group SIGNATURE; each change goes into its history.

    Addresses, numbers and keys are taken out of what you write. A right answer goes into exports as the expected output.
    """
    if all(one is None for one in (state, assignee, note, expected_output)):
        raise RequestError(
            "nothing is to be changed; give --state, --assignee, --note or --expected-output", field="--state"
        )
    patch = Patch(
        UNSET if state is None else ReviewState(state),
        _given(assignee),
        _given(note),
        _given(expected_output),
        trace_id,
    )
    review = run_async(_changed(Settings.from_environment(), signature.strip(), patch, by or _own_name()))
    if as_json:
        print_json(review_document(review), indent=True)
    else:
        console().print(review_view(review))


def _given(option: str | None) -> str | Unset | None:
    return UNSET if option is None else None if option == "-" else option


async def _changed(settings: Settings, given: str, patch: Patch, by: str) -> Review:
    from evalforge import bootstrap

    async with bootstrap.opened_store(settings) as store:
        signature = await bootstrap.whole_signature(store, given)
        return await change_review(store, checked_signature(signature), patch, by=by, now=bootstrap.utc_now())


def _own_name() -> str:
    try:
        return safe(getpass.getuser(), 64)
    except (OSError, KeyError):
        return "cli"
