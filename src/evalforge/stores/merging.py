"""What an upsert writes: the one decision that every store makes, on plain documents.

Whatever is written has been through the second net, also what an older version left in a stored document. The net and the
fitting are functions of the capture alone, so a fingerprint is always that of what stands in the store.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from evalforge.core.capture import FailureCapture, merge
from evalforge.core.privacy.net import SECOND_NET, second_net
from evalforge.errors import SkippableError
from evalforge.stores.fitting import fit

NOT_REPRESENTABLE = "not_representable"
"""Why a capture was refused: no stored form of it can be made."""
STORED_DOCUMENT_UNREADABLE = "stored_document_unreadable"
"""Why a capture was refused: a foreign document stands under its id, and is left as it is."""

OWNED_BY_DOWNSTREAM = frozenset({"processed"})
"""Fields that ingestion sets when it creates a document, and never again."""

_SEARCHED = ("trace_payload", "occurrences", "signals", "error_details", "redactions")
"""The facts that hold what senders wrote; the rest of a document is derived from them, or ids and digests."""
_ROUNDS = 4

_ANY_DEFECT = (TypeError, ValueError, LookupError, AttributeError, OverflowError, RecursionError)


def fitted_document(capture: FailureCapture) -> tuple[FailureCapture, dict[str, Any]]:
    """The capture as a store can hold it, without what the second net finds in it, and its document.

    Raises:
        SkippableError: when it has none, with the code `not_representable`.
    """
    try:
        return _caught(capture)
    except _ANY_DEFECT as error:
        raise SkippableError(f"a capture has no stored form: {type(error).__name__}", code=NOT_REPRESENTABLE) from error


def merged_document(capture: FailureCapture, stored: Mapping[str, Any]) -> dict[str, Any] | None:
    """The document that both together make, or None when the stored one says it all already.

    Raises:
        SkippableError: when `stored` is none of ours, with the code `stored_document_unreadable`.
    """
    try:
        _, merged = _caught(merge(FailureCapture.from_document(stored), capture))
        return merged if merged["fingerprint"] != stored["fingerprint"] else None
    except _ANY_DEFECT as error:
        raise unreadable(error) from error


def _caught(capture: FailureCapture) -> tuple[FailureCapture, dict[str, Any]]:
    """The capture that fits and in which the second net finds nothing more."""
    fitted = fit(capture)
    document = fitted.to_document()
    for _ in range(_ROUNDS):  # a text that is cut may look like something new at its end
        cleaned, hits = second_net({name: document[name] for name in _SEARCHED})
        if not hits:
            break
        counts = {**cleaned["redactions"], SECOND_NET: cleaned["redactions"].get(SECOND_NET, 0) + sum(hits.values())}
        caught = FailureCapture.from_document({**document, **cleaned, "redactions": counts})
        # Signals may have become equal: merging with itself brings a capture into the one form of its sets.
        fitted = fit(merge(caught, caught))
        document = fitted.to_document()
    return fitted, document


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
