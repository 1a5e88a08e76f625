"""The records of packages as people and programs read them."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from evalforge.core.ports import DOCUMENT_ID_BYTES, ExportPackage
from evalforge.exports.selecting import closed_note

ABANDONED = "abandoned"
"""What a package is called that is neither delivered nor failed long after it began: its process died."""

REASONS: Mapping[str, str] = {
    "disk_full": "the disk was full",
    "broken_pipe": "whoever read standard output had gone",
    "interrupted": "somebody stopped it",
    "erased_meanwhile": "something was erased meanwhile",
    "texts_closed": "privacy settings had closed the texts of everything that was selected",
    "texts_absent": "nothing that was selected had an input with text",
    "nothing_selected": "nothing matched",
    "destination_refused": "the bucket or webhook refused",
    "destination_unavailable": "the bucket or webhook was down or unreachable",
    "store_unavailable": "the store did not answer",
    "bad_settings": "a setting was wrong, or the folder could not be written",
    "bad_request": "what was asked for was not possible",
    "unexpected": "something that nobody foresaw; the log has more",
}
"""What the reasons of failed packages mean; any other is the code of an error."""


def shown_state(package: ExportPackage, now: datetime, budget_s: float) -> str:
    """The state of a package as people should read it; `budget_s` is how long an export may take."""
    begun = package.attempted_at or package.created_at
    is_dead = package.state == "pending" and now - begun > timedelta(seconds=budget_s)
    return ABANDONED if is_dead else package.state


def package_shown(package: ExportPackage, now: datetime, budget_s: float, *, in_full: bool = True) -> dict[str, Any]:
    """The record as plain values; in full with the document ids of its captures.

    `closed_texts` says what became of captures whose texts privacy settings have closed, where there are any.
    """
    document: dict[str, Any] = {
        "id": package.id,
        "state": shown_state(package, now, budget_s),
        "reason": package.reason,
        "reason_text": REASONS.get(package.reason or "", package.reason),
        "created_at": package.created_at,
        "attempts": package.attempts,
        "attempted_at": package.attempted_at or package.created_at,
        "format": package.format,
        "destination": package.destination,
        "selection": dict(package.selection),
        "per_group": package.per_group,
        "test_share": package.test_share,
        "count": package.count,
        "counts": dict(package.counts),
        "closed_texts": closed_note(package.counts, package.format),
        "erased_count": package.erased_count,
        "sha256": package.sha256,
        "size_bytes": package.size_bytes,
        "files": [{"name": one.name, "sha256": one.sha256, "size_bytes": one.size_bytes} for one in package.files],
    }
    if in_full:
        ids = package.document_ids
        document["capture_ids"] = [ids[at : at + DOCUMENT_ID_BYTES].hex() for at in range(0, len(ids), DOCUMENT_ID_BYTES)]
        document["capture_ids_are_cut"] = package.ids_are_cut
    return document
