"""Files that appear whole or not at all, readable by their owner only, never through a link that somebody put there."""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import shutil
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

import orjson

from evalforge.core.ports import PackageFile
from evalforge.errors import RequestError

NO_FOLLOW = getattr(os, "O_NOFOLLOW", 0)
_DRAFT = ".{name}.{drawn}.part"


class Written:
    """A file that is being written, with the digest of what went into it."""

    def __init__(self, name: str, stream: BinaryIO) -> None:
        self._name = name
        self._stream = stream
        self._digest = hashlib.sha256()
        self._size_bytes = 0

    def write(self, piece: bytes) -> None:
        """Writes one piece."""
        self._stream.write(piece)
        self._digest.update(piece)
        self._size_bytes += len(piece)

    def flush(self) -> None:
        """Gives what is waiting to whoever reads the stream."""
        self._stream.flush()

    @property
    def file(self) -> PackageFile:
        """The file as it stands so far."""
        return PackageFile(self._name, self._digest.hexdigest(), self._size_bytes)


@contextmanager
def new_file(folder: Path, name: str, *, mode: int = 0o600) -> Iterator[Written]:
    """A new file in a folder; `name` may go through folders below it, which are made."""
    path = folder / name
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | NO_FOLLOW, 0o600)
    with os.fdopen(handle, "wb") as stream:
        yield Written(name, stream)
        os.fchmod(stream.fileno(), mode)
        stream.flush()
        os.fsync(stream.fileno())


def written_file(folder: Path, name: str, pieces: Iterable[bytes], *, mode: int = 0o600) -> PackageFile:
    """A new file of these pieces."""
    with new_file(folder, name, mode=mode) as written:
        for piece in pieces:
            written.write(piece)
    return written.file


def opened(path: Path) -> BinaryIO:
    """A file to read, which is a regular one.

    Raises:
        OSError: it is not there, is a link, or cannot be read.
        ValueError: it is no regular file.
    """
    handle = os.open(path, os.O_RDONLY | NO_FOLLOW | getattr(os, "O_NONBLOCK", 0))
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise ValueError("no regular file")
    return os.fdopen(handle, "rb")


def loaded(line: bytes) -> dict[str, Any]:
    """The JSON object of a line.

    Raises:
        ValueError: it is none.
    """
    try:
        row: Any = orjson.loads(line)
    except ValueError:
        row = json.loads(line)  # slower, but it reads large integers and lone surrogates
    if not isinstance(row, dict):
        raise ValueError("no JSON object")
    return row


def draft_path(path: Path) -> Path:
    """A name beside `path` that nothing has yet."""
    return path.with_name(_DRAFT.format(name=path.name, drawn=secrets.token_hex(4)))


def drafts_of(path: Path) -> list[Path]:
    """What drafts of `path` stand beside it; those of a process that died stay."""
    with suppress(OSError):
        begun = f".{path.name}."
        return [one for one in path.parent.iterdir() if one.name.startswith(begun) and one.name.endswith((".part", ".old"))]
    return []


def removed(path: Path) -> None:
    """Takes away a file, or a folder with what is in it; no link is followed, and nothing happens where nothing is."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with suppress(OSError):
            path.unlink()


@contextmanager
def whole_file(path: Path, *, overwrite: bool) -> Iterator[BinaryIO]:
    """A stream whose bytes stand under `path` once the block ends well; nothing stands there otherwise.

    Raises:
        RequestError: something is there already, and not to be overwritten.
        OSError
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    if not overwrite and os.path.lexists(path):
        raise exists_already()
    draft = draft_path(path)
    handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | NO_FOLLOW, 0o600)
    try:
        with os.fdopen(handle, "wb") as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        _put_in_place(draft, path, overwrite=overwrite)
    finally:
        with suppress(FileNotFoundError):
            os.unlink(draft)


def _put_in_place(draft: Path, path: Path, *, overwrite: bool) -> None:
    if not overwrite:
        # A link fails where a rename would silently take the place of a file made meanwhile.
        try:
            os.link(draft, path)
        except FileExistsError:
            raise exists_already() from None
        except OSError:  # not every file system has links
            if os.path.lexists(path):
                raise exists_already() from None
        else:
            return
    os.replace(draft, path)


@contextmanager
def draft_folder(path: Path) -> Iterator[Path]:
    """A new folder beside `path`, which is gone when the block ends unless it was put in its place."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = draft_path(path)
    draft.mkdir(mode=0o700)
    try:
        yield draft
    finally:
        removed(draft)


def put_folder_in_place(draft: Path, path: Path, *, is_ours: bool) -> None:
    """Makes a draft the folder `path`, where nothing, or an empty folder is; `is_ours` also replaces what is in it.

    A folder cannot take another's place at once: between two renames, nothing is there.

    Raises:
        RequestError: something is there already.
        OSError
    """
    old: Path | None = None
    if is_ours and os.path.lexists(path):
        old = draft_path(path).with_suffix(".old")
        os.rename(path, old)
    try:
        os.rename(draft, path)
    except OSError as error:
        if old is not None:
            os.rename(old, path)
        elif os.path.lexists(path):
            raise exists_already() from error
        raise
    if old is not None:
        removed(old)


def exists_already() -> RequestError:
    """What is said where a file would take another's place."""
    return RequestError("the file exists already; choose another name, or overwrite it with --force", field="--out")
