"""Removes erased rows from export packages: in the declared folders by us, everywhere else by a person whom we tell."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from evalforge.core.ports import ExportPackage, Store
from evalforge.core.tombstones import Tombstones
from evalforge.errors import RequestError, SettingsError
from evalforge.events import emit
from evalforge.exports.files import drafts_of, removed
from evalforge.exports.jsonl import FORMAT
from evalforge.exports.manifest import PACKAGE_ID
from evalforge.exports.rewriting import Buries, Drafted, buries_line, without_buried_lines, without_buried_rows

MOST_PACKAGES = 1_000_000
MOST_TASKS = 200
"""How many packages are named one by one; the rest are told as a number."""
DRAFTS_LIVE_S = 6 * 3600
"""A draft older than this is of a process that died; what is being written is younger."""


@dataclass(frozen=True, slots=True)
class Cleaning:
    """What came of going through packages: rows removed from files, and what a person has to do, a line each."""

    row_count: int
    tasks: tuple[str, ...]


async def tasks_elsewhere(store: Store, folders: Mapping[str, Path], earliest: datetime) -> tuple[str, ...]:
    """A task for each package out of reach that was written at or after `earliest` and may hold what is erased.

    Out of reach are those that went to a file of the command line's or to standard output, to a folder that is no longer
    declared, and those whose file is not where it was put.

    Raises:
        StoreError, StoreUnavailableError
    """
    tasks = []
    for package in await store.packages(limit=MOST_PACKAGES):
        if package.created_at < earliest or not _may_hold_rows(package):
            continue
        folder = folders.get(package.destination)
        path = _path_of(package, folders)
        if path is not None and _is_there(path):
            continue
        where = "its file is not there any more: whoever took it" if folder else "whoever has it"
        tasks.append(f"{_told(package)}: {where} deletes these lines, or the whole file")
    if len(tasks) > MOST_TASKS:
        rest = len(tasks) - MOST_TASKS
        return (*tasks[:MOST_TASKS], f"{rest} older packages likewise: the collection of exports has their records")
    return tuple(tasks)


async def erase_rows(store: Store, folders: Mapping[str, Path], tombstones: Tombstones) -> Cleaning:
    """Removes every buried row from the packages in the declared folders, and records what they are now.

    Every file of a package is made without them, those of other tools' formats too. A package is rewritten only if it holds
    such a row; one that cannot be read or replaced is a task. Drafts that a process left behind when it died go.

    Raises:
        StoreError, StoreUnavailableError: some files may be rewritten all the same; a second call goes on.
    """
    row_count, tasks, buries = 0, [], buries_line(tombstones)
    for package in await store.packages(limit=MOST_PACKAGES):
        path = _path_of(package, folders)
        if path is None:
            continue
        _sweep(path)
        if not _is_there(path):
            continue
        try:
            drafted = _drafted(path, package, buries)
            if drafted is None:
                continue
            # The record comes first: after a crash between the two, the rows are found once more, and counted once.
            try:
                await store.save_package(drafted.package)
                drafted.put_in_place()
            finally:
                drafted.discard()
        except (OSError, ValueError, RecursionError, RequestError, SettingsError) as error:
            await store.save_package(package)
            tasks.append(
                f"{_told(package)}: its file could not be gone through ({_why(error)}); delete these lines, or the file"
            )
            continue
        emit("export.rewritten", package_id=package.id, destination=package.destination, erased=drafted.removed)
        row_count += drafted.removed
        lines = "1 line was" if drafted.removed == 1 else f"{drafted.removed} lines were"
        tasks.append(f"{_told(package)}: {lines} removed from its file; wherever it was loaded, delete them there too")
    return Cleaning(row_count, tuple(tasks))


def _why(error: Exception) -> str:
    if isinstance(error, OSError) and error.errno:
        return os.strerror(error.errno)
    return "an extra is not installed" if isinstance(error, SettingsError) else "it is not as it was written"


def _drafted(path: Path, package: ExportPackage, buries: Buries) -> Drafted | None:
    if path.suffix:
        return without_buried_lines(path, package, buries)
    return without_buried_rows(path, package, buries)


def _sweep(path: Path) -> None:
    """Takes away drafts of a package that are too old to be still written."""
    for draft in drafts_of(path):
        with suppress(OSError):
            if time.time() - draft.lstat().st_mtime > DRAFTS_LIVE_S:
                removed(draft)


def _is_there(path: Path) -> bool:
    return os.path.lexists(path)


def _may_hold_rows(package: ExportPackage) -> bool:
    # A stream that broke off has sent what it had sent, and so has a delivery that failed; a file that failed is not there.
    has_gone_out = package.state != "delivered" and bool(package.files)
    return (package.state == "delivered" and package.count > 0) or package.reason == "broken_pipe" or has_gone_out


def _path_of(package: ExportPackage, folders: Mapping[str, Path]) -> Path | None:
    """Where the package was put, a folder or, by earlier versions, a file; None when it went elsewhere, or its id is odd."""
    folder = folders.get(package.destination)
    if folder is None or PACKAGE_ID.fullmatch(package.id) is None:
        return None
    single = folder / f"{package.id}.jsonl"
    return single if package.format == FORMAT and _is_there(single) else folder / package.id


def _told(package: ExportPackage) -> str:
    when = package.created_at.astimezone(UTC)
    return f"package {package.id}, written {when:%Y-%m-%d %H:%M} UTC to {package.destination!a}"
