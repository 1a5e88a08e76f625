"""`manifest.json`: what a package is, written after everything else, so that what has one is whole.

All of it but `package` is the same for the same captures.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from hashlib import sha256
from pathlib import Path
from typing import Any

from evalforge import __version__
from evalforge.core.ports import ExportPackage, PackageFile
from evalforge.exports.files import opened
from evalforge.exports.formats.table import FORMATS
from evalforge.exports.jsonl import json_bytes
from evalforge.exports.selecting import Tally, closed_note

NAME = "manifest.json"
VERSION = 1
MOST_BYTES = 1_000_000
"""A manifest is a few KB; what is longer is none of ours."""

PACKAGE_ID = re.compile(r"export_[0-9]{8}T[0-9]{6}Z_[0-9a-f]{8}")


def listing_digest(files: Sequence[PackageFile]) -> str:
    """The SHA-256 of one file's bytes, or of several files' list, as `sha256sum` writes it, by name."""
    if len(files) == 1:
        return files[0].sha256
    return sha256(
        "".join(f"{one.sha256}  {one.name}\n" for one in sorted(files, key=lambda one: one.name)).encode()
    ).hexdigest()


def manifest_document(package: ExportPackage, tally: Tally) -> dict[str, Any]:
    """The manifest of a package whose files are all there."""
    made = FORMATS.get(package.format)
    return {
        "manifest_version": VERSION,
        "package": {"id": package.id, "created_at": package.created_at, "made_by": f"evalforge-ingestion {__version__}"},
        "format": package.format,
        "made_for": made.tool if made is not None else None,
        "filters": {**package.selection, "per_group": package.per_group, "test_share": package.test_share},
        "counts": dict(package.counts),
        "erased_count": package.erased_count,
        "closed_texts": closed_note(package.counts, package.format),
        "window": {"first_started_at": tally.first_started_at, "last_started_at": tally.last_started_at},
        "versions": {
            "signature": sorted(tally.signature_versions),
            "sanitizer": sorted(tally.sanitizer_versions),
            "schema": sorted(tally.schema_versions),
        },
        "files": _listed(package.files),
    }


def manifest_bytes(document: Mapping[str, Any]) -> bytes:
    """The manifest as it is written."""
    return json_bytes(document, indent=True, sort_keys=False) + b"\n"


def read_manifest(folder: Path) -> dict[str, Any]:
    """The manifest of a package's folder.

    Raises:
        OSError: there is none that can be read.
        ValueError: it is none of ours.
    """
    with opened(folder / NAME) as stream:
        text = stream.read(MOST_BYTES + 1)
    found: Any = json.loads(text) if len(text) <= MOST_BYTES else None
    package = found.get("package") if isinstance(found, dict) else None
    package_id = package.get("id") if isinstance(package, dict) else None
    if not isinstance(package_id, str) or PACKAGE_ID.fullmatch(package_id) is None:
        raise ValueError("no manifest of ours")
    return dict(found)


def id_in(folder: Path) -> str | None:
    """The id of the package that a folder holds; None where it holds none."""
    try:
        found: str = read_manifest(folder)["package"]["id"]
    except (OSError, ValueError, RecursionError):
        return None
    return found


def without_rows(document: Mapping[str, Any], package: ExportPackage, window: tuple[datetime | str | None, ...]) -> bytes:
    """The manifest once rows were removed: `package` is its record as it is now, `window` the first and the last start."""
    return manifest_bytes(
        {
            **document,
            "counts": dict(package.counts),
            "erased_count": package.erased_count,
            "closed_texts": closed_note(package.counts, package.format),
            "window": {"first_started_at": window[0], "last_started_at": window[1]},
            "files": _listed(package.files),
        }
    )


def _listed(files: Sequence[PackageFile]) -> list[dict[str, Any]]:
    return [{"name": one.name, "sha256": one.sha256, "bytes": one.size_bytes} for one in files]
