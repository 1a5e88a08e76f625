"""What an upsert writes: the one decision that every store makes, on plain documents."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from evalforge.core.capture import FailureCapture, merge
from evalforge.errors import SkippableError
from evalforge.stores.fitting import fit

NOT_REPRESENTABLE = "not_representable"
"""Why a capture was refused: no stored form of it can be made."""
STORED_DOCUMENT_UNREADABLE = "stored_document_unreadable"
"""Why a capture was refused: a foreign document stands under its id, and is left as it is."""

OWNED_BY_DOWNSTREAM = frozenset({"processed"})
"""Fields that ingestion sets when it creates a document, and never again."""

_ANY_DEFECT = (TypeError, ValueError, LookupError, AttributeError, OverflowError, RecursionError)


def fitted_document(capture: FailureCapture) -> tuple[FailureCapture, dict[str, Any]]:
    """The capture as a store can hold it, and its document.

    Raises:
        SkippableError: when it has none, with the code `not_representable`.
    """
    try:
        fitted = fit(capture)
        return fitted, fitted.to_document()
    except _ANY_DEFECT as error:
        raise SkippableError(f"a capture has no stored form: {type(error).__name__}", code=NOT_REPRESENTABLE) from error


def merged_document(capture: FailureCapture, stored: Mapping[str, Any]) -> dict[str, Any] | None:
    """The document that both together make, or None when the stored one says it all already.

    Raises:
        SkippableError: when `stored` is none of ours, with the code `stored_document_unreadable`.
    """
    try:
        merged = fit(merge(FailureCapture.from_document(stored), capture)).to_document()
        return merged if merged["fingerprint"] != stored["fingerprint"] else None
    except _ANY_DEFECT as error:
        raise unreadable(error) from error


def created_fields(now: datetime) -> dict[str, Any]:
    """What a new document holds beside the facts."""
    return {"updated_at": now, "processed": False}


def capture_in(document: Mapping[str, Any]) -> FailureCapture:
    """The capture that a stored document holds.

    Raises:
        SkippableError: when it is none of ours, with the code `stored_document_unreadable`.
    """
    try:
        capture = FailureCapture.from_document(document)
        # A document of another shape may still have all the names: what is derived must be there too.
        _ = (capture.failure_type, capture.greatest, capture.expires_at.tzinfo)
    except _ANY_DEFECT as error:
        raise unreadable(error) from error
    return capture


def unreadable(error: Exception) -> SkippableError:
    """The refusal to touch a stored document that could not be read."""
    return SkippableError(f"a stored document is no capture: {type(error).__name__}", code=STORED_DOCUMENT_UNREADABLE)
