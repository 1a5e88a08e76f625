"""`evalforge export`: captures as a file that other tools load."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from evalforge.cli.options import id_of, run_async, selection_of, selection_options
from evalforge.cli.screen import console, counted, text
from evalforge.config import Settings
from evalforge.core.ports import Selection
from evalforge.exports import Destination, Written, write_package


@click.command(name="export", short_help="Write captures to a file as JSON Lines.")
@click.option("--out", required=True, metavar="FILE", help="The file to write; - is standard output.")
@click.option("--force", is_flag=True, help="Write over an existing file.")
@click.option(
    "--user-id",
    metavar="ID",
    help="Only what is held of this person; - reads the id from standard input, so that no history keeps it.",
)
@selection_options
@click.option("--limit", metavar="NUMBER", type=click.IntRange(1), help="At most so many, the latest failures.")
def command(out: str, force: bool, user_id: str | None, **options: Any) -> None:
    """Write the selected captures to a file, one JSON object a line, the latest failure first.

    The file appears whole or not at all, and only you can read it. The store records the package: what was selected, how
    many, and the SHA-256 of the bytes, which are the same as long as the captures are.

    With --user-id it answers an access request: every capture of that person, and dead letters about their traces. The
    record of the package says that it was one person's, and not whose.
    """
    settings = Settings.from_environment()
    selection = selection_of(**options)
    own = Destination(path=Path(out), overwrite=force)
    destination = Destination(stream=sys.stdout.buffer) if out == "-" else own
    person = None if user_id is None else id_of(user_id, "--user-id")
    package = run_async(_export(settings, selection, destination, person)).package
    told = console(err=True)
    place = "standard output" if out == "-" else out
    what = counted(package.count, "capture" if person is None else "line")
    told.print(text(f"{what}, {counted(package.size_bytes, 'byte')} to {place}"))
    told.print(text(f"sha256 {package.sha256}  package {package.id}", "dim"))


async def _export(settings: Settings, selection: Selection, destination: Destination, user_id: str | None) -> Written:
    from evalforge import bootstrap

    async with bootstrap.opened_store(settings) as store:
        of_user = None if user_id is None else await bootstrap.user_in(settings, store, user_id)
        return await write_package(store, selection, destination, now=bootstrap.utc_now(), of_user=of_user)
