"""`evalforge dead-letters`: what could not become a capture, asking for it once more, and deleting it."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any, TypeVar

import click
from rich.table import Table

from evalforge.cli.cards import facts_grid
from evalforge.cli.options import instant_of, run_async
from evalforge.cli.screen import console, counted, is_terminal, joined_counts, moment, print_json, safe, text
from evalforge.config import Settings, one_setting
from evalforge.core.ports import DeadLetter
from evalforge.dead_letters import OUTCOMES, Filter, Replay
from evalforge.errors import RequestError

SHOWN_LETTERS = 50
STAGES = ("parse", "sanitize", "store")
Decorated = TypeVar("Decorated", bound=Callable[..., Any])

_FILTER_OPTIONS = (
    click.option("--source", metavar="NAME", type=click.Choice(["llm_obs", "apm"]), help="Only this source: llm_obs, apm."),
    click.option("--stage", metavar="STAGE", type=click.Choice(STAGES), help=f"Only this stage: {', '.join(STAGES)}."),
    click.option("--reason", metavar="CODE", help="Only this reason code."),
    click.option("--since", metavar="TIME", help="Met at or after this time: 24h, 7d, 2026-11-23 or 2026-11-23T06:00:00Z."),
    click.option("--until", metavar="TIME", help="Met before this time, written as for --since."),
)
_AS_JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON, for other programs.")


def _filtered(command: Decorated) -> Decorated:
    """Adds the options that say which letters are meant."""
    for option in reversed(_FILTER_OPTIONS):
        command = option(command)
    return command


def _filter_of(source: str | None, stage: str | None, reason: str | None, since: str | None, until: str | None) -> Filter:
    now = datetime.now(UTC)
    return Filter(
        source,
        stage,
        reason,
        instant_of(since, "--since", now) if since else None,
        instant_of(until, "--until", now) if until else None,
    )


@click.group(name="dead-letters", short_help="List, replay or delete what could not become a capture.")
def command() -> None:
    """List, replay or delete what could not become a capture.

    A dead letter is kept for 30 days: ids, stage, reason, time and a structure; never a text.
    """


@command.command(name="list")
@_filtered
@click.option("--limit", metavar="NUMBER", type=click.IntRange(1), default=SHOWN_LETTERS, show_default=True, help="At most.")
@_AS_JSON
def list_(limit: int, as_json: bool, **conditions: str | None) -> None:
    """List the dead letters, the latest first, with the counts by reason on top."""
    from evalforge import bootstrap

    found = run_async(bootstrap.dead_letters_matching(Settings.from_environment(), _filter_of(**conditions)))
    reasons = Counter(letter.reason for letter in found)
    if as_json:
        letters = [_document(letter) for letter in found[:limit]]
        print_json(
            {"total": len(found), "by_reason": dict(sorted(reasons.items())), "letters": letters},
            indent=True,
            sort_keys=False,
        )
        return
    console().print(text(f"{counted(len(found), 'dead letter')}  {joined_counts(reasons)}".strip()))
    if found:
        console().print(_table(found[:limit]))
    if len(found) > limit:
        console().print(text(f"… and {len(found) - limit:,} more: --limit", "dim"))


def _document(letter: DeadLetter) -> dict[str, Any]:
    return {
        "id": letter.id,
        "source": letter.source,
        "stage": letter.stage,
        "reason": letter.reason,
        "occurred_at": letter.occurred_at.isoformat(),
        "expires_at": letter.expires_at.isoformat(),
        "trace_id": letter.trace_id,
        "span_id": letter.span_id,
        "structure": letter.structure,
    }


def _table(found: Sequence[DeadLetter]) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim", pad_edge=False)
    for heading in ("met", "source", "stage"):
        table.add_column(heading, no_wrap=True)
    for heading in ("reason", "trace", "span"):
        table.add_column(heading, overflow="fold")
    for letter in found:
        cells = (letter.source, letter.stage, letter.reason, letter.trace_id or "-", letter.span_id or "-")
        table.add_row(text(moment(letter.occurred_at)), *(text(cell, limit=80) for cell in cells))
    return table


@command.command()
@_filtered
@_AS_JSON
def replay(as_json: bool, **conditions: str | None) -> None:
    """Ask Datadog for their spans once more, by id, and judge them as a run does.

    A letter whose span is captured or healthy by now is removed; one whose span fails again stays. The exit code is 0 when
    every letter was asked for that can be, else that of what ended it; calling again goes on.
    """
    from evalforge import bootstrap
    from evalforge.events import configure_logging
    from evalforge.runs import default_holder

    settings = Settings.from_environment()
    wanted, done = _filter_of(**conditions), Replay()
    form = one_setting("LOG_FORMAT", "console" if is_terminal() else "json")
    configure_logging(form, level="WARNING" if is_terminal() and not as_json else "INFO")
    try:
        run_async(bootstrap.replay_once(settings, wanted, done, holder=default_holder("replay")))
    finally:
        if done.run_id:
            _show(done, as_json)


def _show(done: Replay, as_json: bool) -> None:
    document = done.document()
    if as_json:
        print_json(document, indent=True, sort_keys=False)
        return
    rows = [("letters", f"{document['letters']:,}")]
    for code, number in document["outcomes"].items():
        if number:
            rows.append((code, f"{number:,}  {OUTCOMES[code]}"))
    if done.reasons:
        rows.append(("why again", joined_counts(done.reasons)))
    rows += [("warning", safe(warning, 300)) for warning in done.warnings]
    console().print(facts_grid(rows))


@command.command()
@_filtered
@click.option("--yes", is_flag=True, help="Do not ask.")
@_AS_JSON
def purge(yes: bool, as_json: bool, **conditions: str | None) -> None:
    """Delete dead letters for good: all, or those that the options name."""
    from evalforge import bootstrap

    settings, wanted = Settings.from_environment(), _filter_of(**conditions)
    if not yes:
        if not sys.stdin.isatty():
            raise RequestError("--yes: wanted where nobody can be asked; nothing was deleted", field="--yes")
        total = len(run_async(bootstrap.dead_letters_matching(settings, wanted)))
        click.confirm(f"Delete {counted(total, 'dead letter')} for good?", abort=True, err=True)
    deleted = run_async(bootstrap.purge_letters_once(settings, wanted))
    if as_json:
        print_json({"deleted": deleted})
    else:
        console().print(text(f"{counted(deleted, 'dead letter')} deleted"))
