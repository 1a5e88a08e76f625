"""Removes erased rows from export packages: in the declared folders by us, everywhere else by a person whom we tell."""

from __future__ import annotations

import hashlib
import json
import os
import re
import secrets
import stat
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO

import orjson

from evalforge.core.ports import ExportPackage, Store
from evalforge.core.tombstones import Tombstones
from evalforge.events import emit
from evalforge.exports.jsonl import FORMAT

MOST_PACKAGES = 1_000_000
MOST_TASKS = 200
"""How many packages are named one by one; the rest are told as a number."""

_ID = re.compile(r"export_[0-9]{8}T[0-9]{6}Z_[0-9a-f]{8}")


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

    A file is replaced whole or not at all, and only if it holds such a row. One that cannot be read or replaced is a task.

    Raises:
        StoreError, StoreUnavailableError: some files may be rewritten all the same; a second call goes on.
    """
    row_count, tasks = 0, []
    for package in await store.packages(limit=MOST_PACKAGES):
        path = _path_of(package, folders)
        if path is None or not _is_there(path):
            continue
        try:
            drafted = _drafted(path, package, tombstones)
            if drafted is None:
                continue
            draft, rewritten, removed = drafted
            # The record comes first: after a crash between the two, the rows are found once more, and counted once.
            await store.save_package(rewritten)
            _put_in_place(draft, path)
        except (OSError, ValueError) as error:
            reason = os.strerror(error.errno) if isinstance(error, OSError) and error.errno else "it is no JSON Lines file"
            await store.save_package(package)
            tasks.append(f"{_told(package)}: its file could not be gone through ({reason}); delete these lines, or the file")
            continue
        emit("export.rewritten", package_id=package.id, destination=package.destination, erased=removed)
        row_count += removed
        lines = "1 line was" if removed == 1 else f"{removed} lines were"
        tasks.append(f"{_told(package)}: {lines} removed from its file; wherever it was loaded, delete them there too")
    return Cleaning(row_count, tuple(tasks))


def _is_there(path: Path) -> bool:
    return os.path.lexists(path)


def _may_hold_rows(package: ExportPackage) -> bool:
    # A stream that broke off has sent what it had sent; a file that failed is not there.
    return (package.state == "delivered" and package.count > 0) or package.reason == "broken_pipe"


def _path_of(package: ExportPackage, folders: Mapping[str, Path]) -> Path | None:
    """Where the package's file was put; None when it went elsewhere, or its id is none of ours."""
    folder = folders.get(package.destination)
    if folder is None or package.format != FORMAT or _ID.fullmatch(package.id) is None:
        return None
    return folder / f"{package.id}.jsonl"


def _told(package: ExportPackage) -> str:
    when = package.created_at.astimezone(UTC)
    return f"package {package.id}, written {when:%Y-%m-%d %H:%M} UTC to {package.destination!a}"


def _drafted(path: Path, package: ExportPackage, tombstones: Tombstones) -> tuple[Path, ExportPackage, int] | None:
    """The file without its buried rows as a draft beside it, its record, and how many rows went; None when it holds none.

    Raises:
        OSError: the file cannot be read, or another one cannot be written beside it.
        ValueError: a line is no JSON object, so nobody can say whose it is.
    """
    with _opened(path) as original:
        if not any(_is_buried(line, tombstones) for line in original):
            return None
        original.seek(0)
        draft = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
        handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0), 0o600)
        digest, kept, removed, size_bytes = hashlib.sha256(), 0, 0, 0
        try:
            with os.fdopen(handle, "wb") as stream:
                for line in original:
                    if _is_buried(line, tombstones):
                        removed += 1
                        continue
                    stream.write(line)
                    digest.update(line)
                    kept += 1
                    size_bytes += len(line)
                # Whoever might read the file before may read it now.
                os.fchmod(stream.fileno(), stat.S_IMODE(os.fstat(original.fileno()).st_mode))
                stream.flush()
                os.fsync(stream.fileno())
        except BaseException:
            os.unlink(draft)
            raise
    is_recorded = package.sha256 == digest.hexdigest()  # by an erasure that did not come to replace the file
    rewritten = replace(
        package,
        count=kept,
        sha256=digest.hexdigest(),
        size_bytes=size_bytes,
        erased_count=package.erased_count + (0 if is_recorded else removed),
    )
    return draft, rewritten, removed


def _put_in_place(draft: Path, path: Path) -> None:
    try:
        os.replace(draft, path)
    finally:
        with suppress(FileNotFoundError):
            os.unlink(draft)


def _opened(path: Path) -> BinaryIO:
    handle = os.open(path, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0))
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise ValueError("no regular file")
    return os.fdopen(handle, "rb")


def _is_buried(line: bytes, tombstones: Tombstones) -> bool:
    if not line.strip():
        return False
    try:
        row: Any = orjson.loads(line)
    except ValueError:
        row = json.loads(line)  # slower, but it reads large integers and lone surrogates
    if not isinstance(row, dict):
        raise ValueError("no JSON object")
    return tombstones.buries_row(row)
