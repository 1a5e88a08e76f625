"""`evalforge captures`: list them, or show one in full."""

from __future__ import annotations

from typing import Any

import click

from evalforge.cli.cards import print_cards, print_page
from evalforge.cli.options import run_async, selection_of, selection_options
from evalforge.cli.screen import console, print_json, text
from evalforge.config import Settings
from evalforge.core.ports import Selection, StoredCapture
from evalforge.core.review import ReviewState
from evalforge.errors import NotFoundError
from evalforge.exports import capture_document
from evalforge.review import in_state

DEFAULT_LIMIT = 20


@click.group(name="captures", short_help="List captures, or show one in full.")
def command() -> None:
    """List captures, or show one in full."""


@command.command(name="list")
@selection_options
@click.option(
    "--limit", metavar="NUMBER", type=click.IntRange(1), default=DEFAULT_LIMIT, show_default=True, help="At most so many."
)
@click.option(
    "--state",
    metavar="STATE",
    type=click.Choice([state.value for state in ReviewState]),
    help=f"Only captures whose group is in this state: {', '.join(ReviewState)}.",
)
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line, for other programs.")
def list_(state: str | None, as_json: bool, **options: Any) -> None:
    """List captures, the latest failure first: what failed, why, and the link to its trace."""
    settings = Settings.from_environment()
    selection = selection_of(**options)
    found, total = run_async(_selected(settings, selection, None if state is None else ReviewState(state)))
    if as_json:
        for stored in found:
            print_json(capture_document(stored))
        return
    out = console()
    print_cards(out, (stored.capture for stored in found))
    if not found:
        hint = "nothing matches; the store holds others" if total else "the store is empty; `evalforge ingest` fills it"
        out.print(text(f"No captures: {hint}."))
    elif len(found) == selection.limit and total > len(found):
        out.print()
        out.print(text(f"{len(found)} shown of {total:,} in the store; --limit shows more, the options narrow.", "dim"))


async def _selected(settings: Settings, selection: Selection, state: ReviewState | None) -> tuple[list[StoredCapture], int]:
    from evalforge import bootstrap

    async with bootstrap.opened_store(settings) as store:
        now = bootstrap.utc_now()
        narrowed = await in_state(store, selection, state, now=now)
        found = [stored async for stored in store.select(narrowed, now=now)]
        return found, await store.count(now=now)


@command.command()
@click.argument("trace_id")
@click.option("--json", "as_json", is_flag=True, help="The whole capture as one JSON object.")
def show(trace_id: str, as_json: bool) -> None:
    """Show the capture of TRACE_ID in full: every reason, every failing span, what was removed, and the payload."""
    stored = run_async(_one(Settings.from_environment(), trace_id.strip()))
    if as_json:
        print_json(capture_document(stored), indent=True)
    else:
        print_page(console(), stored)


async def _one(settings: Settings, trace_id: str) -> StoredCapture:
    from evalforge import bootstrap

    async with bootstrap.opened_store(settings) as store:
        stored = await store.get(trace_id, now=bootstrap.utc_now())
    if stored is None:
        raise NotFoundError(
            f"there is no capture of the trace {trace_id[:80]!a}; `evalforge captures list` shows what is there"
        )
    return stored
