"""`evalforge export`: captures as files that other tools load."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path
from typing import Any

import click

from evalforge.cli.options import id_of, run_async, selection_of, selection_options
from evalforge.cli.screen import console, counted, text
from evalforge.config import Settings
from evalforge.core.ports import Selection
from evalforge.errors import RequestError
from evalforge.exports import FORMAT_NAMES, Destination, Shape, Written
from evalforge.exports.selecting import closed_note

_SPLIT = re.compile(r"test=(0?\.\d{1,6})", re.ASCII)


@click.command(name="export", short_help="Write captures to files that eval tools load.")
@click.option(
    "--format",
    "format_name",
    metavar="NAME",
    type=click.Choice(FORMAT_NAMES),
    default=FORMAT_NAMES[0],
    show_default=True,
    help=f"What to make: {', '.join(FORMAT_NAMES)}.",
)
@click.option("--out", metavar="PLACE", help="The file of jsonl (- is standard output), or the folder of a package.")
@click.option("--to", metavar="NAME", help="A destination that EXPORT_DESTINATIONS declares, instead of --out.")
@click.option("--force", is_flag=True, help="Write over an existing file, or a folder that an export wrote.")
@click.option("--per-group", metavar="NUMBER", type=click.IntRange(1), help="Only the newest so many of each group.")
@click.option("--one-per-group", is_flag=True, help="Only the newest of each group: the same as --per-group 1.")
@click.option("--split", metavar="test=SHARE", help="A train and a test set that share no group, such as test=0.2.")
@click.option(
    "--user-id",
    metavar="ID",
    help="Only what is held of this person; - reads the id from standard input, so that no history keeps it.",
)
@selection_options
@click.option("--limit", metavar="NUMBER", type=click.IntRange(1), help="At most so many, the latest failures.")
def command(
    format_name: str,
    out: str | None,
    to: str | None,
    force: bool,
    per_group: int | None,
    one_per_group: bool,
    split: str | None,
    user_id: str | None,
    **options: Any,
) -> None:
    """Write the selected captures to files, the latest failure first.

    A package is a folder: the files of its format, the examples that they are made of, and manifest.json. Every format but
    jsonl makes one, and jsonl does with --to, or where --out ends with a slash or is a folder; else jsonl is one file, one
    JSON object a line. It appears whole or not at all, and only you can read it. The store records it: what was selected,
    how many, and the SHA-256 of the bytes, which are the same as long as the captures are.

    With --user-id it answers an access request: every capture of that person, and dead letters about their traces. The
    record of the package says that it was one person's, and not whose.
    """
    if (out is None) == (to is None):
        raise click.UsageError("Wants one of --out and --to.")
    if one_per_group and per_group not in (None, 1):
        raise click.UsageError("--one-per-group and --per-group differ; give one of them.")
    settings = Settings.from_environment()
    selection = selection_of(**options)
    shape = Shape(format_name, 1 if one_per_group else per_group, _test_share(split))
    person = None if user_id is None else id_of(user_id, "--user-id")
    own = None if out is None else _own(out, shape, overwrite=force)
    tell(run_async(_export(settings, selection, shape, own, to, person)), place=_place(out, to), is_of_person=bool(person))


def _test_share(split: str | None) -> float | None:
    if split is None:
        return None
    found = _SPLIT.fullmatch(split.strip())
    if found is None or not 0 < float(found[1]) < 1:
        raise RequestError(f"--split: got {split[:40]!a}; wants test=SHARE with a share between 0 and 1, such as test=0.2",
                           field="--split")  # fmt: skip
    return float(found[1])


def _own(out: str, shape: Shape, *, overwrite: bool) -> Destination:
    if out == "-":
        return Destination(stream=sys.stdout.buffer)
    is_package = shape.makes_examples or out.endswith(("/", os.sep)) or Path(out).is_dir()
    return Destination(path=Path(out), overwrite=overwrite, is_package=is_package)


def _place(out: str | None, to: str | None) -> str:
    return f"the destination {to}" if out is None else "standard output" if out == "-" else out


def tell(written: Written, *, place: str, is_of_person: bool = False) -> None:
    """Says on standard error what was written, and what was not and why."""
    package, told = written.package, console(err=True)
    what = counted(package.count, "line" if is_of_person else "capture" if not package.files else "example")
    files = f" in {counted(len(package.files) + 1, 'file')}" if package.files else ""
    told.print(text(f"{what}, {counted(package.size_bytes, 'byte')}{files} to {place}"))
    parts = [
        f"{package.counts[name]:,} {meaning}"
        for name, meaning in (("surplus", "beyond --per-group"), ("train", "to train"), ("test", "to test with"))
        if package.counts.get(name)
    ]
    if parts:
        told.print(text(f"{', '.join(parts)}"))
    if package.counts.get("absent") and package.files and package.format != FORMAT_NAMES[0]:
        told.print(text(f"{counted(package.counts['absent'], 'capture')} without an input left out", "yellow"))
    note = closed_note(package.counts, package.format)
    if note is not None:
        told.print(text(note, "yellow"))
    if package.test_share is not None and not (package.counts.get("train") and package.counts.get("test")):
        told.print(text("One side of the split is empty: there are too few groups for this share.", "yellow"))
    told.print(text(f"sha256 {package.sha256}  package {package.id}", "dim"))


async def _export(
    settings: Settings, selection: Selection, shape: Shape, own: Destination | None, to: str | None, user_id: str | None
) -> Written:
    from evalforge.bootstrap import exports

    destination = own or await exports.declared_destination(settings, to or "")
    return await exports.export_once(settings, selection, shape, destination, user_id=user_id)
