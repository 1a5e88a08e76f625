"""A package without the rows that were erased: its sources filtered, what is made of them made anew, its manifest corrected.

Files are put in place one by one, the sources last: where this breaks off the sources still hold the rows, so the next
erasure finds them and does all of it again, with the same bytes.
"""

from __future__ import annotations

import os
import stat
from collections import Counter
from collections.abc import Callable, Generator, Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from evalforge.core.capture import document_id
from evalforge.core.ports import DOCUMENT_ID_BYTES, ExportPackage, PackageFile
from evalforge.core.tombstones import Tombstones
from evalforge.exports import manifest
from evalforge.exports.drafting import EXAMPLES, draft_derived, sources_of
from evalforge.exports.files import draft_folder, draft_path, loaded, new_file, opened
from evalforge.exports.selecting import Shape

Buries = Callable[[bytes], bool]


def buries_line(tombstones: Tombstones) -> Buries:
    """What tells whether a line was erased; it raises ValueError for one that is no JSON object."""

    def buries(line: bytes) -> bool:
        return bool(line.strip()) and tombstones.buries_row(loaded(line))

    return buries


@dataclass(slots=True)
class Drafted:
    """A package without its buried rows: its record as it will be, how many went, and what puts it in place, or drops it."""

    package: ExportPackage
    removed: int
    put_in_place: Callable[[], None]
    discard: Callable[[], None]


# -- a single file, as earlier versions wrote them ------------------------------------------------------------------------


def without_buried_lines(path: Path, package: ExportPackage, buries: Buries) -> Drafted | None:
    """One file of JSON Lines without its buried lines; None when it holds none.

    Raises:
        OSError: the file cannot be read, or another one cannot be written beside it.
        ValueError: a line is no JSON object.
    """
    with opened(path) as original:
        if not any(map(buries, original)):
            return None
        original.seek(0)
        draft = draft_path(path)
        kept = removed = 0
        try:
            # Whoever might read the file before may read it now.
            with new_file(draft.parent, draft.name, mode=stat.S_IMODE(os.fstat(original.fileno()).st_mode)) as written:
                for line in original:
                    if buries(line):
                        removed += 1
                    else:
                        written.write(line)
                        kept += 1
        except BaseException:
            with suppress(OSError):
                os.unlink(draft)
            raise
    rewritten = replace(package, count=kept, sha256=written.file.sha256, size_bytes=written.file.size_bytes)

    def discard() -> None:
        with suppress(OSError):
            os.unlink(draft)

    def put_in_place() -> None:
        try:
            os.replace(draft, path)
        finally:
            discard()

    return Drafted(_counted(rewritten, package, removed), removed, put_in_place, discard)


def _counted(rewritten: ExportPackage, before: ExportPackage, removed: int) -> ExportPackage:
    is_recorded = before.sha256 == rewritten.sha256  # by an erasure that did not come to replace the files
    return replace(rewritten, erased_count=before.erased_count + (0 if is_recorded else removed))


# -- a folder -------------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Kept:
    """What is known of the rows of a package that stay, and of those that go."""

    removed: int = 0
    counts: Counter[str] = field(default_factory=Counter)
    gone_ids: set[bytes] = field(default_factory=set)
    window: tuple[str | None, str | None] = (None, None)

    def see(self, row: dict[str, Any], split: str | None, *, is_buried: bool) -> None:
        if is_buried:
            self.removed += 1
            with suppress(KeyError, TypeError, AttributeError):
                self.gone_ids.add(bytes.fromhex(document_id(row["trace_id"])))
            return
        self.counts["taken"] += 1
        if split is not None:
            self.counts[split] += 1
        metadata = row.get("metadata")
        started_at = row.get("started_at") or (metadata.get("started_at") if isinstance(metadata, dict) else None)
        if isinstance(started_at, str):
            # Times of one form and zone: they sort as texts once the fraction of a second has its place.
            first, last = self.window
            self.window = (
                min(first or started_at, started_at, key=_sortable),
                max(last or started_at, started_at, key=_sortable),
            )


def _sortable(instant: str) -> str:
    return instant.removesuffix("Z") + ("" if "." in instant else ".")


def without_buried_rows(folder: Path, package: ExportPackage, buries: Buries) -> Drafted | None:
    """A package's folder without its buried rows; None when it holds none.

    Raises:
        OSError: a file cannot be read, or others cannot be written beside the folder.
        ValueError: a row is no JSON object, the manifest is none of this package, or its format is not known.
        EvalForgeError: the format needs an extra that is not installed.
    """
    if not stat.S_ISDIR(os.lstat(folder).st_mode):
        raise ValueError("no folder")
    shape = Shape(package.format, package.per_group, package.test_share)
    sources = sources_of(shape)
    if not any(any(map(buries, _lines(folder / name))) for name in sources):
        return None
    document = manifest.read_manifest(folder)
    if document["package"]["id"] != package.id:
        raise ValueError("the manifest is another package's")
    steps = _draft(folder, package, document, shape, buries)
    rewritten, removed = next(steps)

    def put_in_place() -> None:
        for _ in steps:
            pass

    return Drafted(rewritten, removed, put_in_place, steps.close)


def _draft(
    folder: Path, package: ExportPackage, document: dict[str, Any], shape: Shape, buries: Buries
) -> Generator[tuple[ExportPackage, int], None, None]:
    """First the new record and how many rows went; then, when asked on, the files are put in place."""
    kept = _Kept()
    with draft_folder(folder) as draft:
        sources = [_filtered(folder, draft, name, buries, kept) for name in sources_of(shape)]
        files = [*draft_derived(draft, shape, draft / EXAMPLES), *sources]
        rewritten = replace(
            package,
            count=kept.counts["taken"],
            sha256=manifest.listing_digest(files),
            size_bytes=sum(file.size_bytes for file in files),
            files=tuple(files),
            document_ids=_without(package.document_ids, kept.gone_ids),
        )
        rewritten = replace(
            _counted(rewritten, package, kept.removed),
            counts={
                **package.counts,
                **{name: kept.counts[name] for name in ("taken", "train", "test") if name in package.counts},
            },
        )
        with new_file(draft, manifest.NAME) as written:
            written.write(manifest.without_rows(document, rewritten, kept.window))
        yield rewritten, kept.removed
        derived = [file.name for file in files if file.name not in sources_of(shape)]
        for name in (*derived, manifest.NAME, *sources_of(shape)):
            _replace(draft / name, folder / name)


def _lines(path: Path) -> Iterator[bytes]:
    with opened(path) as stream:
        yield from stream


def _filtered(folder: Path, draft: Path, name: str, buries: Buries, kept: _Kept) -> PackageFile:
    split = name.partition("/")[0] if "/" in name else None
    with new_file(draft, name) as written:
        for line in _lines(folder / name):
            if not line.strip():
                continue
            row, is_buried = loaded(line), buries(line)
            in_row = row.get("split")
            kept.see(row, split or (in_row if isinstance(in_row, str) else None), is_buried=is_buried)
            if not is_buried:
                written.write(line)
    return written.file


def _without(packed: bytes, gone: set[bytes]) -> bytes:
    ids = (packed[at : at + DOCUMENT_ID_BYTES] for at in range(0, len(packed), DOCUMENT_ID_BYTES))
    return b"".join(one for one in ids if one not in gone)


def _replace(draft: Path, path: Path) -> None:
    path.parent.mkdir(mode=0o700, exist_ok=True)
    with suppress(OSError):
        # Whoever might read the file before may read it now.
        os.chmod(draft, stat.S_IMODE(os.lstat(path).st_mode))
    os.replace(draft, path)
