"""`evalforge purge`: everything under a prefix, for good."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import click

from evalforge.cli.cards import facts_grid
from evalforge.cli.options import run_async
from evalforge.cli.screen import console, counted, is_terminal, print_json, safe
from evalforge.config import Settings, one_setting, parsed_value
from evalforge.errors import RequestError, SettingsError


@click.command(name="purge", short_help="Delete everything under a prefix, for good.")
@click.option(
    "--prefix", required=True, metavar="PREFIX", help="What the collections' names begin with, such as evalforge_."
)
@click.option("--yes", is_flag=True, help="Do not ask for the prefix to be typed again.")
@click.option("--force", is_flag=True, help="Also when the prefix is not that of FIRESTORE_COLLECTION_PREFIX.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
def command(prefix: str, yes: bool, force: bool, as_json: bool) -> None:
    """Delete everything under a prefix, for good.

    Captures, dead letters, checkpoints, export records and the tombstones of erasures: whoever was erased may come back with
    the next run. Exported files stay where they are. Refused while a run is going on; may be run again after whatever ended
    it early.
    """
    from evalforge import bootstrap
    from evalforge.events import configure_logging
    from evalforge.runs import default_holder

    settings = Settings.from_environment()
    _check_prefix(settings, prefix, force=force)
    if not yes:
        _confirm(settings, prefix)
    form = one_setting("LOG_FORMAT", "console" if is_terminal() else "json")
    configure_logging(form, level="WARNING" if is_terminal() and not as_json else "INFO")
    with _progress(is_terminal() and not as_json) as on_deleted:
        counts = run_async(
            bootstrap.purge_once(settings, prefix=prefix, holder=default_holder("purge"), on_deleted=on_deleted)
        )
    if as_json:
        print_json({"prefix": prefix, "deleted": counts, "total": sum(counts.values())}, indent=True, sort_keys=False)
        return
    console().print(
        facts_grid((f"{prefix}{name}", f"{counted(number, 'document')} deleted") for name, number in counts.items())
    )


def _check_prefix(settings: Settings, prefix: str, *, force: bool) -> None:
    own = settings.firestore_collection_prefix
    if prefix == own:
        return
    if not force:
        raise RequestError(
            f"--prefix: got {prefix[:80]!a}, but FIRESTORE_COLLECTION_PREFIX is {own!a}; set that, or add --force",
            field="--prefix",
        )
    try:
        parsed_value("FIRESTORE_COLLECTION_PREFIX", prefix)
    except SettingsError as error:
        wants = error.message.partition("; wants ")[2]
        raise RequestError(f"--prefix: got {prefix[:80]!a}; wants {wants}", field="--prefix") from error


def _confirm(settings: Settings, prefix: str) -> None:
    if not sys.stdin.isatty():
        raise RequestError("--yes: wanted where nobody can be asked; nothing was deleted", field="--yes")
    place = _place(settings)
    click.echo(f"This deletes everything under {safe(prefix, 100)} in {safe(place, 200)}. It cannot be undone.", err=True)
    if click.prompt("Type the prefix again", default="", show_default=False, err=True) != prefix:
        raise RequestError("--prefix: what was typed is another one; nothing was deleted", field="--prefix")


def _place(settings: Settings) -> str:
    """Which store it is, so that nobody deletes in another one than they think."""
    shown = settings.shown()
    if settings.sqlite_path is not None:
        return shown["CAPTURE_STORE"]
    if settings.firestore_emulator_host:
        return f"the Firestore emulator at {settings.firestore_emulator_host}"
    project = settings.google_cloud_project or "of the credentials"
    return f"Firestore, project {project}, database {settings.firestore_database}"


@contextmanager
def _progress(watching: bool) -> Iterator[Callable[[str, int], None] | None]:
    """A line on the terminal that counts."""
    if not watching:
        yield None
        return
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    columns = (SpinnerColumn(), TextColumn("{task.description}", markup=False), TimeElapsedColumn())
    with Progress(*columns, console=console(err=True), transient=True) as bars:
        task = bars.add_task("deleting", total=None)
        total = 0

        def follow(collection: str, number: int) -> None:
            nonlocal total
            total += number
            bars.update(task, description=f"{safe(collection, 20)} · {counted(total, 'document')} deleted")

        yield follow
