"""The use-case of an export: selected captures become one file, and the store remembers what was written."""

from __future__ import annotations

import hashlib
import os
import secrets
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import BinaryIO

from evalforge.core.ports import ExportPackage, Selection, Store
from evalforge.errors import ErasedMeanwhileError, EvalForgeError, RequestError, SettingsError
from evalforge.events import emit
from evalforge.exports.access import OfUser, user_lines
from evalforge.exports.jsonl import FORMAT, capture_line

OWN_FILE = "file"
"""The destination's name when a person at the command line named the file."""


@dataclass(frozen=True, slots=True)
class Destination:
    """Where a package goes: `folder` of a name that EXPORT_DESTINATIONS declares, or a `path` that a person gave.

    Exactly one of `folder`, `path` and `stream` is set. A folder gets a file named after the package; an existing `path`
    is refused unless `overwrite`; `stream` takes the bytes as they come.
    """

    name: str = OWN_FILE
    folder: Path | None = None
    path: Path | None = None
    stream: BinaryIO | None = None
    overwrite: bool = False


@dataclass(frozen=True, slots=True)
class Written:
    """What an export made: the recorded package, and the file, unless the bytes went to a stream."""

    package: ExportPackage
    path: Path | None


async def write_package(
    store: Store, selection: Selection, destination: Destination, *, now: datetime, of_user: OfUser | None = None
) -> Written:
    """Writes the selected captures as JSON Lines and records the package; the file appears whole or not at all.

    With `of_user`, only what is held of that person; the record says that it was one person's, not whose. The latest failure
    comes first; equal contents of a store give equal bytes. Files are readable by their owner only.
    A package that fails is recorded too, as far as the store lets it.

    Raises:
        RequestError: the given path exists, or cannot be written.
        SettingsError: the declared folder cannot be written.
        StoreError, StoreUnavailableError: the store could not be read, or could not record the package.
        ErasedMeanwhileError: what was erased meanwhile may be in it; the file is gone again.
    """
    epoch = await store.erasure_epoch()
    package = ExportPackage(
        id=f"export_{now:%Y%m%dT%H%M%SZ}_{secrets.token_hex(4)}",
        created_at=now,
        format=FORMAT,
        destination=destination.name,
        selection={**selection.document(), **({"user": True} if of_user is not None else {})},
        count=0,
        sha256=hashlib.sha256().hexdigest(),
        size_bytes=0,
        state="failed",
    )
    path = destination.path
    if destination.folder is not None:
        path = destination.folder / f"{package.id}.jsonl"
    try:
        with _opened(path, destination) as stream:
            lines = _lines(store, selection, now) if of_user is None else user_lines(store, of_user, selection)
            package = await _written(stream, lines, package)
    except (EvalForgeError, BrokenPipeError) as error:
        reason = error.code if isinstance(error, EvalForgeError) else "broken_pipe"
        with suppress(EvalForgeError):  # the first error is the one to tell
            await store.save_package(replace(package, state="failed", reason=reason))
        raise
    await store.save_package(package)
    # Only now: an erasure that begins after this finds the record and the file by itself.
    if await store.erasure_epoch() != epoch:
        if path is not None:
            path.unlink(missing_ok=True)
        withdrawn = replace(package, count=0, size_bytes=0, sha256=hashlib.sha256().hexdigest(), state="failed")
        await store.save_package(replace(withdrawn, reason=ErasedMeanwhileError.code))
        raise ErasedMeanwhileError(
            "something was erased while this was exported; export again"
            + ("" if path is not None else ", and delete what went to standard output")
        )
    emit(
        "export.written",
        package_id=package.id,
        destination=package.destination,
        format=package.format,
        count=package.count,
        sha256=package.sha256,
    )
    return Written(package, path)


async def _lines(store: Store, selection: Selection, now: datetime) -> AsyncIterator[bytes]:
    async for stored in store.select(selection, now=now):
        yield capture_line(stored)


async def _written(stream: BinaryIO, lines: AsyncIterator[bytes], package: ExportPackage) -> ExportPackage:
    digest, count, size_bytes = hashlib.sha256(), 0, 0
    async for line in lines:
        stream.write(line)
        digest.update(line)
        count += 1
        size_bytes += len(line)
    stream.flush()
    return replace(package, count=count, sha256=digest.hexdigest(), size_bytes=size_bytes, state="delivered")


@contextmanager
def _opened(path: Path | None, destination: Destination) -> Iterator[BinaryIO]:
    """A stream whose bytes stand under `path` once the block ends well; nothing stands there otherwise."""
    if path is None:
        if destination.stream is None:
            raise ValueError("a destination needs a folder, a path or a stream")
        with _translated(destination):
            yield destination.stream
        return
    with _translated(destination):
        path.parent.mkdir(parents=True, exist_ok=True)
        if not destination.overwrite and os.path.lexists(path):
            raise _exists_already()
        draft = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
        handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0), 0o600)
        try:
            with os.fdopen(handle, "wb") as stream:
                yield stream
                stream.flush()
                os.fsync(stream.fileno())
            _put_in_place(draft, path, overwrite=destination.overwrite)
        finally:
            with suppress(FileNotFoundError):
                os.unlink(draft)


def _put_in_place(draft: Path, path: Path, *, overwrite: bool) -> None:
    if not overwrite:
        # A link fails where a rename would silently take the place of a file made meanwhile.
        try:
            os.link(draft, path)
        except FileExistsError:
            raise _exists_already() from None
        except OSError:  # not every file system has links
            if os.path.lexists(path):
                raise _exists_already() from None
        else:
            return
    os.replace(draft, path)


def _exists_already() -> RequestError:
    return RequestError("the file exists already; choose another name, or overwrite it with --force", field="--out")


@contextmanager
def _translated(destination: Destination) -> Iterator[None]:
    """The one place where the file system's errors become ours."""
    try:
        yield
    except BrokenPipeError:
        raise  # whoever read standard output has gone: nobody is left to be told
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else type(error).__name__
        if destination.folder is not None:
            raise SettingsError(
                f"EXPORT_DESTINATIONS: cannot write into the folder of {destination.name!r} ({reason}); "
                "wants folders that this process may write"
            ) from error
        raise RequestError(f"the file cannot be written: {reason}", field="--out") from error
