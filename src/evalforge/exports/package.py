"""The use-case of an export: selected captures become one file or a package, and the store remembers what was written."""

from __future__ import annotations

import errno
import hashlib
import os
import secrets
import tempfile
from collections.abc import AsyncIterator, Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any, BinaryIO

from evalforge.core.ports import (
    DOCUMENT_ID_BYTES,
    MAX_PACKED_CAPTURES,
    ExportPackage,
    PackageFile,
    Selection,
    Store,
    StoredCapture,
)
from evalforge.errors import ErasedMeanwhileError, EvalForgeError, RequestError
from evalforge.events import emit
from evalforge.exports import files, manifest
from evalforge.exports.access import OfUser, user_lines
from evalforge.exports.destinations import Destination, translated
from evalforge.exports.drafting import EXAMPLES, draft_derived, draft_sources
from evalforge.exports.examples import Example
from evalforge.exports.jsonl import capture_line
from evalforge.exports.selecting import Shape, Tally, check_taken, chosen

NOTHING = hashlib.sha256().hexdigest()
ERASED = "something was erased while this was exported; export again"


@dataclass(frozen=True, slots=True)
class Written:
    """What an export made: the recorded package, and the file or folder, unless the bytes went elsewhere.

    `differs` says of one that was delivered again whether its bytes are others than the first time; None where nobody knows.
    """

    package: ExportPackage
    path: Path | None
    differs: bool | None = None


async def write_package(
    store: Store,
    selection: Selection,
    destination: Destination,
    *,
    now: datetime,
    shape: Shape | None = None,
    of_user: OfUser | None = None,
    expected_outputs: Mapping[str, str] | None = None,
) -> Written:
    """Writes the selected captures in a shape, as they are by default, and records the package; it is there whole or not.

    With `of_user`, only what is held of that person; the record says that it was one person's, not whose. The latest failure
    comes first; equal contents of a store give equal bytes, the package's id and time in the manifest apart. Files are
    readable by their owner only. `expected_outputs` are right answers of reviewers, by trace id.
    The package is recorded before anything is written, and again when it is delivered or has failed.

    Raises:
        RequestError: the given path exists, cannot be written, or cannot take this shape.
        NothingToExportError: nothing that is selected can be an example.
        SettingsError: the declared folder cannot be written, or an extra is not installed.
        DestinationRefusedError, DestinationUnavailableError, CredentialsError: it could not be sent away.
        StoreError, StoreUnavailableError: the store could not be read, or could not record the package.
        ErasedMeanwhileError: what was erased meanwhile may be in it; it is gone again where that can be done.
    """
    shape = shape or Shape()
    _check(shape, destination, of_user)
    package = ExportPackage(
        id=f"export_{now:%Y%m%dT%H%M%SZ}_{secrets.token_hex(4)}",
        created_at=now,
        format=shape.format,
        destination=destination.name,
        selection={**selection.document(), **({"user": True} if of_user is not None else {})},
        count=0,
        sha256=NOTHING,
        size_bytes=0,
        state="pending",
        attempted_at=now,
        per_group=shape.per_group,
        test_share=shape.test_share,
    )
    making = _Making(store, selection, shape, destination, now, of_user, expected_outputs or {})
    return await _recorded(making, package)


async def write_again(
    store: Store,
    package: ExportPackage,
    selection: Selection,
    destination: Destination,
    *,
    now: datetime,
    expected_outputs: Mapping[str, str],
) -> Written:
    """Makes the same package once more, of the same captures where its record names them, and delivers it.

    `selection` is the record's. Captures that are gone meanwhile are not in it any more.

    Raises:
        as `write_package`
    """
    shape = Shape(package.format, package.per_group, package.test_share)
    ids = package.document_ids
    only = [ids[at : at + DOCUMENT_ID_BYTES].hex() for at in range(0, len(ids), DOCUMENT_ID_BYTES)]
    making = _Making(
        store, selection, shape, destination, now, None, expected_outputs, only if only and not package.ids_are_cut else None
    )
    before = package.sha256 if package.sha256 != NOTHING else None
    begun = replace(package, state="pending", reason=None, attempts=package.attempts + 1, attempted_at=now)
    written = await _recorded(making, begun)
    return replace(written, differs=None if before is None else written.package.sha256 != before)


@dataclass(frozen=True, slots=True)
class _Making:
    """What a package is made of, and where it goes."""

    store: Store
    selection: Selection
    shape: Shape
    destination: Destination
    now: datetime
    of_user: OfUser | None
    expected_outputs: Mapping[str, str]
    only: Collection[str] | None = None


def _check(shape: Shape, destination: Destination, of_user: OfUser | None) -> None:
    if destination.takes_packages:
        if of_user is not None:
            raise RequestError("what is held of one person is one file of JSON Lines: give --out a file", field="--user-id")
        return
    if shape.makes_examples:
        raise RequestError(f"--format {shape.format} makes several files: give --out a folder", field="--out")
    if shape.test_share is not None:
        raise RequestError("--split makes several files: give --out a folder, such as evals/", field="--split")
    if of_user is not None and shape.per_group is not None:
        raise RequestError("--user-id gives everything that is held of a person: --per-group would leave some of it out",
                           field="--per-group")  # fmt: skip


async def _recorded(making: _Making, package: ExportPackage) -> Written:
    store, destination = making.store, making.destination
    epoch = await store.erasure_epoch()
    await store.save_package(package)
    latest = [package]  # what a failure is recorded of: with its files once they are known
    try:
        if destination.takes_packages:
            path, package = await _written_package(making, latest, epoch)
        else:
            path, package = await _written_file(making, package)
    except BaseException as error:
        with suppress(EvalForgeError):  # the first error is the one to tell
            await store.save_package(replace(latest[-1], state="failed", reason=_reason_of(error)))
        raise
    package = replace(package, state="delivered")
    await store.save_package(package)
    # Only now: an erasure that begins after this finds the record and the files by itself.
    if await store.erasure_epoch() != epoch:
        await _withdraw(making, package, path)
    emit(
        "export.written",
        package_id=package.id,
        destination=package.destination,
        format=package.format,
        count=package.count,
        sha256=package.sha256,
    )
    return Written(package, path)


def _reason_of(error: BaseException) -> str:
    cause = error.__cause__ if isinstance(error, EvalForgeError) else error
    if isinstance(cause, OSError) and cause.errno in (errno.ENOSPC, errno.EDQUOT):
        return "disk_full"
    if isinstance(error, EvalForgeError):
        return error.code
    if isinstance(error, BrokenPipeError):
        return "broken_pipe"
    return "unexpected" if isinstance(error, Exception) else "interrupted"


async def _withdraw(making: _Making, package: ExportPackage, path: Path | None) -> None:
    """Takes back what may hold something that was erased meanwhile.

    Raises:
        ErasedMeanwhileError: always.
    """
    destination, is_gone, more = making.destination, True, ""
    if path is not None:
        files.removed(path)
    elif destination.away is not None:
        is_gone = await destination.away.withdraw(package, [*package.files, PackageFile(manifest.NAME, "", 0)])
        more = "" if is_gone else f", and have whoever received package {package.id} delete it"
    else:
        more = ", and delete what went to standard output"
    withdrawn = replace(package, state="failed", reason=ErasedMeanwhileError.code)
    if is_gone:
        withdrawn = replace(withdrawn, count=0, size_bytes=0, sha256=NOTHING, files=(), document_ids=b"")
    await making.store.save_package(withdrawn)
    raise ErasedMeanwhileError(ERASED + more)


# -- one file -------------------------------------------------------------------------------------------------------------


async def _written_file(making: _Making, package: ExportPackage) -> tuple[Path | None, ExportPackage]:
    path, tally = making.destination.path, Tally()
    with _opened_file(making.destination) as stream:
        out = files.Written("", stream)
        count = 0
        async for line in _lines(making, tally):
            out.write(line)
            count += 1
        out.flush()
    written = out.file
    return path, replace(
        package,
        count=count,
        sha256=written.sha256,
        size_bytes=written.size_bytes,
        **_told(making, tally),
    )


def _told(making: _Making, tally: Tally) -> dict[str, Any]:
    if making.of_user is not None:
        return {}  # the record says that it was one person's, and not whose
    return {
        "counts": tally.told(making.shape),
        "document_ids": bytes(tally.document_ids),
        "ids_are_cut": tally.counts["taken"] > MAX_PACKED_CAPTURES,
    }


async def _lines(making: _Making, tally: Tally) -> AsyncIterator[bytes]:
    if making.of_user is not None:
        async for line in user_lines(making.store, making.of_user, making.selection):
            yield line
        return
    async for stored, _ in _chosen(making, tally):
        yield capture_line(stored)


@contextmanager
def _opened_file(destination: Destination) -> Iterator[BinaryIO]:
    with translated(destination):
        if destination.path is not None:
            with files.whole_file(destination.path, overwrite=destination.overwrite) as stream:
                yield stream
        elif destination.stream is not None:
            yield destination.stream
        else:
            raise ValueError("a destination needs a folder, a path or a stream")


# -- a package ------------------------------------------------------------------------------------------------------------


async def _written_package(making: _Making, latest: list[ExportPackage], epoch: str) -> tuple[Path | None, ExportPackage]:
    destination, tally = making.destination, Tally()
    path = _place_of(destination, latest[-1])
    with translated(destination):
        if path is not None:
            _check_free(path, destination, latest[-1])
        with _drafting(path) as draft:
            made = await draft_sources(draft, making.shape, _chosen(making, tally))
            check_taken(tally, making.shape)
            made = [*draft_derived(draft, making.shape, draft / EXAMPLES), *made]
            package = replace(
                latest[-1],
                count=tally.counts["taken"],
                sha256=manifest.listing_digest(made),
                size_bytes=sum(file.size_bytes for file in made),
                files=tuple(made),
                **_told(making, tally),
            )
            last = files.written_file(
                draft, manifest.NAME, [manifest.manifest_bytes(manifest.manifest_document(package, tally))]
            )
            # What is about to go out is known before it goes: whoever erases later finds it even if this process dies.
            await making.store.save_package(package)
            if await making.store.erasure_epoch() != epoch:
                raise ErasedMeanwhileError(ERASED)
            # Where nothing leaves this machine a failure leaves nothing behind.
            latest.append(package if destination.away is not None else replace(package, files=()))
            if path is not None:
                files.put_folder_in_place(draft, path, is_ours=_is_replaced(path, destination, package))
            elif destination.away is not None:
                await destination.away.deliver(package, draft, [*package.files, last])
    return path, package


def _chosen(making: _Making, tally: Tally) -> AsyncIterator[tuple[StoredCapture, Example]]:
    return chosen(
        making.store,
        making.selection,
        making.shape,
        tally,
        now=making.now,
        expected_outputs=making.expected_outputs,
        only=making.only,
    )


def _place_of(destination: Destination, package: ExportPackage) -> Path | None:
    return destination.folder / package.id if destination.folder is not None else destination.path


@contextmanager
def _drafting(path: Path | None) -> Iterator[Path]:
    if path is None:
        with tempfile.TemporaryDirectory(prefix="evalforge-", ignore_cleanup_errors=True) as folder:
            yield Path(folder)
    else:
        with files.draft_folder(path) as draft:
            yield draft


def _is_replaced(path: Path, destination: Destination, package: ExportPackage) -> bool:
    """Whether what stands there may be replaced: what an earlier attempt left, or a package of ours if that is wanted."""
    found = manifest.id_in(path) if path.is_dir() and not path.is_symlink() else None
    return found is not None and (destination.overwrite or found == package.id)


def _check_free(path: Path, destination: Destination, package: ExportPackage) -> None:
    """Refuses a place where something is, before any work is done.

    Raises:
        RequestError
        OSError
    """
    if not os.path.lexists(path) or _is_replaced(path, destination, package):
        return
    if path.is_symlink() or not path.is_dir():
        raise RequestError("a package is a folder, and there is a file or a link of that name; choose another name",
                           field="--out")  # fmt: skip
    if not any(path.iterdir()):
        return
    if manifest.id_in(path) is not None:
        raise RequestError(
            "the folder holds another package; choose another name, or replace it with --force", field="--out"
        )
    raise RequestError("the folder holds what no export wrote; choose another name, or an empty folder", field="--out")
