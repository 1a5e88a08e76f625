"""Captures with texts, as packages of examples are made of, and what a package's folder holds."""

from __future__ import annotations

import hashlib
import json
import stat
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from evalforge.core.capture import FailureCapture
from evalforge.core.ports import ExportPackage, PackageFile
from evalforge.errors import DestinationUnavailableError
from evalforge.exports import FORMAT_NAMES
from evalforge.exports.formats.table import FORMATS
from tests.captures import START_NS, capture

SECOND_NS = 1_000_000_000

try:
    import pyarrow  # noqa: F401

    HAS_PARQUET = True
except ImportError:
    HAS_PARQUET = False

MADE_FORMATS = [name for name in FORMAT_NAMES if HAS_PARQUET or name not in FORMATS or FORMATS[name].needs is None]
"""The formats that can be made here: Parquet needs an extra."""


def told(number: int, asked: str | None = None, answer: str | None = None, **others: Any) -> FailureCapture:
    """A capture of which the question and the bad answer are kept."""
    payload = {
        "name": "answer",
        "input": {"messages": [{"role": "user", "content": asked or f"question number {number}, please"}]},
        "output": {"messages": [{"role": "assistant", "content": answer or f"a bad answer, number {number}"}]},
    }
    return capture(number, payload=payload, start_ns=START_NS + number * SECOND_NS, **others)


def closed(number: int, **others: Any) -> FailureCapture:
    """A capture of which privacy settings have closed the texts."""
    return told(number, "[redacted:text 24]", "[redacted:text 312]", **others)


def silent(number: int, **others: Any) -> FailureCapture:
    """A capture of a span that had no input."""
    return capture(number, payload={"name": "answer"}, start_ns=START_NS + number * SECOND_NS, **others)


def content(folder: Path) -> dict[str, bytes]:
    """The bytes of every file of a folder, by name within it."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def manifest(folder: Path) -> dict[str, Any]:
    """The manifest of a package, once it is known to tell of each file what it is."""
    document: dict[str, Any] = json.loads((folder / "manifest.json").read_bytes())
    found = content(folder)
    del found["manifest.json"]
    assert {one["name"]: (one["sha256"], one["bytes"]) for one in document["files"]} == {
        name: (hashlib.sha256(body).hexdigest(), len(body)) for name, body in found.items()
    }
    return document


def modes(folder: Path) -> set[int]:
    """The permissions of a folder and of all in it."""
    return {stat.S_IMODE(path.stat().st_mode) for path in (folder, *folder.rglob("*"))}


class Outpost:
    """A destination away that keeps what it gets, and fails when it is told to: after so many files."""

    def __init__(self, *, fails_after: int | None = None, error: BaseException | None = None) -> None:
        self.fails_after = fails_after
        self.error = error or DestinationUnavailableError("the outpost is down")
        self.got: list[tuple[str, bytes]] = []
        self.can_withdraw = True

    async def deliver(self, package: ExportPackage, folder: Path, files: Sequence[PackageFile]) -> None:
        """Takes the files."""
        for number, file in enumerate(files):
            if number == self.fails_after:
                raise self.error
            self.got.append((file.name, _read(folder / file.name)))

    async def withdraw(self, package: ExportPackage, files: Sequence[PackageFile]) -> bool:
        """Forgets them."""
        if self.can_withdraw:
            self.got = [one for one in self.got if one[0] not in {file.name for file in files}]
        return self.can_withdraw


def _read(path: Path) -> bytes:
    return path.read_bytes()
