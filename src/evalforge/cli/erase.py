"""`evalforge erase`: everything held of one person, or of one trace, for good."""

from __future__ import annotations

import sys
from collections.abc import Mapping

import click
from rich.console import Console

from evalforge.cli import INTERRUPTED
from evalforge.cli.cards import facts_grid
from evalforge.cli.options import id_of, run_async
from evalforge.cli.screen import console, counted, is_terminal, print_json, text
from evalforge.config import Settings, one_setting
from evalforge.core.ports import Erasure
from evalforge.errors import RequestError

LONGEST_ACTOR = 200


@click.command(name="erase", short_help="Erase what is held of one person, or of one trace, for good.")
@click.option(
    "--user-id",
    metavar="ID",
    help="The person's id as the applications send it; - reads it from standard input, so that no history keeps it.",
)
@click.option("--trace-id", metavar="ID", help="The trace's id; - reads it from standard input.")
@click.option(
    "--again",
    is_flag=True,
    help="Erase once more whatever stands here although it was erased, as after a restore; needs nobody's id.",
)
@click.option("--actor", metavar="NAME", default="cli", show_default=True, help="Who asks for it, for the record.")
@click.option("--yes", is_flag=True, help="Do not ask for confirmation.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
def command(user_id: str | None, trace_id: str | None, again: bool, actor: str, yes: bool, as_json: bool) -> int:
    """Erase what is held of one person, or of one trace, for good.

    Captures, dead letters and lines of exported files go; a tombstone without the id keeps the next runs from bringing them
    back. What is out of reach, such as files that were exported by hand, is told as a task. Nobody found is no error, and
    doing it twice changes nothing more.

    --again is for a store that was set back to an older copy, once its tombstones are in it again.
    """
    from evalforge import bootstrap
    from evalforge.events import configure_logging

    settings = Settings.from_environment()
    if (user_id is not None) + (trace_id is not None) + again != 1:
        raise RequestError("--user-id, --trace-id, --again: wants exactly one of them", field="--user-id")
    if not 0 < len(actor.strip()) <= LONGEST_ACTOR or not actor.isprintable():
        raise RequestError(f"--actor: wants a name of 1 to {LONGEST_ACTOR} printable characters", field="--actor")
    user = None if user_id is None else id_of(user_id, "--user-id")
    trace = None if trace_id is None else id_of(trace_id, "--trace-id")
    if not yes and sys.stdin.isatty():
        who = "those who were erased before" if again else "this person" if trace is None else "this trace"
        if not click.confirm(f"Erase everything that is held of {who}? It cannot be undone.", err=True):
            click.echo("evalforge: nothing was erased", err=True)
            return INTERRUPTED
    form = one_setting("LOG_FORMAT", "console" if is_terminal() else "json")
    configure_logging(form, level="WARNING" if is_terminal() and not as_json else "INFO")
    if again:
        counts = run_async(bootstrap.erase_again_once(settings))
        if as_json:
            print_json(counts, indent=True)
        else:
            console().print(facts_grid([("erased", _erased(counts))]))
        return 0
    record = run_async(bootstrap.erase_once(settings, actor=actor.strip(), user_id=user, trace_id=trace))
    if as_json:
        from evalforge.erasure import erasure_document

        print_json(erasure_document(record), indent=True, sort_keys=False)
    else:
        print_record(console(), record)
    return 0


def print_record(out: Console, record: Erasure) -> None:
    """Writes what was erased, and what is left for a person to do."""
    of_user = record.kind == "user"
    rows = [
        ("erased", _erased(record.counts)),
        ("kept out", "what this person did before now" if of_user else "everything of this trace"),
        ("record", f"{record.id}, asked for by {record.actor}"),
        *(("to do" if not number else "", text(task, "yellow")) for number, task in enumerate(record.tasks)),
    ]
    out.print(facts_grid(rows))


def _erased(counts: Mapping[str, int]) -> str:
    return ", ".join(
        (
            counted(counts["captures"], "capture"),
            counted(counts["dead_letters"], "dead letter"),
            counted(counts["export_rows"], "line of exported files", "lines of exported files"),
        )
    )
